"""What walter refuses, it refuses before anything is made: exit code 2, the objection, its cure."""
import re
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from support.hold import held_copy
from support.proxy import Proxy
from support.server import TOP
from support.traces import assert_removed, assert_untouched, traces

PLAIN = "create table t (id int primary key, n int); insert into t values (1, 1)"
ALTER = "alter table t alter n type bigint"


def refused(walter, alter, objection, cure, *args, env=None):
    """Run it and demand a refusal; returns the result."""
    result = walter.perform(alter, *args, check=2, env=env)
    assert re.search(f"error: .*{objection}", result.stderr), f"no /{objection}/ in:\n{result}"
    assert re.search(f"^hint: .*{cure}", result.stderr, re.MULTILINE), f"no /{cure}/ in:\n{result}"
    return result


# -- the table ------------------------------------------------------------------------------------

# check: [(what to set up, the statement, the objection, its cure)]
TABLE_CASES = {
    "kind": [
        ("create view t as select 1 as id, 2 as n", "alter table t alter n set default 1",
         "public.t is a view", "Only ordinary and partitioned tables"),
        ("create materialized view t as select 1 as id, 2 as n",
         "alter table t alter n set statistics 10", "public.t is a materialized view",
         "Only ordinary and partitioned tables"),
        ("create sequence t", "alter table t owner to postgres", "public.t is a sequence",
         "Only ordinary and partitioned tables"),
        ("create foreign data wrapper f; create server s foreign data wrapper f;"
         "create foreign table t (id int, n int) server s", ALTER, "public.t is a foreign table",
         "Only ordinary and partitioned tables"),
    ],
    "persistence": [
        ("create unlogged table t (id int primary key, n int)", ALTER, "public.t is unlogged",
         "SET LOGGED first"),
    ],
    "system_catalog": [
        ("", "alter table pg_catalog.pg_class alter relname type text",
         "pg_class belongs to the system", "cannot be altered online"),
        ("create schema walter_0123abcd; create table walter_0123abcd.t (id int primary key);",
         "alter table walter_0123abcd.t add n int", "or to walter itself",
         "cannot be altered online"),
    ],
    "typed": [
        ("create type ty as (id int, n int); create table t of ty (primary key (id))",
         "alter table t alter n set default 1", r"public.t is a typed table \(OF public.ty\)", "NOT OF first"),
    ],
    "inheritance": [
        ("create table p (n int); create table t (id int primary key) inherits (p)", ALTER,
         "public.t inherits from public.p", "NO INHERIT first"),
        ("create table t (id int primary key, n int); create table c () inherits (t)", ALTER,
         "public.t is inherited by public.c", "NO INHERIT first"),
    ],
    "columns": [
        (f"create table t (id int primary key, {', '.join(f'c{n} int' for n in range(1598))})",
         "alter table t alter c1 type bigint", "public.t has 1599 columns", "plain ALTER TABLE"),
    ],
    "identity": [
        ("create table t (id int, n int)", ALTER, "public.t has no primary key", "Add a primary key"),
        ("create table t (id int primary key deferrable, n int)", ALTER,
         r"public.t has no primary key \(or a deferrable one\)", "Add a primary key"),
        ("create table t (id int not null, n int); create unique index t_id on t (id)", ALTER,
         "public.t has no primary key", "ALTER TABLE public.t REPLICA IDENTITY USING INDEX t_id;"),
        # none of these can be the replica identity
        ("create table t (id int, n int not null, unique (id)); create unique index on t (n)"
         " where n > 0; create unique index on t ((n + 1))", ALTER,
         "public.t has no primary key", "Add a primary key"),
        ("create table t (id int primary key, n int); alter table t replica identity nothing",
         ALTER, "REPLICA IDENTITY NOTHING", "USING INDEX t_pkey;"),
        ("create table t (id int, n int); alter table t replica identity full", ALTER,
         "public.t has no primary key", "Add a primary key"),
    ],
    "generated_key": [
        ("create table t (a int, id int generated always as (a + 1) stored primary key, n int)",
         ALTER, "key column id is a generated column", "another REPLICA IDENTITY"),
    ],
    "invalid_index": [
        (PLAIN + "; create index t_n on t (n);"
         "update pg_index set indisvalid = false where indexrelid = 't_n'::regclass", ALTER,
         "index public.t_n is invalid", "REINDEX INDEX CONCURRENTLY public.t_n;"),
    ],
    "publication": [
        (PLAIN + "; create publication p for all tables", ALTER, "publication p is FOR ALL TABLES",
         "--allow-all-tables-publication"),
    ],
    "subscription": [
        (PLAIN + "; insert into pg_subscription_rel values (4711, 't'::regclass, 'r', null)", ALTER,
         "the table is written by ", "Take the table out of the subscription"),
    ],
    "dependent_temporary": [
        (PLAIN + "; create temp view v as select * from t", ALTER,
         "temporary view .*v of a session depends on the table", "end the session that has it"),
    ],
    "matview": [
        (PLAIN + "; create materialized view a as select id from t;"
         "create materialized view b as select * from a; refresh materialized view a with no data",
         ALTER, "materialized view public.b reads public.a, which is not populated", "Drop it first"),
        (PLAIN + "; drop schema if exists s cascade; create schema s;"
         "create materialized view s.t as select id from public.t",
         "alter table public.t add x int",
         "materialized view s.t or an index of it has a name, t, that something else", "Drop it first"),
        (PLAIN + "; drop schema if exists s cascade; create schema s;"
         "create materialized view s.m as select id from t; create index t_pkey on s.m (id)", "alter table public.t add x int",
         "materialized view s.m or an index of it has a name, t_pkey, that", "Drop it first"),
        (PLAIN + "; create materialized view m as select id from t;"
         "create policy p on t using (id in (select id from m))", "alter table t add x int",
         "materialized view public.m is read by policy p of the table itself", "Drop it first"),
        (PLAIN + "; create materialized view m as select 't'::regclass as r, id from t",
         "alter table t add x int",
         "materialized view public.m contains the constant 'public.t'::regclass", "--matviews=after"),
        (PLAIN + "; create function f(r t) returns int language sql as 'select 1';"
         "create materialized view m as select f(t) as f from t", "alter table t add x int",
         r"materialized view public.m calls function public.f\(public.t\)", "--matviews=after"),
    ],
    "dependent_grantor": [
        (PLAIN + "; create materialized view m as select id from t; create role walter_grantor;"
         "grant usage on schema public to walter_grantor;"
         "grant select on m to walter_grantor with grant option;"
         "set role walter_grantor; grant select on m to public; reset role;"
         "revoke usage on schema public from walter_grantor", "alter table t add x int",
         "privileges on materialized view public.m were granted by walter_grantor",
         "GRANT USAGE ON SCHEMA public TO walter_grantor"),
        ("drop materialized view if exists m; drop role walter_grantor; create table t (id int)",
         ALTER, "t has no primary key", "Add a primary key"),
    ],
    "function": [
        (PLAIN + "; create function f(r t) returns int language sql immutable as 'select 1';"
         "alter table t add constraint c check (f(t) > 0)", ALTER,
         r"function public.f\(public.t\) depends on the table or its row type, and constraint c on"
         " table public.t depends on it", "Drop it first"),
        (PLAIN + "; create function f(r t) returns int language sql immutable as 'select 1';"
         "create table o (n int default f(null))", ALTER,
         r"function public.f\(public.t\) .* and default value for column n of table public.o depends"
         " on it", "Drop it first"),
        (PLAIN + "; create function f(n int, r t) returns int language sql as 'select 1';"
         "create aggregate a (t) (sfunc = f, stype = int)", ALTER,
         r"function public.a\(public.t\) .* is an aggregate", "Drop it first"),
    ],
    "row_type": [
        (PLAIN + "; create table o (r t)", ALTER, "column r of table public.o uses the row type",
         "another type first"),
        (PLAIN + "; create table o (r t[])", ALTER, "column r of table public.o uses the row type",
         "another type first"),
        (PLAIN + "; create view v as select t from t", ALTER,
         "column t of view public.v uses the row type", "another type first"),
        (PLAIN + "; create table o (r int); create view v as select row(1, 2)::t as r from o", ALTER,
         "column r of view public.v uses the row type", "another type first"),
        (PLAIN + "; create domain d as t", ALTER, "type public.d uses the row type",
         "another type first"),
    ],
    "other_dependent": [
        (PLAIN + "; create table o (r regclass default 't'::regclass)", ALTER,
         "default value for column r of table public.o depends on table public.t",
         "something else first"),
        (PLAIN + "; create table o (r int check (r > 't'::regclass::oid::int))", ALTER,
         "constraint o_r_check on table public.o depends on table public.t", "something else first"),
    ],
    "extension": [
        (PLAIN + "; alter extension plpgsql add table t; update pg_extension"
         " set extconfig = array['t'::regclass::oid], extcondition = array['']"
         " where extname = 'plpgsql'", ALTER,
         "table public.t belongs to extension plpgsql, which has it among its configuration tables",
         "Use plain ALTER TABLE"),
    ],
    "identity_sequence": [
        ("create table t (id int generated always as identity primary key, n int);"
         "create table o (id int default nextval('t_id_seq'))", ALTER,
         "default value for column id of table public.o uses public.t_id_seq, the sequence of an",
         "another sequence first"),
        ("create table t (id int generated always as identity primary key, n int,"
         " m int default currval('t_id_seq'))", ALTER,
         "default value for column m of table public.t uses public.t_id_seq",
         "another sequence first"),
        ("create table t (id int generated always as identity primary key, n int);"
         "create view v as select last_value from t_id_seq", ALTER,
         "rule _RETURN on view public.v uses public.t_id_seq", "another sequence first"),
    ],
    "trigger_from": [
        (PLAIN + "; create table o (id int) partition by range (id);"
         "create function f() returns trigger language plpgsql as 'begin return null; end';"
         "create constraint trigger g after insert on o from t"
         " deferrable for each row execute function f()", ALTER,
         "constraint trigger g on table public.o names the table in its FROM clause, and that is a"
         " partitioned table", "Drop it first"),
    ],
    "security_label": [
        (PLAIN + "; insert into pg_seclabel select reltype, 'pg_type'::regclass, 0, 'dummy', 'x'"
         " from pg_class where relname = 't'", ALTER,
         r"the row type public.t has a security label \(dummy\)", "plain ALTER TABLE"),
    ],
}


