"""Migrating a partitioned table beside an application that writes it; what is refused; what is left."""
import re
import threading

import pytest

from support.hold import held_build, held_copy, held_cutover
from support.load import TwinLoad, assert_same
from support.smoke import smoke
from support.thorough import some
from support.traces import assert_finished, assert_removed, assert_untouched
from support.versions import skip_unless_understood
from support.wait import wait_for_session, wait_until
from support.walter import Walter

ALTER = "alter table t alter n type bigint, add check (n is not null), add unique (id, n)"
SHAPE = """
create table {t} (id int, n int not null, v text, primary key (id)) partition by range (id);
create table {t}_low partition of {t} for values from (minvalue) to (3000);
create table {t}_mid partition of {t} for values from (3000) to (7000) partition by hash (id);
create table {t}_mid0 partition of {t}_mid for values with (modulus 2, remainder 0);
create table {t}_mid1 partition of {t}_mid for values with (modulus 2, remainder 1);
create table {t}_high partition of {t} default;
create index on {t} (n);
insert into {t} select g, g, 'row ' || g from generate_series(1, 10000, 3) g;
"""
LEAVES = ("low", "mid0", "mid1", "high")


def make(db, *names):
    for name in names or ("t",):
        db.execute(SHAPE.format(t=name))


def assert_whole(db, alter="bigint"):
    """ "t" is a valid tree of altered tables, each with the row that it should have."""
    assert db.query("select relid::regclass::text, isleaf from pg_partition_tree('t')"
                    " order by relid::regclass::text collate \"C\"") == [
        ("t", False), ("t_high", True), ("t_low", True), ("t_mid", False), ("t_mid0", True),
        ("t_mid1", True)]
    assert {row[0] for row in db.query("select format_type(atttypid, atttypmod) from pg_attribute"
                                       " where attname = 'n' and attrelid in"
                                       " (select relid from pg_partition_tree('t'))")} == {alter}
    assert db.query_one("select bool_and(indisvalid) from pg_index where indrelid in"
                        " (select relid from pg_partition_tree('t'))") is True
    assert db.query_one("select count(*) from t where tableoid::regclass::text <> case"
                        " when id < 3000 then 't_low' when id >= 7000 then 't_high'"
                        " else tableoid::regclass::text end") == 0


@pytest.mark.parametrize("plugin", smoke(some(["pgoutput"], "wal2json"), "pgoutput"))
def test_rows_move_between_partitions_under_load(db, walter, plugin):
    make(db, "t", "q")
    load = TwinLoad(db, "t", "q", {"n": "int not null", "v": "toast"}, keys=(1, 9999), clients=3)
    alter = "alter table t alter n type bigint, alter v set default 'x', add check (id > 0)"
    with load:
        load.wait_for(50)
        with held_build(walter, alter, f"--plugin={plugin}") as run:
            load.wait_for(300)
        run.finish()
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "select * from t", "select * from q", 1000)
    for leaf in LEAVES:
        assert_same(db, f"select * from t_{leaf}", f"select * from q_{leaf}", 100)
    assert_whole(db)
    assert_finished(db)


def test_swaps_again_and_again_under_load(db, walter):
    """No client is ended as a deadlock's victim, and the new table stays as it is meant to be."""
    make(db, "t", "q")
    with TwinLoad(db, "t", "q", {"n": "int not null", "v": "text"}, keys=(1, 9999), clients=4,
                  shared=False) as load:
        load.wait_for(20)
        for kind in ("bigint", "int", "bigint"):
            walter.perform(f"alter table t alter n type {kind}", "--drop")
            load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select * from t", "select * from q", 1000)
    assert_whole(db)


def test_reads_and_builds_nothing_under_the_lock(db, walter):
    make(db)
    db.execute(f"alter database {db.name} set log_min_messages to debug1")
    offset = db.server.log_size()
    walter.perform(ALTER)
    log = db.server.log_since(offset, lines=100000).splitlines()
    assert any(" index DEBUG:  building index" in line for line in log), "the log does not work"
    swap = [line for line in log if " cutover DEBUG:" in line]
    assert not [line for line in swap if re.search("(verify|build|rewrit)ing ", line)]
    assert_whole(db)


