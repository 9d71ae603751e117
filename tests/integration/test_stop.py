"""Stopping: the first signal leaves within seconds what can go on, the second ends it at once."""
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from support.hold import wait_for_waiter
from support.load import TwinLoad, assert_same
from support.phases import ALTER, PHASES, held_in
from support.traces import assert_finished, assert_removed, assert_untouched, traces
from support.wait import wait_until, wait_until_dead

# The promise is 2 s; the rest is this machine's.
STOP_S = 4


def column_type(db):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'")


def assert_kept(result, db):
    """What it costs is said, and how to go on; nothing works in the background any more."""
    assert re.search(r"run \w+ is kept: replication slot \"walter_\w+\" holds back WAL, \d+ \w+ now"
                     r" and more from minute to minute, and the shadow table takes \d+ \w+",
                     result.stderr)
    assert "the same walter perform goes on with it; walter abort removes it" in result.stderr
    assert [trace for trace in traces(db) if trace.startswith("session")] == []


@pytest.fixture
def other(new_db, server):
    """Another database of the same server."""
    return new_db(server)


# -- the first signal -----------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize("phase", PHASES)
def test_stop(db, other, walter, phase, number):
    with held_in(phase, walter, other) as run:
        begun = time.monotonic()
        run.signal(number)
        result = run.finish(check=7)
        took = time.monotonic() - begun
    assert took < STOP_S, f"{took:.1f} s"
    assert "warning: stopped on request" in result.stderr
    assert "error: " not in result.stderr
    if phase == "preflight":
        assert_untouched(db)
    elif phase in ("publication", "slot"):
        assert "all of it is removed, and public.t is as it was" in result.stderr
        assert_removed(db)
    else:
        assert_kept(result, db)
    assert column_type(db) == "integer"
    db.execute("delete from t where id = 1000")
    walter.run("abort", "--yes")


def test_lost_terminal_is_a_stop(db, other, walter):
    with held_in("copy", walter, other) as run:
        run.signal(signal.SIGHUP)
        assert_kept(run.finish(check=7), db)
    walter.run("abort", "--yes")
    assert_removed(db)


def test_stop_as_ordinary_role(db, other, owner, walter):
    """It can end its own sessions, in the middle of whatever they do."""
    with held_in("index", walter.as_user(owner), other, superuser=db) as run:
        begun = time.monotonic()
        run.interrupt()
        assert_kept(run.finish(check=7), db)
    assert time.monotonic() - begun < STOP_S
    walter.as_user(owner).run("abort", "--yes")
    assert_removed(db)


def test_stop_under_load_loses_nothing(db, walter):
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int);"
                   f"insert into {name} select i, i from generate_series(1, 1000) i")
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 1000)) as load:
        for line in ["shadow table", "replication slot", "copying", "building", "catching up"]:
            run = walter.start_perform(ALTER)
            run.wait_for_log(line)
            run.interrupt()
            assert run.finish(check=False).code in (0, 7)
        walter.run("abort", "--yes")
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "table t", "table twin")


def test_stop_after_the_swap(db, walter):
    """What is done is done, and the operator is told what is not."""
    db.execute("create table p (id int primary key); insert into p values (1);"
               "create table t (id int primary key, n int references p); insert into t values (1, 1)")
    run = walter.start_perform("alter table t add x int")
    run.wait_for_log("building")
    # cleaning up waits for this, and with it everything that comes after the swap
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    run.wait_for_log("swapped, lock held")
    wait_for_waiter(db, "pg_publication")
    run.interrupt()
    holder.close()
    result = run.finish(check=0)
    assert "the swap has happened: public.t has its new definition" in result.stderr
    assert re.search("warning: still to be done: alter table .*validate constraint", result.stderr)
    assert "warning: walter cleanup does it" in result.stderr
    assert "warning: stopped, but the ALTER is done: do not run it again" in result.stderr
    assert "error: " not in result.stderr
    assert "is as it was" not in result.stderr
    assert re.search("not validated: .*; run: alter table .*validate constraint", result.stderr)
    assert_finished(db)
    assert db.query_one("select count(*) from pg_attribute where attrelid = 't'::regclass"
                        " and attname = 'x'") == 1


def test_abort_while_somebody_reads_the_new_table(db, other, walter):
    """What is held is left, and the operator is told what and by whom; the slot never stays."""
    with held_in("cutover", walter, other) as run:
        shadow = re.search(r"shadow table ((?s:.+?)) created,", run.log).group(1)
        reader = db.connect()
        reader.execute(f"begin; select count(*) from {shadow}")
        pid = reader.info.backend_pid
        db.execute(f"drop publication {db.query_one('select pubname from pg_publication')}")
        result = run.finish(check=False)
    assert result.code == 1
    assert db.slots() == []
    assert re.search(f"error: dropping the shadow table: .*; in the way: pid {pid}, user {db.user}, "
                     "idle in transaction", result.stderr)
    left = re.search(r"warning: of run \w+ there is still: (.*)", result.stderr).group(1)
    assert re.fullmatch(r"schema walter_\w{8}, schema walter_\w{8}_new, " + ", ".join(
        rf"table walter.{name}_\w{{8}}" for name in
        ("built", "copied", "fence", "position", "touched")), left), left
    assert "warning: run walter cleanup to remove the rest" in result.stderr
    assert "may hold back its WAL" not in result.stderr
    # the command waits longer, says for whom, and comes through when he has ended
    abort = walter.start("abort", "--yes")
    abort.wait_for_log(f"waiting for a lock; in the way: pid {pid}, user {db.user}")
    reader.execute("commit")
    abort.finish()
    assert_removed(db)


