"""The lock: what it costs the others, who is in its way, and what a lost answer means."""
import re
import signal
import threading
import time
from datetime import datetime

import psycopg
import pytest

from support.hold import held_copy
from support.load import TwinLoad, assert_same
from support.pgbench import PgBench
from support.proxy import Proxy
from support.traces import assert_finished, assert_removed
from support.wait import wait_for_queued_lock, wait_for_session, wait_until

ALTER = "alter table t alter n type bigint"
# A pulse is 50 ms; the rest is this machine's, which runs other tests beside.  Whoever waits for
# the reader's end, or for the server to find a deadlock, waits longer.
STALL_MS = 1000


def create_twins(db, rows=1000):
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, big text);"
                   f"insert into {name} select i, i, repeat('x', i % 100)"
                   f"  from generate_series(1, {rows}) i")


def twin_load(db, rows=1000, **options):
    return TwinLoad(db, "t", "twin", {"n": "int", "big": "toast"}, keys=(1, rows), **options)


def assert_twins(db):
    assert_same(db, "select id, n, big from t", "select id, n, big from twin")


def column_type(db, table="t", column="n"):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = %s::regclass and attname = %s", [table, column])


def holder(db, sql="lock table t in access share mode", isolation="read committed"):
    """A session that idles in a transaction after the statement."""
    conn = db.connect()
    conn.execute(f"begin isolation level {isolation}")
    conn.execute(sql)
    return conn


def attempts(run):
    return re.findall(r"cutover attempt (\d+): (.*)", run.log)


def pauses_after(run, reason):
    """Seconds from the end of each attempt that failed for this reason to the end of the next."""
    ends = [(datetime.fromisoformat(time), text) for time, text in re.findall(
        r"^(\S+ [0-9:.]+) info: cutover attempt \d+: (.*)", run.log, re.MULTILINE)]
    return [(following[0] - one[0]).total_seconds() for one, following in zip(ends, ends[1:])
            if reason in one[1]]