TRUNCATES = {
    "a leaf": "truncate {t}_mid0",
    "two leaves at once": "truncate {t}_low, {t}_high",
    "a branch": "truncate {t}_mid",
    "the table": "truncate {t}",
    "a leaf, between moves": "begin; update {t} set id = id + 20000 where id < 500;"
                             "update {t} set id = id - 9001 where id between 9500 and 9999;"
                             "truncate {t}_high; insert into {t} values (8001, 1, 'x');"
                             "update {t} set id = 5 where id = 8001; commit",
    "a leaf, and taken back": "begin; truncate {t}_low; rollback; delete from {t} where id < 50",
}


@pytest.mark.parametrize("what", TRUNCATES)
def test_truncate(db, walter, what):
    make(db, "t", "q")
    with held_build(walter, "alter table t alter n type bigint") as run:
        for name in ("t", "q"):
            db.execute(TRUNCATES[what].format(t=name))
            db.execute(f"insert into {name} values (30000, 5, 'after'), (2, 8, 'low'), (4001, 1, '')")
    run.finish()
    for leaf in LEAVES:
        assert_same(db, f"select * from t_{leaf}", f"select * from q_{leaf}", 0)
    assert_whole(db)


@pytest.mark.parametrize("rewrite", ["vacuum full t_low", "truncate t_low"])
def test_leaf_rewritten_during_the_copy(db, walter, rewrite):
    """The blocks of one leaf are elsewhere then; rows that it had, and moves out of it, come right."""
    for name in ("t", "q"):
        db.execute(SHAPE.format(t=name).replace("10000, 3)", "120000)")
                   .replace("'row ' || g", "repeat('x', 400)")
                   .replace("(3000)", "(100000)").replace("(7000)", "(110000)"))
    db.execute("create function slow(int) returns boolean language plpgsql immutable as $$ begin"
               " if current_setting('application_name') like '%copy to' and $1 % 10000 = 1 then"
               "   perform pg_sleep(0.2); end if; return true; end $$;"
               "alter table t add check (slow(id))")
    run = walter.start_perform("alter table t alter n type bigint", "--jobs", "4")
    wait_for_session(db, "copy to", "wait_event = 'PgSleep'")
    for name in ("t", "q"):
        db.execute(f"update {name} set n = -n where id % 100 = 7;"
                   f"update {name} set id = id + 200000 where id between 2000 and 2100")
    db.execute(rewrite)
    if "truncate" in rewrite:
        db.execute("truncate q_low")
    for name in ("t", "q"):
        db.execute(f"insert into {name} values (-5, 5, 'after')")
    run.wait_for_log("public.t_low was rewritten or emptied during the copy; copying all partitions")
    run.finish()
    assert_same(db, "select * from t", "select * from q", 20000)
    assert_finished(db)


def test_waits_for_who_uses_a_leaf_alone(db, walter):
    make(db)
    with held_cutover(walter, "alter table t alter n type bigint", table="t_mid1") as run:
        assert db.query_one("select count(*) from t") > 3000
    result = run.finish()
    assert re.search("exclusive lock on public.t_mid1: not granted", result.stderr)
    assert_whole(db)


# -- others' DDL meanwhile ------------------------------------------------------------------------

