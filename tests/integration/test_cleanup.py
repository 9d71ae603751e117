"""What dead runs leave behind is shown and removed; live runs are never touched."""
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from support.hold import held_copy
from support.load import TwinLoad, assert_same
from support.phases import ALTER, PHASES, TABLE, held_in
from support.traces import assert_finished, assert_removed, assert_untouched, traces
from support.wait import wait_until_dead


def column_type(db, table="t"):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = %s::regclass and attname = 'n'", [table])


@pytest.fixture
def other(new_db, server):
    """Another database of the same server."""
    return new_db(server)


# -- dead runs ------------------------------------------------------------------------------------

@pytest.mark.parametrize("phase", PHASES)
def test_killed(db, owner, other, walter, phase):
    """kill -9 in any phase, as an ordinary role: shown, removed, and the next run works."""
    runner = walter.as_user(owner)
    with held_in(phase, runner, other, superuser=db) as run:
        run.kill()
        # its control session ends by itself: that is how others see that the run is dead
        wait_until_dead(db)
        before = traces(db)
        shown = runner.run("cleanup")
        assert [trace for trace in traces(db) if not trace.startswith("session")] == [
            trace for trace in before if not trace.startswith("session")]
        if phase == "preflight":
            assert "nothing to clean up" in shown.stdout
        else:
            assert_shown(shown.stdout, before)
            runner.run("cleanup", "--yes")
            assert_removed(db)
    db.execute("drop function if exists slow cascade")
    assert column_type(db) == "integer"
    runner.perform(ALTER)
    assert column_type(db) == "bigint"


def assert_shown(text, left):
    """The list names everything that is there."""
    assert re.search(r"^run [0-9a-f]{8} on public.t, begun [-0-9]+ [:0-9]+, phase \w+: dead$", text,
                     re.MULTILINE)
    assert f"  statement          {ALTER}\n" in text
    for trace in left:
        kind, name = trace.split(" ", 1)
        if kind in ("schema", "publication", "slot", "table") and name != "walter":
            assert re.search(rf"\b{re.escape(name)}\b", text), f"{trace} is not shown:\n{text}"
    assert "nothing was removed; add --yes to remove it" in text


def test_killed_after_the_swap(db, walter):
    """The new table stays, of course, and so does the old one."""
    db.execute(TABLE)
    run = walter.start_perform(ALTER)
    run.wait_for_log("building")
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    run.wait_for_log("swapped, lock held")
    run.kill()
    holder.close()
    shown = walter.run("cleanup").stdout
    assert re.search("phase swapped: dead", shown)
    assert re.search(r"the swap has happened: public.t has its new definition, and the old table "
                     r"stays in schema walter_[0-9a-f]{8}", shown)
    refused = walter.perform("alter table t add x int", check=2)
    assert re.search("an earlier run on public.t, begun .*, was interrupted", refused.stderr)
    walter.run("cleanup", "--yes")
    assert_finished(db)
    assert column_type(db) == "bigint"
    walter.perform("alter table t add x int")


@pytest.mark.smoke
def test_killed_under_load(db, walter):
    """The slot of a dead run holds WAL back, but nothing else feels it."""
    db.execute(TABLE + "; create table twin (id int primary key, n int not null);"
               "insert into twin table t")
    with TwinLoad(db, "t", "twin", {"n": "int not null"}, keys=(1, 1000)) as load:
        run = walter.start_perform(ALTER)
        run.wait_for_log("copying")
        run.kill()
        load.wait_for(50)
        walter.run("cleanup", "--yes")
        load.wait_for(50)
    assert load.errors == []
    assert_removed(db)
    assert_same(db, "table t", "table twin")


def test_several_dead_runs(db, owner, other, walter):
    """Those of another role are left, with a word about it, and do not keep the others."""
    owner.execute("create table mine (id int primary key, n int)")
    db.execute("create table yours (id int primary key, n int)")
    for table, runner in [("mine", walter.as_user(owner)), ("yours", walter)]:
        holder = db.connect()
        holder.execute(f"begin; lock table {table} in access share mode")
        run = runner.start_perform(f"alter table {table} alter n type bigint")
        run.wait_for_log("cutover attempt 1: ")
        run.kill()
        holder.close()
        if table == "mine":
            db.execute("grant usage on schema walter to public")
    result = walter.as_user(owner).run("cleanup", "--yes", check=2)
    assert re.search("info: run [0-9a-f]{8} on public.mine is removed", result.stderr)
    assert re.search("error: cleaning up run [0-9a-f]{8} on public.yours: ", result.stderr)
    assert "hint: Run it as the role that ran the migration, or as a superuser." in result.stderr
    walter.run("cleanup", "--yes")
    assert_removed(db)