def in_background(work):
    """Run it in a thread; returns a function that waits for the end and gives its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()), daemon=True)
    thread.start()

    def join(timeout=150):
        thread.join(timeout)
        assert result, "the other session did not end"
        return result[0]
    return join


def in_a_long_statement(db, conn, what):
    """Let the session run SELECT `what` until the function that this returns is called."""
    gate = db.connect()
    gate.execute("select pg_advisory_lock(1)")
    join = in_background(lambda: conn.execute(f"select pg_advisory_lock(1), {what}").fetchall())
    wait_until(lambda: db.query_one("select count(*) from pg_locks where locktype = 'advisory'"
                                    " and not granted and pid = %s", [conn.info.backend_pid]) == 1,
               "the statement runs")

    def end():
        gate.close()
        return join()
    return end


# -- who is in the way ----------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["idle in transaction", "active"])
def test_reader_in_the_way_costs_the_others_a_pulse(db, walter, kind, record_property):
    create_twins(db)
    if kind == "active":
        reader = db.connect()
        pid = reader.info.backend_pid
        ended = in_a_long_statement(db, reader, "count(*) from t")
    else:
        reader = holder(db)
        pid = reader.info.backend_pid
        ended = lambda: reader.execute("commit")
    with twin_load(db, clients=4) as load:
        # its statement is older than the copy, which alone would be waited for without an attempt
        run = walter.start_perform(ALTER, "--old-snapshots=ignore")
        run.wait_for_log(f"cutover attempt 1: .*in the way of the lock: .*pid {pid}, .*{kind}")
        load.reset_longest()
        run.wait_for_log("cutover attempt 4: ")
        longest = load.longest_ms
        ended()
        run.finish()
        load.wait_for(50)
    record_property("longest stall in ms", longest)
    assert load.errors == []
    assert longest < STALL_MS, f"{longest} ms"
    # in the way of a later one may have been one of the clients, after the reader's end; and on a
    # busy machine the look may come when the attempt is over
    told = [text for _, text in attempts(run)[:4] if "in the way of the lock" in text]
    assert len(told) >= 2, attempts(run)
    for text in told:
        assert f"pid {pid}, user {db.user}, {kind}" in text
    assert re.search(r"cutover attempt \d+: swapped, lock held for [0-9.]+ ms", run.log)
    assert re.search(r"done: .* lock attempts, [0-9.]+ ms waited for the lock, [0-9.]+ ms held",
                     run.log)
    assert_twins(db)
    assert_finished(db)


@pytest.mark.parametrize("ordinary", [False, True])
def test_autovacuum_gives_way(new_server, new_db, walter, ordinary):
    """Not even a role that may not see what it is waits for the end of it."""
    own = new_server(settings={"autovacuum_naptime": "1s"}, fast=True)
    db = walter.db = new_db(own)
    runner = walter.as_user(db.create_owner()) if ordinary else walter
    db.execute("create table t (id int primary key, n int, filler char(500))"
               " with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,"
               "       autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);"
               "insert into t select i, i, 'x' from generate_series(1, 3000) i;"
               f"alter table t owner to {runner.db.user}")
    with held_copy(runner, ALTER, superuser=db) as run:
        db.execute("update t set n = n + 1")
        wait_until(lambda: db.query_one("select count(*) from pg_stat_progress_vacuum"
                                        " where relid = 't'::regclass"), "autovacuum at work")
    result = run.finish()
    assert "in the way of the lock" not in result.stderr or "autovacuum" in result.stderr
    assert "canceling autovacuum task" in own.log_since(0, lines=100000)
    assert column_type(db) == "bigint"


def test_vacuum_by_hand_is_waited_for(db, walter):
    create_twins(db)
    with held_copy(walter, ALTER) as run:
        vacuum = holder(db, "lock table t in share update exclusive mode")
    run.wait_for_log("cutover attempt 1: lock that keeps VACUUM and DDL off public.t: not granted "
                     f"within .*in the way of the lock: pid {vacuum.info.backend_pid}")
    vacuum.close()
    run.finish()
    assert_finished(db)


def test_kill_backends_ends_only_who_is_in_the_way(db, walter):
    create_twins(db)
    db.execute("create table other (id int)")
    blocker = holder(db)
    bystander = holder(db, "insert into other values (1)")
    bystander.execute("rollback; begin; select * from other")
    run = walter.start_perform(ALTER, "--kill-backends", "--wait-time-for-lock", "2")
    line = run.wait_for_log("ending the session that is in the way: "
                            f"pid {blocker.info.backend_pid}, user {db.user}, idle in transaction")
    waited = [text for _, text in attempts(run) if line.start() > run.log.index(text)]
    result = run.finish()
    assert len(waited) >= 2, "it was ended before --wait-time-for-lock"
    assert result.stderr.count("ending the session") == 1
    assert bystander.execute("select count(*) from other").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError, match="terminat"):
        blocker.execute("select 1")
    assert column_type(db) == "bigint"


SHORT_READER = r"""
\set ms random(150, 450)
begin;
select count(*) from t;
select pg_sleep(:ms / 1000.0);
commit;
"""


def test_kill_backends_spares_who_is_there_for_a_moment(db, walter):
    """There is always somebody in the way, and nobody for long."""
    create_twins(db)
    with PgBench(db, clients=8, script=SHORT_READER) as load:
        run = walter.start_perform(ALTER, "--kill-backends", "--wait-time-for-lock", "4")
        run.wait_for_log("cutover attempt 8: |swapped, lock held")
        run.interrupt()
        result = run.finish(check=False)
    walter.run("cleanup", "--yes")
    assert "ending the session" not in result.stderr
    assert load.errors == [] and load.failed == 0


def shadow_reader(db, run):
    """A session that idles in a transaction after it has read the shadow."""
    shadow = re.search(r"shadow table ((?s:.+?)) created,", run.log).group(1)
    return holder(db, f"select count(*) from {shadow}")


def test_reader_of_the_shadow_is_named(db, walter):
    create_twins(db)
    blocker = holder(db)
    with twin_load(db, clients=2) as load:
        run = walter.start_perform(ALTER)
        run.wait_for_log("cutover attempt 1: ")
        reader = shadow_reader(db, run)
        run.wait_for_log("the shadow table .* is in use; in the way of the lock: "
                         f"pid {reader.info.backend_pid}, user {db.user}, idle in transaction")
        blocker.execute("commit")
        reader.execute("commit")
        run.finish()
        load.wait_for(20)
    assert load.errors == []
    assert_twins(db)
    assert_finished(db)


def test_reader_of_the_shadow_is_ended(db, walter):
    create_twins(db)
    blocker = holder(db)
    run = walter.start_perform(ALTER, "--kill-backends", "--wait-time-for-lock", "3")
    run.wait_for_log("cutover attempt 1: ")
    reader = shadow_reader(db, run)
    blocker.execute("commit")
    result = run.finish()
    assert ("ending the session that is in the way: "
            f"pid {reader.info.backend_pid}, user {db.user}, idle in transaction") in result.stderr
    assert_finished(db)


def test_reader_of_the_shadow_holds_up_its_key(db, walter):
    """He is named while the run waits for him before the cutover."""
    create_twins(db)
    with held_copy(walter, ALTER) as run:
        reader = shadow_reader(db, run)
    run.wait_for_log("waiting for a lock on the shadow table .*; in the way: "
                     f"pid {reader.info.backend_pid}, user {db.user}, idle in transaction")
    reader.execute("commit")
    run.finish()
    assert_finished(db)


def test_nobody_is_ended_without_kill_backends(db, walter):
    create_twins(db)
    blocker = holder(db)
    run = walter.start_perform(ALTER, "--wait-time-for-lock", "0")
    run.wait_for_log("cutover attempt 3: ")
    blocker.execute("select 1; commit")
    run.finish()


def test_retries_reached(db, walter):
    create_twins(db)
    blocker = holder(db)
    with twin_load(db, clients=2) as load:
        result = walter.perform(ALTER, "--cutover-retries", "2", check=5)
        load.wait_for(20)
    assert load.errors == []
    assert [number for number, _ in re.findall(r"cutover attempt (\d+): (.*)", result.stderr)] == [
        "1", "2"]
    assert re.search("error: the cutover was not reached in 2 attempts: .*pid "
                     f"{blocker.info.backend_pid}", result.stderr)
    assert re.search("^hint: End the sessions in the way, or use --kill-backends", result.stderr,
                     re.MULTILINE)
    blocker.execute("commit")
    assert "is kept" in result.stderr
    assert column_type(db) == "integer"
    assert_twins(db)
    walter.run("abort", "--yes")
    assert_removed(db)


def test_prepared_transaction_is_named(db, walter):
    create_twins(db)
    with held_copy(walter, ALTER) as run:
        with db.connect(autocommit=False) as conn:
            conn.execute("update t set n = 0 where id = 1")
            conn.execute("prepare transaction 'forgotten'")
    run.wait_for_log(f"in the way of the lock: prepared transaction 'forgotten', owner {db.user}, "
                     "since .*; only COMMIT PREPARED or ROLLBACK PREPARED ends it")
    db.execute("commit prepared 'forgotten'")
    run.finish()
    assert db.query_one("select n from t where id = 1") == 0


# -- old snapshots --------------------------------------------------------------------------------

def test_old_snapshot_is_waited_for(db, walter):
    create_twins(db)
    old = holder(db, "select 1", "repeatable read")
    run = walter.start_perform(ALTER)
    run.wait_for_log("waiting for an old snapshot, to which the new table would look empty or out "
                     f"of date: pid {old.info.backend_pid}, user {db.user}, idle in transaction")
    # it has not touched the table yet, and does so only now
    assert old.execute("select count(*) from t").fetchone() == (1000,)
    old.execute("commit")
    run.finish()
    assert column_type(db) == "bigint"


def test_old_snapshot_reaches_the_limit(db, walter):
    create_twins(db)
    old = holder(db, "select 1", "repeatable read")
    result = walter.perform(ALTER, "--cutover-retries", "1", check=5)
    assert re.search(f"not reached in 1 attempt: waiting for .*pid {old.info.backend_pid}",
                     result.stderr)
    assert "--old-snapshots=ignore" in result.stderr
    walter.perform(ALTER, "--old-snapshots=ignore")
    old.close()


def test_old_snapshot_is_ignored_if_asked(db, walter):
    create_twins(db)
    old = holder(db, "select 1", "repeatable read")
    walter.perform(ALTER, "--old-snapshots=ignore")
    assert old.execute("select count(*) from t").fetchone() == (0,), "then why wait at all?"


def test_hidden_session_counts_as_old(db, walter, owner):
    """What another role does cannot be seen, but that it has an old snapshot can."""
    owner.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    old = holder(db, "select 1", "repeatable read")
    run = walter.as_user(owner).start_perform(ALTER)
    run.wait_for_log(f"waiting for an old snapshot, .*pid {old.info.backend_pid}, user {db.user}, "
                     r"doing what this role may not see \(GRANT pg_read_all_stats")
    old.execute("commit")
    run.finish()


def test_short_repeatable_read_transactions_are_no_obstacle(db, walter):
    """An application that works in REPEATABLE READ: always one in the middle, never one for long."""
    create_twins(db)
    stop = threading.Event()

    def read(conn):
        counts = set()
        while not stop.is_set():
            conn.execute("begin isolation level repeatable read")
            conn.execute("select 1")
            time.sleep(0.01)
            counts.add(conn.execute("select count(*) from t").fetchone()[0])
            conn.execute("commit")
        return counts

    readers = [in_background(lambda conn=db.connect(): read(conn)) for _ in range(4)]
    result = walter.perform(ALTER, "--cutover-retries", "20")
    stop.set()
    # nobody ever saw the table empty
    assert [join() for join in readers] == [{1000}] * 4
    assert column_type(db) == "bigint", str(result)


# -- the hold -------------------------------------------------------------------------------------

# Runs in the check constraint that apply evaluates, and takes a while once per transaction.
SLOW_APPLY = """
    create table slow (seconds float, when_locked bool);
    insert into slow values ({seconds}, {when_locked});
    create function slow_check(bigint) returns boolean language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: .* apply$'
           and current_setting('slow.done', true) is distinct from 'yes'
           and (select not when_locked from public.slow) = not exists (
                select from pg_locks l where l.relation = 'public.t'::regclass
                   and l.mode = 'AccessExclusiveLock' and l.granted) then
            perform set_config('slow.done', 'yes', true);
            perform pg_sleep((select seconds from public.slow));
        end if;
        return true;
    end $$;
    alter table t add check (slow_check(n));
