"""What others do to the table, to the server and to walter's own sessions while a run is on."""
import os
import re
import threading
import time

import psycopg
import pytest

from support.hold import held_build
from support.load import TwinLoad, assert_same
from support.phases import ALTER, TABLE, held_in, held_snapshot
from support.traces import assert_finished, assert_removed
from support.versions import skip_unless_understood
from support.wait import wait_for_session


@pytest.fixture
def other(new_db, server):
    """Another database of the same server."""
    return new_db(server)


def column_type(db):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'")


# -- our own sessions -----------------------------------------------------------------------------

SESSIONS = [("publication", "control"), ("slot", "control"), ("slot", "stream"),
            ("copy", "control"), ("copy", "keeper"), ("copy", "stream"), ("copy", "apply"),
            ("copy", "copy to"), ("index", "control"), ("index", "index"),
            ("catch-up", "stream"), ("catch-up", "apply"), ("cutover", "control"),
            ("cutover", "stream"), ("cutover", "apply")]


@pytest.mark.parametrize("phase,session", SESSIONS)
def test_session_ended_by_somebody(db, other, walter, phase, session):
    with held_in(phase, walter, other, "--reconnect-timeout=0") as run:
        pattern = "^walter: control$" if session == "control" else f"^walter: [0-9a-f]+ {session}$"
        begun = time.monotonic()
        assert db.query("select pg_terminate_backend(pid) from pg_stat_activity"
                        " where datname = current_database() and application_name ~ %s",
                        [pattern])
        result = run.finish(timeout=20, check=6)
        took = time.monotonic() - begun
    assert took < 10, f"{took:.1f} s"
    if phase in ("publication", "slot"):
        assert "all of it is removed, and public.t is as it was" in result.stderr
    else:
        assert "is kept, and its replication slot holds back WAL" in result.stderr
        walter.run("cleanup", "--yes")
    # the reason is the server's own word, not libpq's guess
    assert "terminating connection due to administrator command" in result.stderr, str(result)
    assert_removed(db)
    assert column_type(db) == "integer"


@pytest.mark.parametrize("phase,session", [("copy", "copy to"), ("index", "index")])
def test_statement_canceled_by_somebody(db, other, walter, phase, session):
    with held_in(phase, walter, other) as run:
        # there are two such sessions, and one has nothing to do
        busy = wait_for_session(db, session, "wait_event = 'PgSleep'")
        db.execute("select pg_cancel_backend(%s)", [busy])
        result = run.finish(check=5)
    assert "canceling statement due to user request" in result.stderr
    # perhaps it only took long: what is copied is worth more than that
    db.execute("create or replace function slow(bigint) returns bigint language sql immutable"
               " as 'select $1'")
    walter.perform(ALTER)
    assert column_type(db) == "bigint"
    assert_finished(db)


@pytest.mark.parametrize("phase", ["slot", "copy", "index", "cutover"])
def test_waiting_costs_nothing(db, other, walter, phase):
    with held_in(phase, walter, other) as run:
        before = cpu_seconds(run.pid)
        time.sleep(2)
        assert cpu_seconds(run.pid) - before < 0.5
        run.interrupt()
        run.finish(check=7)
    walter.run("abort", "--yes")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- slot and publication -------------------------------------------------------------------------

@pytest.mark.smoke
def test_slot_dropped(db, other, walter):
    with held_in("copy", walter, other) as run:
        db.drop_slots()
        result = run.finish(check=9)
    # found when the run looks for it, or when it goes on after the stream has ended
    assert re.search("its replication slot is gone|replication slot walter_.* was dropped by",
                     result.stderr)
    walter.run("cleanup", "--yes")
    assert_removed(db)


@pytest.mark.parametrize("phase,statement", [
    ("copy", "drop publication {p}"), ("cutover", "drop publication {p}"),
    ("index", "alter publication {p} drop table t"),
    ("copy", "alter publication {p} set table t where (id > 5)"),
    ("cutover", "alter publication {p} set (publish = 'insert')")])
@pytest.mark.smoke
def test_publication_changed(db, other, walter, phase, statement):
    skip_unless_understood(db.server, statement)
    with held_in(phase, walter, other) as run:
        name = db.query_one("select pubname from pg_publication")
        db.execute(statement.format(p=name))
        result = run.finish(check=1)
    assert f'publication "{name}"' in result.stderr
    assert_removed(db)


def test_publication_changed_and_changed_back(db, other, walter):
    with held_in("copy", walter, other) as run:
        name = db.query_one("select pubname from pg_publication")
        db.execute(f"alter publication {name} set (publish = 'insert')")
        db.execute(f"alter publication {name} set (publish = 'insert, update, delete, truncate')")
        result = run.finish(check=1)
    assert f'publication "{name}" was dropped or altered by somebody else' in result.stderr
    assert_removed(db)


@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
@pytest.mark.parametrize("there,name,back", [
    ("alter table t rename to u", "u", "alter table u rename to t"),
    ("create schema s; alter table t set schema s", "s.t", "alter table s.t set schema public")])