@pytest.mark.parametrize("check", TABLE_CASES)
def test_table(db, walter, check):
    if check == "subscription" and db.server.version < 140000:
        pytest.skip("13 cannot describe a subscription that is made up")
    for setup, alter, objection, cure in TABLE_CASES[check]:
        start_anew(db)
        if setup:
            db.execute(setup)
        before = traces(db)
        refused(walter, alter, objection, cure)
        assert traces(db) == before, setup


FOREIGN_DEPENDENTS = [
    ("create view v as select id from t", "view public.v"),
    ("create materialized view m as select id from t", "materialized view public.m"),
    ("create table o (id int); create rule r as on insert to o do also delete from t",
     "table public.o"),
    ("create table o (id int); create policy p on o using (id in (select id from t))",
     "table public.o"),
    ("create function f(r t) returns int language sql as 'select 1'",
     r"function public.f\(public.t\)"),
]


@pytest.mark.parametrize("setup,name", FOREIGN_DEPENDENTS)
def test_dependent_owner(db, owner, walter, setup, name):
    owner.execute(PLAIN)
    db.execute(setup)
    refused(walter.as_user(owner), "alter table t add x int",
            f"{name} depends on the table and belongs to postgres", "GRANT postgres TO")
    assert_untouched(db)


def test_lock_on_a_table_that_a_view_reads(db, walter):
    db.execute(PLAIN + "; create table other (id int);"
               "create view v as select t.id from t join other using (id)")
    holder = db.connect(autocommit=False)
    holder.execute("lock table other in access exclusive mode")
    refused(walter, "alter table t add x int",
            f"pid {holder.info.backend_pid}, user {db.user}, keeps a lock on public.other that forbids"
            " even reading the definition of public.t", "Try again when")
    holder.close()
    assert_untouched(db)