def test_second_signal_after_the_swap(db, walter):
    """It does not pass for a run that has left the table as it was."""
    db.execute("create table t (id int primary key, n int)")
    run = walter.start_perform("alter table t add x int")
    run.wait_for_log("building")
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    run.wait_for_log("swapped, lock held")

    def interrupt_and_look():
        run.interrupt()     # two that come together count as one
        return run.process.poll() is not None

    wait_until(interrupt_and_look, "the run ends")
    run.finish(check=8)
    holder.close()
    wait_until_dead(db)
    assert "phase swapped: dead" in walter.run("cleanup", "--yes").stdout
    assert_finished(db)


# -- the second signal ----------------------------------------------------------------------------

def test_second_signal_ends_it_at_once(db, other, walter):
    with held_in("slot", walter, other) as run:
        # no publication can be dropped: the clean-up hangs
        holder = db.superuser.connect()
        holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
        run.interrupt()
        run.wait_for_log("removing what the run has made")
        wait_until(lambda: db.query_one(
            "select count(*) from pg_stat_activity where application_name = 'walter: cleanup'"
            " and wait_event_type = 'Lock'"), "the clean-up waits")
        begun = time.monotonic()
        run.interrupt()
        result = run.finish(check=7)
        assert time.monotonic() - begun < 1
        holder.close()
    assert "is as it was" not in result.stderr
    assert traces(db) != []
    shown = walter.run("cleanup")
    assert re.search("^run [0-9a-f]{8} on public.t, begun .*, phase slot: dead$", shown.stdout,
                     re.MULTILINE)
    assert "nothing was removed; add --yes to remove it" in shown.stdout
    walter.run("cleanup", "--yes")
    assert_removed(db)


# -- on a terminal --------------------------------------------------------------------------------

def run_on_terminal(walter, *args, columns=120):
    """Run walter with a pseudo-terminal for stderr; return (exit code, what was written there)."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **walter.db.env}
    process = subprocess.Popen([walter.path, *args], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        ready = select.select([ours], [], [], 60)[0]
        assert ready, "walter hangs"
        try:
            piece = os.read(ours, 65536)
        except OSError:     # the other end is closed
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    return process.wait(10), text.decode()


def test_progress_on_a_terminal(db, walter):
    """One line, drawn anew in place; log lines go above it."""
    db.execute("create table t (id int primary key, n int, filler text);"
               "insert into t select i, i, repeat('x', 200) from generate_series(1, 240000) i;"
               "create function slow(int) returns boolean language plpgsql immutable as $$ begin"
               " if current_setting('application_name') like '%copy to' and $1 % 24000 = 0 then"
               "   perform pg_sleep(0.3); end if; return true; end $$;"
               "alter table t add check (slow(id))")
    code, text = run_on_terminal(walter, "perform", "-a", ALTER, "-j", "1")
    assert code == 0, text
    drawn = re.findall(r"(?:^|\r\x1b\[K)(copying [^\r\n]*)", text)
    assert len(drawn) >= 3, text
    for line in drawn:
        assert re.match(r"copying \d+\.\d%, \d+ rows/s(, ETA [^,]+)?, \d+ changes applied, "
                        r"lag [0-9.]+ k?M?B, [0-9.]+ m?s$", line), line
    shares = [float(re.match(r"copying ([0-9.]+)%", line).group(1)) for line in drawn]
    assert shares == sorted(shares) and shares[-1] > shares[0]
    assert any("ETA" in line for line in drawn)
    # every progress line is erased before a log line follows
    for line in text.split("\n"):
        last = line.rstrip("\r").split("\r\x1b[K")[-1]
        assert last == "" or re.match(r"\d{4}-\d\d-\d\d ", last), repr(last)


def test_progress_without_a_terminal(db, walter):
    """A plain log line at intervals, and nothing that only a terminal understands."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    holder = db.connect()
    holder.execute("begin; lock table t in access share mode")
    run = walter.start_perform(ALTER)
    run.wait_for_log(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} info: cutting over, \d+ attempts?, "
                     "0 changes applied, lag 0 B, ",
                     timeout=20)
    holder.close()
    result = run.finish()
    assert "\r" not in result.stderr and "\x1b" not in result.stderr


def test_summary(db, walter):
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 500) i")
    result = walter.perform(ALTER)
    assert re.search(r"done: 500 rows copied, 0 changes applied, 1 lock attempt, [0-9.]+ ms waited "
                     r"for the lock, [0-9.]+ ms held, [0-9.]+ m?s in all$", result.stderr,
                     re.MULTILINE)


def test_reason_comes_before_the_clean_up(db, walter):
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1), (2, null)")
    result = walter.perform("alter table t alter n set not null", check=3)
    lines = result.stderr.splitlines()
    error = next(i for i, line in enumerate(lines) if " error: " in line)
    removing = next(i for i, line in enumerate(lines) if "removing what the run has made" in line)
    assert error < removing
    assert result.stderr.count(" error: ") == 1