HANGS_ON_IT = "what hangs on it or on one of its partitions"
MEANWHILE = {
    "create": ("create table extra partition of t for values from (100000) to (200000)",
               "partition (public.)?extra is new"),
    "attach": ("create table extra (id int primary key, n int not null, v text);"
               "insert into extra values (100001, 1, 'x');"
               "alter table t attach partition extra for values from (100000) to (200000)",
               "partition (public.)?extra is new"),
    "detach": ("alter table t detach partition t_low", "partition (public.)?t_low was detached"),
    "drop": ("drop table t_low", "a partition was dropped"),
    "index of a leaf": ("create index on t_mid1 (v)", HANGS_ON_IT),
    "default of a leaf": ("alter table t_mid1 alter v set default 'x'", HANGS_ON_IT),
    "view on a leaf": ("create view w as select * from t_mid1", HANGS_ON_IT),
    "trigger": ("create function f() returns trigger language plpgsql as 'begin return new; end';"
                "create trigger g before insert on t_low for each row execute function f()",
                HANGS_ON_IT),
}


@pytest.mark.parametrize("change", MEANWHILE)
def test_changed_meanwhile(db, walter, change):
    statement, words = MEANWHILE[change]
    make(db)
    with held_build(walter, "alter table t alter n type bigint") as run:
        db.execute(statement)
    result = run.finish(check=1)
    assert re.search(words, result.stderr), result.stderr
    assert "walter cleanup" not in result.stderr
    assert_removed(db)
    assert db.query_one("select format_type(atttypid, -1) from pg_attribute where attname = 'n'"
                        " and attrelid = 't'::regclass") == "integer"


def test_detached_and_attached_again(db, walter):
    """Its rows were followed all the time."""
    make(db)
    with held_build(walter, "alter table t alter n type bigint") as run:
        db.execute("alter table t_mid detach partition t_mid1; update t_mid1 set n = -1;"
                   "alter table t_mid attach partition t_mid1 for values with (modulus 2,"
                   " remainder 1)")
    run.finish()
    assert db.query_one("select bool_and(n = -1) from t_mid1") is True
    assert_whole(db)


def test_partition_created_in_the_queue_for_the_lock(db, walter):
    make(db)
    ddl = db.connect()
    with held_cutover(walter, "alter table t alter n type bigint") as run:
        alter = threading.Thread(target=lambda: ddl.execute(
            "create table extra (like t including all);"
            "alter table t attach partition extra for values from (100000) to (200000)"))
        alter.start()
        run.wait_for_log("DDL of somebody else is in the way|is new")
    alter.join(30)
    result = run.finish(check=1)
    assert re.search("partition (public.)?extra is new", result.stderr)
    assert_removed(db)


# -- what remains ---------------------------------------------------------------------------------

@pytest.mark.parametrize("hold", [held_copy, held_build])
def test_killed(db, owner, walter, hold):
    owner.execute(SHAPE.format(t="t"))
    runner = walter.as_user(owner)
    with hold(runner, "alter table t alter n type bigint", superuser=db) as run:
        run.kill()
        wait_until(lambda: db.query_one(
            "select count(*) from pg_locks where locktype = 'advisory' and classid = 1463897172"
            " and database = (select oid from pg_database where datname = current_database())") == 0,
            "the run's sign of life is gone")
    runner.run("cleanup", "--yes")
    assert_removed(db)
    runner.perform("alter table t alter n type bigint", "--drop")
    assert_whole(db)


def test_drop(db, walter):
    make(db)
    walter.perform(ALTER, "--drop")
    assert db.query("select nspname from pg_namespace where nspname ~ '^walter_'") == []
    assert_whole(db)


def test_row_that_does_not_fit(db, walter):
    make(db)
    db.execute("insert into t values (5001, -1, 'x')")
    result = walter.perform("alter table t add check (n > 0)", check=3)
    assert "row (id)=(5001) does not fit the new definition" in result.stderr
    assert_removed(db)
    with held_copy(walter, "alter table t add constraint c check (n <> 77)") as run:
        db.execute("delete from t where id = 5001; insert into t values (20000, 77, 'y')")
    assert "row (id)=(20000) changed meanwhile does not fit" in run.finish(check=3).stderr
    assert_removed(db)


# -- what is refused ------------------------------------------------------------------------------

SET = "alter table t alter n set default 1"
T = "create table t (id int primary key, n int) partition by range (id);"
A = "create table a partition of t for values from (1) to (100);"