def test_dependent_owner_schema(db, owner, walter):
    other = db.create_role()
    owner.execute(PLAIN + "; create function f(r t) returns int language sql as 'select 1'")
    # before 15 everybody may create there
    db.execute("revoke create on schema public from public")
    db.execute(f"grant create on schema public to {owner.user}")
    db.execute(f"grant {other.user} to {owner.user}; alter function f(t) owner to {other.user}")
    refused(walter.as_user(owner), "alter table t add x int",
            r"function public.f\(public.t\) is made anew, and its owner .* may not create in schema",
            "GRANT CREATE ON SCHEMA public")
    assert_untouched(db)


def test_dependent_schema(db, owner, walter):
    owner.execute(PLAIN)
    db.execute(f"create schema s; create view s.v as select id from t;"
               f"alter view s.v owner to {owner.user}; grant usage on schema s to {owner.user}")
    refused(walter.as_user(owner), "alter table t add x int",
            "may not create in schema s, where view s.v depends", "GRANT USAGE, CREATE ON SCHEMA s")
    assert_untouched(db)


def start_anew(db):
    db.execute("update pg_extension set extconfig = null, extcondition = null;"
               "delete from pg_depend where deptype = 'e' and classid = 'pg_class'::regclass")
    for (publication,) in db.query("select pubname from pg_publication"):
        db.execute(f"drop publication {publication}")
    db.execute("drop schema public cascade; create schema public")


def test_temporary_table(db, walter):
    with db.connect() as conn:
        conn.execute("create temporary table t (id int primary key, n int)")
        (schema,) = conn.execute("select nspname from pg_namespace"
                                 " where oid = pg_my_temp_schema()").fetchone()
        refused(walter, f"alter table {schema}.t alter n type bigint", "is temporary",
                "plain ALTER TABLE")
    assert_untouched(db)


def test_no_such_table(db, walter):
    refused(walter, "alter table nix add x int", "table \"nix\" does not exist",
            "looked for in schema .public.")
    db.execute("create schema \"Other\"; create table \"Other\".\"T\" (id int primary key)")
    refused(walter, "alter table \"T\" add x int", "table \"T\" does not exist", "search_path")
    assert_untouched(db)