def test_role_without_rights(db, walter):
    db.execute(TABLE)
    walter.perform(ALTER)
    stranger = db.create_role("login")
    result = walter.as_user(stranger).run("cleanup", check=2)
    assert re.search("error: reading walter.run: permission denied for (schema walter|table run)",
                     result.stderr)


# -- live runs ------------------------------------------------------------------------------------

@pytest.mark.parametrize("phase", ["slot", "cutover"])
def test_live_run_is_left_alone(db, other, walter, phase):
    with held_in(phase, walter, other) as run:
        before = traces(db)
        result = walter.run("cleanup", "--yes")
        assert re.search(r"^run [0-9a-f]{8} on public.t, begun .*: alive, left alone$",
                         result.stdout, re.MULTILINE)
        assert "nothing to clean up" in result.stdout
        assert traces(db) == before
        assert run.is_running
    run.finish()
    assert_finished(db)
    assert column_type(db) == "bigint"


def restore(db, into, schema):
    """Put a dump of the schema into another database."""
    where = ["-h", db.server.host, "-p", str(db.server.port), "-U", db.user]
    dump = subprocess.run([*db.server.program("pg_dump"), *where, "-n", schema, db.name],
                          check=True, capture_output=True, timeout=60)
    subprocess.run([*db.server.program("psql"), *where, "-qXd", into.name], input=dump.stdout,
                   check=True, capture_output=True, timeout=60)


def test_live_run_is_left_alone_by_who_cleans_up_a_copy_of_its_database(db, other, walter):
    """There the record says that the run is dead, and the session's names are the same."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    with held_copy(walter, "alter table t alter n type bigint") as run:
        restore(db, other, "walter")
        copied = walter.as_user(other).run("cleanup", "--yes")
        assert re.search("phase copy: dead", copied.stdout)
        assert run.is_running
    run.finish()
    assert_finished(db)


def test_dead_beside_live(db, other, walter):
    db.execute("create table dead (id int primary key, n int)")
    holder = db.connect()
    holder.execute("begin; lock table dead in access share mode")
    run = walter.start_perform("alter table dead alter n type bigint")
    run.wait_for_log("cutover attempt 1: ")
    run.kill()
    holder.close()
    with held_in("cutover", walter, other) as live:
        walter.run("cleanup", "--yes")
        assert live.is_running
        assert len([trace for trace in traces(db) if trace.startswith("run ")]) == 1
    live.finish()
    assert_finished(db)


# -- nothing --------------------------------------------------------------------------------------

def test_nothing_to_clean_up(db, walter):
    result = walter.run("cleanup")
    assert result.stdout == f'nothing to clean up in database "{db.name}"\n'
    assert_untouched(db)
    db.execute(TABLE)
    walter.perform(ALTER, "--drop")
    assert walter.run("cleanup", "--yes").stdout == (
        f'nothing to clean up in database "{db.name}"\n')
    assert_finished(db)


# -- several runs ---------------------------------------------------------------------------------

def test_first_runs_at_the_same_time(db, walter):
    """Each would create schema walter; none stumbles over the others."""
    tables = [f"t{i}" for i in range(4)]
    for table in tables:
        db.execute(f"create table {table} (id int primary key, n int);"
                   f"insert into {table} select i, i from generate_series(1, 1000) i")
    runs = [walter.start_perform(f"alter table {table} alter n type bigint") for table in tables]
    for run in runs:
        run.finish()
    assert [column_type(db, table) for table in tables] == ["bigint"] * 4
    assert db.query_one("select count(*) from walter.run where phase = 'done'") == 4
    assert_finished(db)


def test_two_runs_on_one_table_at_the_same_time(db, walter):
    """One of them wins; whoever is late is refused and has made nothing."""
    db.execute(TABLE)
    results = [run.finish(check=False) for run in
               [walter.start_perform(ALTER), walter.start_perform(ALTER)]]
    codes = sorted(result.code for result in results)
    assert codes in ([0, 2], [0, 0]), "\n".join(map(str, results))
    if codes == [0, 2]:
        loser = next(result for result in results if result.code == 2)
        assert re.search("another walter.* is at work on this table|was interrupted|"
                         "publication .* publishes", loser.stderr), str(loser)
    assert column_type(db) == "bigint"
    assert_finished(db)


def test_runs_in_a_row(db, walter):
    db.execute(TABLE)
    for kind in ["bigint", "numeric", "bigint", "integer"]:
        walter.perform(f"alter table t alter n type {kind}", "--drop")
        assert column_type(db) == kind
    assert_finished(db)


# An operator whom the slot's WAL worries drops it at the very moment when cleanup does, too.
DROPPED_MEANWHILE = """
    create function dropped_meanwhile(slot name) returns boolean language plpgsql as $$ begin
        if current_query() ~ 'pg_drop_replication_slot' then
            perform pg_drop_replication_slot(slot);
        end if;
        return true;
    end $$;
    do $$ begin
        set local allow_system_table_mods to on;
        execute format('create or replace view pg_catalog.pg_replication_slots as'
                       '  select s.* from (%s) s'
                       '   where s.database <> current_database() or s.active'
                       '      or public.dropped_meanwhile(s.slot_name)',
                       rtrim(pg_get_viewdef('pg_replication_slots'::regclass), ';'));
    end $$
