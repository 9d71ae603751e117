"""A backlog: each batch is read while the server applies the one before it."""
import random
import re

import pytest

from support.changes import toast
from support.hold import Twins, held_build, held_cutover, migrate
from support.load import TwinLoad, assert_same
from support.seed import seed

COLUMNS = "(id int, n int, u int, doc text, primary key (id), unique {unique})"
PLAIN = f"create table {{t}} {COLUMNS.replace('{unique}', '(u)')}"
TREE = (f"create table {{t}} {COLUMNS.replace('{unique}', '(id, u)')} partition by range (id);"
        "create table {t}_1 partition of {t} for values from (0) to (60);"
        "create table {t}_2 partition of {t} for values from (60) to (1000)")
EXTERNAL = "alter table {t} alter doc set storage external"
ROWS = f"insert into {{t}} select i, i, i, {toast('i')} from generate_series(1, 120) i"
ALTER = "alter table {t} alter n type bigint, add x int default 5"
# Whoever gets the value of another row, and new rows where old ones were.
HAND_OVER = ("begin; update {t} set u = null where u = %(v)s;"
             "update {t} set u = %(v)s where id = %(a)s; commit")
REPLACE = ("begin; delete from {t} where id = %(a)s or u = %(v)s;"
           "insert into {t} values (%(a)s, -1, %(v)s, 'new'); commit")
MOVE = ("begin; delete from {t} where id = %(b)s; update {t} set id = %(b)s where id = %(a)s;"
        "commit")
KINDS = {
    "update {t} set n = n + 1 where id = %(a)s": 30,
    "update {t} set n = -n where id between %(a)s and %(a)s + 20": 10,
    f"update {{t}} set doc = {toast('id')} || %(v)s where id = %(a)s": 8,
    "delete from {t} where id = %(a)s": 5,
    "insert into {t} values (%(a)s, 0, null, 'x') on conflict do nothing": 10,
    HAND_OVER: 10, REPLACE: 10, MOVE: 10,
}


def workload(count, name):
    """Transactions at random; {t} is the table's name."""
    rng = random.Random(f"{seed()} {name}")
    for i in range(count):
        sql = rng.choices(list(KINDS), list(KINDS.values()))[0]
        yield sql % {"a": rng.randint(1, 150), "b": rng.randint(1, 150), "v": rng.randint(1, 150)}
        if i == count // 2:
            yield "truncate {t}"
            yield ROWS


@pytest.mark.parametrize(("shape", "batch", "plugin"), [
    (PLAIN, 1, "pgoutput"), (PLAIN, 40, "wal2json"), (TREE, 7, "pgoutput"), (TREE, 7, "wal2json")],
    ids=["table, 1", "table, 40", "tree, pgoutput", "tree, wal2json"])
def test_gives_equal_tables(db, walter, shape, batch, plugin):
    twins = Twins(db, shape, ROWS)
    twins.do(EXTERNAL)
    result = migrate(walter, twins, ALTER, *workload(200, f"{plugin} {batch}"), hold=held_build,
                     args=(f"--pull-batch-count={batch}", f"--plugin={plugin}"), min_rows=50)
    assert int(re.search(r"(\d+) changes applied", result.stderr).group(1)) > 400


def test_names_the_row_that_does_not_fit_whatever_comes_behind_it(db, walter):
    twins = Twins(db, PLAIN, ROWS)
    with held_build(walter, "alter table t add check (n < 1000)", "--pull-batch-count=5") as run:
        db.execute("update t set n = n + 1; update t set n = 5000 where id = 77;"
                   "update t set n = n + 1 where id <> 77; delete from t where id = 77")
    error = run.finish(check=3).stderr
    assert "row (id)=(77) changed meanwhile does not fit the new definition" in error
    assert "t_n_check" in error
    twins.db.execute("update twin set n = n + 2 where id <> 77; delete from twin where id = 77")
    twins.assert_same_rows()


def test_reads_again_what_it_has_read_ahead_of_the_lock(db, walter):
    """Under the lock batches are of another size; nothing is lost or done twice between the two."""
    for name in ("t", "u"):
        db.execute(f"create table {name} (id int primary key, n int, s text);"
                   f"insert into {name} select i, i, 's' from generate_series(1, 500) i")
    with TwinLoad(db, "t", "u", {"n": "int", "s": "text"}, keys=(1, 500), clients=2,
                  pause_ms=10) as load:
        load.wait_for(50)
        with held_cutover(walter, "alter table t alter n type bigint", "--pull-batch-count=10"
                         ) as run:
            load.wait_for(200)
        run.finish()
        load.stop()
    assert load.errors == []
    assert_same(db, "select r::text from t r", "select r::text from u r", min_rows=200)