REFUSED = {
    "tree_root": (T + "create table p (id int primary key, n int) partition by range (id);"
                  "alter table p attach partition t for values from (1) to (9)", "t is itself a"
                  " partition", "at the top"),
    "tree_empty": (T + "create table b partition of t default partition by list (id)",
                   "t has no partitions", "plain ALTER TABLE"),
    "tree_kind": (T + A + "alter table t drop constraint t_pkey;"
                  "create foreign data wrapper f; create server s foreign data wrapper f;"
                  "create foreign table b partition of t default server s",
                  "partition public.b is a foreign table", "Detach it first"),
    "tree_kind, unlogged": (T + A + "create unlogged table b partition of t default",
                            "partition public.b is unlogged", "Detach it first"),
    "tree_schema": (T + A + "create schema s; create table s.b partition of t default",
                    "partition s.b is in another schema than public.t", "SET SCHEMA public"),
    "tree_owner": (T + A + "grant all on schema public to pg_monitor;"
                   "alter table a owner to pg_monitor",
                   "partition public.a belongs to pg_monitor", "OWNER TO"),
    "tree_identity": ("create table t (id int, n int) partition by list (id);"
                      "create table a partition of t default",
                      "partition public.a has no primary key", "Add a primary key"),
    "tree_identity, nothing": (T + A + "alter table a replica identity nothing",
                               "partition public.a has REPLICA IDENTITY NOTHING", "replica identity"),
    "different keys": ("create table t (id int not null, n int not null) partition by list (id);"
                       "create table a partition of t (primary key (id)) for values in (1);"
                       "create table b partition of t (primary key (n)) for values in (2)",
                       "rows of partitions public.a and public.b are not identified by the same",
                       "the same primary key"),
    "invalid_index": (T + A + "create index i on a (n);"
                      "update pg_index set indisvalid = false where indexrelid = 'i'::regclass",
                      "index public.i is invalid", "REINDEX"),
    "invalid_index, of all": (T + A + "create index i on only t (n)", "index public.i is invalid",
                              "ALTER INDEX public.i ATTACH PARTITION"),
    "tree_foreign_key, to itself": (T + A + "alter table t add constraint f foreign key (n)"
                                    " references t", "foreign key f of public.t references public.t,"
                                    " a table of the same tree", "Drop it first"),
    "tree_foreign_key, both partitioned": (
        T + A + "create table r (id int primary key) partition by list (id);"
        "alter table t add constraint f foreign key (n) references r",
        "foreign key f of public.t references public.r, and both are partitioned", "Drop it first"),
    "tree_foreign_key, disabled": (
        T + A + "create table r (id int primary key);"
        "alter table t add constraint f foreign key (n) references r;"
        "alter table a disable trigger all", "foreign key f of public.t references public.r, and is"
        " disabled", "Drop it first"),
    "tree_dependent, view": (T + A + "create view w as select id from a",
                             "view public.w depends on partition public.a|rule _RETURN on view",
                             "Let it use the partitioned table"),
    "tree_dependent, row type": (T + A + "create table o (x a)",
                                 "column x of table public.o depends on partition public.a|table"
                                 " public.o depends on partition", "Let it use the partitioned"),
    "tree_dependent, sequence": (T + A + "create sequence q owned by a.n",
                                 "sequence public.q depends on partition public.a", "Let it use"),
    "tree_row_security": (T + A + "create role tree_o login; alter table t owner to tree_o;"
                          "alter table a owner to tree_o; alter table a enable row level security;"
                          "alter table a force row level security; grant all on schema public to"
                          " tree_o", "row level security is forced on partition", "BYPASSRLS"),
    "tree_statistics": (T + A + "create schema s; create statistics s.x on id, n from a",
                        "statistics object s.x of public.a is not in its schema", "plain ALTER"),
    "tree_detaching": (T + A + "update pg_inherits set inhdetachpending = true"
                       " where inhrelid = 'a'::regclass", "partition public.a is being detached",
                       "FINALIZE"),
    "tree_generated_key": (
        "create table t (id int not null, n int, g int generated always as (n * 2) stored not null)"
        " partition by list (id); create table a partition of t default;"
        "create unique index u on a (g); alter table a replica identity using index u",
        "key column g of partition public.a is a generated column", "another REPLICA IDENTITY"),
    "tree_extension": (T + A + "alter extension plpgsql add table a",
                       "partition public.a belongs to an extension", "plain ALTER TABLE"),
    "tree_security_label": (T + A + "insert into pg_seclabel select reltype, 'pg_type'::regclass, 0,"
                            " 'x', 'y' from pg_class where relname = 'a'",
                            "the row type of partition public.a has a security label",
                            "plain ALTER TABLE"),
    "tree_subscription": (T + A + "insert into pg_subscription_rel (srsubid, srrelid, srsubstate)"
                          " values (1, 'a'::regclass, 'r')",
                          "partition public.a is written by a subscription", "Take it out"),
    "tree_statistics, other owner": (T + A + "create statistics x on id, n from a;"
                                     "alter statistics x owner to pg_monitor",
                                     "statistics object public.x of public.a belongs to another",
                                     "plain ALTER"),
}


