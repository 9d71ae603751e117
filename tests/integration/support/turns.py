"""Several pytest processes take turns at one list of test files: pytest's loop for --turns LIST.

Every process collects all tests and then takes one file after the other off the list, so that none
is idle while another has files left, and each keeps its server to the end.
"""
import fcntl
from itertools import groupby


def take(path):
    """Remove the first name from the list that others take from, too; None when it is empty."""
    with open(path, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        names = file.read().splitlines()
        file.seek(0)
        file.truncate()
        file.writelines(f"{name}\n" for name in names[1:])
    return names[0] if names else None


def items_to_run(session, path):
    """Tests, file by file; a file is taken when the first of its tests is asked for."""
    tests = {name: list(items) for name, items in groupby(session.items, lambda item: item.path.name)}
    while (name := take(path)) is not None:
        yield from tests.get(name, [])


def run_by_turns(session, path):
    """As pytest_runtestloop() of pytest itself does, but for where the tests come from."""
    if session.testsfailed:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    items = items_to_run(session, path)
    item = next(items, None)
    while item is not None:
        # what both need, such as the server, stays; so the next one must be known before
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True
