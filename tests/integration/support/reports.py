"""What sanitizers and valgrind report about the program under test.

A report goes to a file, for the program's stderr is its log, its exit code may be what the test
expects, and it may be started by a script.  With WALTER_REPORTS in the environment every pytest
process has a directory of its own below that.
"""
import os
from pathlib import Path

SETTINGS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:exitcode=99:log_path={}/asan",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99:log_path={}/ubsan",
    "WALTER_VALGRIND_LOG": "{}/valgrind.%p",
}


def are_wanted():
    return bool(os.environ.get("WALTER_REPORTS"))


# What a watched program costs: so many times the memory, at most.
COSTS = 6 if are_wanted() else 1


def _directory():
    return Path(os.environ["WALTER_REPORTS"], str(os.getpid()))


def prepare():
    """Let all programs that are started from now on report there."""
    if are_wanted():
        _directory().mkdir(parents=True, exist_ok=True)
        os.environ.update({name: text.format(_directory()) for name, text in SETTINGS.items()})


def take():
    """The reports since the last call, as one text; "" when there are none."""
    if not are_wanted():
        return ""
    found = []
    for path in sorted(_directory().iterdir()):
        found.append(path.read_text(encoding="utf-8", errors="replace"))
        path.unlink()
    return "\n".join(filter(None, found))
