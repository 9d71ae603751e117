"""What a run asks of the server beyond the work itself, and what it may not save there."""
import re

import pytest

from support.hold import held_build, held_cutover, held_gate, wait_until_true
from support.load import assert_same
from support.pgbench import PgBench
from support.wait import wait_for_session, wait_until

NARROW = "create table t (id int primary key, n int);"
ALTER = "alter table t alter id type bigint"


def fill(db, rows):
    db.execute(NARROW + f"insert into t select i, i % 7 from generate_series(1, {rows}) i")
    db.execute("vacuum analyze t")


# What is in flight must fit into the memory that a decoder has for it, whatever the rows are like:
# shape: (definition, rows, logical_decoding_work_mem, jobs, transactions at least)
SHAPES = {
    "narrow": (NARROW, "insert into t select i, i % 7 from generate_series(1, 600000) i",
               "64MB", 8, 10),
    "wide": (NARROW + "alter table t add filler text; alter table t alter filler set storage plain",
             "insert into t select i, i, repeat('x', 2000) from generate_series(1, 12000) i",
             "16MB", 4, 6),
    "out of line": (
        NARROW + "alter table t add filler text; alter table t alter filler set storage external",
        "insert into t select i, i, repeat('x', 20000) from generate_series(1, 1500) i",
        "16MB", 2, 4),
    # some blocks of the table have hundreds of times as much out of line as the others
    "mixed": (
        NARROW + "alter table t add filler text; alter table t alter filler set storage external",
        "insert into t select i, i, case when i between 9000 and 9039 then repeat('x', 1000000)"
        " end from generate_series(1, 20000) i", "16MB", 1, 3),
    "little memory": (NARROW, "insert into t select i, i from generate_series(1, 30000) i",
                      "64kB", 2, 100),
    # no binary format for one of the columns
    "as text": (NARROW + "alter table t add a aclitem",
                "insert into t select i, i, 'postgres=r/postgres' from generate_series(1, 20000) i",
                "64kB", 4, 100),
}


# ... and whatever becomes of them: (definition, rows, what is done to them)
GROWING = {
    "unpacked": ("create table t (id int primary key, n int, a text)",
                 "insert into t select i, i, repeat('x', 5000) from generate_series(1, 20000) i",
                 "alter table t alter a type varchar(9000), alter a set storage external"),
    "filled up": ("create table t (id int primary key, n int)",
                  "insert into t select i, i from generate_series(1, 60000) i",
                  "alter table t alter n type char(1900)"),
    "a constant that is filled up": (
        "create table t (id int primary key, n int)",
        "insert into t select i, i from generate_series(1, 60000) i",
        "alter table t add a char(1900) not null default 'x'"),
    # each of these values may go out of line by itself
    "many values": (
        "create table t (id int primary key, n int, " +
        ", ".join(f"c{i} text" for i in range(100)) + ")",
        "insert into t select i, i, " + ", ".join(["repeat('x', 30)"] * 100) +
        " from generate_series(1, 3000) i", ALTER),
}


def spills(db, run):
    """Run to the cutover: what the slots have spilled by then, ours and one of others."""
    if db.server.version < 140000:
        pytest.skip("13 does not count what its slots spill")
    db.execute("vacuum analyze t")
    db.execute("create publication nothing")
    db.execute("select pg_create_logical_replication_slot('other', 'pgoutput')")
    try:
        with run as held:
            with db.connect() as decoder:
                decoder.execute("select count(*) from pg_logical_slot_peek_binary_changes("
                                "'other', null, null, 'proto_version', '1', 'publication_names',"
                                " 'nothing')")
            slots = db.query(
                "select r.slot_name, s.total_txns, s.spill_txns, s.spill_bytes"
                "  from pg_replication_slots r, pg_stat_get_replication_slot(r.slot_name) s"
                " where r.database = current_database()")
        held.finish()
    finally:
        db.execute("select pg_drop_replication_slot('other')")
    assert len(slots) == 2
    return slots


@pytest.mark.parametrize("shape, method", [
    *((shape, "copy") for shape in SHAPES),
    # the others need the same for both
    *((shape, "insert") for shape in ("narrow", "wide", "mixed", "little memory"))])
def test_the_copy_spills_no_slot(db, walter, shape, method):
    """Every slot of the database decodes the copy, ours too, and none may need the disk for it."""
    definition, rows, memory, jobs, transactions = SHAPES[shape]
    db.execute(f"alter database {db.name} set logical_decoding_work_mem = '{memory}'")
    db.execute(definition)
    db.execute(rows)
    before = db.query_one("select count(*), sum(id), sum(n), sum(hashtext(t::text)) from t")
    slots = spills(db, held_cutover(walter, ALTER, f"--jobs={jobs}", f"--copy-method={method}"))
    assert [slot for slot in slots if slot[2:] != (0, 0) or slot[1] < transactions] == []
    assert db.query_one("select count(*), sum(id), sum(n), sum(hashtext(t::text)) from t") == before