"""


def start_and_write_under_lock(db, walter, *args):
    """A run whose exclusive lock is granted by the commit of a change, which it must then drain."""
    writer = holder(db)
    run = walter.start_perform(ALTER, "--lock-timeout", "5000", *args)
    wait_for_queued_lock(db)
    writer.execute("update t set n = n + 1 where id = 1; update twin set n = n + 1 where id = 1;"
                   "commit")
    return run


def test_attempt_that_takes_too_long_is_given_up(db, walter):
    create_twins(db)
    db.execute(SLOW_APPLY.format(seconds=1, when_locked=True))
    run = start_and_write_under_lock(db, walter, "--lock-hold", "500")
    run.wait_for_log("cutover attempt 1: (the stream was not drained in time|the changes could not be)")
    # after it everything is as before: changes flow, and the next attempt works
    with twin_load(db, clients=2) as load:
        db.execute("update slow set seconds = 0")
        load.wait_for(50)
        run.finish()
        load.wait_for(50)
    assert load.errors == []
    assert_twins(db)
    assert_finished(db)


def test_abort_in_a_long_pause(db, walter):
    """After a hold in vain the next attempt is ten seconds away; whoever says abort need not wait."""
    create_twins(db)
    db.execute(SLOW_APPLY.format(seconds=1, when_locked=True))
    run = start_and_write_under_lock(db, walter, "--lock-hold", "500")
    run.wait_for_log("cutover attempt 1: (the stream was not drained in time|the changes could not be)")
    begun = time.monotonic()
    walter.run("abort", "--yes")
    assert time.monotonic() - begun < 6
    run.finish(check=7)
    assert_removed(db)


@pytest.mark.superuser("event triggers belong to superusers")
def test_swap_that_takes_too_long_is_given_up(db, walter):
    """--lock-hold is watched by the server, too; and one attempt's failure does not spoil the next."""
    create_twins(db)
    db.execute("""
        create table slow (seconds float);
        insert into slow values (5);
        create function slow_ddl() returns event_trigger language plpgsql as $$ begin
            if current_setting('application_name') ~ '^walter: .* cutover$' then
                perform pg_sleep((select seconds from public.slow));
            end if;
        end $$;
        create event trigger slow_ddl on ddl_command_start when tag in ('ALTER TABLE')
            execute function slow_ddl();""")
    with twin_load(db, pause_ms=10) as load:
        run = walter.start_perform(ALTER, "--lock-hold", "300")
        # others may fail in between, where a client does not get out of the way in time
        too_long = (r"cutover attempt \d+: the swap took longer than --lock-hold; the lock was "
                    r"held for \d+ ms: if that goes on, raise --lock-hold")
        run.wait_for_log(f"{too_long}(?s:.*){too_long}")
        assert load.longest_ms < 300 + 50 + STALL_MS
        db.execute("update slow set seconds = 0")
        run.finish()
        load.wait_for(50)
    # the others are left alone for 20 times the hold, and for twice that after the second one
    first, second = pauses_after(run, "took longer than --lock-hold")
    assert first > 5.5
    assert second > 11
    assert load.errors == []
    assert_twins(db)
    assert_finished(db)


