"""What a review of resuming found: each of these once lost rows, a run, or its way."""
import re
import signal
import time

import pytest

from support.hold import Twins, held_cutover, wait_until_true
from support.phases import ALTER, held_in
from support.traces import assert_finished, assert_removed
from support.wait import wait_until_dead
from support.walter import Walter
from test_resume import DOCS, DOCS_ROWS, WIDEN, HalfCopied

END_SESSIONS = ("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where application_name ~ '^walter: ' and datname = current_database()")


@pytest.fixture
def other(new_db, server):
    return new_db(server)


def test_keys_that_become_one(db, walter):
    """Two rows whose new keys are equal do not fit, whether or not one of them is copied anew."""
    half = HalfCopied(db, walter, alter="alter table {t} alter id type bigint using floor(id)::bigint",
                      definition=DOCS.replace("id bigint", "id numeric"))
    half.twins.do("insert into {t} values (5.25, 0, 'second', null)")
    result = walter.perform(half.alter.replace("{t}", "t"), *half.args, check=False)
    assert db.query_one("select count(*) from t where floor(id) = 5") == 2
    assert result.code == 3, result


@pytest.mark.parametrize("n", ["n", "n::smallint", "n::numeric"])
def test_copy_statement_whose_values_are_converted(db, walter, n):
    """Rows that changed within blocks that were copied are read again: there is room for them."""
    statement = f"insert into %{{shadow_table}} (id, n, filler, doc) select id, {n}, filler, doc from t"
    half = HalfCopied(db, walter, args=["-c", statement])
    half.twins.do("update {t} set n = n + 1 where id % 3 = 0")
    result = half.go_on()
    assert re.search(r"new snapshot; [1-9]\d* rows .* were copied again", result.stderr)
    half.assert_equal()


def test_key_column_called_leaf(db, walter):
    twins = Twins(db, "create table {t} (leaf int primary key, n int)",
                  "insert into {t} select i, i from generate_series(1, 10) i")
    walter.perform("alter table t alter n type bigint")
    twins.assert_equal("alter table {t} alter n type bigint")


def test_lost_after_the_swap_does_not_alter_again(db, walter):
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    run = walter.start_perform("alter table t alter n type bigint using n * 2", "--drop")
    run.wait_for_log("building")
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    run.wait_for_log("swapped, lock held")
    old = db.query_one("select oid::regclass::text from pg_class where relname = 't' and"
                       " relnamespace <> 'public'::regnamespace")
    reader = db.connect()
    reader.execute(f"begin; lock table {old} in access share mode")
    holder.close()
    # the machinery is gone, and it waits for the old table
    wait_until_true(db, "select not exists (select from pg_publication where pubname ~ '^walter')")
    while "not all is finished" not in run.log and run.is_running:
        db.execute(END_SESSIONS)
        time.sleep(0.02)
    reader.close()
    result = run.finish(check=False)
    assert db.query("select * from t") == [(1, 2)], result
    assert result.code == 1
    assert "do not run it again" in result.stderr
    walter.run("cleanup", "--yes")


@pytest.mark.parametrize("command", ["abort", "cleanup"])
def test_removed_while_the_process_had_no_connection(db, owner, other, walter, command):
    """It does not begin anew: somebody has said that he does not want it."""
    role = owner.user
    with held_in("cutover", walter.as_user(owner), other, superuser=db) as run:
        db.execute(f"alter role {role} nologin")
        db.execute(END_SESSIONS)
        run.wait_for_log("trying for 60 s to go on in new connections")
        wait_until_dead(db)
        walter.run(command, "--yes")
        assert_removed(db)
        db.execute(f"alter role {role} login")
        result = run.finish(check=False)
    assert result.code == 9, result
    assert "was removed, or finished, by somebody else" in result.stderr
    assert_removed(db)


def test_restart_is_meant_once(db, walter):
    """What a lost connection interrupts is the new run, and it goes on."""
    half = HalfCopied(db, walter)
    run = walter.start_perform(WIDEN.replace("{t}", "t"), "--restart", "--max-rate=4MB")
    run.wait_for_log("copying")
    db.execute(END_SESSIONS)
    result = run.finish()
    assert result.stderr.count("it is removed, and a new one begins") == 1, result
    half.assert_equal()


def test_index_that_was_carried_over(db, walter):
    """It is built, whoever made it."""
    twins = Twins(db, "create table {t} (id int primary key, n int)",
                  "insert into {t} select i, i from generate_series(1, 100) i")
    with held_cutover(walter, ALTER) as run:
        db.execute("create index t_n on t (n)")
        run.wait_for_log("what is new is carried over")
        run.kill()
        wait_until_dead(db)
    walter.perform(ALTER)
    assert db.query_one("select count(*) from pg_index where indrelid = 't'::regclass") == 2
    twins.assert_equal(ALTER.replace(" t ", " {t} "))
    assert_finished(db)