@pytest.mark.parametrize("shape, method", [("filled up", "copy"), ("many values", "copy"),
                                           *((shape, "insert") for shape in GROWING)])
def test_rows_that_grow_spill_no_slot(db, walter, shape, method):
    definition, rows, alter = GROWING[shape]
    db.execute(f"alter database {db.name} set logical_decoding_work_mem = '16MB'")
    db.execute(definition)
    db.execute(rows)
    slots = spills(db, held_cutover(walter, alter, f"--copy-method={method}"))
    assert [slot for slot in slots if slot[2:] != (0, 0)] == []


def test_a_row_of_a_later_transaction_is_named(db, walter):
    """A chunk that is written in several transactions counts its rows through all of them."""
    db.execute(f"alter database {db.name} set logical_decoding_work_mem = '64kB'")
    fill(db, 20_000)
    result = walter.perform("alter table t add check (id <> 17123)", check=3)
    assert "(id)=(17123)" in result.stderr


def test_a_crash_after_the_swap_loses_nothing(new_server, new_db, walter):
    """Chunks are committed without waiting for the disk; the swap waits for all of them."""
    server = new_server()
    db = new_db(server)
    fill(db, 200_000)
    type(walter)(db, walter.path, walter.runs).perform(ALTER)
    server.halt("immediate")
    server.resume()
    assert db.query_one("select count(*), sum(id), sum(n) from t") == (
        200_000, 200_000 * 200_001 // 2, sum(i % 7 for i in range(1, 200_001)))
    assert db.query_one("select pg_typeof(id)::text from t limit 1") == "bigint"


# A chunk of the copy takes about a second, without any work for the processors.
SLOW_COPY = """
    create table t (id int primary key, n int, filler char(1000));
    alter table t alter filler set storage plain;
    insert into t select i, i, 'x' from generate_series(1, 120000) i;
    analyze t;
    create table other (n int);
    create function slow(n int) returns bigint language plpgsql as $$ begin
        if n % 1000 = 0 then perform pg_sleep(0.1); end if;
        return n;
    end $$;
"""


def pipes(db):
    """How many sessions write the shadow just now."""
    return db.query_one("select count(*) from pg_stat_activity where state = 'active'"
                        " and application_name ~ '^walter: .* copy to$'")


def test_one_pipe_rests_while_others_write(db, walter):
    db.execute(SLOW_COPY)
    with PgBench(db, clients=2, script="insert into other values (1);", rate=200) as load:
        run = walter.start_perform("alter table t alter n type bigint using slow(n)")
        run.wait_for_log("others write, .* transactions a second")
        wait_until(lambda: pipes(db) == 1, "one pipe rests")
    run.wait_for_log("others hardly write any more")
    wait_until(lambda: pipes(db) == 2, "both pipes work")
    run.finish()
    assert load.errors == []


def test_jobs_that_were_asked_for_do_not_rest(db, walter):
    db.execute(SLOW_COPY)
    with PgBench(db, clients=2, script="insert into other values (1);", rate=200) as load:
        run = walter.start_perform("alter table t alter n type bigint using slow(n)", "--jobs=3")
        wait_until(lambda: pipes(db) == 3, "all pipes work")
        run.finish()
    assert "others write" not in run.log


def test_walter_is_nobody_else(db, walter):
    """What the copy itself commits does not count."""
    fill(db, 2_000_000)
    run = walter.perform(ALTER)
    assert "others" not in run.stderr


def test_the_index_that_takes_longest_is_built_first(db, walter):
    db.execute("create table t (id int primary key, n int, long text);"
               "insert into t select i, i, repeat(md5(i::text), 10) from generate_series(1, 5000) i;"
               "create index a_short on t (n);"
               "create index z_long on t (long)")
    with held_build(walter, "alter table t alter n type bigint", "--jobs=1") as run:
        pid = wait_for_session(db, "index", "state = 'active' and query ~ '^CREATE INDEX'")
        assert "z_long" in db.query_one("select query from pg_stat_activity where pid = %s", [pid])
    run.finish()


# An index whose building tells what it was given.
TELLING_INDEX = """
    create table t (id int primary key, n int);
    insert into t select i, i from generate_series(1, 20) i;
    create sequence memory; create sequence workers minvalue 0;
    create function tell(n int) returns int immutable language plpgsql as $$ begin
        perform setval('public.memory', pg_size_bytes(current_setting('maintenance_work_mem')));
        perform setval('public.workers', current_setting('max_parallel_maintenance_workers')::int);
        return n;
    end $$;
    create index on t (tell(n));
"""


def test_what_an_index_build_is_given(db, walter):
    db.execute(TELLING_INDEX)
    given = "select m.last_value, w.last_value from memory m, workers w"
    default = db.query_one(given)
    assert default != (2 << 20, 1)
    walter.perform(ALTER, "--maintenance-work-mem=2MB", "--parallel-workers=1")
    assert db.query_one(given) == (2 << 20, 1)
    walter.perform("alter table t alter id type int", "--jobs=1")
    assert db.query_one(given) == default


# Three of them, by name: two that wait until they may go on, and one that tells what it was given.
WAITING_INDEXES = TELLING_INDEX.replace("create index", """
    create function wait(lock int, n int) returns int immutable language plpgsql as $$ begin
        perform pg_advisory_lock_shared(lock), pg_advisory_unlock_shared(lock);
        return n;
    end $$;
    create index wait_1 on t (wait(1, n));
    create index wait_2 on t (wait(2, n));
    create index wait_no_more""")


def test_an_index_build_gets_no_workers_beside_one_that_began_before_others_wrote(db, walter):
    db.execute(WAITING_INDEXES + "create table elsewhere (n int);"
               "select setval('workers', 99, false), pg_advisory_lock(1), pg_advisory_lock(2)")
    run = walter.start_perform(ALTER)
    for lock in (1, 2):
        wait_for_session(db, "index", f"wait_event = 'advisory' and query ~ 'wait.{lock}'")
    with PgBench(db, clients=2, script="insert into elsewhere values (1);", rate=200):
        # long enough to be noticed; then the session goes on alone that built the key before
        wait_until_true(db, "select count(*) > 600 from elsewhere")
        db.execute("select pg_advisory_unlock(2)")
        wait_until_true(db, "select last_value <> 99 from workers")
        assert db.query_one("select last_value from workers") == 0
        db.execute("select pg_advisory_unlock(1)")
        run.finish()


def copy_seconds(run):
    return float(re.search(r"phase copy took ([0-9.]+) s", run.stderr).group(1))


def test_the_copy_keeps_to_a_rate(db, walter):
    """4 MB at 2 MB a second; a slow machine needs longer, none is quicker."""
    db.execute("create table t (id int primary key, n int, filler char(1000));"
               "insert into t select i, i, 'x' from generate_series(1, 4000) i;"
               "analyze t")
    assert copy_seconds(walter.perform("alter table t alter n type bigint", "-v",
                                       "--max-rate=2MB")) > 1.5
    copy = ("insert into %{shadow_table} (id, n, filler) select id, n, filler from t")
    assert copy_seconds(walter.perform("alter table t alter n type int", "-v", "--max-rate=2MB",
                                       "-c", copy)) > 1.5


# To a table and to its twin that nobody captures: both begin alike, so each statement of a pair
# meets the same pages.
WRITES = ["insert into {t} select i, i, repeat('x', 100) from generate_series(1001, 1050) i",
          "update {t} set filler = 'y' where id = 7",
          "update {t} set n = n + 1 where id between 100 and 150",
          "update {t} set id = -id where id = 500",
          "insert into {t} values (2000, 1, (select string_agg(md5(i::text), '')"
          " from generate_series(1, 300) i))",
          "update {t} set n = 2 where id = 2000",
          "delete from {t} where id between 300 and 350"]


def wal_of(db, conn, statement):
    """What a transaction of its own writes: (resource manager, type, bytes, bytes of page images).

    XLOG is the server's own: the next oids for TOAST, for one.
    """
    begin = db.query_one("select pg_current_wal_insert_lsn()")
    conn.execute(statement)
    xid = conn.execute("select pg_current_xact_id()::xid::text").fetchone()[0]
    conn.commit()
    return db.query("select resource_manager, record_type, record_length - fpi_length, fpi_length"
                    " from pg_get_wal_records_info(%s, pg_current_wal_flush_lsn())"
                    " where xid = %s::xid and resource_manager <> 'XLOG' order by start_lsn",
                    [begin, xid])


def test_being_captured_adds_nothing_to_what_the_application_writes(db, walter):
    """No trigger, no audit row: record for record the WAL is that of a table left alone."""
    db.execute("create extension pg_walinspect")
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, filler text)"
                   " with (autovacuum_enabled = off);"
                   f"create index on {name} (n);"
                   f"insert into {name} select i, i, repeat('x', 100)"
                   " from generate_series(1, 1000) i")
    db.execute("vacuum analyze t, twin")
    pairs = []
    with held_gate(walter, "alter table t alter n type bigint") as run:
        with db.connect(autocommit=False) as conn:
            for write in WRITES:
                pairs.append([wal_of(db, conn, write.format(t=name)) for name in ("twin", "t")])
        assert run.is_running
        assert db.query_one("select count(*) from pg_trigger where tgrelid = 't'::regclass") == 0
    run.finish()
    comparable = [(twin, captured) for twin, captured in pairs
                  if not any(record[3] for record in twin + captured)]
    assert len(comparable) >= len(WRITES) // 2
    for twin, captured in comparable:
        assert len(twin) > 1
        assert captured == twin
    assert db.query_one("select count(*) from t") == 1000
    assert_same(db, "select id, n, filler from t", "select id, n, filler from twin")