@pytest.mark.parametrize("check", REFUSED)
def test_refused(db, walter, check):
    setup, objection, cure = REFUSED[check]
    skip_unless_understood(db.server, setup)
    db.execute(setup)
    try:
        result = walter.perform(SET, check=2)
    finally:
        if "tree_o" in setup:
            db.execute("drop owned by tree_o cascade; drop role tree_o")
    assert re.search(f"error: .*({objection})", result.stderr), result.stderr
    assert re.search(f"^hint: .*{cure}", result.stderr, re.MULTILINE), result.stderr
    assert_untouched(db)


def test_refused_to_an_ordinary_role(db, owner, walter):
    owner.execute(T + A)
    db.execute("create role tree_g; create role tree_r; create publication p for table a;"
               "grant select on a to tree_g with grant option")
    try:
        db.execute("set role tree_g; grant select on a to tree_r; reset role")
        result = walter.as_user(owner).perform(SET, check=2)
        assert "publication p, which publishes partition public.a, belongs to" in result.stderr
        assert "privileges on partition public.a were granted by tree_g" in result.stderr
        assert_untouched(db)
    finally:
        db.execute("reset role; drop owned by tree_g, tree_r cascade; drop role tree_g, tree_r")


def test_too_many_tables_for_the_lock_table(new_server, new_db):
    server = new_server(settings={"max_locks_per_transaction": 10}, fast=True)
    db = new_db(server)
    db.execute(T + A + "create index on t (n); create index on t (n, id); create index on t (id, n);")
    for number in range(120):
        db.execute(f"create table t_{number} partition of t for values from ({100 + number})"
                   f" to ({101 + number})")
    runner = Walter(db)
    result = runner.perform(SET, check=2)
    assert re.search("the swap needs about [0-9]+ locks in one transaction, and the server has room"
                     " for [0-9]+", result.stderr)
    assert "max_locks_per_transaction" in result.stderr
    assert_untouched(db)


def test_copy_statement(db, walter, tmp_path):
    """It reads each partition in the table's place."""
    make(db, "t", "q")
    path = tmp_path / "copy.sql"
    path.write_text("insert into %{shadow_table} (id, n, v, x) select id, n + 1, upper(v), id * 2"
                    " from t where n <> 4")
    with held_copy(walter, "alter table t add x int", "--copy-statement", str(path)) as run:
        for name in ("t", "q"):
            db.execute(f"update {name} set id = id + 5000 where id between 1000 and 1100;"
                       f"delete from {name} where id = 7; insert into {name} values (20000, 1, 'x');"
                       f"update {name} set n = 4 where id = 10; update {name} set n = 5 where id = 4")
    run.finish()
    assert_same(db, "select id, n, v, x from t", "select id, n + 1, upper(v), id * 2 from q"
                " where n <> 4", 3000)
    assert_whole(db, "integer")


