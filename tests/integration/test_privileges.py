"""Whose rights a run needs, and whose rights the owner's code gets."""
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from support.dump import diff, fingerprint
from support.hold import held_copy
from support.load import TwinLoad, assert_same
from support.traces import assert_finished
from support.walter import binary

# Everything about a table that the swap has to carry over.
RICH = """
    create table parent (id int primary key);
    insert into parent select generate_series(1, 20);
    create table {t} (
        id serial primary key,
        n int not null default 7 check (n > -1000000000),
        parent_id int references parent,
        tag text unique deferrable,
        twice int generated always as (parent_id * 2) stored,
        ident bigint generated always as identity);
    create index {t}_n on {t} (n desc) where n > 5;
    create table child (id int primary key, t_id int references {t});
    create function touch() returns trigger language plpgsql as
        'begin new.tag := coalesce(new.tag, md5(random()::text)); return new; end';
    create trigger touch before insert on {t} for each row execute function touch();
    comment on table {t} is 'a table';
    insert into {t} (n, parent_id) select i, i % 20 + 1 from generate_series(1, 1000) i;
    insert into child select i, i from generate_series(1, 10) i;
"""
ALTER = "alter table t alter n type bigint, add column x int default 5"
WRITTEN = {"n": "int not null"}


def create_rich(db):
    db.execute(RICH.format(t="t") + "create table twin as select id, n from t;"
               "alter table twin add primary key (id)")


def run_under_load(db, walter):
    """The whole job, with clients beside it; returns walter's result."""
    with TwinLoad(db, "t", "twin", WRITTEN, keys=(11, 1000), actions={"range": 0}) as load:
        load.wait_for(20)
        result = walter.perform(ALTER)
        load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select id, n from t", "select id, n from twin")
    assert_finished(db)
    return result


def assert_kept(db, before):
    """What the ALTER did not change is as it was."""
    after = fingerprint(db, "t", positions=False)
    for part in ("constraints", "foreign keys here", "indexes", "triggers", "sequences", "table"):
        assert diff({part: before[part]}, {part: after[part]}) == []


# -- who can run it -------------------------------------------------------------------------------

@pytest.mark.smoke
def test_owner_with_nothing_else(owner, walter):
    """LOGIN, REPLICATION, CREATE on database and schema, and the table is its own."""
    create_rich(owner)
    before = fingerprint(owner, "t", positions=False)
    run_under_load(owner, walter.as_user(owner))
    assert_kept(owner, before)


@pytest.mark.smoke
def test_owner_with_wal2json(owner, walter):
    owner.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    walter.as_user(owner).perform("alter table t alter n type bigint", "--plugin=wal2json")
    assert_finished(owner)


def test_member_of_the_owner(db, owner, walter):
    """The table belongs to a role that cannot log in; what is new belongs to it again."""
    group = db.create_role("nologin")
    db.execute(f"grant {group.user} to {owner.user}; grant create on schema public to {group.user}")
    owner.execute(f"set role {group.user}")
    create_rich(owner)
    owner.execute("reset role")
    before = fingerprint(db, "t", positions=False)
    run_under_load(owner, walter.as_user(owner))
    assert_kept(db, before)
    assert db.query("select distinct pg_get_userbyid(relowner) from pg_class"
                    " where relname in ('t', 't_pkey', 't_n', 't_id_seq', 't_ident_seq')"
                    "   and relnamespace = 'public'::regnamespace") == [(group.user,)]


def test_parent_of_somebody_else(db, owner, walter):
    """REFERENCES on it is enough, as it is for the foreign key itself."""
    db.execute(f"create table parent (id int primary key); insert into parent values (1);"
               f"grant references on parent to {owner.user}")
    owner.execute("create table t (id int primary key, n int, p int references parent);"
                  "insert into t values (1, 1, 1)")
    walter.as_user(owner).perform(ALTER)
    assert_finished(db)
    assert db.query_one("select count(*) from pg_constraint where contype = 'f' and convalidated"
                        " and conrelid = 't'::regclass") == 1


def test_superuser_on_somebody_elses_table(db, owner, walter):
    create_rich(owner)
    before = fingerprint(owner, "t", positions=False)
    run_under_load(db, walter)
    assert_kept(db, before)


# What scripts/test --as-owner runs as a whole.
SLICE = [
    "test_views.py::test_comes_out_as_plain_alter_table_gives_it[views: views on views]",
    "test_carried.py::test_carried_over[depends on extension: populated afterwards]",
    "test_log.py::test_somebody_reads_again",
    "test_apply_jobs.py::test_each_session_notes_where_it_is",
    "test_instant.py::test_not_said_of_a_copy_statement",
]