def test_no_slot_left_for_a_snapshot(new_server, new_db):
    """What is missing now may be there later: nothing is thrown away."""
    server = new_server(fast=True, settings={"max_replication_slots": "1"})
    db = new_db(server)
    walter = Walter(db)
    half = HalfCopied(db, walter)
    result = walter.perform(half.alter.replace("{t}", "t"), *half.args, check=False)
    assert db.query_one("select count(*) from walter.run") == 1, result
    assert result.code == 5
    assert "all replication slots are in use" in result.stderr
    assert "the same walter perform goes on with it" in result.stderr
    db.close()
    server.halt()
    server.resume({"max_replication_slots": "2"})
    half.go_on()
    half.assert_equal()


def test_table_locked_when_a_snapshot_is_replaced(db, walter):
    twins = Twins(db, DOCS, DOCS_ROWS)
    holder = db.connect()
    run = walter.start_perform(WIDEN.replace("{t}", "t"), "--max-rate=4MB", "--snapshot-max-age=1")
    shadow = run.wait_for_log(r"shadow table ((?s:.+?)) created,").group(1)
    run.wait_for_log("copying")
    twins.do("update {t} set n = n + 1 where id % 3 = 0")
    holder.execute(f"begin; lock table {shadow} in row exclusive mode")
    wait_until_true(db, "select count(*) > 0 from pg_locks where relation = %s::regclass and"
                        " mode = 'ShareLock' and not granted", [shadow])
    locker = db.connect()
    locker.execute("begin; lock table t in access exclusive mode")
    holder.close()
    # it asks for its lock, gives up, and asks again
    asked = ("select min(query_start) from pg_stat_activity where wait_event_type = 'Lock'"
             " and application_name ~ '^walter: '")
    wait_until_true(db, f"select ({asked}) is not null")
    first = db.query_one(asked)
    wait_until_true(db, f"select ({asked}) > coalesce(%s, now() - interval '1 s')", [first])
    assert run.is_running, run.log
    locker.close()
    run.finish()
    twins.assert_equal(WIDEN)


def test_successor_has_finished(db, other, walter):
    """Who had no connection meanwhile does not alter the table a second time."""
    with held_in("cutover", walter, other) as run:
        run.signal(signal.SIGSTOP)
        db.execute(END_SESSIONS)
        wait_until_dead(db)
        successor = walter.start_perform(ALTER)
        successor.wait_for_log("cutover attempt 1: ")
        run.signal(signal.SIGCONT)
        run.wait_for_log("trying for 60 s")
    assert "new connections" not in successor.finish().stderr
    assert "was removed, or finished, by somebody else" in run.finish(check=9).stderr
    assert_finished(db)


@pytest.mark.parametrize("phase", ["publication", "slot", "index"])
def test_abort_is_heard_in_every_phase(db, other, walter, phase):
    with held_in(phase, walter, other) as run:
        result = walter.run("abort", "--yes", timeout=40)
        assert "has ended and is removed" in result.stderr
        run.finish(check=7)
    assert_removed(db)


def test_successor_at_work_is_left_alone(db, other, walter):
    """Who comes back after another process has taken over does not end its sessions."""
    with held_in("cutover", walter, other) as run:
        run.signal(signal.SIGSTOP)
        db.execute(END_SESSIONS)
        wait_until_dead(db)
        successor = walter.start_perform(ALTER)
        successor.wait_for_log("cutover attempt 1: ")
        run.signal(signal.SIGCONT)
        run.wait_for_log("trying for 60 s to go on in new connections")
        start = len(successor.log)
        successor.wait_for_log(r"cutover attempt \d+: ", start=start)
        successor.wait_for_log(r"cutover attempt \d+: ", start=len(successor.log))
        assert "new connections" not in successor.log, successor.log
    successor.finish()
    assert run.finish(check=False).code in (6, 9)
    assert_finished(db)


def test_swapped_while_another_run_waited_for_it(db, walter):
    """The oid that it had found is the old table's by then, which is nobody's to alter."""
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 100) i")
    with held_cutover(walter, "alter table t alter n type bigint") as run:
        second = walter.start_perform("alter table t alter n type bigint")
        wait_until_true(db, "select count(*) > 0 from pg_stat_activity where state = 'idle' and"
                            " datname = current_database() and application_name ~ '^walter: '"
                            " and query ~ 'from walter.run r where r.phase'", timeout=20)
        # it looks again before it gives up, however long the other one takes on a busy machine
        second.signal(signal.SIGSTOP)
    old = re.search(r'kept as ("\S+"\."t")', run.finish().stderr).group(1)
    second.signal(signal.SIGCONT)
    result = second.finish(check=2)
    assert 'table "t" was replaced just now' in result.stderr
    assert "run the command again if it is still wanted" in result.stderr
    for table, kind in (("t", "bigint"), (old, "integer")):
        assert db.query_one(f"select pg_typeof(n)::text from {table} limit 1") == kind
    assert_finished(db)
