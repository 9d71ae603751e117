"""How much WAL a run may hold back on the server: it says so in time, and ends before the disk does.

The writers of the table go on all the time; what fills the WAL is somebody else.
"""
import os
import re
import signal

import pytest

from support.hold import held_build, held_copy, held_cutover
from support.load import TwinLoad, assert_same
from support.traces import assert_removed
from support.wait import wait_for_session, wait_until

ALTER = "alter table t alter n type bigint"
MB = 1024 * 1024
HELD = r"replication slot walter_\w+ holds back \d+\.\d MB of WAL, (\d+) % of the "


@pytest.fixture(scope="module")
def server():
    """A server whose settings the tests change."""
    from support.server import Server   # pylint: disable=import-outside-toplevel
    one = Server.start(os.environ.get("WALTER_TEST_MAJOR", "15"), fast=True)
    yield one
    one.remove()


@pytest.fixture
def load(db):
    """Writers of "t" and of its twin."""
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, s text);"
                   f"insert into {name} select i, i, 's' || i from generate_series(1, 500) i")
    with TwinLoad(db, "t", "twin", {"n": "int", "s": "text"}, keys=(1, 500), clients=2,
                  pause_ms=20) as writers:
        writers.wait_for(10)
        yield writers


@pytest.fixture
def setting(server):
    """Change settings of the server, until the test is over."""
    changed = []

    def change(name, value):
        with server.connect() as conn:
            conn.execute(f"alter system set {name} = '{value}'")
            conn.execute("select pg_reload_conf()")
        changed.append(name)

    yield change
    with server.connect() as conn:
        for name in changed:
            conn.execute(f"alter system reset {name}")
        conn.execute("select pg_reload_conf()")


def held(db):
    """What walter's slot holds back, in bytes."""
    return db.query_one("select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
                        "  from pg_replication_slots where database = current_database()")


def fill(db, megabytes):
    """Write WAL until the slot holds back so much; the writers may add to it."""
    while (missing := megabytes * MB - held(db)) > 0:
        db.execute("select pg_logical_emit_message(false, 'x', repeat('x', %s))",
                   [min(missing, 8 * MB)])


def assert_as_before(db, load):
    """The run has left nothing, and the writers have noticed nothing."""
    load.stop()
    assert load.errors == []
    assert_removed(db)
    assert_same(db, "select id, n, s from t", "select id, n, s from twin", 100)


def test_warns_slows_the_copy_and_lets_it_go_when_the_limit_is_raised(db, walter, load, setting):
    setting("max_slot_wal_keep_size", "160MB")
    with held_copy(walter, ALTER) as run:
        fill(db, 100)
        said = run.wait_for_log(f"warning: {HELD}(1[0-9.]+) MB that it may "
                                r"\(max_slot_wal_keep_size\); it only becomes more until the copy "
                                r"replaces its snapshot .* or raise max_slot_wal_keep_size "
                                r"\(a reload is enough\)")
        assert 50 <= int(said.group(1)) < 80
        # the server counts in whole segments
        assert 160 <= float(said.group(2)) <= 200
        fill(db, 150)
        said = run.wait_for_log(f"warning: the copy is slowed: {HELD}.*at 100 % the run stops")
        assert 80 <= int(said.group(1)) < 100
        run.wait_for_log(r"copying .*, lag \S+ \S+, WAL held 1\d\d\.\d MB of 1\d\d\.\d MB, ")
        setting("max_slot_wal_keep_size", "1GB")
        run.wait_for_log(f"info: the copy goes on at full speed: {HELD}1.0 GB")
    result = run.finish()
    assert result.stderr.count("the copy is slowed") == 1
    load.stop()
    assert load.errors == []
    assert_same(db, "select id, n, s from t", "select id, n, s from twin", 100)


# A chunk takes a second to read, which is more than --max-rate asks for.
SLOW_CHUNKS = """
    create table slow (id int primary key, n int, filler char(1000));
    alter table slow alter filler set storage plain;
    insert into slow select i, i, 'x' from generate_series(1, 8000) i;
    analyze slow;
    create function slowly(n int) returns bigint language plpgsql as $$ begin
        if n % 500 = 0 then perform pg_sleep(0.25); end if;
        return n;
    end $$;
"""


