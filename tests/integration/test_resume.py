"""An interrupted run goes on: what was copied and applied is kept, nothing is lost and nothing twice."""
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from support.hold import Twins, wait_until_true
from support.load import TwinLoad, assert_same
from support.phases import ALTER, held_in, held_snapshot
from support.traces import assert_finished, assert_removed, traces
from support.wait import wait_for_session, wait_until, wait_until_dead
from support.walter import Walter

# Whoever holds this lock stops the copy at the row that asks for it.
GATE = 4711
GATED = """
    create function gate(bigint) returns boolean language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: [0-9a-f]+ copy to$' and $1 = 6000 then
            perform pg_advisory_xact_lock_shared(4711);
        end if;
        return true;
    end $$"""
# with room for the new versions of rows in their blocks, which may have been copied
DOCS = ("create table {t} (id bigint primary key, n int, filler text, doc text)"
        " with (fillfactor = 50);"
        "alter table {t} alter doc set storage external")
DOCS_ROWS = ("insert into {t} select i, i, repeat('f', 100 + i % 50), repeat(md5(i::text), 80)"
             "  from generate_series(1, 8000) i")
WIDEN = "alter table {t} alter n type bigint, add column x int default 5"
SLOW = "--max-rate=16MB"


@pytest.fixture
def other(new_db, server):
    """Another database of the same server."""
    return new_db(server)


def kill(run):
    run.kill()


def interrupt(run):
    run.interrupt()
    result = run.finish(check=7)
    assert "is kept: replication slot" in result.stderr
    assert "the same walter perform goes on with it; walter abort removes it" in result.stderr


STOPS = [kill, interrupt]


class HalfCopied:
    """Twins whose copy is stopped half-way, with chunks done; then the run is ended."""

    def __init__(self, db, walter, stop=kill, args=(), alter=WIDEN, definition=DOCS,
                 rows=DOCS_ROWS):
        self.db, self.walter, self.args = db, walter, (SLOW, *args)
        self.alter = alter
        db.execute(GATED)
        self.twins = Twins(db, definition, rows)
        db.execute("alter table t add check (gate(id::bigint))")
        holder = db.connect()
        holder.execute(f"select pg_advisory_lock({GATE})")
        self.run = walter.start_perform(alter.replace("{t}", "t"), *self.args)
        wait_for_session(db, "copy to", "wait_event = 'advisory'")
        copied = db.query_one("select 'walter.' || relname from pg_class"
                              " where relkind = 'r' and relname ~ '^copied_'")
        wait_until_true(db, f"select count(*) > 0 from {copied}")
        stop(self.run)
        holder.close()
        wait_until_dead(db)

    def go_on(self, *args):
        result = self.walter.perform(self.alter.replace("{t}", "t"), *self.args, *args)
        assert "going on with run" in result.stderr
        assert re.search(r"info: [1-9]\d* of \d+ blocks were copied before", result.stderr)
        return result

    def assert_equal(self):
        self.db.execute("alter table t drop constraint t_id_check")
        self.twins.assert_equal(self.alter)
        assert_finished(self.db)


# -- the copy --------------------------------------------------------------------------------------

@pytest.mark.parametrize("stop", STOPS)
def test_copy_goes_on(db, walter, stop):
    half = HalfCopied(db, walter, stop)
    half.go_on()
    half.assert_equal()