@pytest.mark.parametrize("using", ["tableoid::regclass::text", "t.ctid::text", "xmin::text"])
def test_system_columns(db, walter, using):
    """Changed rows have none."""
    db.execute(PLAIN)
    refused(walter, f"alter table t alter n type text using {using}",
            "system columns cannot be used in USING", "plain ALTER TABLE")
    assert_untouched(db)


def test_given_schema_is_the_only_one(db, walter):
    """A misspelt --schema must not end up with the table that the search_path finds."""
    db.execute(PLAIN + "; create schema sales; create schema empty; "
               "create table sales.t (id int primary key, n int)")
    result = walter.perform("alter table t add x int", "-s", "saels", check=2)
    assert [line for line in result.stderr.splitlines() if "pg_read_all_stats" not in line] == [
        result.stderr.splitlines()[-1]]
    assert 'schema "saels", which --schema names, does not exist' in result.stderr
    result = walter.perform("alter table t add x int", "--schema=empty", check=2)
    assert 'table "empty"."t" does not exist' in result.stderr
    assert 'looked for in schema "empty" only' in result.stderr
    assert_untouched(db)
    walter.perform("alter table t add x int", "-s", "sales")
    assert db.query("select attrelid::regclass::text from pg_attribute where attname = 'x'"
                    " and attrelid in ('public.t'::regclass, 'sales.t'::regclass)") == [
                        ("sales.t",)]


def test_set_unlogged(db, walter):
    db.execute(PLAIN)
    refused(walter, "alter table t set unlogged", "SET UNLOGGED cannot be done online",
            "plain ALTER TABLE")
    assert_untouched(db)


def test_every_objection_is_shown_at_once(db, walter):
    db.execute(PLAIN + "; create view v as select t from t; create table o (r t);"
               "create publication p for all tables")
    result = refused(walter, ALTER, "column t of view public.v uses", "Change it to another type")
    assert re.search("error: publication p", result.stderr)
    assert re.search("error: column r of table public.o uses the row type", result.stderr)
    assert result.stderr.count("error: ") == 3
    assert result.stderr.count("hint: ") == 3
    assert_untouched(db)


# A table that is published without a replica identity refuses the application's writes.
WITHOUT_IDENTITY = {
    "no key": "create table t (id int, n int)",
    "deferrable key": "create table t (id int primary key deferrable, n int)",
    "unique but nullable": "create table t (id int unique, n int)",
    "partial unique index": "create table t (id int not null, n int);"
                            "create unique index on t (id) where n > 0",
    "identity nothing": "create table t (id int primary key, n int);"
                        "alter table t replica identity nothing",
    "identity index gone": "create table t (id int not null, n int);"
                           "create unique index i on t (id);"
                           "alter table t replica identity using index i; drop index i",
}


LOG_DDL = """
    create schema logged;
    create table logged.ddl (tag text);
    create function logged.note() returns event_trigger language plpgsql as $$ begin
        if current_setting('application_name') like 'walter:%' then
            insert into logged.ddl values (tg_tag);
        end if;
    end $$;
    create event trigger note on ddl_command_start execute function logged.note();
"""


@pytest.mark.superuser("event triggers belong to superusers")
@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
def test_never_published_without_identity(db, walter, plugin):
    db.execute(LOG_DDL)
    for shape, setup in WITHOUT_IDENTITY.items():
        start_anew(db)
        db.execute(setup + "; insert into t values (1, 1), (2, 2)")
        walter.perform("alter table t alter n type bigint", f"--plugin={plugin}", check=2)
        assert_untouched(db)
        assert db.execute("update t set n = n + 1") == 2, shape
        assert db.execute("delete from t where id = 2") == 1, shape
    assert db.query("select tag from logged.ddl") == []
    db.execute("create table good (id int primary key)")
    walter.perform("alter table good add x int", f"--plugin={plugin}")
    made = [tag for (tag,) in db.query("select tag from logged.ddl")]
    assert "CREATE PUBLICATION" in made, "the log does not work"


def test_identity_lost_after_the_checks(db, walter):
    """The key goes while the publication waits for its lock; it is not made then."""
    db.execute(PLAIN)
    writer = db.connect(autocommit=False)
    run = None
    try:
        # CREATE PUBLICATION and DROP CONSTRAINT queue behind this one, in this order or the other
        writer.execute("lock table t in share update exclusive mode")
        run = walter.start_perform(ALTER)
        run.wait_for_log("waiting for VACUUM or DDL on public.t to end")
        writer.execute("alter table t drop constraint t_pkey")
        writer.commit()
    finally:
        writer.close()
    result = run.finish(check=1)
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert db.execute("update t set n = n + 1") == 1
    assert_removed(db)


# -- the role -------------------------------------------------------------------------------------

def test_replication_role(db, walter):
    role = db.create_role("login")
    db.execute(f"{PLAIN}; alter table t owner to {role.user};"
               f"grant create on schema public to {role.user};"
               f"grant create on database {db.name} to {role.user}")
    refused(walter.as_user(role), ALTER, f"role {role.user} may not replicate",
            f"ALTER ROLE {role.user} REPLICATION;")
    assert_untouched(db)


