"""Tables with very many columns, indexes and constraints."""
import pytest

from support.hold import Twins, migrate

# 1,600 columns of whatever type are a table's most; most values are null, so that a row fits a page.
TOASTED = "(select string_agg(md5(i::text || g), '') from generate_series(1, 300) g)"


def definition(columns, dropped=()):
    """A key, an out-of-line text, and smallints; `dropped` of these are gone again."""
    listed = ", ".join(f"c{n} smallint" for n in range(3, columns + 1))
    gone = "".join(f", drop c{n}" for n in dropped).lstrip(",")
    return (f"create table {{t}} (id int primary key, big text, {listed});"
            + (f"alter table {{t}}{gone};" if gone else ""))


def rows(last, count=50):
    return (f"insert into {{t}} (id, big, c4, c{last}) select i, {TOASTED}, i, i"
            f" from generate_series(1, {count}) i")


def changes(last):
    """Beside the out-of-line value, which most updates leave as it is."""
    return [f"insert into {{t}} (id, big, c3, c{last}) select i, {TOASTED}, 1, 2"
            " from generate_series(1001, 1050) i",
            f"update {{t}} set c4 = -id where id <= 20; update {{t}} set c{last} = 7 where id <= 5",
            "update {t} set big = 'short', c4 = null where id = 6",
            "update {t} set id = id + 5000 where id in (7, 8)",
            "delete from {t} where id between 30 and 40"]


# 1,600 columns is the most, dropped ones included; two more are walter's own
@pytest.mark.parametrize("columns,dropped,alter,plugin", [
    (200, (), "alter c200 type int", "pgoutput"),
    (1598, (), "alter c1598 type int, add extra int default 5", "wal2json"),
    (1600, (5, 900), "alter c1600 type int, drop c901", "pgoutput"),
])
def test_columns(db, walter, columns, dropped, alter, plugin):
    twins = Twins(db, definition(columns, dropped), rows(columns))
    migrate(walter, twins, f"alter table {{t}} alter id type bigint, {alter}", *changes(columns),
            args=[f"--plugin={plugin}"])


def test_columns_that_do_not_fit(db, walter):
    db.execute(definition(1598).replace("{t}", "t"))
    result = walter.perform("alter table t add a int, add b int", check=2)
    assert "has 1600 columns, and walter can fill at most 1599" in result.stderr


# 30 indexes, of which 10 are unique constraints, and 50 checks
MANY = ("create table {t} (id int primary key, "
        + ", ".join(f"c{n} int" for n in range(30)) + ");"
        + "".join(f"create index on {{t}} (c{n}, id);" for n in range(20))
        + "".join(f"alter table {{t}} add unique (c{n}, c{n + 1});" for n in range(20, 29))
        + "".join(f"alter table {{t}} add check (c{n % 30} > -{n + 1});" for n in range(50)))

DEFINITIONS = """
    select pg_get_indexdef(indexrelid) from pg_index where indrelid = 't'::regclass
    union all select conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
     where conrelid = 't'::regclass and contype <> 'n' order by 1"""


def test_indexes_and_constraints(db, walter):
    columns = ", ".join(f"c{n}" for n in range(30))
    values = ", ".join(f"i + {n}" for n in range(30))
    twins = Twins(db, MANY, f"insert into {{t}} (id, {columns}) select i, {values}"
                            " from generate_series(1, 500) i")
    before = db.query(DEFINITIONS)
    assert len(before) == 30 + 60
    migrate(walter, twins, "alter table {t} alter id type bigint",
            f"insert into {{t}} (id, {columns}) select i, {values}"
            " from generate_series(1001, 1100) i",
            "update {t} set c1 = 0, c2 = null where id <= 50",
            "delete from {t} where id between 60 and 70",
            args=["--jobs=4", "--parallel-workers=1", "--maintenance-work-mem=2MB"])
    assert db.query(DEFINITIONS) == before
