"""Passwords, connection strings and the values of rows stay out of the log and of walter's tables."""
import re
from urllib.parse import quote

import pytest

from support.hold import held_copy

SECRET = "s3cr3t-4711"


def all_that_is_kept(db):
    """What stands in walter's tables, as text."""
    tables = db.query("select format('%I.%I', n.nspname, c.relname) from pg_class c"
                      " join pg_namespace n on n.oid = c.relnamespace"
                      " where n.nspname = 'walter' and c.relkind = 'r'")
    return "\n".join(str(db.query(f"select t::text from {table} t")) for (table,) in tables)


# Connection strings that cannot be read or lead nowhere: each has the password in another place.
BROKEN = [
    f"postgresql://postgres:{SECRET}%zz@localhost/shop",
    f"postgresql://postgres:{SECRET}%00@localhost/shop",
    f"postgresql://postgres:{SECRET}@localhost/shop?no_such_option=1",
    f"postgresql://postgres:{SECRET}/x@localhost:1/shop",
    f"postgresql://postgres:x@{SECRET}@localhost:1/shop",
    f"postgresql://postgres@localhost:1/shop?password={SECRET}%zz",
    f"postgresql://postgres@localhost:1/shop?password={SECRET}=x",
    f"dbname=shop password=x {SECRET} host=localhost",
    f"dbname=shop password=x {SECRET}=y host=localhost",
    f"dbname=shop host=localhost port=1 password='{SECRET}",
]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("command", [("perform", "-v", "-a", "alter table t add x int"), ("cleanup",)])
def test_of_a_broken_connection_string_no_part_is_shown(walter, command, text):
    result = walter.run(*command, "-d", text, check=1)
    assert "error: " in result.stderr
    assert SECRET not in result.stderr + result.stdout


def test_a_password_is_neither_shown_nor_kept(db, walter):
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    where = db.env
    uri = (f"postgresql://{where['PGUSER']}:{SECRET}@/{where['PGDATABASE']}"
           f"?host={quote(where['PGHOST'], safe='')}&port={where['PGPORT']}")
    with held_copy(walter, "alter table t alter n type bigint", "-v", "-d", uri) as run:
        sessions = str(db.query("select a::text from pg_stat_activity a"
                                " where application_name like 'walter:%'"))
        kept = all_that_is_kept(db)
    result = run.finish()
    assert SECRET not in result.stderr + result.stdout
    assert SECRET not in kept + all_that_is_kept(db)
    assert SECRET not in sessions.replace(f"~ '{SECRET}'", "")


# The action, a value for s or n that does not fit, and what is said of it all the same.
MISFITS = {
    "text": ("alter s type int using s::int", SECRET, "invalid input syntax for type integer"),
    "quotes": ("alter s type int using s::int", f'a "{SECRET}" b', "invalid input syntax"),
    "date": ("alter s type date using s::date", f"2020-13-{SECRET}", "date"),
    "range": ("alter s type smallint using s::smallint", "47114711", "out of range"),
    "json": ("alter s type json using s::json", "{" + SECRET + "}", "invalid input syntax"),
    "xml": ("alter s type xml using s::xml", f"<{SECRET}", "invalid XML"),
    "uuid": ("alter s type uuid using s::uuid", SECRET, "invalid input syntax"),
    "length": ("alter s type varchar(5)", SECRET, "too long"),
    "check": ("add constraint short check (length(s) < 8)", SECRET, '"short"'),
    "overflow": ("alter s type numeric(3) using s::numeric(3)", "47114711", "overflow"),
}


FITS = {"json": "{}", "xml": "<a/>", "date": "2020-01-01",
        "uuid": "00000000-0000-0000-0000-000000000000"}


def create_table(db, name):
    db.execute("create table t (id int primary key, s text)")
    db.execute("insert into t select i, %s from generate_series(1, 6) i", [FITS.get(name, "1")])


def assert_value_is_not_shown(db, result, value, reason):
    error = "\n".join(line for line in result.stderr.splitlines() if "error:" in line)
    assert reason in error and "(id)=(7)" in error
    assert value not in result.stderr and SECRET not in result.stderr + result.stdout
    assert not re.search(re.escape(value), all_that_is_kept(db))


@pytest.mark.parametrize("name", MISFITS)
def test_a_value_that_does_not_fit_is_not_shown_by_the_copy(db, walter, name):
    action, value, reason = MISFITS[name]
    create_table(db, name)
    db.execute("insert into t values (7, %s)", [value])
    result = walter.perform(f"alter table t {action}", "-v", check=3)
    assert_value_is_not_shown(db, result, value, reason)


@pytest.mark.parametrize("name", MISFITS)
def test_a_value_that_does_not_fit_is_not_shown_by_apply(db, walter, name):
    action, value, reason = MISFITS[name]
    create_table(db, name)
    db.execute("insert into t values (7, %s)", [FITS.get(name, "1")])
    with held_copy(walter, f"alter table t {action}", "-v") as run:
        db.execute("update t set s = %s where id = 7", [value])
    assert_value_is_not_shown(db, run.finish(check=3), value, reason)


def test_messages_in_another_language_show_no_value_either(db, walter):
    """Their quotes are others; where a server has no such messages, they are English."""
    db.execute("create table t (id int primary key, s text)")
    db.execute("insert into t values (7, %s)", [f"« {SECRET} »"])
    result = walter.perform("alter table t alter s type int using s::int", check=3)
    assert "(id)=(7)" in result.stderr and SECRET not in result.stderr


def test_what_the_statement_itself_says_is_shown(db, walter):
    db.execute("create table t (id int primary key, s text)")
    result = walter.perform("alter table t add n int default 'seven'", check=2)
    assert 'invalid input syntax for type integer: "seven"' in result.stderr


@pytest.mark.parametrize("query", ["select count(*) from t where s = '{}'",
                                   "select count(*)\nfrom t where s = $x${}$x$",
                                   "select count(*) from t where s = 'it''s' or s = '{}'"])
def test_of_a_query_that_is_in_the_way_no_literal_is_shown(db, walter, query):
    db.execute("create table t (id int primary key, s text)")
    reader = db.connect(autocommit=False)
    reader.execute(query.format(SECRET))
    run = walter.start_perform("alter table t alter id type bigint")
    pid = reader.info.backend_pid
    shown = run.wait_for_log(f"in the way of the lock: pid {pid}, .*: (select .*)").group(1)
    reader.close()
    assert shown.startswith("select count(*) from t where s = ")
    assert SECRET not in run.finish().stderr


def test_of_a_query_that_the_slot_waits_for_no_literal_is_shown(db, walter):
    db.execute("create table t (id int primary key, s text)")
    writer = db.connect(autocommit=False)
    writer.execute(f"insert into t values (1, '{SECRET}')")
    run = walter.start_perform("alter table t alter id type bigint")
    run.wait_for_log(f"pid {writer.info.backend_pid}, .*: insert into t values \\(1, '...")
    writer.commit()
    writer.close()
    assert SECRET not in run.finish().stderr
