"""Fixtures of the integration tests.  See README.md in this directory."""
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("support.database", "support.walter", "support.load", "support.dump",
                              "support.hold", "support.faults")

# pylint: disable=wrong-import-position
from support import ordinary            # noqa: E402
from support import reports             # noqa: E402
from support.server import Server       # noqa: E402
from support.turns import run_by_turns  # noqa: E402
from support.walter import Walter       # noqa: E402


@pytest.fixture(autouse=True)
def no_reports():
    """Nothing that a test runs gives a sanitizer or valgrind a reason to complain."""
    yield
    found = reports.take()
    assert not found, found


@pytest.fixture(scope="session")
def shared_server():
    """The server that most tests share; without fsync, for none of them makes it crash."""
    if os.environ.get("WALTER_TEST_PORT"):
        shared = Server.external()
    else:
        shared = Server.start(fast=True)
    yield shared
    if not shared.is_ours and ordinary.wanted():
        ordinary.drop_roles(shared)
    shared.remove()


@pytest.fixture(scope="session")
def server(shared_server):
    """The same; some modules put another one, or more on it, in its place."""
    return shared_server


@pytest.fixture
def new_server():
    """Make servers of the test's own: new_server(major="17", settings={...}, fast=False)."""
    made = []

    def make(*args, **options):
        made.append(Server.start(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def new_db(request):
    """Make databases: new_db(server, options="...").  All are dropped, and must be clean by then."""
    made = []

    def make(on, **options):
        made.append(ordinary.new_database(on, **options))
        request.node.stash.setdefault(LOG_OFFSETS, []).append((on, on.log_size()))
        return made[-1]

    yield make
    left = [f"{one.name}: {what}" for one in made for what in one.drop()]
    assert not left, "; ".join(left)


LOG_OFFSETS = pytest.StashKey()


@pytest.fixture
def db(new_db, server):
    """A fresh database on the shared server, seen by the superuser (see README.md, "Roles")."""
    return new_db(server)


@pytest.fixture
def owner(db):
    """`db` seen by an ordinary role: LOGIN REPLICATION, CREATE on database and schema, no more."""
    return db.create_owner()


@pytest.fixture
def walter(db):
    """Runs the binary against `db` as superuser; walter.as_user(owner) as the ordinary role."""
    runner = Walter(db)
    yield runner
    runner.cleanup()


def pytest_addoption(parser):
    parser.addoption("--turns", metavar="LIST", help="run the test files named in LIST, one after"
                     " the other, as long as another pytest with the same LIST has not taken them")


def pytest_runtestloop(session):
    turns = session.config.getoption("--turns")
    return run_by_turns(session, turns) if turns else None


def pytest_collection_modifyitems(items):
    """As an ordinary role, leave out what is about a superuser, or chooses its roles by itself."""
    for item in items if ordinary.wanted() else []:
        mark = item.get_closest_marker("superuser")
        if mark:
            item.add_marker(pytest.mark.skip(reason=f"superuser: {mark.args[0]}"))
        elif "owner" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason="chooses its roles itself"))


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long the test may take")
    config.addinivalue_line("markers", "superuser(why): needs walter to be one")
    config.addinivalue_line("markers", "smoke: one of the few that show whether all of it works, on"
                                       " any version of the server")
    reports.prepare()
    # So that servers are removed when somebody ends the whole run.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails, and the next one runs."""
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else int(os.environ.get("WALTER_TEST_LIMIT", "300"))

    def give_up(*_):
        pytest.fail(f"the test took longer than {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what walter and the server logged when a test fails."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed or call.when == "setup":
        return
    runner = item.funcargs.get("walter")
    if runner is not None and call.when == "call":
        report.sections.append(("walter", runner.report()))
    for on, offset in item.stash.get(LOG_OFFSETS, []):
        text = on.log_since(offset)
        if text:
            report.sections.append((f"server log, port {on.port}", text))
