"""Where plain ALTER TABLE takes an instant walter says so, and goes on all the same."""
import re

import pytest

TABLE = ("create table {t} (id int primary key, n int default 1, s text, g int not null,"
         " v varchar(10), constraint {t}_c check (n > 0));"
         "insert into {t} select i, i, 's', i, 'v' from generate_series(1, 100) i")

INSTANT = [
    "alter table {t} add x int",
    "alter table {t} add x int default 5 null, alter n set default 4, alter n drop default",
    "alter table {t} add x timestamptz default now()",
    "alter table {t} rename n to m",
    "alter table {t} rename constraint {t}_c to c; alter table {t} drop constraint c",
    "alter table {t} drop s, alter g drop not null, alter n set statistics 7",
]

# rows are read, or written, or would be left as they are where walter writes them anew
NOT_INSTANT = [
    "alter table {t} add x int, alter n type bigint",
    "alter table {t} alter v type varchar(20)",
    "alter table {t} add x float8 default random()",
    "alter table {t} add x serial",
    "alter table {t} add x int not null default 5",
    "alter table {t} add x int check (x > 0)",
    "alter table {t} add x int unique",
    "alter table {t} alter n set not null",
    "alter table {t} add x int; alter table {t} add check (n > -1)",
    "alter table {t} alter s set storage external",
    "alter table {t} set (fillfactor = 70)",
    "alter table {t} add x numbers",
]


def run(db, walter, alter, *args):
    """Alter "t", and return what was said."""
    db.execute("create domain numbers as int check (value > 0)")
    db.execute(TABLE.replace("{t}", "t"))
    return walter.perform(alter.replace("{t}", "t"), *args).stderr


@pytest.mark.parametrize("alter", INSTANT)
def test_said(db, walter, alter):
    said = run(db, walter, alter)
    assert re.search("info: plain ALTER TABLE would neither rewrite nor read the table: .*"
                     "SET lock_timeout = '50ms'; " + re.escape(alter.replace("{t}", "t")), said)
    assert db.query_one("select count(*) from t") == 100
    # and so it is
    db.execute(TABLE.replace("{t}", "twin"))
    before = db.query_one("select pg_relation_filenode('twin')")
    db.execute(alter.replace("{t}", "twin"))
    assert db.query_one("select pg_relation_filenode('twin')") == before


@pytest.mark.parametrize("alter", NOT_INSTANT)
def test_not_said(db, walter, alter):
    assert "plain ALTER TABLE would" not in run(db, walter, alter)


def test_not_said_of_a_copy_statement(db, walter, tmp_path):
    (tmp_path / "copy.sql").write_text("insert into t (id, g, x) select id, g, n from t")
    assert "plain ALTER TABLE would" not in run(db, walter, "alter table {t} add x int", "-c",
                                                tmp_path / "copy.sql")