def test_create_on_database(db, walter):
    role = db.create_role("login replication")
    db.execute(f"{PLAIN}; alter table t owner to {role.user};"
               f"grant create on schema public to {role.user}")
    refused(walter.as_user(role), ALTER, f"role {role.user} may not create schemas",
            f"GRANT CREATE ON DATABASE {db.name} TO {role.user};")
    assert_untouched(db)


def test_ownership(db, walter, owner):
    db.execute(PLAIN)
    refused(walter.as_user(owner), ALTER, f"role {owner.user} does not own public.t",
            f"Connect as postgres, or GRANT postgres TO {owner.user};")
    assert_untouched(db)


def test_row_security(db, walter, owner):
    owner.execute(PLAIN + "; alter table t enable row level security, force row level security")
    refused(walter.as_user(owner), ALTER, "row level security is forced on public.t",
            f"ALTER ROLE {owner.user} BYPASSRLS;")
    assert_untouched(db)


def test_create_on_schema(db, walter, owner):
    db.execute(f"create schema s; create table s.t (id int primary key, n int);"
               f"alter table s.t owner to {owner.user}; grant usage on schema s to {owner.user}")
    refused(walter.as_user(owner), "alter table s.t alter n type bigint",
            f"role {owner.user} may not create tables in schema s",
            f"GRANT CREATE ON SCHEMA s TO {owner.user};")
    assert_untouched(db)


def test_temporary_tables(db, walter, owner):
    owner.execute(PLAIN)
    db.execute(f"revoke temporary on database {db.name} from public")
    refused(walter.as_user(owner), ALTER, f"role {owner.user} may not create temporary tables",
            f"GRANT TEMPORARY ON DATABASE {db.name} TO {owner.user};")
    assert_untouched(db)


@pytest.fixture(name="space")
def new_tablespace(server, db, owner):
    """A tablespace in which the owner may not create."""
    if server.version < 150000:
        pytest.skip("needs PostgreSQL 15, to have a tablespace without a directory of its own")
    db.execute("set allow_in_place_tablespaces to on")
    db.execute("create tablespace preflight_space location ''")
    yield "preflight_space"
    db.execute(f"drop owned by {owner.user}")
    db.execute("drop tablespace preflight_space")


ADD = "alter table t add x int"
WITH_MATVIEW = PLAIN + """; create index t_n on t (n); create materialized view m as select id from t;
    create unique index m_id on m (id)"""


@pytest.mark.parametrize("name", ["table t", "index t_n", "materialized view m", "index m_id"])
def test_tablespace(db, walter, owner, space, name):
    owner.execute(WITH_MATVIEW)
    db.execute(f"alter {name} set tablespace {space}")
    runner = walter.as_user(owner)
    objection = f"role {owner.user} may not create in tablespace {space}, where public.{name.split()[-1]} is"
    right = f"CREATE ON TABLESPACE {space} TO {owner.user};"
    refused(runner, ADD, objection, f"GRANT {right}")
    assert_untouched(db)
    db.execute(f"grant {right}")
    runner.perform(ADD)
    db.execute(f"revoke {right.replace(' TO ', ' FROM ')}")
    if name == "index t_n":     # even for a superuser it is built with the owner's rights
        refused(walter, ALTER, objection, f"GRANT {right}")
    else:
        walter.perform(ALTER)
    assert db.query("select relname from pg_class where reltablespace = (select oid from"
                    " pg_tablespace where spcname = %s) and relnamespace = 'public'::regnamespace",
                    [space]) == [(name.split()[-1],)]


def test_tablespace_of_many(db, walter, owner, space):
    """It is named once, whatever lies there."""
    owner.execute("create table t (id int primary key, n int) partition by range (id);"
                  "create index on t (n); create table a partition of t for values from (1) to (9);"
                  "create table b partition of t for values from (9) to (99);"
                  "insert into t select g, g from generate_series(1, 90) g")
    for name in ("table t", "table a", "table b", "index t_n_idx", "index b_pkey"):
        db.execute(f"alter {name} set tablespace {space}")
    result = refused(walter.as_user(owner), ADD, f"in tablespace {space}, where public.t and 4 more of"
                     " what is made anew are", f"GRANT CREATE ON TABLESPACE {space} TO {owner.user};")
    assert result.stderr.count("error: ") == 1
    assert_untouched(db)
    db.execute(f"grant create on tablespace {space} to {owner.user}")
    walter.as_user(owner).perform(ADD)


