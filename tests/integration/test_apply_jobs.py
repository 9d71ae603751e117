"""--apply-jobs: several sessions share the changes of a batch, and nothing is different for it."""
import random
import re

import pytest

from support.changes import toast
from support.hold import Twins, held_build, held_cutover, migrate
from support.seed import seed
from support.traces import assert_removed
from support.wait import wait_for_session, wait_until

SHAPE = ("create table {t} (id int primary key, n int, doc text);"
         "alter table {t} alter doc set storage external; create index on {t} (n)")
ROWS = f"insert into {{t}} select i, i, {toast('i')} from generate_series(1, 4000) i"
ALTER = "alter table {t} alter id type bigint, alter n type bigint, add x int default 5"
DIVIDED = re.compile(r"debug: (\d+) operations divided among 3 sessions, (\d+) for the first")
OPTIONS = ("--apply-jobs=3", "--pull-batch-count=6000", "-v")

KINDS = {
    "update {t} set n = n + 1 where id between %(a)s and %(a)s + 2500": 20,
    "update {t} set n = -n": 10,
    "delete from {t} where id %% 7 = %(a)s %% 7": 8,
    "insert into {t} select i, 0, 'new' from generate_series(%(a)s, %(a)s + 3000) i"
    " on conflict (id) do update set doc = excluded.doc": 15,
    # rows that are deleted and come again in one transaction
    "begin; delete from {t} where id between %(a)s and %(a)s + 2000;"
    "insert into {t} select i, i, 'again' from generate_series(%(a)s, %(a)s + 1500) i;"
    "commit": 8,
    # what cannot be divided lies between
    "update {t} set id = id + 100000 where id between %(a)s and %(a)s + 20": 5,
}


def workload(count, name):
    rng = random.Random(f"{seed()} {name}")
    for i in range(count):
        yield rng.choices(list(KINDS), list(KINDS.values()))[0] % {"a": rng.randint(1, 3000)}
        if i == count // 2:
            yield "truncate {t}"
            yield ROWS


@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
def test_gives_equal_tables(db, walter, plugin):
    twins = Twins(db, SHAPE, ROWS)
    result = migrate(walter, twins, ALTER, *workload(16, plugin), hold=held_build,
                     args=(*OPTIONS, f"--plugin={plugin}"), min_rows=50)
    divided = DIVIDED.findall(result.stderr)
    assert divided
    for count, own in divided:
        assert 0.2 < int(own) / int(count) < 0.5


def test_each_session_notes_where_it_is(db, walter):
    """Before the swap all of them have come to the same place, small batches or not."""
    Twins(db, SHAPE, ROWS)
    with held_cutover(walter, "alter table t alter n type bigint", *OPTIONS) as run:
        db.execute("update t set n = n + 1")
        run.wait_for_log(DIVIDED.pattern)
        db.execute("update t set n = 7 where id = 1")
        table = db.query_one("select oid::regclass::text from pg_class"
                             " where relname ~ '^position_[0-9a-f]{8}$'")
        wait_until(lambda: db.query(f"select distinct changes, end_lsn is not null from {table}")
                   == [(4001, True)], "all positions tell of all changes")
        assert db.query_one(f"select count(*) from {table}") == 3
    run.finish()


def test_a_row_that_does_not_fit_is_named_and_nothing_stays(db, walter):
    twins = Twins(db, SHAPE, ROWS)
    with held_build(walter, "alter table t add check (n < 100000)", *OPTIONS) as run:
        twins.do("update {t} set n = n + 1", "update {t} set n = 200000 where id = 3456")
    error = run.finish(check=3).stderr
    assert DIVIDED.search(error)
    assert "row (id)=(3456) changed meanwhile does not fit the new definition" in error
    twins.assert_same_rows()
    assert_removed(db)


@pytest.mark.parametrize(("shape", "alter", "why"), [
    ("create table {t} (id int primary key, n int unique)", "alter table t add x int",
     "because it has a unique or exclusion constraint besides its key"),
    ("create table {t} (id int primary key, n int)", "alter table t alter id type text",
     "keys that change their type are not divided"),
    ("create table {t} (id int primary key, n int)", "alter table t alter n type text using n + 1",
     "USING and keys"),
], ids=["unique", "type of the key", "using"])
def test_what_is_not_divided(db, walter, shape, alter, why):
    Twins(db, shape, "insert into {t} select i, i from generate_series(1, 4000) i")
    with held_build(walter, alter, *OPTIONS) as run:
        db.execute("update t set n = n + 10000")
    log = run.finish().stderr
    assert why in log
    assert not DIVIDED.search(log)


def test_stopped_in_the_middle(db, walter):
    """Ctrl-C while a helper's statement runs: nothing is left."""
    Twins(db, SHAPE, ROWS)
    db.execute("""create function slow(int) returns bool language plpgsql immutable as $$ begin
        if $1 = 200000 and current_setting('application_name') ~ ' apply$' then
            perform pg_sleep(600);
        end if;
        return true; end $$""")
    db.execute("alter table t add check (slow(n))")
    with held_build(walter, "alter table t alter id type bigint", *OPTIONS) as run:
        db.execute("update t set n = 200000")
    wait_for_session(db, "apply", "wait_event = 'PgSleep'")
    run.terminate()
    assert "is kept" in run.finish(check=7).stderr
    walter.run("abort", "--yes")
    assert_removed(db)