def test_another_name_for_a_moment(db, walter, plugin, there, name, back):
    """wal2json leaves out what happens under it, and nobody else would notice."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1), (2, 2)")
    with held_snapshot(db, walter, f"--plugin={plugin}") as run:
        db.execute(f"{there}; update {name} set n = 3 where id = 1;"
                   f"delete from {name} where id = 2; {back}")
    result = run.finish(check=1 if plugin == "wal2json" else 0)
    if plugin == "wal2json":
        assert "was given another name or schema while the run was on" in result.stderr
        assert_removed(db)
    assert db.query("select id, n from t") == [(1, 3)]


@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
def test_no_identity_for_a_moment(db, walter, plugin):
    """What could not be followed is not written: the server refuses it, as for any published table."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1), (2, 2)")
    with held_snapshot(db, walter, f"--plugin={plugin}") as run:
        db.execute("alter table t replica identity nothing")
        for sql in ("update t set n = 3 where id = 1", "delete from t where id = 2"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                db.execute(sql)
        db.execute("alter table t replica identity default")
    run.finish()
    assert db.query("select id, n from t order by 1") == [(1, 1), (2, 2)]
    assert_finished(db)


# -- the table ------------------------------------------------------------------------------------

CHANGES = {"drop": "drop table t", "rename": "alter table t rename to other",
           "column": "alter table t add column x int", "schema": "create schema s;"
           "alter table t set schema s", "key": "alter table t drop constraint t_pkey",
           "view": "create view v as select * from t"}


@pytest.mark.parametrize("change", CHANGES)
def test_table_changed(db, other, walter, change):
    with held_in("index", walter, other) as run:
        db.execute(CHANGES[change])
        result = run.finish(check=1)
    assert "public.t was changed by somebody else while the run was on" in result.stderr
    assert_removed(db)


def test_table_changed_in_the_queue_for_the_lock(db, other, walter):
    """DDL that stands in the queue before walter is seen, and nothing is swapped."""
    with held_in("cutover", walter, other) as run:
        ddl = db.connect()
        alter = threading.Thread(target=lambda: ddl.execute("alter table t add column x int"))
        alter.start()
        run.wait_for_log("DDL of somebody else is in the way: reading the definition of table ")
    alter.join(30)
    result = run.finish(check=1)
    assert "public.t was changed by somebody else while the run was on" in result.stderr
    assert_removed(db)


@pytest.mark.parametrize("rewrite, method", [("vacuum full t", "insert"),
                                             ("cluster t using t_pkey", "copy")])
def test_rewritten_during_the_copy(db, walter, rewrite, method):
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, filler text);"
                   f"insert into {name} select i, i, repeat('x', 400)"
                   "  from generate_series(1, 120000) i;"
                   f"delete from {name} where id % 3 = 0; cluster {name} using {name}_pkey")
    # every chunk takes a while, so the rewrite gets its lock between two of them; the more jobs,
    # the smaller the chunks
    db.execute("create function slow(int) returns boolean language plpgsql immutable as $$ begin"
               " if current_setting('application_name') like '%copy to' and $1 % 10000 = 1 then"
               "   perform pg_sleep(0.2); end if; return true; end $$;"
               "alter table t add check (slow(id))")
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 120000)) as load:
        run = walter.start_perform(ALTER, "--jobs", "4", f"--copy-method={method}")
        wait_for_session(db, "copy to", "wait_event = 'PgSleep'")
        db.execute(rewrite)
        run.wait_for_log("public.t was rewritten or emptied during the copy; copying it again")
        run.finish()
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "select id, n, filler from t", "select id, n, filler from twin", 30000)
    assert_finished(db)


def test_rewritten_after_the_copy(db, walter):
    """Then the stream alone brings what is new, and blocks do not matter."""
    for name in ("t", "twin"):
        db.execute(TABLE.replace("table t ", f"table {name} ").replace("into t ", f"into {name} "))
    with held_build(walter, ALTER) as run:
        for name in ("t", "twin"):
            db.execute(f"update {name} set n = n + 1")
        db.execute("vacuum full t")
        for name in ("t", "twin"):
            db.execute(f"update {name} set n = -n where id < 100; delete from {name} where id > 990")
        db.execute("vacuum full t")
    run.finish()
    assert_same(db, "table t", "table twin", 990)
    assert_finished(db)


# -- no room --------------------------------------------------------------------------------------

def test_disk_full_during_the_copy(db, walter):
    db.execute(TABLE + "; create function full_disk(bigint) returns boolean language plpgsql immutable"
               " as $$ begin"
               " if current_setting('application_name') like '%copy to' and $1 = 500 then"
               "   raise sqlstate '53100' using message = 'could not extend file';"
               " end if; return true; end $$;"
               "alter table t add check (full_disk(n))")
    result = walter.perform(ALTER, check=1)
    assert "could not extend file (SQLSTATE 53100)" in result.stderr
    assert_removed(db)


def test_no_room_for_temporary_files(db, owner, walter):
    owner.execute("create table t (id int primary key, n int, filler text);"
                  "insert into t select i, i, md5(i::text) from generate_series(1, 200000) i;"
                  "create index on t (filler)")
    db.execute(f"alter role {owner.user} set temp_file_limit = '64kB';"
               f"alter role {owner.user} set maintenance_work_mem = '1MB'")
    result = walter.as_user(owner).perform(ALTER, check=5)
    assert re.search('temporary file size exceeds "?temp_file_limit', result.stderr)
    assert "is kept" in result.stderr
    db.execute(f"alter role {owner.user} reset temp_file_limit")
    assert "going on with run" in walter.as_user(owner).perform(ALTER).stderr


@pytest.mark.superuser("event triggers belong to superusers")
def test_error_of_ours_is_not_blamed_on_the_data(db, walter):
    """Class 23 from the swap's own statements: exit code 1, not 3."""
    db.execute(TABLE + "; create function oops() returns event_trigger language plpgsql as $$ begin"
               " if current_setting('application_name') ~ '^walter: .* cutover$' then"
               "   raise sqlstate '23505' using message = 'somebody else''s unique violation';"
               " end if; end $$;"
               "create event trigger oops on ddl_command_start when tag in ('ALTER TABLE')"
               " execute function oops()")
    result = walter.perform(ALTER, check=1)
    assert "somebody else's unique violation (SQLSTATE 23505)" in result.stderr
    assert_removed(db)
    assert column_type(db) == "integer"
