"""Migrating a partition beside an application that writes its parent; and what is refused."""
import re

import pytest

from support.hold import held_build, held_cutover
from support.load import TwinLoad, assert_same
from support.server import TOP
from support.smoke import smoke
from support.thorough import some
from support.traces import assert_finished, assert_removed, assert_untouched

ALTER = "alter table t set (fillfactor = 70), alter n set not null, add check (n is not null)"
PARENT = """
create table {p} (id int, n int not null, v text, primary key (id)) partition by range (id);
create table {p}_low partition of {p} for values from (minvalue) to (3000);
create table {t} partition of {p} for values from (3000) to (7000);
create table {p}_high partition of {p} for values from (7000) to ({high});
create index on {p} (n);
insert into {p} select g, g, 'row ' || g from generate_series(1, 10000, 3) g;
"""


def make(db, extra=""):
    db.execute(PARENT.format(p="p", t="t", high=20000) + extra)


def twins(db):
    """The same partitioned table twice: "p" with partition "t", and "q", which nobody alters."""
    for parent, partition in (("p", "t"), ("q", "q_mid")):
        db.execute(PARENT.format(p=parent, t=partition, high="maxvalue"))


def assert_in_place(db):
    """ "t" is what was altered, and where it was."""
    assert db.query_one("select reloptions from pg_class where oid = 't'::regclass") == \
        ["fillfactor=70"]
    assert db.query_one("select inhparent::regclass::text from pg_inherits"
                        " where inhrelid = 't'::regclass") == "p"


@pytest.mark.parametrize("plugin", smoke(some(["pgoutput"], "wal2json"), "pgoutput"))
def test_rows_move_between_partitions_under_load(db, walter, plugin):
    twins(db)
    load = TwinLoad(db, "p", "q", {"n": "int not null", "v": "toast"}, keys=(1, 9999), clients=3)
    with load:
        load.wait_for(50)
        with held_build(walter, ALTER, f"--plugin={plugin}") as run:
            load.wait_for(300)
        run.finish()
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "select * from p", "select * from q", 1000)
    assert_same(db, "select * from t", "select * from q_mid", 300)
    assert_in_place(db)
    assert_finished(db)
    # both ways to the rows are the same
    assert_same(db, "select * from p where id >= 3000 and id < 7000", "select * from t", 300)


def test_swaps_between_transactions_that_hold_parent_and_partition(db, walter):
    """Every client comes by the parent first; none of them is ended as a deadlock's victim."""
    twins(db)
    with TwinLoad(db, "p", "q", {"n": "int not null", "v": "text"}, keys=(1, 9999), clients=4,
                  shared=False) as load:
        load.wait_for(20)
        for fillfactor in (50, 60, 70):
            walter.perform(f"alter table t set (fillfactor = {fillfactor})", "--drop")
            load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select * from p", "select * from q", 1000)
    assert_in_place(db)
    assert db.query_one("select count(*) from pg_inherits where inhparent = 'p'::regclass") == 3


def read_log(db, offset):
    return db.server.log_since(offset, lines=100000)


def test_reads_nothing_under_the_lock(db, walter):
    make(db, "create table p_rest partition of p default")
    db.execute(f"alter database {db.name} set log_min_messages to debug1")
    offset = db.server.log_size()
    walter.perform(ALTER)
    log = read_log(db, offset)
    # the rehearsal's, on the empty shadow, and the swap's
    assert log.count('partition constraint for table "t" is implied by existing constraints') >= 2
    verified = set(re.findall('verifying table "(.*)"', log))
    # the default partition is empty, or it would have been refused
    assert "p_rest" in verified, "the log does not work"
    swap = log[log.rindex('is implied by existing constraints'):]
    assert 'verifying table "t"' not in swap
    assert 'building index "t_' not in swap
    assert_in_place(db)


def test_truncate_of_the_parent_and_of_the_partition(db, walter):
    for statement in ("truncate p", "truncate t", "truncate p; insert into p values (4000, 1, 'x')"):
        db.execute("drop table if exists p cascade")
        make(db)
        with held_build(walter, ALTER) as run:
            db.execute(statement)
            db.execute("insert into p values (5000, 5, 'after'), (8000, 8, 'elsewhere')")
        run.finish()
        expected = [4000, 5000] if "insert" in statement else [5000]
        assert [row[0] for row in db.query("select id from t order by 1")] == expected
        assert_in_place(db)


