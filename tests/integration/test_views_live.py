"""Views, rules, policies and functions while they are used, and while the run is on."""
import re

import psycopg
import pytest

from support.hold import held_build, held_copy, held_cutover
from support.pgbench import PgBench
from support.smoke import smoke
from support.traces import assert_finished, assert_removed
from support.versions import skip_unless_understood

TABLE = ("create table t (id int primary key, n int, v text);"
         "insert into t select g, g, 'v' from generate_series(1, 500) g;")
ALTER = "alter table t alter v type varchar(50), add x int default 5"

# Readers through a view of a view, writers of the table, and both in one transaction, in each order.
READ = "select sum(n) from top where id between :id and :id + 20;"
WRITE = "update t set n = n + 1 where id = :id;"
SCRIPTS = {
    "apart": f"\\set id random(1, 500)\n{READ}\n{WRITE}\ninsert into written values (1);",
    "view first": f"\\set id random(1, 500)\nbegin;\n{READ}\n{WRITE}\ninsert into written values (1);"
                  "\ncommit;",
    "table first": f"\\set id random(1, 500)\nbegin;\n{WRITE}\n{READ}\ninsert into written values (1);"
                   "\ncommit;",
    "through the view": "\\set id random(1, 500)\nbegin;\nupdate v set n = n + 1 where id = :id;\n"
                        "insert into written values (1);\ncommit;",
}


def create_views(db):
    db.execute(TABLE + """
        create view v as select id, n from t; create view top as select * from v where n is not null;
        create view other as select count(*) from t join v using (id);
        create table written (n int);""")


@pytest.mark.parametrize("protocol", ["simple", "prepared"])
@pytest.mark.parametrize("order", smoke(SCRIPTS, "view first"))
def test_swaps_while_clients_read_through_views(db, walter, order, protocol):
    create_views(db)
    before = db.query_one("select sum(n) from t")
    with PgBench(db, clients=6, protocol=protocol, script=SCRIPTS[order], rate=300) as load:
        for alter in (ALTER, "alter table t drop x", "alter table t set (fillfactor = 70)"):
            result = walter.perform(alter, "--drop")
            assert re.search("cutover attempt [0-9]+: swapped", result.stderr)
    assert load.errors == [] and load.failed == 0
    written = db.query_one("select count(*) from written")
    assert written > 50
    assert db.query_one("select sum(n) from top") == before + written
    assert db.query_one("select sum(n) from t") == before + written
    assert_finished(db)


@pytest.mark.smoke
def test_view_gives_new_rows_at_once_in_every_session(db, walter):
    create_views(db)
    plain, cursor = db.connect(), db.connect()
    cursor.execute("prepare q as select count(*) from top")
    for _ in range(7):    # long enough to have a generic plan
        assert cursor.execute("execute q").fetchone() == (500,)
    assert plain.execute("select count(*) from top").fetchone() == (500,)
    walter.perform(ALTER, "--drop")
    db.execute("insert into t values (1000, 1, 'new', 7)")
    assert plain.execute("select count(*) from top").fetchone() == (501,)
    assert cursor.execute("execute q").fetchone() == (501,)


def test_old_table_can_be_dropped_and_nothing_reads_it(db, walter):
    create_views(db)
    walter.perform(ALTER, "--drop")
    assert db.query("select c.oid::regclass from pg_class c where c.relnamespace::regnamespace::text"
                    " ~ '^walter_'") == []


# -- rights ---------------------------------------------------------------------------------------

def test_owner_of_a_view_reads_with_his_own_rights_only(db, walter):
    other = db.create_role()
    db.execute(f"grant {other.user} to {db.user}")
    db.execute(TABLE + "create view v as select id from t; create view w as select n from t;"
               f"grant usage on schema public to {other.user};"
               f"alter view v owner to {other.user}; grant select (id) on t to {other.user};"
               f"alter view w owner to {other.user}")
    walter.perform(ALTER)
    assert other.query_one("select count(*) from v") == 500
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="table t"):
        other.query("select * from w")