@pytest.mark.parametrize("state", ["disable trigger all", "enable always trigger {}"])
def test_trigger_state(db, walter, owner, state):
    owner.execute("create table p (id int primary key);"
                  "create table t (id int primary key, n int references p)")
    name = db.query_one("select min(quote_ident(tgname)) from pg_trigger where tgrelid = 't'::regclass")
    runner = walter.as_user(owner)
    db.execute(f"alter table t {state.format(name)}")
    refused(runner, ALTER, "triggers behind constraint t_n_fkey of public.t are not enabled as usual,"
            " which only a superuser can repeat", "Connect as a superuser")
    assert_untouched(db)
    db.execute("alter table t enable trigger all")
    runner.perform(ALTER)
    name = db.query_one("select min(quote_ident(tgname)) from pg_trigger where tgrelid = 't'::regclass")
    db.execute(f"alter table t {state.format(name)}")
    states = "select tgfoid::regproc, tgenabled from pg_trigger where tgrelid = 't'::regclass order by 1"
    before = db.query(states)
    walter.perform(ADD)
    assert db.query(states) == before


def test_publication_owner(db, walter, owner):
    owner.execute(PLAIN)
    db.execute("create publication p for table t")
    refused(walter.as_user(owner), ALTER, "publication p, which publishes the table, belongs to",
            f"GRANT {db.user} TO {owner.user}; or connect as a superuser")
    assert_untouched(db)


def test_statistics_owner(db, walter, owner):
    db.execute(f"{PLAIN}; create statistics st on id, n from t; alter table t owner to {owner.user}")
    refused(walter.as_user(owner), ALTER,
            f"statistics object public.st belongs to postgres, not to the table's owner {owner.user}",
            f"ALTER STATISTICS public.st OWNER TO {owner.user}; or connect as a superuser")
    assert_untouched(db)


def test_statistics_schema(db, walter, owner):
    owner.execute(PLAIN)
    db.execute("create schema s; create statistics s.st on id, n from t;"
               f"alter schema s owner to {owner.user}; alter statistics s.st owner to {owner.user};"
               "alter schema s owner to postgres")
    refused(walter.as_user(owner), ALTER,
            rf"role {owner.user} may not create statistics objects in schema s \(st\)",
            f"GRANT USAGE, CREATE ON SCHEMA s TO {owner.user};")
    assert_untouched(db)


def test_partitioned_reference(db, walter, owner):
    owner.execute(PLAIN + "; create table c (k int, t_id int references t) partition by range (k);"
                  "create table c1 partition of c default")
    db.execute("alter table c1 owner to postgres")
    refused(walter.as_user(owner), ALTER, "foreign key c_t_id_fkey belongs to partition public.c1",
            f"GRANT postgres TO {owner.user};")
    assert_untouched(db)


def test_referencing_owner(db, walter, owner):
    owner.execute(PLAIN)
    db.execute(f"grant references on t to postgres; create table c (id int references t)")
    refused(walter.as_user(owner), ALTER, "foreign key c_id_fkey belongs to table public.c",
            f"GRANT postgres TO {owner.user};")
    assert_untouched(db)


def test_referenced_privilege(db, walter, owner):
    db.execute(f"create table p (id int primary key); grant references on p to {owner.user}")
    owner.execute(PLAIN + "; alter table t add foreign key (n) references p not valid")
    db.execute(f"revoke references on p from {owner.user}")
    refused(walter.as_user(owner), ALTER, f"role {owner.user} may not reference table public.p",
            f"GRANT REFERENCES ON TABLE public.p TO {owner.user};")
    assert_untouched(db)


def test_grantor(db, walter, owner):
    other = db.create_role("login")
    owner.execute(f"{PLAIN}; grant select on t to {other.user} with grant option")
    other.execute("grant select on t to public")
    refused(walter.as_user(owner), ALTER, f"privileges were granted by {other.user}",
            f"GRANT {other.user} TO {owner.user};")
    assert_untouched(db)
    db.execute(f"grant {other.user} to {owner.user}")
    walter.as_user(owner).perform(ALTER)


def test_grantor_of_a_column(db, walter, owner):
    other = db.create_role("login")
    owner.execute(f"{PLAIN}; grant select (n) on t to {other.user} with grant option")
    other.execute("grant select (n) on t to public")
    refused(walter.as_user(owner), ALTER, f"privileges were granted by {other.user}",
            f"GRANT {other.user} TO {owner.user};")
    assert_untouched(db)


def test_state_schema(db, walter, owner):
    """The first run's role owns schema walter; the next role is told what it lacks."""
    other = db.create_owner()
    owner.execute("create table first (id int primary key)")
    walter.as_user(owner).perform("alter table first add x int")
    other.execute(PLAIN)
    result = refused(
        walter.as_user(other), ALTER,
        f"schema walter, .* belongs to {owner.user}, and role {other.user} may not use it",
        f"GRANT USAGE, CREATE ON SCHEMA walter TO {other.user}; GRANT SELECT, INSERT, UPDATE, "
        f"DELETE ON walter.run TO {other.user};")
    cure = re.search(f"hint: As {owner.user}: (.*)", result.stderr).group(1)
    assert other.query_one("select pg_get_userbyid(relowner) from pg_class"
                           " where oid = 't'::regclass") == other.user
    owner.execute(cure)
    walter.as_user(other).perform(ALTER)