CHANGES = {
    "nothing": (),
    "updates": ("update {t} set n = n + 1 where id % 3 = 0",),
    "deletes": ("delete from {t} where id % 5 = 0",),
    "inserts": ("insert into {t} select i, i, 'new', 'short' from generate_series(9000, 9500) i",),
    # the value out of line is not sent, and is in no chunk that is still to come
    "unchanged out of line": ("update {t} set n = -n where id in (1, 2, 3, 7000, 7001)",
                              "update {t} set n = n - 1 where id in (2, 7001)"),
    "keys": ("update {t} set id = id + 100000 where id % 7 = 0",
             "update {t} set id = -id where id between 1 and 20"),
    "keys swapped": ("begin; update {t} set id = -1 where id = 10;"
                     "update {t} set id = 10 where id = 7990; update {t} set id = 7990"
                     " where id = -1; commit",),
    "keys reused": ("delete from {t} where id in (5, 7005)",
                    "insert into {t} values (5, -5, 'again', null), (7005, -7005, 'again', null)"),
    # from blocks that are copied to such as are not, and back into those that vacuum has emptied
    "moved rows": ("update {t} set filler = repeat('g', 1000) where id <= 1500",
                   "delete from {t} where id between 1501 and 3000",
                   "vacuum {t}",
                   "update {t} set filler = repeat('h', 900) where id >= 7500"),
    "subtransactions": ("begin; savepoint a; update {t} set n = -1 where id <= 50; savepoint b;"
                        "delete from {t} where id <= 25; rollback to b;"
                        "update {t} set n = -2 where id > 7950; release a; commit",),
    "truncate": ("truncate {t}", "insert into {t} select i, -i, 'after', 'after'"
                 "  from generate_series(1, 300) i"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
def test_changes_while_the_copy_is_interrupted(db, walter, name, plugin):
    half = HalfCopied(db, walter, args=[f"--plugin={plugin}"])
    half.twins.do(*CHANGES[name])
    if name == "truncate":
        walter.perform(half.alter.replace("{t}", "t"), *half.args)
    else:
        half.go_on()
    half.assert_equal()


KINDS = {
    "identity full": (DOCS + "; alter table {t} replica identity full", DOCS_ROWS, WIDEN, []),
    "identity index": ("create table {t} (id bigint not null, n int, filler text, doc text, primary key (n, id));"
                       " create unique index {t}_id on {t} (id);"
                       "alter table {t} replica identity using index {t}_id", DOCS_ROWS,
                       "alter table {t} alter n type bigint", []),
    "numeric key": (DOCS.replace("id bigint", "id numeric"),
                    DOCS_ROWS.replace("select i, i", "select (i || '.00')::numeric, i"), WIDEN, []),
    "key retyped": (DOCS, DOCS_ROWS, "alter table {t} alter id type int using id * 2", []),
    "expression": (DOCS, DOCS_ROWS, "alter table {t} alter filler type text using n || md5(doc)",
                   []),
    "generated": ("create table {t} (id bigint primary key, n int, filler text, doc text,"
                  " twice int generated always as (n * 2) stored)",
                  DOCS_ROWS.replace("into {t}", "into {t} (id, n, filler, doc)"),
                  "alter table {t} add column x int default 5, alter id type int", []),
    "text only": (DOCS.replace("n int", "n int, acl aclitem"),
                  DOCS_ROWS.replace("into {t}", "into {t} (id, n, filler, doc)"), WIDEN, []),
    "serial": (DOCS.replace("n int", "n int, s serial, g int generated always as identity"),
               DOCS_ROWS.replace("into {t}", "into {t} (id, n, filler, doc)"), WIDEN, []),
    "tree": ("create table {t} (id bigint primary key, n int, filler text, doc text)"
             " partition by range (id);"
             "create table {t}_a partition of {t} for values from (minvalue) to (3000);"
             "create table {t}_b (doc text, filler text, n int, id bigint not null);"
             "alter table {t} attach partition {t}_b for values from (3000) to (maxvalue)",
             DOCS_ROWS.replace("into {t}", "into {t} (id, n, filler, doc)"),
             "alter table {t} alter n type bigint, add column x int default 5", []),
}
MEANWHILE = ("update {t} set n = n + 1 where id % 3 = 0",
             "update {t} set id = id + 100000 where id % 1000 = 7",
             "delete from {t} where id % 11 = 0",
             "update {t} set filler = repeat('g', 1000) where id <= 1500",
             "update {t} set doc = 'short' where id between 7000 and 7100")


@pytest.mark.parametrize("name", KINDS)
def test_tables_of_all_kinds(db, walter, name):
    definition, rows, alter, args = KINDS[name]
    half = HalfCopied(db, walter, alter=alter, definition=definition, rows=rows, args=args)
    half.twins.do(*MEANWHILE)
    half.go_on()
    half.assert_equal()


def test_copy_statement(db, walter):
    """Rows that it leaves out stay out, and what it gives is what it gives now."""
    db.execute("create table names (id bigint primary key, name text);"
               "insert into names select i, 'name ' || i from generate_series(1, 8000) i")
    statement = ("insert into %{shadow_table} (id, n, filler, doc, name) select t.id, t.n, t.filler,"
                 " t.doc, m.name from only t left join names m on m.id = t.id where t.n % 10 <> 3")
    half = HalfCopied(db, walter, alter="alter table {t} add column name text",
                      args=["-c", statement])
    half.twins.do(*MEANWHILE, "update {t} set n = 3 where id between 40 and 60",
                  "update {t} set n = 4 where n % 10 = 3 and id between 7200 and 7300")
    half.go_on()
    db.execute("alter table twin add column name text;"
               "update twin set name = m.name from names m where m.id = twin.id;"
               "delete from twin where n % 10 = 3; alter table t drop constraint t_id_check")
    half.twins.assert_same_rows()


def test_as_ordinary_role(db, owner, walter):
    half = HalfCopied(owner, walter.as_user(owner), interrupt)
    half.twins.do(*MEANWHILE)
    half.go_on()
    half.assert_equal()


def test_chunk_that_was_copied_in_part(db, walter):
    """Wide rows: the writer commits in the middle of a chunk, and dies before its end."""
    rows = ("insert into {t} select i, i, 'f', case when i > 3000 then (select string_agg("
            "md5(i::text || j), '') from generate_series(1, 400) j) end"
            "  from generate_series(1, 8000) i")
    db.execute("alter database " + db.name + " set logical_decoding_work_mem = '4MB'")
    half = HalfCopied(db, walter, rows=rows, args=["-j", "1"])
    copied = db.query_one("select 'walter.' || relname from pg_class where relkind = 'r'"
                          " and relname ~ '^copied_'")
    assert db.query_one(f"select count(*) from {copied} where not is_whole") == 1
    half.twins.do(*MEANWHILE)
    half.go_on()
    half.assert_equal()


def test_interrupted_again_and_again(db, walter):
    half = HalfCopied(db, walter)
    for number in range(3):
        half.twins.do(f"update {{t}} set n = n + 1 where id % 4 = {number}",
                      f"update {{t}} set id = id + 10000 where id % 1000 = {number}")
        run = walter.start_perform(half.alter.replace("{t}", "t"), *half.args)
        run.wait_for_log("blocks were copied before" if number < 2 else "catching up")
        half.twins.do("update {t} set n = 0 where id % 9 = 1")
        run.kill()
        wait_until_dead(db)
    walter.perform(half.alter.replace("{t}", "t"), *half.args)
    half.assert_equal()


@pytest.mark.parametrize("rewrite", ["vacuum full t", "cluster t using t_pkey"])
def test_blocks_renumbered_while_it_is_interrupted(db, walter, rewrite):
    half = HalfCopied(db, walter)
    half.twins.do("delete from {t} where id % 2 = 0")
    db.execute(rewrite)
    half.twins.do("update {t} set n = n + 1 where id % 3 = 0")
    result = walter.perform(half.alter.replace("{t}", "t"), *half.args)
    assert "was rewritten or emptied while the run was interrupted" in result.stderr
    half.assert_equal()


# -- later phases ----------------------------------------------------------------------------------

@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("phase", ["copy", "index", "catch-up", "cutover"])
def test_every_phase_goes_on(db, other, walter, phase, stop):
    with held_in(phase, walter, other) as run:
        stop(run)
        wait_until_dead(db)
        # who builds the index does not notice that nobody waits for it
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                   " where application_name ~ '^walter: '")
        db.execute("create or replace function slow(bigint) returns bigint language sql immutable"
                   " as 'select $1'")
    db.execute("create table twin (like t); insert into twin select * from t;"
               "alter table twin alter n type bigint")
    for name in ("t", "twin"):
        db.execute(f"update {name} set n = n + 7 where id % 3 = 0; delete from {name} where id = 9")
    result = walter.perform(ALTER)
    assert "going on with run" in result.stderr
    assert_same(db, "select * from t", "select * from twin")
    assert_finished(db)


@pytest.mark.parametrize("phase", ["preflight", "publication", "slot"])
def test_what_had_not_begun_to_copy_begins_anew(db, other, walter, phase):
    with held_in(phase, walter, other) as run:
        run.kill()
    wait_until_dead(db)
    result = walter.perform(ALTER)
    assert "going on" not in result.stderr
    if phase != "preflight":
        assert "it is removed, and a new one begins" in result.stderr
    assert_finished(db)


def test_killed_under_load(db, walter):
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int);"
                   f"insert into {name} select i, i from generate_series(1, 2000) i")
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 2000)) as load:
        for line in ["is consistent", "copying", "building", "catching up"]:
            run = walter.start_perform(ALTER)
            run.wait_for_log(line)
            run.kill()
            wait_until_dead(db)
        walter.perform(ALTER)
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "table t", "table twin")
    assert_finished(db)