def test_silence_under_the_lock_ends_it(db, walter):
    """Stopped while it has the lock, walter does not keep the table from everybody."""
    create_twins(db)
    db.execute(SLOW_APPLY.format(seconds=1, when_locked=True))
    run = start_and_write_under_lock(db, walter, "--lock-hold", "500")
    wait_for_session(db, "apply", "wait_event = 'PgSleep'")
    run.signal(signal.SIGSTOP)
    begun = time.monotonic()
    db.execute("set lock_timeout = '10s'; select count(*) from t")
    assert time.monotonic() - begun < 6
    db.execute("update slow set seconds = 0")
    run.signal(signal.SIGCONT)
    assert run.finish().stderr.count("cutover attempt") == 2
    assert_twins(db)
    assert_finished(db)


def test_too_many_changes_for_the_lock(db, walter):
    """While they come in too fast the lock is not even tried."""
    create_twins(db)
    db.execute(SLOW_APPLY.format(seconds=0, when_locked=False))
    reader = holder(db)
    run = walter.start_perform(ALTER, "--lock-hold", "100", "--delta-count", "1000000")
    run.wait_for_log("in the way of the lock")
    db.execute("update slow set seconds = 0.2")
    with twin_load(db, clients=1, pause_ms=5) as load:
        start = run.wait_for_log("too many changes come in to be applied under the lock").end()
        load.wait_for(200)
        assert "cutover attempt" not in run.log[start:]
        db.execute("update slow set seconds = 0")
        run.wait_for_log("cutover attempt", start=start)
        reader.execute("commit")
        run.finish()
        load.wait_for(20)
    assert load.errors == []
    assert_twins(db)