def test_wrong_password_and_unknown_database(walter, db):
    result = walter.run("perform", "-a", ALTER, "-d", "no_such_database", check=2)
    assert 'database "no_such_database" does not exist' in result.stderr
    result = walter.run("perform", "-a", ALTER, "-h", "127.0.0.1", "-p", "1", check=6)
    assert "could not connect" in result.stderr


@pytest.mark.parametrize("command", [("perform", "-a", ALTER), ("cleanup",)],
                         ids=["perform", "cleanup"])
@pytest.mark.parametrize("dbname, complaint", [
    ("foo=bar", 'connection string: invalid connection option "foo"'),
    ("postgresql://h:1:2/x", "the port is no number"),
    ("postgresql://me:secret@[h/x", "could not read the connection string"),
])
def test_wrong_connection_string(walter, dbname, complaint, command):
    """A mistake on the command line, which no other try will mend."""
    result = walter.run(*command, "-d", dbname, check=1)
    assert complaint in result.stderr
    assert "secret" not in result.stderr


def test_no_password(walter):
    """As with a wrong one, trying again is of no use."""
    def ask_for_password(listener):
        client = listener.accept()[0]
        with client:
            client.recv(4096)
            client.sendall(b"R" + struct.pack("!ii", 8, 3))
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=ask_for_password, args=(listener,), daemon=True)
        thread.start()
        result = walter.run(
            "perform", "-a", ALTER, "-h", "127.0.0.1", "-p", str(listener.getsockname()[1]),
            env={"PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGPASSFILE": "/dev/null"},
            check=2)
        thread.join(10)
    assert "no password supplied" in result.stderr


# -- other runs -----------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", ["", " partition by range (id)"])
@pytest.mark.parametrize("kind", ["stored", "virtual"])
def test_generated_identity(db, walter, kind, shape):
    """From 18 on our publication would make the application's own UPDATE fail."""
    if db.server.version < 180000:
        pytest.skip("needs PostgreSQL 18")
    db.execute(f"create table t (id int primary key, n int, g int generated always as (n + 1) {kind})"
               + shape)
    leaf = "t"
    if shape:
        db.execute("create table leaf partition of t default")
        leaf = "leaf"
    db.execute(f"alter table {leaf} replica identity full; insert into t values (1, 1)")
    refused(walter, "alter table t add x int", f"public.{leaf} has REPLICA IDENTITY FULL and"
            " generated columns", f"ALTER TABLE public.{leaf} REPLICA IDENTITY DEFAULT;")
    assert_untouched(db)
    db.execute(f"update t set n = 2; alter table {leaf} replica identity default")
    with held_copy(walter, "alter table t add x int") as run:
        db.execute("update t set n = 3")
    run.finish()
    assert db.query("select n, g from t") == [(3, 4)]


def test_period_key(db, walter):
    if db.server.version < 180000:
        pytest.skip("needs PostgreSQL 18")
    db.execute("""create extension btree_gist;
        create table r (id int, p daterange, n int, constraint once primary key (id, p without overlaps));
        create table t (id int primary key, n int, rid int, p daterange,
          constraint k foreign key (rid, period p) references r (id, period p))""")
    for table in ("t", "r"):
        refused(walter, f"alter table {table} alter n type bigint",
                "foreign key k of public.t is over a period", "Drop it first")
    assert_untouched(db)


def test_other_run(db, walter):
    db.execute(PLAIN)
    reader = db.connect(autocommit=False)
    reader.execute("lock table t in access share mode")
    run = walter.start_perform(ALTER)
    try:
        run.wait_for_log("in the way of the lock")
        refused(walter, "alter table t add x int", "another walter is at work on this table",
                "Wait for it to finish")
    finally:
        reader.close()
    run.finish()
    assert db.query_one("select count(*) from walter.run") == 1


def test_leftovers(db, walter):
    db.execute(PLAIN)
    reader = db.connect(autocommit=False)
    reader.execute("lock table t in access share mode")
    run = walter.start_perform(ALTER)
    run.wait_for_log("in the way of the lock")
    run.kill()
    reader.close()
    refused(walter, "alter table t alter n type numeric",
            r"an earlier run on public.t, begun .*, was interrupted, and the statement is not the same",
            "--restart")
    assert db.query_one("select count(*) from walter.run") == 1
    walter.run("cleanup", "--yes")
    assert_removed(db)


# -- the server -----------------------------------------------------------------------------------

def test_encoding_for_wal2json(server, new_db, walter):
    latin = new_db(server, options="encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'")
    latin.execute(PLAIN)
    walter.db = latin
    refused(walter, ALTER, "wal2json needs a UTF8 database, this one is LATIN1",
            "--plugin=pgoutput", "--plugin=wal2json")
    assert_untouched(latin)


