"""The server crashes, at points of a run that matter, with synchronous_commit = off, under load."""
import os
import signal
from pathlib import Path

import psycopg
import pytest

from support.faults import (ALTER, PATIENT, assert_cleaned_up, assert_twins, column_type, loaded, start_until, wait_until_stopped)
from support.server import Server
from support.thorough import THOROUGH
from support.wait import wait_until

# a machine may have other things to do
pytestmark = pytest.mark.limit(900)


@pytest.fixture(scope="module")
def server():
    """One that survives a crash, but for the last of what was committed without waiting."""
    own = Server.start(settings={"synchronous_commit": "off", "wal_writer_delay": "2s"})
    yield own
    own.remove()


# -- ways to crash ------------------------------------------------------------------------------

def immediate(server, _):
    server.halt("immediate")
    server.resume()


def postmaster(server, _):
    """kill -9; its children notice, and the next one has to wait until they are gone."""
    pid_file = Path(server.description["data"]) / "postmaster.pid"
    os.kill(int(pid_file.read_text(encoding="ascii").split()[0]), signal.SIGKILL)

    def start():
        try:
            server.resume()
            return True
        except RuntimeError:
            return False

    wait_until(start, "the server starts again")


def backend(server, db):
    """kill -9 of one session of walter, as if memory were short: all sessions are lost."""
    witness = db.connect()
    (pid,) = witness.execute("select pid from pg_stat_activity where datname = current_database()"
                             " and application_name ~ '^walter: ' order by backend_start desc"
                             " limit 1").fetchone()
    os.kill(pid, signal.SIGKILL)

    def is_lost():
        try:
            witness.execute("select 1")
            return False
        except psycopg.Error:
            return True

    wait_until(is_lost, "the server ends all sessions")
    server.wait_until_up()


CASES = [
    ("shadow.uncommitted", immediate),
    ("publication.committed", backend),
    ("slot.created", postmaster),
    ("copy.commit_sent", immediate),
    ("copy.chunk_done", postmaster),
    ("index.building", backend),
    ("index.constrained", immediate),
    ("apply.uncommitted", immediate),
    ("apply.committed", backend),
    ("catchup.fence", immediate),
    ("cutover.locked", immediate),
    ("swap.uncommitted", backend),
    ("swap.commit_sent", immediate),
    ("swap.committed", immediate),
    ("cleanup.slot_dropped", backend),
    ("finish.task_begun", immediate),
]


def crash_at(point, crash, db, walter, load):
    """Stop a run at the point and let the server crash; returns the run, which is still stopped."""
    run = start_until(f"{point}=stop", walter, ALTER)
    wait_until_stopped(run)
    load.wait_for(5)
    crash(db.server, db)
    load.wait_for(10)
    assert_twins(db)
    # walter's own commit waits for the disk
    after = point in ("swap.committed", "cleanup.slot_dropped", "finish.task_begun")
    assert point == "swap.commit_sent" or (column_type(db) == "bigint") == after
    return run


def lead_out(db, walter, command):
    """After that there is one command; run the ALTER to its end."""
    if command == "perform":
        walter.perform(ALTER, *PATIENT)
    walter.run("cleanup", "--yes")
    assert_cleaned_up(db, column_type(db) == "bigint")
    if column_type(db) != "bigint":
        walter.perform(ALTER, *PATIENT)
        assert_cleaned_up(db, True)


# in CI one of the two at each; both with WALTER_TEST_THOROUGH=1
COMMANDS = ["perform", "cleanup"]
WAYS = [(*case, command) for number, case in enumerate(CASES)
        for command in (COMMANDS if THOROUGH else [COMMANDS[number % 2]])]


@pytest.mark.parametrize("point, crash, command", WAYS,
                         ids=[f"{point}, {crash.__name__}, {command}" for point, crash, command in WAYS])
def test_walter_dies_too(db, walter, point, crash, command):
    with loaded(db, crashes=True) as load:
        crash_at(point, crash, db, walter, load).kill()
        lead_out(db, walter, command)


SURVIVED = CASES[::2] if THOROUGH else CASES[2::4]


@pytest.mark.parametrize("point, crash", SURVIVED,
                         ids=[f"{point}, {crash.__name__}" for point, crash in SURVIVED])
def test_walter_lives_on(db, walter, point, crash):
    """It comes to the end in new sessions, or gives up and says that the connection is lost."""
    with loaded(db, crashes=True) as load:
        run = crash_at(point, crash, db, walter, load)
        run.signal(signal.SIGCONT)
        result = run.finish(check=False)
        assert result.code in (0, 6), str(result)
        if result.code == 0:
            assert column_type(db) == "bigint"
        lead_out(db, walter, "perform" if result.code != 0 else "cleanup")
