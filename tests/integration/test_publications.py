"""Subscribers of a published table get every change once, before, during and after the swap."""
import pytest

from support.hold import held_build, held_copy
from support.load import TwinLoad, assert_same
from support.subscriber import Subscriber
from support.traces import assert_finished, assert_untouched
from support.versions import skip_unless_understood
from support.wait import wait_until

TABLE = """
create table t (id int primary key, n int not null, v text);
create table other (id int primary key);
insert into t select g, g, 'v' || g from generate_series(1, 100) g;
"""
ALTER = "alter table t alter n type bigint, add x int default 5"


def write(db, first):
    """Changes whose keys tell them apart; returns what a subscriber must be sent."""
    db.execute(f"insert into t (id, n) values ({first}, 1), ({first + 1}, 2);"
               f"update t set n = 3 where id = {first}; delete from t where id = {first + 1};"
               f"insert into other values ({first})")
    return [("I", "public.t", str(first)), ("I", "public.t", str(first + 1)),
            ("U", "public.t", str(first)), ("D", "public.t", str(first + 1)),
            ("I", "public.other", str(first))]


def keys(changes):
    return [(kind, table, row["id"]) for kind, table, row in changes]


# How the table is published.
PUBLICATIONS = {
    "table": "create publication p for table t, other",
    "schema": "create publication p for tables in schema public",
    "schema and table": "create publication p for tables in schema public, table t",
    "columns": "create publication p for table t (n, id), other",
    "rows": "create publication p for table t where (id > 0), other",
}


@pytest.mark.parametrize("publication", PUBLICATIONS)
def test_every_change_is_sent_once(db, walter, publication):
    db.execute(TABLE + PUBLICATIONS[publication])
    subscriber = Subscriber(db, "p")
    expected = write(db, 1000)
    # the type of a published column that is listed cannot be changed
    alter = ALTER.replace("alter n type bigint", "drop v") if publication == "columns" else ALTER
    with held_copy(walter, alter) as run:
        expected += write(db, 2000)
    run.finish()
    expected += write(db, 3000)
    # in a session that knows both tables, and in a later one
    assert keys(subscriber.read()) == expected
    expected += write(db, 4000)
    assert keys(subscriber.read()) == expected
    walter.perform("alter table t drop x")
    expected += write(db, 5000)
    assert keys(subscriber.read()) == expected
    subscriber.drop()
    assert_finished(db)


def test_columns_and_rows_follow_the_statement(db, walter):
    db.execute(TABLE + "create publication p for table t (id, n) where (id > 500 and n < 10)")
    subscriber = Subscriber(db, "p")
    walter.perform("alter table t rename n to amount; alter table t drop v")
    db.execute("insert into t values (600, 1), (601, 20), (400, 1)")
    assert subscriber.read() == [("I", "public.t", {"id": "600", "amount": "1"})]
    subscriber.drop()


def test_what_a_publication_forbids(db, walter):
    db.execute(TABLE + "create publication p for table t (id, n) where (n < 10)")
    for alter, words in [
            ("alter table t drop n", "cannot drop column n of table t"),
            ("alter table t alter n type bigint", "cannot alter type of a column used by a publication"
             " WHERE clause")]:
        result = walter.perform(alter, check=2)
        assert words in result.stderr, str(result)
        assert_untouched(db)
    walter.perform("alter table t drop n cascade")
    assert db.query("select * from pg_publication_rel") == []


def test_several_publications(db, walter):
    db.execute(TABLE + """
        create publication a for table t with (publish = 'insert');
        create publication "B b" for table other, t (id);
        create publication c for tables in schema public;
        create publication d for table other; comment on publication a is 'a'""")
    read = ("select pubname, tablename, attnames::text[], rowfilter from pg_publication_tables"
            " order by 1, 2")
    before = db.query(read)
    walter.perform("alter table t add constraint positive check (id > 0)")
    assert db.query(read) == before
    assert_finished(db)


def test_no_change_in_between_is_lost_under_load(db, walter):
    """A subscription of PostgreSQL's own, which nobody has to refresh."""
    db.execute(TABLE.replace(" text", " text default 'x'") + "create table twin (id int primary key,"
               " n int not null); insert into twin select id, n from t;"
               "create publication p for table t")
    subscriber = db.server.connect(db.name)
    name = f"{db.name}_sub"
    subscriber.execute(f"create database {name}")
    other = db.server.connect(name)
    try:
        other.execute("create table t (id int primary key, n bigint not null, v text, x int)")
        other.execute("insert into t select g, g, 'v' || g from generate_series(1, 100) g")
        db.execute(f"select pg_create_logical_replication_slot('{name}', 'pgoutput')")
        other.execute(f"create subscription {name} connection '{db.dsn}' publication p"
                      " with (create_slot = false, copy_data = false)")
        with TwinLoad(db, "t", "twin", {"n": "int not null"}, keys=(1, 100),
                      actions={"truncate": 0}) as load:
            load.wait_for(50)
            walter.perform("alter table t alter n type bigint")
            load.wait_for(50)
        assert load.errors == []
        expected = db.query("select id, n from t order by 1")
        wait_until(lambda: other.execute("select id, n from t order by 1").fetchall() == expected,
                   "the subscriber has all rows", 60)
        assert_same(db, "select id, n from t", "select id, n from twin", 20)
    finally:
        other.execute(f"alter subscription {name} disable")
        other.execute(f"drop subscription if exists {name}")
        other.close()
        subscriber.execute(f"drop database {name} with (force)")
        subscriber.close()
    assert_finished(db)