def test_a_slowed_copy_pauses_between_its_chunks(db, walter, load):
    """Its sessions rest for as long as a chunk takes; and it comes to its end all the same."""
    db.execute(SLOW_CHUNKS)
    with db.connect(autocommit=False) as writer:
        writer.execute("select pg_current_xact_id()")
        run = walter.start_perform("alter table slow alter n type bigint using slowly(n)",
                                   "--jobs=1", "--max-rate=8MB", "--max-wal=200MB")
        run.wait_for_log("waits for every transaction")
        fill(db, 165)
    run.wait_for_log("warning: the copy is slowed")
    wait_until(lambda: db.query("select 1 from pg_stat_activity where state = 'idle'"
                                " and state_change < clock_timestamp() - interval '0.4 s'"
                                " and application_name ~ '^walter: .* copy to$'"), "the pipe rests")
    run.finish()
    assert load.errors == []
    assert db.query_one("select count(*), sum(n) from slow") == (8000, 8000 * 8001 // 2)


def test_stops_itself_and_removes_all(db, walter, load):
    with held_build(walter, ALTER, "--max-wal=100MB") as run:
        fill(db, 100)
        run.wait_for_log("error: ")
    result = run.finish(check=5)
    assert re.search(f"error: {HELD}100.0 MB that it may \\(--max-wal\\)\n"
                     "hint: Nothing was swapped.  Give more with --max-wal", result.stderr)
    assert "all of it is removed" in result.stderr
    assert_as_before(db, load)


def test_stops_in_the_cutover(db, walter, load):
    """The writers' changes are applied all the time; somebody's transaction keeps the WAL."""
    with db.connect(autocommit=False) as other, held_cutover(
            walter, ALTER, "--max-wal=100MB", "--max-wal-action=drop") as run:
        other.execute("create table elsewhere (n int)")
        fill(db, 60)
        run.wait_for_log(f"warning: {HELD}100.0 MB that it may .*; it becomes less as changes are "
                         "applied, .*, or stop the run and start it with a larger --max-wal")
        fill(db, 100)
        run.wait_for_log("error: ")
    run.finish(check=5)
    assert_as_before(db, load)


def test_stops_itself_and_keeps_what_another_run_goes_on_with(db, walter, load):
    with held_copy(walter, ALTER, "--max-wal=100MB", "--max-wal-action=keep") as run:
        fill(db, 100)
        run.wait_for_log("error: ")
    result = run.finish(check=5)
    assert "is kept: replication slot \"walter_" in result.stderr
    assert len(db.slots()) == 1
    walter.perform(ALTER, "--max-wal=1GB")
    load.stop()
    assert load.errors == []
    assert_same(db, "select id, n, s from t", "select id, n, s from twin", 100)


def test_says_beforehand_that_the_copy_alone_is_too_much(db, walter):
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 100000) i")
    large = r"warning: the copy and the index builds may write about \d\.\d MB of WAL,"
    result = walter.perform(ALTER, "--max-wal=1MB", check=False)
    assert re.search(large + r".* no more than 1.0 MB \(--max-wal\)", result.stderr)
    # it may be over before it is noticed to be too much
    assert result.code in (0, 5), result
    again = walter.perform("alter table t alter n type numeric", "--max-wal=1GB")
    assert not re.search(large, again.stderr)


# -- a slot that is gone --------------------------------------------------------------------------

def stop_process(run, load):
    """It must not see what comes before all of it has come.

    The server cannot end a session while it waits for us to take what it sends: so nothing may come.
    """
    load.stop()
    run.signal(signal.SIGSTOP)


def go_on(run):
    run.signal(signal.SIGCONT)


def test_says_that_the_server_has_given_up_the_slot(db, walter, load, setting):
    setting("max_slot_wal_keep_size", "64MB")
    with held_copy(walter, ALTER) as run:
        stop_process(run, load)
        fill(db, 128)
        # it first ends the session that reads the slot
        db.execute("checkpoint")
        wait_until(lambda: db.query_one("select wal_status = 'lost' from pg_replication_slots"),
                   "the slot is lost")
        go_on(run)
        run.wait_for_log("error: ")
    result = run.finish(check=9)
    assert re.search(r"error: the server has given up replication slot walter_\w+, which held back "
                     "more WAL than max_slot_wal_keep_size, 64MB, allows\n"
                     "hint: Nothing was swapped.  Raise max_slot_wal_keep_size", result.stderr)
    assert_as_before(db, load)


@pytest.mark.parametrize("hold", [held_copy, held_cutover])
def test_says_that_somebody_has_dropped_the_slot(db, walter, load, hold):
    with hold(walter, ALTER) as run:
        stop_process(run, load)
        db.drop_slots()
        go_on(run)
        run.wait_for_log("error: ")
    result = run.finish(check=9)
    assert "was dropped by somebody else while the run was on" in result.stderr
    assert_as_before(db, load)


def test_a_stream_that_was_only_ended_is_a_lost_connection(db, walter, load):
    with held_copy(walter, ALTER) as run:
        pid = wait_for_session(db, "stream")
        db.execute("select pg_terminate_backend(%s)", [pid])
        run.wait_for_log("administrator command")
    result = run.finish(check=False)
    assert result.code in (0, 6), result
    assert "replication slot" not in "".join(re.findall("error: .*", result.stderr))
    walter.run("cleanup", "--yes")
    assert load.errors == []