"""


def test_slot_dropped_meanwhile(db, other, walter):
    with held_in("copy", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    db.execute(DROPPED_MEANWHILE)
    walter.run("cleanup", "--yes")
    assert_removed(db)


# -- the server goes away -------------------------------------------------------------------------

def test_fast_shutdown_with_a_backlog(new_server, new_db, walter):
    """An unread stream would keep the server from stopping."""
    own = new_server()
    db = walter.db = new_db(own)
    with held_in("catch-up", walter, new_db(own), "--reconnect-timeout=0") as run:
        db.execute("update t set n = n + 1 where id <> 1")
        db.close()
        begun = time.monotonic()
        own.halt("fast")
        assert time.monotonic() - begun < 5
        result = run.finish(check=6)
    assert "error: " in result.stderr
    assert re.search("warning: run [0-9a-f]{8} is kept, and its replication slot holds back WAL",
                     result.stderr)
    own.resume()
    assert traces(db) != []
    walter.run("cleanup", "--yes")
    assert_removed(db)
    assert db.execute("update t set n = n + 1") == 1000


# -- the question ---------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_stop_at_the_question(db, other, walter, number):
    """It is no answer."""
    with held_in("copy", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([walter.path, "cleanup"], env={**os.environ, **walter.db.env},
                               stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:   # it came just before the answer was waited for
        process.send_signal(number)
    assert process.wait(10) == 7
    assert b"nothing was removed" not in process.stdout.read()
    process.stdout.close()
    os.close(ours)
    assert traces(db) != []
    walter.run("cleanup", "--yes")
    assert_removed(db)


def test_state_dropped_during_the_run(db, walter):
    """Somebody takes schema "walter" for a leftover: the run ends, and leaves nothing of its own."""
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 1000) i")
    with held_copy(walter, "alter table t alter n type bigint") as run:
        db.execute("drop schema walter cascade")
    result = run.finish(check=1)
    # whichever of walter's tables is missed first
    assert re.search("all of it is removed, and (public.t is as it was|walter has changed nothing"
                     " of public.t)", result.stderr)
    assert_removed(db)
    walter.perform("alter table t alter n type bigint")


def test_record_gone_after_the_run(db, other, walter):
    """A dead run whose schema walter was dropped is found by its names, and a live one is spared."""
    with held_in("catch-up", walter, other, superuser=db) as run:
        db.execute("drop schema walter cascade")
        assert "alive, left alone" in walter.run("cleanup", "--yes").stdout
        run.kill()
        wait_until_dead(db)
        shown = walter.run("cleanup").stdout
        assert re.search(r"^run [0-9a-f]{8}, whose record in walter.run is gone: dead$", shown,
                         re.MULTILINE)
        assert "replication slot" in shown and "publication" in shown and "schema" in shown
        walter.run("cleanup", "--yes")
        assert_removed(db)
    assert "nothing to clean up" in walter.run("cleanup").stdout