def test_waiting_statements_see_the_new_table(db, walter):
    """Statements of every kind, some of them always waiting in the queue when the swap commits."""
    create_twins(db)
    db.execute("create function count_t() returns bigint language plpgsql as"
               " $$ begin return (select count(*) from t); end $$")
    stop = threading.Event()
    statements = ["select count(*) from t", "select count_t()",
                  "update t set n = n where id = 1 returning (select count(*) from t)"]

    def work(conn, statement, prepare):
        conn.prepare_threshold = 0 if prepare else None
        seen = set()
        while not stop.is_set():
            seen.add(conn.execute(statement).fetchone()[0])
        return seen

    workers = [in_background(lambda conn=db.connect(), s=statement, p=prepare: work(conn, s, p))
               for statement in statements for prepare in (False, True)]
    blocker = holder(db)
    run = walter.start_perform(ALTER, "--lock-timeout", "2000")
    wait_for_queued_lock(db)
    wait_until(lambda: db.query_one("select count(*) from pg_locks where not granted"
                                    " and relation = 't'::regclass") > len(workers), "all queued")
    blocker.execute("commit")
    run.finish()
    stop.set()
    assert [join() for join in workers] == [{1000}] * len(workers)
    assert column_type(db) == "bigint"


# -- foreign keys ---------------------------------------------------------------------------------