def test_new_foreign_key_to_a_partitioned_table_is_refused(db, walter):
    db.execute(T + A + "create table r (id int primary key) partition by list (id)")
    for table in "r", "t":
        result = walter.perform(f"alter table t add constraint f foreign key (n) references {table}",
                                check=2)
        assert 'foreign key "f" of the partitioned table would reference' in result.stderr
        assert_untouched(db)


KEYED = T + A + """
create table b partition of t default;
create table r (id int primary key); insert into r select generate_series(1, 300);
insert into t select g, g from generate_series(1, 200) g;
"""


def keys_hold(db, *violations):
    for row in violations:
        with pytest.raises(Exception, match="foreign key"):
            db.execute(row)


@pytest.mark.smoke
def test_foreign_keys_hold_all_the_time(db, walter):
    db.execute(KEYED + "alter table t add constraint f foreign key (n) references r")
    rows = ("insert into t values (5000, 5000)", "insert into a values (99, 5001)",
            "update t set n = 5002 where id = 150", "delete from r where id = 160")
    db.execute("delete from t where id = 99")
    with held_build(walter, "alter table t alter n type bigint, add x int") as run:
        db.execute("insert into r values (1000); insert into t values (1001, 1000);"
                   "delete from t where id = 7; delete from r where id = 7")
        keys_hold(db, *rows)
    result = run.finish()
    assert "validated a foreign key" in result.stderr
    keys_hold(db, *rows)
    db.execute("create table c partition of t for values from (10000) to (20000)")
    keys_hold(db, "insert into t values (10001, 7)")
    assert db.query_one("select count(*) from pg_constraint where contype = 'f' and convalidated"
                        " and (conparentid <> 0 or conrelid = 't'::regclass)") == 4
    assert_finished(db)


def test_new_foreign_key_that_does_not_hold(db, walter):
    db.execute(KEYED + "insert into t values (1002, 1002)")
    result = walter.perform("alter table t add constraint f foreign key (n) references r", check=3)
    assert "violates foreign key constraint" in result.stderr and "(n)=(1002)" in result.stderr
    assert_removed(db)


@pytest.mark.smoke
def test_keys_to_the_table_hold_all_the_time(db, walter):
    db.execute(KEYED + "create table c (tid int references t on delete cascade);"
               "insert into c values (7), (150)")
    rows = ("insert into c values (5000)", "update c set tid = 5001 where tid = 150")
    with held_build(walter, "alter table t alter n type bigint") as run:
        db.execute("insert into t values (1001, 1); insert into c values (1001);"
                   "delete from t where id = 7")
        keys_hold(db, *rows)
    run.finish()
    keys_hold(db, *rows)
    db.execute("delete from t where id = 150")
    assert db.query("select tid from c") == [(1001,)]
    assert_finished(db)


BY_POSTGRES = {
    "alter id type bigint": "cannot alter column \"id\" because it is part of the partition key",
    "drop id": "cannot drop column \"id\" because it is part of the partition key",
    "add unique (n)": "unique constraint on partitioned table must include all partitioning columns",
    "set (fillfactor = 50)": "",
}


def test_refused_by_postgres(db, walter):
    """In the server's own words, about the table's own names."""
    db.execute(T + A)
    for action, words in BY_POSTGRES.items():
        with pytest.raises(Exception, match=re.escape(words)):
            db.execute(f"alter table t {action}")
        result = walter.perform(f"alter table t {action}", check=2)
        assert words in result.stderr, f"{action}: {result}"
        assert_untouched(db)


def test_many_partitions_need_more_than_the_usual_hold(db, walter):
    make(db)
    with held_build(walter, ALTER, "--lock-hold", "10") as run:
        assert ("warning: the swap of 5 partitions may hold the lock for 8 ms, and --lock-hold is"
                " 10 ms: give it more") in run.log
        run.interrupt()
    run.finish(check=7)
    walter.run("abort", "--yes")
    assert_removed(db)