def test_grants_allow_and_deny_as_before(db, walter):
    reader, stranger = db.create_role(), db.create_role()
    db.execute(TABLE + "create view v as select id, n from t;"
               f"grant usage on schema public to public; grant select (id) on v to {reader.user}")
    walter.perform(ALTER)
    assert reader.query_one("select count(id) from v") == 500
    for role, query in ((reader, "select n from v"), (stranger, "select id from v"),
                        (reader, "select id from t")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.query(query)


def test_policy_of_another_table_looks_at_the_new_rows(db, walter):
    reader = db.create_role()
    db.execute(TABLE + "create table other (id int); insert into other select generate_series(1, 9);"
               "alter table other enable row level security; create policy p on other using"
               " (exists (select from t where t.id = other.id and t.n > 5));"
               f"grant usage on schema public to public; grant select on t, other to {reader.user}")
    walter.perform(ALTER)
    assert reader.query_one("select count(*) from other") == 4
    db.execute("update t set n = 100")
    assert reader.query_one("select count(*) from other") == 9


# -- meanwhile ------------------------------------------------------------------------------------

SETUP = (TABLE + "create table other (id int); insert into other values (1), (2);"
         "create view v as select t.id from t join other using (id)")
# what somebody does, and a query that must give true after the swap, when t has one row more
MEANWHILE = [
    ("create view w as select n from t", "select count(*) = 501 from w"),
    ("create or replace view v as select 7 + t.id as id from t", "select max(id) = 1007 from v"),
    ("drop view v", "select to_regclass('v') is null"),
    ("alter view v set (security_barrier)",
     "select reloptions = '{security_barrier=true}' from pg_class where relname = 'v'"),
    ("alter view v rename to w", "select count(*) = 2 from w"),
    ("create function f() returns bigint begin atomic select count(*) from t; end",
     "select f() = 501"),
    ("create function f(r t) returns int language sql as 'select 1'",
     "select sum(f(t)) = 501 from t"),
    ("create materialized view m as select n from t", "select count(*) = 500 from m"),
    ("create policy p on other using (id in (select id from t))",
     "select count(*) = 1 from pg_depend where refobjid = 't'::regclass and classid = "
     "'pg_policy'::regclass"),
    ("create rule r as on insert to other do also delete from t",
     "select count(*) = 1 from pg_rewrite where ev_class = 'other'::regclass and"
     " pg_get_ruledef(oid) ~ 'FROM t;'"),
    ("alter table other rename id to di; create view w as select n from t",
     "select count(*) = 2 from v"),
]


@pytest.mark.parametrize("statement,query", MEANWHILE)
def test_dependents_changed_meanwhile_come_along(db, walter, statement, query):
    skip_unless_understood(db.server, statement)
    db.execute(SETUP)
    with held_build(walter, ALTER) as run:
        db.execute(statement)
    run.finish()
    db.execute("insert into t values (1000, 1, 'new', 7)")
    assert db.query_one(query) is True
    assert db.query("select oid::regclass from pg_class where relnamespace::regnamespace::text"
                    " ~ '^walter_' and relkind in ('v', 'm')") == []
    assert_finished(db)


def test_view_made_under_our_eyes_comes_along(db, walter):
    db.execute(SETUP)
    with held_cutover(walter, ALTER) as run:
        db.execute("create view w as select n from t")
    run.finish()
    db.execute("insert into t values (1000, 1, 'new', 7)")
    assert db.query_one("select count(*) from w") == 501
    assert_finished(db)


@pytest.mark.parametrize("hold", [held_copy, held_build])
def test_what_is_refused_stops_the_run_when_it_is_made_meanwhile(db, walter, hold):
    db.execute(SETUP)
    with hold(walter, "alter table t drop n, add x int") as run:
        db.execute("create view w as select n from t")
    result = run.finish(check=1)
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert "because other objects depend on it" in result.stderr
    assert_removed(db)


def test_what_does_not_matter_may_change_meanwhile(db, walter):
    db.execute(TABLE + "create view v as select id, n from t; create view w as select * from v")
    role = db.create_role()
    with held_build(walter, ALTER) as run:
        db.execute(f"grant select on v to {role.user}; comment on view v is 'new';"
                   "create view x as select * from w; alter view v alter n set default 7;"
                   "drop view w cascade")
    run.finish()
    assert db.query_one("select obj_description('v'::regclass)") == "new"
    assert db.query_one("select has_table_privilege(%s, 'v', 'select')", [role.user]) is True
    db.execute("insert into v (id) values (1000)")
    assert db.query_one("select n from t where id = 1000") == 7
    assert_finished(db)