PARENT_AND_CHILD = r"""
\set id random(1, 500)
begin;
update parent set n = n + 1 where id = :id;
insert into child (parent_id, v) values (:id, 1);
update child set v = v + 1 where id = currval('child_id_seq');
commit;
"""


@pytest.mark.smoke
def test_foreign_key_partners_meet_no_deadlock(db, walter, record_property):
    db.execute("create table parent (id int primary key, n int not null);"
               "insert into parent select i, 0 from generate_series(1, 500) i;"
               "create table child (id bigserial primary key, v int not null,"
               "                    parent_id int not null references parent)")
    with PgBench(db, clients=4, script=PARENT_AND_CHILD) as load:
        results = [walter.perform("alter table child alter parent_id type bigint"),
                   walter.perform("alter table parent alter id type bigint")]
    tries = [len(re.findall("cutover attempt", result.stderr)) for result in results]
    record_property("attempts", tries)
    record_property("longest stall in ms", load.longest_ms)
    assert load.errors == [] and load.failed == 0
    assert load.longest_ms < STALL_MS
    assert db.query_one("select sum(n) from parent") == load.operations
    assert db.query_one("select count(*) from child where v = 2") == load.operations
    assert db.query_one("select count(*) from pg_constraint where contype = 'f' and convalidated"
                        " and conrelid = 'child'::regclass and confrelid = 'parent'::regclass") == 1


CHILD_TABLE_PARENT = r"""
\set id random(1, 500)
begin;
insert into child (parent_id) values (:id);
update t set n = n + 1 where id = :id;
update parent set n = n + 1 where id = :id;
commit;
"""


def test_locks_follow_the_order_of_the_application(db, walter, record_property):
    """Referencing table first, the table, then the referenced one: no guess finds this order, and
    some transaction is between two of them at any moment."""
    db.execute("create table parent (id int primary key, n int not null);"
               "create table t (id int primary key references parent, n int not null);"
               "create table child (id bigserial primary key, parent_id int references t);"
               "insert into parent select i, 0 from generate_series(1, 500) i;"
               "insert into t select id, 0 from parent")
    with PgBench(db, clients=4, script=CHILD_TABLE_PARENT) as load:
        result = walter.perform("alter table t alter n type bigint", "--lock-timeout", "200",
                                "--cutover-retries", "7")
    record_property("attempts", len(re.findall("cutover attempt", result.stderr)))
    assert load.errors == [] and load.failed == 0
    assert db.query_one("select sum(n) from t") == load.operations
    assert db.query_one("select count(*) from child") == load.operations


PARENT_AND_CHILD_COME_AND_GO = r"""
\set id random(1, 1000000000)
begin;
insert into parent values (:id) on conflict do nothing;
insert into child (parent_id) select :id where not exists (
  select from child where parent_id = :id);
commit;
begin;
delete from child where parent_id = :id;
delete from parent where id = :id;
commit;
"""