# -- others' DDL meanwhile ------------------------------------------------------------------------

# What can be followed is in test_partitions.py.
STOPPING = {
    "detached": "alter table p detach partition t",
    "detached and put elsewhere": "alter table p detach partition t;"
                                  "alter table p attach partition t for values from (3000) to"
                                  " (6990)",
    "a check of the parent comes": "alter table p add check (id > 0)",
    "a column of the parent comes": "alter table p add x int",
    "a large default partition comes": "create table p_rest partition of p default; insert into p"
                                       " select g, g, 'x' from generate_series(20000, 300000) g",
}


@pytest.mark.parametrize("what", STOPPING)
def test_ddl_of_others_stops_the_run(db, walter, what):
    make(db, "delete from p where id >= 6990")
    with held_build(walter, ALTER) as run:
        db.execute(STOPPING[what])
    result = run.finish(check=1)
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert_removed(db)
    assert db.query_one("select reloptions from pg_class where oid = 't'::regclass") is None


def test_partitions_beside_it_may_come_and_go(db, walter):
    make(db)
    with held_build(walter, ALTER) as run:
        db.execute("create table p_new partition of p for values from (20000) to (30000);"
                   "alter table p detach partition p_low; drop table p_low;"
                   "insert into p values (20001, 1, 'new')")
    run.finish()
    assert_in_place(db)
    assert db.query_one("select count(*) from p where id = 20001") == 1


def test_the_default_partition_changes_with_those_beside_it(db, walter):
    """Its bounds are all that the others leave."""
    make(db, "alter table p detach partition t; delete from t where id < 4000;"
             "alter table p attach partition t default")
    with held_build(walter, ALTER) as run:
        db.execute("create table p_mid partition of p for values from (3000) to (3100)")
    result = run.finish(check=1)
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert_removed(db)


def test_a_lock_on_the_parent_is_waited_for(db, walter):
    make(db)
    with held_cutover(walter, ALTER, table="p") as run:
        db.execute("insert into p values (4001, 1, 'meanwhile')")
        start = len(run.log)
        run.wait_for_log("exclusive lock on public.p: not granted .* in the way", start=start)
    run.finish()
    assert_in_place(db)
    assert db.query_one("select v from t where id = 4001") == "meanwhile"


def test_stopped_before_the_swap_all_is_as_it_was(db, walter):
    make(db)
    with held_cutover(walter, ALTER, table="p") as run:
        run.interrupt()
        run.finish(check=7)
    walter.run("abort", "--yes")
    assert_removed(db)
    assert db.query_one("select count(*) from pg_inherits where inhparent = 'p'::regclass") == 3
    walter.perform(ALTER)
    assert_in_place(db)


# -- what PostgreSQL refuses, it refuses in its own words -------------------------------------------

BY_POSTGRES = {
    "add x int": "cannot add column to a partition",
    "drop v": 'cannot drop inherited column "v"',
    "alter n type bigint": 'cannot alter inherited column "n"',
    "rename n to m": 'cannot rename inherited column "n"',
    "alter n drop not null": 'column "n" is marked NOT NULL in parent table',
    "drop constraint t_pkey": 'cannot drop inherited constraint "t_pkey" of relation "t"',
    "drop constraint c": 'cannot drop inherited constraint "c" of relation "t"',
    "rename constraint c to d": 'cannot rename inherited constraint "c"',
    "add constraint c check (n > 2)": 'constraint "c" for relation "t" already exists',
    "add primary key (n)": 'multiple primary keys for table "t" are not allowed',
}


def test_postgresql_refuses_in_its_own_words(db, walter):
    make(db, "alter table p add constraint c check (n >= 0)")
    for action, words in BY_POSTGRES.items():
        with pytest.raises(Exception, match=re.escape(words)):
            db.execute(f"alter table t {action}")
        result = walter.perform(f"alter table t {action}", check=2)
        assert words in result.stderr, f"{action}: {result}"
        assert_untouched(db)


# -- what we refuse -------------------------------------------------------------------------------