# -- for all tables -------------------------------------------------------------------------------

ALL = "create publication p for all tables"
CONSENT = "--allow-all-tables-publication"


def test_for_all_tables_needs_consent(db, walter):
    db.execute(TABLE + ALL)
    subscriber = Subscriber(db, "p")
    result = walter.perform(ALTER, check=2)
    assert "publication p is FOR ALL TABLES: its subscribers would be sent the rows of" \
        in result.stderr
    assert CONSENT in result.stderr
    assert_untouched(db)
    expected = write(db, 1000)
    with held_copy(walter, ALTER, CONSENT) as run:
        expected += write(db, 2000)
    run.finish()
    expected += write(db, 3000)
    # all that is the table's is there once; and what they agreed to be sent, which is more
    sent = keys(change for change in subscriber.read()
                if change[1] in ("public.t", "public.other"))
    assert sent == expected
    assert any(table.startswith("walter_") for _, table, _ in subscriber.changes)
    subscriber.drop()
    assert_finished(db)


def test_for_all_tables_without_a_key(db, walter):
    db.execute(TABLE + ALL)
    result = walter.perform("alter table t drop constraint t_pkey", CONSENT, check=2)
    assert 'publication "p" is FOR ALL TABLES and publishes updates' in result.stderr
    assert_untouched(db)


# -- whose it is ----------------------------------------------------------------------------------

def test_publication_of_the_owner(db, owner, walter):
    owner.execute(TABLE + "create publication p for table t (id, n) where (id > 5)")
    before = db.query("select * from pg_publication_tables")
    walter.as_user(owner).perform("alter table t add x int")
    assert db.query("select * from pg_publication_tables") == before
    assert_finished(db)


def test_publication_of_the_one_who_runs_it(db, owner, walter):
    """The table belongs to a role that has nothing to do with publications."""
    group = db.create_role("nologin")
    db.execute(f"grant {group.user} to {owner.user}; grant create on schema public to {group.user}")
    owner.execute(TABLE + f"create publication p for table t; alter table t owner to {group.user}")
    walter.as_user(owner).perform("alter table t add x int")
    assert db.query_one("select tablename from pg_publication_tables") == "t"
    assert_finished(db)


def test_publication_of_somebody_else(db, owner, walter):
    owner.execute(TABLE)
    db.execute("create publication p for table t")
    result = walter.as_user(owner).perform(ALTER, check=2)
    assert f"publication p, which publishes the table, belongs to {db.user}" in result.stderr
    assert f"GRANT {db.user} TO {owner.user}; or connect as a superuser" in result.stderr
    assert_untouched(db)


@pytest.mark.parametrize("change", ["alter publication p set table t (id)",
                                    "alter publication p rename to q", "drop publication p",
                                    "create publication q for table t where (id > 7)",
                                    "create publication q for tables in schema public"])
def test_membership_changed_meanwhile(db, walter, change):
    """What the swap would undo is followed."""
    read = ("select pubname, tablename, attnames::text[], rowfilter from pg_publication_tables"
            " where pubname !~ '^walter_' order by 1, 2")
    skip_unless_understood(db.server, change, read)
    db.execute(TABLE + "create publication p for table t")
    with held_build(walter, "alter table t add constraint positive check (id > 0)") as run:
        db.execute(change)
        expected = db.query(read)
    run.finish()
    assert db.query(read) == expected
    assert_finished(db)


# -- the other end --------------------------------------------------------------------------------

def test_table_that_a_subscription_writes(db, walter):
    db.execute(TABLE + "create subscription s connection 'dbname=nowhere' publication p"
               " with (connect = false)")
    db.execute("insert into pg_subscription_rel select oid, 't'::regclass, 'r', null"
               "  from pg_subscription where subname = 's'")
    result = walter.perform(ALTER, check=2)
    assert "the table is written by subscription s, which would go on writing the old one" \
        in result.stderr
    assert_untouched(db)
    db.execute("alter subscription s set (slot_name = none); drop subscription s")