@pytest.mark.parametrize("fits", [True, False])
def test_new_key_to_a_table_that_the_owner_may_not_read(db, walter, fits):
    """He may reference it, which is enough for plain ALTER TABLE; rows are checked all the same."""
    one, other = db.create_role(), db.create_role()
    db.execute(f"grant {one.user}, {other.user} to {db.user};"
               "create table p (id int primary key); insert into p values (1), (2);"
               "create table t (id int primary key, n int); insert into t values (1, 1), (2, 2);"
               f"alter table p owner to {other.user}; alter table t owner to {one.user};"
               f"grant references on p to {one.user};"
               f"grant usage, create on schema public to {one.user}")
    if not fits:
        db.execute("insert into t values (3, 3)")
    result = walter.perform("alter table t add constraint f foreign key (n) references p",
                            check=0 if fits else 3)
    if not fits:
        assert 'key (n)=(3) is not present in table "p"' in result.stderr
        assert_removed(db)
    else:
        assert "validated a foreign key" in result.stderr
        assert_finished(db)


def test_new_key_whose_rows_come_and_go(db, walter):
    """The shadow lags behind the other table: what is missing there for a moment is no violation."""
    db.execute("create table parent (id int primary key);"
               "insert into parent select i from generate_series(1, 20000) i;"
               "create table child (id bigserial primary key, parent_id int not null);"
               "insert into child (parent_id) select i from generate_series(1, 20000) i")
    with PgBench(db, clients=2, script=PARENT_AND_CHILD_COME_AND_GO) as load:
        walter.perform("alter table child add constraint fits foreign key (parent_id)"
                       " references parent")
    assert load.errors == [] and load.failed == 0
    assert db.query_one("select convalidated from pg_constraint where conname = 'fits'")


# -- what does not mind the lock on the table -----------------------------------------------------

def test_numbers_drawn_from_the_sequence_alone(db, walter):
    """An application that draws numbers in advance never gets one twice."""
    db.execute("create table t (id int generated by default as identity primary key, n int);"
               "insert into t (n) select i from generate_series(1, 1000) i;"
               "create table log (number bigint);"
               + "".join(f"create table c{i} (t int references t);" for i in range(6)))
    with PgBench(db, clients=2, script="insert into log select nextval('t_id_seq');") as load:
        for kind in ("bigint", "int", "bigint"):
            walter.perform(f"alter table t alter n type {kind}", "--drop")
    assert load.errors == [] and load.failed == 0
    assert load.operations > 0
    assert db.query("select number from log group by 1 having count(*) > 1") == []


def test_number_drawn_in_an_open_transaction(db, walter):
    """It is named as what is in the way, and does not cost an attempt more than its pulse."""
    db.execute("create table t (id int generated always as identity primary key, n int);"
               "insert into t (n) select i from generate_series(1, 100) i")
    session = db.connect(autocommit=False)
    session.execute("select nextval('t_id_seq')")
    pid = session.info.backend_pid
    run = walter.start_perform("alter table t alter n type bigint")
    run.wait_for_log(f"in the way of the lock: pid {pid}")
    session.close()
    run.finish()


def test_privileges_granted_all_the_time(db, walter):
    """GRANT and REVOKE do not mind the lock, and none of them is lost."""
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 100) i")
    script = r"""
\set column random(1, 2)
begin;
grant select on t to public;
revoke select on t from public;
commit;
"""
    with PgBench(db, clients=1, script=script, rate=50) as load:
        for kind in ("bigint", "int", "bigint"):
            walter.perform(f"alter table t alter n type {kind}", "--drop")
    # his own statement may meet ours, as it may meet anybody's
    assert all(re.search("tuple concurrently updated|Run was aborted", error)
               for error in load.errors), load.errors
    db.execute("grant insert on t to public")
    assert db.query_one("select has_table_privilege('public', 't', 'insert')"
                        "   and not has_table_privilege('public', 't', 'select')")


def test_repeatable_read_in_its_first_statement(db, walter):
    """Its snapshot is from before the copy: the new table would be empty for it."""
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 1000) i")
    reader = db.connect(autocommit=False)
    reader.execute("set transaction isolation level repeatable read")
    ended = in_a_long_statement(db, reader, "1")
    run = walter.start_perform("alter table t alter n type bigint")
    run.wait_for_log("waiting for an old snapshot")
    ended()
    assert reader.execute("select count(*) from t").fetchone() == (1000,)
    reader.close()
    run.finish()