SET = "alter table t alter n set default 1"
P = "create table p (id int primary key, n int) partition by range (id);"
T = "create table t partition of p for values from (1) to (100);"

REFUSED = {
    "partition_hash": (
        "create table p (id int primary key, n int) partition by hash (id);"
        "create table t partition of p for values with (modulus 2, remainder 1)", SET,
        "public.t is a partition of public.p by hash", "plain ALTER TABLE"),
    "partition_default": (
        P + T + "create table o partition of p default;"
        "insert into p select g, 1 from generate_series(101, 300000) g", SET,
        "default partition public.o has .* MB", "partitions of their own"),
    "partition_foreign_key": (
        P + T + "create table r (id int primary key) partition by list (id); alter table p add"
        " foreign key (n) references r", SET,
        "foreign key p_n_fkey comes from public.p and references public.r, which is itself",
        "plain ALTER TABLE"),
    "partition_referenced": (
        P.replace("p (", "r (") + "create table p partition of r for values from (1) to (200)"
        " partition by range (id);" + T + "create table c (id int references r)", SET,
        "foreign key c_id_fkey of public.c references public.r, and DETACH .* rows of public.t",
        "Drop it first"),
    "partition_referenced by a partitioned table": (
        P + T + "create table c (id int references p) partition by list (id)", SET,
        "foreign key c_id_fkey of public.c references public.p, and DETACH .* rows of public.t",
        "Drop it first"),
    "partition_referenced without triggers": (
        P + T + "create table c (id int references p); alter table c disable trigger all", SET,
        "foreign key c_id_fkey of public.c references public.p, and DETACH .* rows of public.t",
        "Drop it first"),
    "partition_reference": (
        P + T + "alter table t add foreign key (n) references p", SET,
        "foreign key t_n_fkey references public.p, of which public.t is a partition",
        "Drop it first"),
    "partition_index": (
        P + T + "create index i on only p (n)", SET,
        "index public.i of public.p has no counterpart on public.t", "ATTACH PARTITION"),
    "partition_check": (
        P + T + "insert into p values (1, -1); alter table p add constraint c check (n > 0) not"
        " valid", SET, "constraint c of public.t comes from public.p and is not valid",
        "ALTER TABLE public.t VALIDATE CONSTRAINT c;"),
}


def refused(walter, alter, objection, cure):
    result = walter.perform(alter, check=2)
    assert re.search(f"error: .*{objection}", result.stderr), f"no /{objection}/ in:\n{result}"
    assert re.search(f"^hint: .*{cure}", result.stderr, re.MULTILINE), f"no /{cure}/ in:\n{result}"
    assert_untouched(walter.db)


@pytest.mark.parametrize("check", REFUSED)
def test_refused(db, walter, check):
    setup, alter, objection, cure = REFUSED[check]
    db.execute(setup)
    refused(walter, alter, objection, cure)


KEYED = P + T + ("create table r (id int primary key);"
                 "insert into r select generate_series(1, 50000);"
                 "alter table p add constraint f foreign key (n) references r;")


def test_inherited_keys_that_take_too_long_to_check(db, walter):
    """Known before anybody has waited for it."""
    db.execute(KEYED.replace("(100)", "(100000)") +
               "insert into p select g, g from generate_series(1, 50000) g")
    result = walter.perform(SET, "--lock-hold=10ms", check=5)
    assert "checks the foreign keys that come from public.p under the lock" in result.stderr
    assert re.search("^hint: Raise --lock-hold", result.stderr, re.MULTILINE)
    assert "cutover attempt" not in result.stderr
    assert "going on with run" in walter.perform(SET, "--lock-hold=20s").stderr
    assert db.query_one("select conparentid <> 0 and convalidated from pg_constraint"
                        " where conrelid = 't'::regclass and contype = 'f'") is True


def test_inherited_keys_that_do_not_hold(db, walter):
    """They count as valid, and are checked by ATTACH PARTITION all the same."""
    db.execute(KEYED + "alter table t disable trigger all; insert into p values (5, -5);"
               "alter table t enable trigger all")
    result = walter.perform(SET, check=3)
    assert 'violates foreign key constraint "f": key (n)=(-5) is not present' in result.stderr
    assert_removed(db)
    db.execute("delete from p")
    walter.perform(SET)