@pytest.mark.limit(900)
def test_some_of_everything(server):
    """As a role that has nothing else, see README.md of the tests."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", *SLICE],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        env={**os.environ, "WALTER_TEST_ROLE": "owner", "WALTER_TEST_PORT": str(server.port),
             "WALTER_TEST_HOST": server.host, "WALTER_TEST_USER": server.user,
             "WALTER_TEST_BINDIR": server.description.get("bindir", ""),
             "WALTER_TEST_ROOT": server.description.get("root", ""),
             "WALTER_BIN": str(binary().resolve()), "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout
    if server.version >= 150000:
        assert "skipped" not in done.stdout


# -- whose rights the owner's code gets -----------------------------------------------------------

# Code of the owner's in every place where a run could meet it.  Each call is counted (sequences
# count even where a function must not write), and fails where it has a superuser's rights.
PLACES = ["domain", "check", "generated", "index", "predicate", "default", "new_check", "using",
          "trigger"]
SPY = "".join(f"create sequence calls_{place};" for place in PLACES) + """
    create function spy(what text, value int) returns int language plpgsql immutable as $$ begin
        if current_setting('application_name') like 'walter:%' then
            perform nextval('public.calls_' || what);
            if (select rolsuper from pg_roles where rolname = current_user) then
                raise exception '% runs as %', what, current_user;
            end if;
        end if;
        return value;
    end $$;
"""
SPIED = """
    create domain watched as int check (public.spy('domain', value) is not null);
    create table t (
        id int primary key,
        n int check (spy('check', n) is not null),
        d watched,
        v int default spy('default', 1),
        g int generated always as (spy('generated', n)) stored,
        w int);
    create index t_spy on t (spy('index', n)) where spy('predicate', n) > 0;
    create function spy_trigger() returns trigger language plpgsql as
        $$ begin perform public.spy('trigger', 1); return new; end $$;
    create trigger spies after insert or update or delete on t for each row
        execute function spy_trigger();
    insert into t (id, n, d, w) select i, i, i, i from generate_series(1, 50) i;
"""
SPIED_ALTER = ("alter table t alter w type bigint using spy('using', w),"
               " add column x int default 5,"
               " alter column v set default spy('default', 2),"
               " add check (spy('new_check', w::int) is not null)")


def calls(db):
    return {place for place in PLACES
            if db.query_one(f"select is_called from calls_{place}")}


def test_owners_code_never_runs_as_superuser(db, owner, walter):
    """Neither in the copy nor in apply, neither in an index build nor in the swap."""
    owner.execute(SPY + SPIED)
    with held_copy(walter, SPIED_ALTER, superuser=db) as run:
        owner.execute("insert into t (id, n, d, w) values (51, 1, 1, 1);"
                      "update t set n = n + 1, w = -w where id < 20; delete from t where id = 30")
    run.finish()
    assert db.query_one("select count(*) from t where x = 5 and g = n") == 50
    # it did run, where it had to; triggers have fired for the application, values were there
    assert calls(db) == set(PLACES) - {"trigger", "default"}


def test_the_spy_notices_a_superuser(db, owner):
    owner.execute(SPY + SPIED)
    with db.connect() as conn:
        conn.execute("set application_name = 'walter: test'")
        with pytest.raises(psycopg.errors.RaiseException, match="runs as postgres"):
            conn.execute("update t set n = 5")
    assert "domain" not in calls(db)


def test_names_of_the_owner_are_no_trap(db, owner, walter):
    """Functions and operators that shadow the system's, where a careless search_path finds them."""
    owner.execute("""
        create table t (id int primary key, n int);
        insert into t select i, i from generate_series(1, 50) i;
        create function trap(int, int) returns boolean language plpgsql as
            $$ begin raise exception 'trapped as %', current_user; end $$;
        create operator = (leftarg = int, rightarg = int, function = trap);
        create function count(int) returns bigint language plpgsql as
            $$ begin raise exception 'trapped as %', current_user; end $$;
        create function format_type(oid, int) returns text language plpgsql as
            $$ begin raise exception 'trapped as %', current_user; end $$""")
    db.execute(f"alter database {db.name} set search_path = public, pg_catalog")
    with held_copy(walter, "alter table t alter n type bigint", superuser=db) as run:
        with db.connect() as conn:
            conn.execute("set search_path = pg_catalog; update public.t set n = 0 where id < 10;"
                         "delete from public.t where id > 40")
    run.finish()
    assert_finished(db)