# -- the answer to COMMIT -------------------------------------------------------------------------

class CutCommit:
    """Cuts the cutover's session at its COMMIT; `then` is called before that."""

    def __init__(self, what, then=lambda: None):
        self.what = what
        self.then = then
        self.seen = 0

    def __call__(self, session, kind, payload):
        if not session.endswith(" cutover") or kind != "Q" or payload != b"commit\0":
            return None
        self.seen += 1
        self.then()
        return self.what


def test_commit_that_did_not_arrive(db, walter):
    create_twins(db)
    watch = CutCommit("cut")
    with Proxy(db.server, watch) as proxy:
        result = walter.perform(ALTER, "--reconnect-timeout=0", env=proxy.env, check=6)
    assert watch.seen == 1
    assert "lost the connection" in result.stderr
    assert "at COMMIT of the swap; asking the server whether it has happened" in result.stderr
    assert "the server says that the swap has not happened" in result.stderr
    assert column_type(db) == "integer"
    assert "going on with run" in walter.perform(ALTER).stderr


def test_commit_whose_answer_did_not_arrive(db, walter):
    create_twins(db)
    db.execute("create table child (id int references t)")
    watch = CutCommit("cut after")
    with twin_load(db, clients=2, actions={"delete": 0, "key": 0}) as load, \
            Proxy(db.server, watch) as proxy:
        result = walter.perform(ALTER, "--drop", env=proxy.env)
        load.wait_for(50)
    assert watch.seen == 1
    assert "the server says that the swap has happened" in result.stderr
    assert "the old table is dropped" in result.stderr
    assert load.errors == []
    assert column_type(db) == "bigint"
    assert_twins(db)
    assert_finished(db)


def test_commit_with_nobody_to_ask(db, walter):
    create_twins(db)
    with Proxy(db.server) as proxy:
        proxy.watch = CutCommit("cut after", proxy.refuse)
        run = walter.start_perform(ALTER, env=proxy.env)
        run.wait_for_log("asking the server whether it has happened")
        # an operator who does not want to wait gets the honest answer
        run.interrupt()
        result = run.finish(check=8)
    assert re.search("error: the swap may have happened or not", result.stderr)
    assert re.search("hint: Look whether public.t has the new shape", result.stderr)
    assert "is as it was" not in result.stderr
    shown = walter.run("cleanup")
    assert "the swap has happened: public.t has its new definition" in shown.stdout
    walter.run("cleanup", "--yes")
    assert column_type(db) == "bigint"
    assert_finished(db)


@pytest.mark.parametrize("what", ["cut", "cut after"])
def test_crash_at_commit(new_server, new_db, walter, what):
    own = new_server()
    db = walter.db = new_db(own)
    create_twins(db)
    with Proxy(own) as proxy:
        halted = threading.Event()

        def crash():
            threading.Thread(target=lambda: (own.halt("immediate"), own.resume(), halted.set()),
                             daemon=True).start()

        proxy.watch = CutCommit(what, crash)
        result = walter.perform(ALTER, "--reconnect-timeout=0", env=proxy.env, check=False)
    assert halted.wait(30)
    swapped = column_type(db) == "bigint"
    assert result.code == (0 if swapped else 6), str(result)
    if what == "cut":
        assert not swapped
    said = re.search("the server says that the swap has (not )?happened", result.stderr)
    assert bool(said.group(1)) != swapped
    if not swapped:
        walter.perform(ALTER)
    assert_finished(db)


def test_cutover_session_ended_while_it_waits(db, walter):
    create_twins(db)
    blocker = holder(db)
    run = walter.start_perform(ALTER, "--lock-timeout", "3000")
    wait_for_queued_lock(db)
    db.execute("select pg_terminate_backend(%s)", [wait_for_session(db, "cutover")])
    run.wait_for_log("cutover attempt 1: .*terminating connection due to administrator command")
    blocker.execute("commit")
    run.finish()
    assert_finished(db)