def test_wal2json_that_loses_values(db, walter):
    """Version 2.5 writes null for NaN; one that knows the option for it is taken."""
    db.execute("create table t (id int primary key, x numeric)")
    result = walter.perform("alter table t alter x type text", "--plugin=wal2json", check=False)
    if result.code == 0:
        pytest.skip("this wal2json can be trusted with numbers")
    assert result.code == 2, str(result)
    assert re.search("hint: .*--plugin=pgoutput, or wal2json 2.6", result.stderr)
    assert_removed(db)


def test_pooler(db, walter):
    db.execute(PLAIN)
    with Proxy(db.server, backend_pid=4711) as proxy:
        refused(walter, ALTER, "goes through a connection pooler",
                "Connect to the server directly", env=proxy.env)
    assert_untouched(db)


def test_wal_level_and_standby(new_server, new_db, walter):
    own = new_server(settings={"wal_level": "replica"}, fast=True)
    walter.db = new_db(own)
    walter.db.execute(PLAIN)
    refused(walter, ALTER, "wal_level is 'replica'", "Set wal_level = logical")
    assert_untouched(walter.db)
    own.halt()
    signal = Path(own.description["data"]) / "standby.signal"
    subprocess.run(["touch", str(signal)], check=True)
    own.resume({"wal_level": "logical"})
    refused(walter, ALTER, "the server is a standby", "Connect to the primary")
    own.halt()
    subprocess.run(["rm", str(signal)], check=True)
    own.resume()
    assert_untouched(walter.db)


def test_server_without_room(new_server, new_db, walter):
    own = new_server(settings={"max_replication_slots": 1, "max_wal_senders": 1,
                               "max_connections": 10, "autovacuum_max_workers": 1,
                               "synchronous_standby_names": "*",
                               # else every commit waits for a standby that does not exist
                               "synchronous_commit": "local"}, fast=True)
    walter.db = new_db(own)
    walter.db.execute(PLAIN + "; select pg_create_physical_replication_slot('somebody')")
    with own.connect(walter.db.name, replication="database"):
        result = walter.perform(ALTER, check=2)
    for objection, cure in [("all 1 replication slots are in use", "Raise max_replication_slots"),
                            ("all 1 WAL senders are in use", "Raise max_wal_senders"),
                            ("the run needs 8 connections, and only [0-9] of 10 are free",
                             "Use fewer --jobs"),
                            (r"synchronous_standby_names contains '\*'", "Name the standbys")]:
        assert re.search(f"error: .*{objection}.*\nhint: .*{cure}", result.stderr), (
            f"no /{objection}/ in:\n{result}")
    assert_untouched(walter.db)


def test_plugin_that_the_server_does_not_allow(server, new_server, new_db, walter):
    """That can only be tried, so by then the run has begun: it is taken back."""
    with server.connect() as conn:
        setting, = conn.execute("select current_setting('output_plugin_libraries', true)").fetchone()
    if setting is None:
        pytest.skip("this server allows every plugin")
    own = new_server(settings={"output_plugin_libraries": "pgoutput"}, fast=True)
    walter.db = new_db(own)
    walter.db.execute(PLAIN)
    refused(walter, ALTER, "creating the replication slot",
            "--plugin=pgoutput, or have a superuser list the plugin", "--plugin=wal2json")
    assert_removed(walter.db)
    walter.perform(ALTER)


def test_version(db, walter):
    """There is no such old server to be had, so this one is made to lie."""
    db.execute(PLAIN)
    db.execute("create or replace function pg_catalog.current_setting(text) returns text"
               " language sql stable as $$ select case $1 when 'server_version_num' then '120022'"
               " when 'server_version' then '12.22' else current_setting($1, false) end $$")
    refused(walter, ALTER, "the server is version 12.22", "PostgreSQL 13 or later is needed")
    assert_untouched(db)


# -- completeness ---------------------------------------------------------------------------------

def test_every_check_is_provoked():
    """Each name in checks.c has a case above or a test named after it."""
    source = (TOP / "src" / "phase" / "checks.c").read_text(encoding="utf-8")
    names = set(re.findall(r'^    \{"(\w+)",', source, re.MULTILINE))
    tested = set(TABLE_CASES) | {name.removeprefix("test_") for name in globals()
                                 if name.startswith("test_")}
    elsewhere = {"wal_level": "wal_level_and_standby", "standby": "wal_level_and_standby",
                 "replication_slots": "server_without_room", "wal_senders": "server_without_room",
                 "connections": "server_without_room",
                 "synchronous_standby": "server_without_room",
                 "wal2json_encoding": "encoding_for_wal2json"}
    assert names - tested - set(elsewhere) == set()
    assert set(elsewhere.values()) <= tested
    assert set(TABLE_CASES) | set(elsewhere) <= names, "a case for a check that is no more"