def test_inherited_keys_hold_all_the_time(db, walter):
    db.execute(KEYED + "insert into p select g, g from generate_series(1, 50) g")
    with held_build(walter, SET) as run:
        db.execute("delete from p where id = 5; delete from r where id = 5;"
                   "insert into r values (100001); insert into p values (60, 100001)")
        for row in ("insert into p values (61, 5)", "delete from r where id = 6"):
            with pytest.raises(Exception, match="foreign key"):
                db.execute(row)
    run.finish()
    for row in ("insert into p values (61, 5)", "insert into t values (61, 5)",
                "delete from r where id = 6", "delete from r where id = 100001"):
        with pytest.raises(Exception, match="foreign key"):
            db.execute(row)
    db.execute("delete from t where id = 6; delete from r where id = 6")


def test_keys_to_the_parent_hold_all_the_time(db, walter):
    db.execute(P + T + "insert into p select g, g from generate_series(1, 50) g;"
               "create table c (id int references p on delete cascade); insert into c values (7)")
    with held_build(walter, SET) as run:
        db.execute("insert into p values (60, 1); insert into c values (60); delete from p where"
                   " id = 7")
        with pytest.raises(Exception, match="foreign key"):
            db.execute("insert into c values (7)")
    result = run.finish()
    assert "validated a foreign key" in result.stderr
    with pytest.raises(Exception, match="foreign key"):
        db.execute("insert into c values (7)")
    assert db.query("select id from c") == [(60,)]
    db.execute("delete from t where id = 60")
    assert db.query("select id from c") == []


def test_partition_referencing_owner(db, walter, owner):
    owner.execute(P + T)
    db.execute("grant references on p to postgres; create table c (id int references p)")
    result = walter.as_user(owner).perform(SET, check=2)
    assert "foreign key c_id_fkey to public.p belongs to table public.c" in result.stderr
    assert f"GRANT postgres TO {owner.user};" in result.stderr
    assert_untouched(db)


def test_partition_owner(db, walter, owner):
    db.execute(P + T + f"alter table t owner to {owner.user}")
    result = walter.as_user(owner).perform(SET, check=2)
    assert f"partition public.t belongs to {owner.user}, but public.p to postgres" in result.stderr
    assert_untouched(db)


def test_partition_detaching(db, walter):
    """DETACH CONCURRENTLY, which 14 brought, was interrupted between its two transactions."""
    if db.server.version < 140000:
        return
    db.execute(P + T)
    reader = db.connect(autocommit=False)
    reader.execute("select * from p")
    with db.connect() as other:
        other.execute("set lock_timeout = '100ms'")
        with pytest.raises(Exception, match="lock timeout"):
            other.execute("alter table p detach partition t concurrently")
    reader.close()
    refused(walter, SET, "public.t is being detached from public.p",
            "ALTER TABLE public.p DETACH PARTITION public.t FINALIZE;")


def test_like_indexes(db, walter):
    db.execute(P + T + "create index a on p (n); create index b on t (n)")
    result = walter.perform(SET, check=2)
    assert re.search('indexes "b" and "t_n_idx" of the partition are alike', result.stderr)
    assert_untouched(db)
    db.execute("drop index b")
    result = walter.perform("alter table t add unique (id)", check=2)
    assert '"t_id_key"' in result.stderr and "are alike" in result.stderr
    assert_untouched(db)
    # an index is no match where the parent's has a constraint
    db.execute("create unique index c on t (id)")
    walter.perform(SET)
    assert db.query_one("select conindid::regclass::text from pg_constraint"
                        " where conrelid = 't'::regclass and contype = 'p'") == "t_pkey"


def test_a_new_foreign_key_to_the_parent(db, walter):
    db.execute(P + T)
    result = walter.perform("alter table t add foreign key (n) references p", check=2)
    assert "references public.p, of which public.t is a partition" in result.stderr
    assert_untouched(db)


def test_every_check_is_provoked():
    source = (TOP / "src" / "phase" / "checks_partition.c").read_text(encoding="utf-8")
    names = set(re.findall(r'^    \{"(\w+)",', source, re.MULTILINE))
    tested = set(REFUSED) | {name.removeprefix("test_") for name in globals()}
    assert names - tested == set()
    assert {name.split()[0] for name in REFUSED} <= names
