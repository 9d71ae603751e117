"""Two ways for the rows into the new table, COPY and INSERT ... SELECT, and which one is taken."""
import pytest

from support.hold import Twins, migrate
from support.load import TwinLoad, assert_same

COLUMNS = ", ".join(f"c{i} int" for i in range(30))
LONG = "(select string_agg(md5((i * k)::text), '') from generate_series(1, 80) k)"
# what compresses, in line and out of line, and what does not; and nothing
VALUES = """
    create table {t} (id int primary key, n int, short text, packed text, long text, bare text);
    alter table {t} alter bare set storage external;
"""
VALUES_ROWS = f"""
    insert into {{t}} select i, i, 'v' || i, repeat('line ' || i, 300 * (i % 4)),
           repeat({LONG}, i % 3), nullif(repeat('x', 3000 * (i % 2)), '')
      from generate_series(1, 500) i;
    analyze {{t}};
"""
ALTER = "alter table {t} alter n type bigint"

# what the rows are like, what is done to them, and which way is taken for that
CHOICES = {
    "short rows": ("create table t (id int primary key, n int)",
                   "insert into t select i, i from generate_series(1, 1000) i", ALTER, "copy"),
    "many columns": (f"create table t (id int primary key, n int, {COLUMNS})",
                     "insert into t (id, n) select i, i from generate_series(1, 1000) i", ALTER,
                     "insert"),
    "large values": (VALUES, VALUES_ROWS, ALTER, "insert"),
    "large values, cut": (VALUES, VALUES_ROWS,
                          "alter table {t} alter long type varchar(9000)", "insert"),
    "a new constant": (VALUES, VALUES_ROWS,
                       "alter table {t} add state text not null default 'it''s new'", "insert"),
    "a new number": (VALUES, VALUES_ROWS, "alter table {t} add m serial", "insert"),
    # nobody can tell beforehand how large these become
    "a new text for each": (VALUES, VALUES_ROWS,
                            "alter table {t} add r text default md5(random()::text)", "copy"),
    "computed": (VALUES, VALUES_ROWS, "alter table {t} alter long type text using long || long",
                 "copy"),
    "filled up": (VALUES, VALUES_ROWS, "alter table {t} alter short type char(5000)", "insert"),
}


def perform(db, walter, case, *args):
    """Make the table of a case, and do to it what is done."""
    definition, rows, alter, _ = CHOICES[case]
    for script in (definition, rows, "analyze {t}"):
        db.execute(script.replace("{t}", "t"))
    return walter.perform(alter.replace("{t}", "t"), *args)


@pytest.mark.parametrize("case", CHOICES)
def test_what_is_faster_is_taken(db, walter, case):
    method = CHOICES[case][3]
    run = perform(db, walter, case, "-v")
    assert (", by INSERT" in run.stderr) == (method == "insert")
    assert ("debug: 0 chunks by INSERT" in run.stderr) == (method == "copy")


@pytest.mark.parametrize("case", [case for case in CHOICES if CHOICES[case][3] == "copy"])
def test_what_is_asked_for_is_taken_where_it_can_be(db, walter, case):
    can_be = case == "short rows"
    run = perform(db, walter, case, "--copy-method=insert")
    assert (", by INSERT" in run.stderr) == can_be
    assert ("rows are copied by COPY: how large they become is not known" in run.stderr) != can_be


def test_copy_where_insert_would_be_faster(db, walter):
    assert "by INSERT" not in perform(db, walter, "large values", "--copy-method=copy").stderr


@pytest.mark.parametrize("alter", [case[2] for case in CHOICES.values()
                                   if case[0] == VALUES and "random" not in case[2]
                                   and "serial" not in case[2]])
def test_the_rows_are_what_alter_table_makes_of_them(db, walter, alter):
    """With changes of rows that are to be copied yet, and of values that are not sent with them."""
    twins = Twins(db, VALUES, VALUES_ROWS)
    migrate(walter, twins, alter,
            "update {t} set n = -n where id % 3 = 0", "delete from {t} where id % 50 = 0",
            "update {t} set packed = 'other' where id % 7 = 0", "update {t} set id = -id where id < 9",
            "insert into {t} (id, n, long) values (1000, 1, repeat('y', 9000))",
            args=("--copy-method=insert",), min_rows=400)


def test_values_are_stored_as_they_were(db, walter):
    """Not unpacked and packed again, as plain ALTER TABLE does not."""
    twins = Twins(db, VALUES, VALUES_ROWS)
    walter.perform(ALTER.replace("{t}", "t"), "--copy-method=insert")
    twins.assert_equal(ALTER, min_rows=500)
    sizes = ("select id, pg_column_size(short), pg_column_size(packed), pg_column_size(long),"
             " pg_column_size(bare) from ")
    assert_same(db, sizes + "t", sizes + "twin", min_rows=500)


def test_inserted_beside_a_load(db, walter):
    for name in ("t", "twin"):
        db.execute(VALUES.replace("{t}", name))
        db.execute(VALUES_ROWS.replace("{t}", name).replace("500) i", "6000) i"))
    with TwinLoad(db, "t", "twin", {"n": "int", "packed": "text"}, keys=(1, 6000)) as load:
        run = walter.perform(ALTER.replace("{t}", "t"), "--jobs=4", "--max-rate=8MB")
        load.wait_for(20)
    assert load.errors == []
    assert ", by INSERT" in run.stderr
    db.execute(ALTER.replace("{t}", "twin"))
    assert_same(db, "select t::text from t", "select t::text from twin t", min_rows=3000)


@pytest.mark.smoke
def test_a_virtual_column_that_cannot_be_read(db, walter):
    """It is stored nowhere: nothing has to compute it."""
    if db.server.version < 180000:
        pytest.skip("needs PostgreSQL 18")
    db.execute(f"create table t (id int primary key, n int, d int, {COLUMNS},"
               " g text generated always as ((100 / d)::text) virtual);"
               "insert into t (id, n, d) select i, i, i % 2 from generate_series(1, 1000) i;"
               "analyze t")
    run = walter.perform("alter table t alter n type bigint")
    assert ", by INSERT" in run.stderr
    assert db.query_one("select count(n) from t") == 1000
