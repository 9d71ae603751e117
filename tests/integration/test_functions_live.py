"""Functions that use the table go on working in sessions that have used them before."""
import psycopg
import pytest

from support.hold import held_build
from support.pgbench import PgBench

# -- warm sessions --------------------------------------------------------------------------------

WARM = """
    create table "the T" (id int primary key, n int); insert into "the T" select g, g
      from generate_series(1, 100) g;
    create function row_variable(i int) returns text language plpgsql as $$
      declare r public."the T"; begin
      select * into r from public."the T" where id = i; return r.n::text; end $$;
    create function row_type(i int) returns text language plpgsql as $$
      declare r public."the T"%rowtype; begin
      for r in select * from public."the T" where id = i loop return r.n::text; end loop; end $$;
    create function field_type(i int) returns text language plpgsql as $$
      declare r public."the T".n%type; begin
      select n into r from public."the T" where id = i; return r::text; end $$;
    create procedure in_procedure(i int, inout x text) language plpgsql as $$
      declare r public."the T"; begin
      select * into r from public."the T" where id = i; x := r.n::text; end $$;"""
CALLS = ["select row_variable(3)", "select row_type(3)", "select field_type(3)",
         "call in_procedure(3, null)"]


@pytest.mark.parametrize("alter", ['alter table "the T" alter n type bigint',
                                   'alter table "the T" add x int, drop n, add n int default 3'])
def test_plpgsql_goes_on_in_warm_sessions(db, walter, alter):
    db.execute(WARM)
    warm = db.connect()
    for _ in range(7):
        for call in CALLS:
            assert warm.execute(call).fetchone() == ("3",), call
    before = db.query("select proname, prosecdef, procost from pg_proc where pronamespace = 'public'::regnamespace"
                      " order by 1")
    walter.perform(alter, "--drop")
    for call in CALLS:
        assert warm.execute(call).fetchone() == ("3",), call
    assert db.query("select proname, prosecdef, procost from pg_proc where pronamespace = 'public'::regnamespace"
                    " order by 1") == before


def test_plpgsql_with_rows_of_a_matview(db, walter):
    db.execute("""create table t (id int primary key, n int); insert into t values (3, 3);
        create materialized view m as select * from t;
        create function f() returns int language plpgsql as $$ declare r public.m; begin
        select * into r from public.m; return r.n; end $$""")
    warm = db.connect()
    for _ in range(7):
        assert warm.execute("select f()").fetchone() == (3,)
    walter.perform("alter table t add x int", "--drop")
    assert warm.execute("select f()").fetchone() == (3,)


def test_functions_that_do_not_mention_the_table_are_left_alone(db, walter):
    db.execute("create table t (id int primary key);"
               "create function f() returns int language plpgsql as"
               " $$ declare best int = 1; begin return best; end $$;"
               "create function g() returns bigint language plpgsql as"
               " $$ begin return (select count(*) from public.T); end $$")
    before = db.query("select proname, xmin::text from pg_proc where proname in ('f', 'g')"
                      " order by 1")
    walter.perform("alter table t add x int")
    after = db.query("select proname, xmin::text from pg_proc where proname in ('f', 'g')"
                     " order by 1")
    assert after[0] == before[0] and after[1] != before[1]


def test_plpgsql_under_load(db, walter):
    db.execute(WARM)
    script = ("\\set id random(1, 100)\nselect row_variable(:id);\nselect row_type(:id);\n"
              "update \"the T\" set n = n + 1 where id = :id;")
    with PgBench(db, clients=4, script=script, rate=200) as load:
        # a call that is under way when a column's type changes fails in any ALTER TABLE
        for alter in ("add x text", "drop x", "add y int default 5", "set (fillfactor = 70)"):
            walter.perform(f'alter table "the T" {alter}', "--drop")
    assert load.errors == [] and load.failed == 0


def test_function_of_somebody_else_is_named(db, owner, walter):
    owner.execute("create table t (id int primary key, n int); insert into t values (3, 3)")
    db.execute("create function f() returns int language plpgsql as $$ declare r public.t; begin"
               " select * into r from public.t; return r.n; end $$")
    result = walter.as_user(owner).perform("alter table t alter n type bigint")
    assert "functions that this role may not alter mention the table: public.f();" in result.stderr


def test_function_that_is_being_altered_is_waited_for(db, walter):
    db.execute(WARM)
    other = db.connect(autocommit=False)
    with held_build(walter, 'alter table "the T" add x int') as run:
        other.execute("alter function row_variable(int) cost 50")
    run.wait_for_log("cutover attempt [0-9]+: (?!swapped)")
    other.commit()
    run.finish()
    assert db.query_one("select procost from pg_proc where proname = 'row_variable'") == 50


def test_grants_on_a_function_of_the_row_type_allow_and_deny(db, walter):
    reader = db.create_role()
    db.execute("create table t (id int primary key); insert into t values (1);"
               "create function f() returns setof t language sql security definer as"
               " 'select * from public.t'; create function g(r t) returns int language sql as"
               " 'select 1'; revoke all on function g(t) from public;"
               "grant usage on schema public to public")
    walter.perform("alter table t add x int")
    assert reader.query_one("select id from f()") == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="function g"):
        reader.query("select g(null)")