# -- asked for something else ----------------------------------------------------------------------

def test_another_statement_is_refused(db, walter):
    half = HalfCopied(db, walter)
    result = walter.perform("alter table t alter n type numeric", check=2)
    assert "was interrupted, and the statement is not the same" in result.stderr
    assert half.alter.replace("{t}", "t") in result.stderr
    assert "--restart" in result.stderr
    half.go_on()
    half.assert_equal()


@pytest.mark.parametrize("args, named", [
    (["--plugin=wal2json"], "--plugin"), (["-s", "public"], "--schema"),
    (["-c", "insert into %{shadow_table} (id, n) select id, n from t"], "--copy-statement"),
    (["--set-replica-identity"], "--set-replica-identity")])
def test_other_options_are_refused(db, other, walter, args, named):
    with held_in("cutover", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    result = walter.perform(ALTER, *args, check=2)
    assert f"and {named} is not the same" in result.stderr
    walter.perform(ALTER)


def test_blanks_and_a_semicolon_are_no_difference(db, other, walter):
    with held_in("cutover", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    assert "going on" in walter.perform(f"  {ALTER} ;\n", "--jobs=3", "--drop").stderr


def test_restart(db, walter):
    half = HalfCopied(db, walter)
    result = walter.perform("alter table t alter n type numeric", "--restart")
    assert "it is removed, and a new one begins" in result.stderr
    assert "going on" not in result.stderr
    assert half.run.process.returncode == -signal.SIGKILL
    assert db.query_one("select format_type(atttypid, null) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'") == "numeric"
    assert_finished(db)


def test_after_the_swap(db, walter):
    """It is not done twice: what is left is done."""
    db.execute("create table p (id int primary key); insert into p values (1);"
               "create table t (id int primary key, n int references p); insert into t values (1, 1)")
    run = walter.start_perform("alter table t add x int")
    run.wait_for_log("building")
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    run.wait_for_log("swapped, lock held")
    run.kill()
    holder.close()
    wait_until_dead(db)
    other = walter.perform("alter table t add y int", check=2)
    assert "was interrupted after its swap" in other.stderr
    result = walter.perform("alter table t add x int")
    assert "has swapped already" in result.stderr
    assert "done: alter table" in result.stderr
    assert_finished(db)
    assert db.query_one("select bool_and(convalidated) from pg_constraint where contype = 'f'")


def leave_something_to_do(db, walter):
    """A run that is done, but for a materialized view that cannot be filled; its statement."""
    db.execute("create table w (n int); insert into w values (1);"
               "create table t (id int primary key, n int); insert into t values (1, 1);"
               "create materialized view m as select id / (select count(*) from w) as q from t")
    alter = "alter table t alter n type bigint using n * 100"
    run = walter.start_perform(alter, "--matviews=after")
    run.wait_for_log("building")
    db.execute("delete from w")
    assert "a materialized view is empty: division by zero" in run.finish().stderr
    return alter


def test_done_but_not_all_that_was_to_follow(db, walter):
    """The same statement finishes that: to alter the table once more would be wrong."""
    alter = leave_something_to_do(db, walter)
    for _ in range(2):
        result = walter.perform(alter, "--matviews=after", check=False)
        assert result.code not in (0, 5, 6, 7)
        assert "the ALTER is done and must not be repeated" in result.stderr
        assert db.query_one("select n from t") == 100
    db.execute("insert into w values (1)")
    assert "done: refresh" in walter.perform(alter, "--matviews=after").stderr
    assert db.query_one("select n from t") == 100
    # when all is done it is a statement like any other
    walter.perform(alter, "--matviews=after")
    assert db.query_one("select n from t") == 10000
    assert_finished(db)


@pytest.mark.parametrize("anew", [[], ["--restart"]])
def test_done_and_something_else_wanted(db, walter, anew):
    alter = leave_something_to_do(db, walter)
    other = alter if anew else "alter table t add x int"
    result = walter.perform(other, "--matviews=after", *anew)
    assert bool(anew) != ("walter cleanup shows and does it" in result.stderr)
    assert db.query_one("select n from t") == (10000 if anew else 100)


def test_key_that_was_reindexed(db, walter):
    """The index is another one, and the key the same."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    with held_snapshot(db, walter) as run:
        run.interrupt()
        run.finish(check=7)
    db.execute("reindex table concurrently t")
    assert "going on with run" in walter.perform(ALTER).stderr
    assert_finished(db)


# -- what ends it for good -------------------------------------------------------------------------

GONE = {
    "slot dropped": ("select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                     " where slot_name ~ '^walter'", "its replication slot is gone"),
    "slot read by somebody": ("select count(*) from pg_replication_slots s,"
                              " pg_logical_slot_get_binary_changes(s.slot_name, null, null,"
                              "   'proto_version', '1', 'publication_names', s.slot_name)"
                              " where slot_name ~ '^walter'",
                              "its replication slot was read or made anew by somebody else"),
    "column added": ("alter table t add column z int", "are not what they were"),
    "type changed": ("alter table t alter filler type varchar", "are not what they were"),
    "shadow dropped": ("do $$ declare s text; begin select relnamespace::regnamespace::text into s"
                       " from pg_class where relname = 't' and relnamespace::regnamespace::text"
                       " ~ '_new$'; execute format('drop table %s.t', s); end $$",
                       "its shadow table is gone"),
    "other server": ("update walter.run set system_identifier = '1'", "this is another server"),
    "other timeline": ("update walter.run set timeline = 77", "another history"),
}


@pytest.mark.parametrize("name", GONE)
def test_what_is_gone(db, walter, name):
    half = HalfCopied(db, walter)
    statement, reason = GONE[name]
    half.twins.do("update {t} set n = n + 1 where id % 3 = 0")
    db.execute(statement)
    before = db.query_one("select md5(string_agg(t::text, ',' order by id)) from t")
    result = walter.perform(half.alter.replace("{t}", "t"), *half.args, check=9)
    assert reason in result.stderr
    assert "--restart begins anew" in result.stderr
    assert db.query_one("select md5(string_agg(t::text, ',' order by id)) from t") == before
    db.execute("delete from t where id = 1")
    walter.run("cleanup", "--yes")
    assert_removed(db)


def test_publication_altered(db, other, walter):
    with held_in("cutover", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    name = db.query_one("select pubname from pg_publication where pubname ~ '^walter'")
    db.execute(f"alter publication {name} drop table t; alter publication {name} add table t")
    result = walter.perform(ALTER, check=9)
    assert "was dropped or altered by somebody else" in result.stderr
    walter.run("cleanup", "--yes")
    assert_removed(db)


def test_harmless_changes_of_the_definition(db, other, walter):
    with held_in("cutover", walter, other) as run:
        run.kill()
    wait_until_dead(db)
    db.execute("comment on table t is 'hello'; comment on column t.n is 'number';"
               "grant select on t to public; analyze t; create index t_n on t (n);"
               "alter table t alter n set statistics 77")
    result = walter.perform(ALTER)
    assert "what is new is carried over" in result.stderr
    assert db.query("select obj_description('t'::regclass), col_description('t'::regclass, 2),"
                    " has_table_privilege('public', 't', 'select'), to_regclass('t_n') is not null,"
                    " (select attstattarget from pg_attribute where attrelid = 't'::regclass"
                    "   and attname = 'n')") == [("hello", "number", True, True, 77)]
    assert_finished(db)


# -- abort -----------------------------------------------------------------------------------------

def test_abort_of_an_interrupted_run(db, walter):
    HalfCopied(db, walter, interrupt)
    shown = walter.run("abort")
    assert re.search("run [0-9a-f]{8} on public.t, begun .*, phase copy: interrupted", shown.stdout)
    assert "add --yes to remove it" in shown.stdout
    walter.run("abort", "--yes")
    assert_removed(db)
    assert "nothing to abort" in walter.run("abort", "--yes").stdout


@pytest.mark.parametrize("phase", ["copy", "cutover"])
def test_abort_of_a_run_at_work(db, other, walter, phase):
    with held_in(phase, walter, other) as run:
        result = walter.run("abort", "--yes")
        assert "is asked to stop" in result.stderr
        assert "has ended and is removed" in result.stderr
        ended = run.finish(check=7)
    assert "stopped by walter abort" in ended.stderr
    assert "all of it is removed, and public.t is as it was" in ended.stderr
    assert_removed(db)


# -- a new snapshot --------------------------------------------------------------------------------

def test_snapshot_is_renewed(db, walter):
    """Vacuum is held back by no snapshot that is older than asked for."""
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, filler text, doc text);"
                   f"alter table {name} alter doc set storage external;"
                   f"insert into {name} select i, i, repeat('f', 200), repeat(md5(i::text), 80)"
                   "  from generate_series(1, 6000) i")
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 6000)) as load:
        run = walter.start_perform("alter table t alter n type bigint", "--max-rate=2MB",
                                   "--snapshot-max-age=1")
        for _ in range(3):
            run.wait_for_log("the copy has a new snapshot", start=len(run.log))
        xmin = db.query_one("select backend_xmin::text::bigint from pg_stat_activity"
                            " where application_name ~ 'keeper$'")
        wait_until(lambda: xmin < (db.query_one(
            "select min(backend_xmin::text::bigint) from pg_stat_activity"
            " where application_name ~ 'keeper$'") or xmin + 1), "a newer snapshot is kept")
        run.finish()
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "table t", "table twin")
    assert_finished(db)
    assert not [trace for trace in traces(db) if "slot" in trace]


# -- transaction ids that begin anew ----------------------------------------------------------------

def age_server(server, next_xid):
    """Let the server's next transaction id be this one, and freeze all rows."""
    server.halt()
    data = Path(server.description["data"])
    segment = data / "pg_xact" / f"{next_xid // (1024 * 1024):04X}"
    if not segment.exists():
        segment.write_bytes(bytes(256 * 1024))
        shutil.chown(segment, *(2 * [data.stat().st_uid]))
    *_, root, program = ["/", *server.program("pg_resetwal")]
    owner = ["chroot", f"--userspec={data.stat().st_uid}:{data.stat().st_gid}", root]
    subprocess.run([*(owner if os.getuid() == 0 else []), program, "-x", str(next_xid),
                    "-D", server.inside(data)], check=True, stdout=subprocess.DEVNULL, cwd="/")
    server.resume()
    subprocess.run([*server.program("vacuumdb"), "--all", "--freeze", "--quiet"], check=True,
                   env={**os.environ, **server.env()})


def test_transaction_ids_wrap_around_meanwhile(new_server, new_db):
    server = new_server(fast=True)
    with server.connect() as conn:
        conn.execute("alter database template0 allow_connections true")
    for next_xid in (1_900_000_000, 3_800_000_000, 4_294_960_000):
        age_server(server, next_xid)
    db = new_db(server)
    walter = Walter(db)
    half = HalfCopied(db, walter)
    half.twins.do(*MEANWHILE)
    db.execute("create table burnt (n int);"
               "do $$ begin for i in 1..9000 loop begin insert into burnt values (i);"
               " exception when others then null; end; end loop; end $$")
    assert db.query_one("select pg_current_xact_id()::text::numeric > 4294967296")
    half.twins.do("update {t} set n = -n where id % 5 = 0", "update {t} set id = id + 300000"
                  " where id % 1000 = 9", "delete from {t} where id % 13 = 0")
    half.go_on()
    half.assert_equal()
