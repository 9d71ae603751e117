"""Functions that name the table in a parsed body, or its row type in their signature, come along."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, WRITER, Case, named, new_oracle,
                            oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ADD = "alter table t add x int"

BODIES = [
    Case("function and procedure", ROWS + f"""
         create schema "S s";
         create function "S s"."F f"(n int, "a b" text default 'it''s', variadic v int[] default '{{}}')
           returns bigint language sql stable security definer cost 7 set work_mem to '1MB'
           begin atomic select count(*) from t where t.n > "F f".n and t.v <> "a b"; end;
         create procedure p(i int) begin atomic insert into t (id, n) values (i, i);
           update t set n = t.n + 1 where id = i; delete from t where id = -i; end;
         create function one() returns int return (select min(id) from t);
         alter function one() owner to {OWNER}; grant execute on function one() to {READER};
         comment on function one() is 'one'; revoke all on procedure p from public;
         create view v as select one() as a, "S s"."F f"(3) as b;""",
         "alter table t rename n to amount; alter table t add n text", CHANGES,
         after="call p(777)", holds=("select amount = 778 from t where id = 777",
                                     "select one() = (select min(id) from t)",
                                     "select b = \"S s\".\"F f\"(3) from v")),
    Case("that call each other", ROWS + """
         create function f() returns bigint return (select count(*) from t);
         create function g() returns bigint return f() + (select count(*) from t);
         create view v as select g() as g, count(*) from t;""", ADD, CHANGES,
         holds=("select g() = 2 * (select count(*) from t)",)),
    Case("dropped with a column", ROWS + """
         create function f() returns bigint return (select sum(n) from t);
         create function g() returns bigint return f();
         create view v as select f(); create function keep() returns int return (select 1 from t)""",
         "alter table t drop n cascade"),
]

SIGNATURES = [
    Case("arguments and results", ROWS + f"""
         create schema s;
         create function s.f(r t) returns int language sql as 'select r.id';
         create function g() returns setof t language sql as 'select * from public.t';
         create function h(a t[], variadic b t[]) returns t[] language sql as 'select a || b';
         create function i(out a t, inout b int default 3) language plpgsql as 'begin a.id := b; end';
         create function j() returns table (x int, y t) language plpgsql as 'begin end';
         create function m() returns setof t language sql as 'select * from t';
         create procedure p(r t) language plpgsql as 'begin end';
         create function k(r t) returns int begin atomic select r.n + t.n from t limit 1; end;
         create function l(r t) returns setof t rows 7 immutable strict parallel safe
           language sql as 'select r.*';
         alter function s.f owner to {OWNER}; grant usage on schema s to {OWNER};
         grant execute on function g() to {READER} with grant option;
         set role {READER}; grant execute on function g() to {WRITER}; reset role;
         revoke all on function g() from public; revoke all on procedure p from public;
         comment on function g() is 'it''s g'; comment on procedure p is 'p';""",
         ADD + ", drop d", CHANGES,
         holds=("select count(*) = (select count(*) from g()) from t",
                "select bool_and(s.f(t) = id) from t",
                "select cardinality(h(array[t], t, t)) = 3 from t where id = 10",
                "select (i()).a.id = 3")),
    Case("default privileges in force", ROWS + f"""
         create function f(r t) returns int language sql as 'select 1';
         create function g(r t) returns int language sql as 'select 1';
         revoke all on function g from public; grant execute on function g to {WRITER};
         alter default privileges in schema public grant execute on functions to {READER}""", ADD),
    Case("overloaded", ROWS + """
         create table other (id int); insert into other values (3);
         create function f(r t) returns int language sql as 'select r.id';
         create function f(r other) returns int language sql as 'select r.id';
         create function f(i int) returns int language sql as 'select i';
         create view v as select f(t) as a, f(other) as b, f(3) as c from t, other""", ADD, CHANGES,
         holds=("select bool_and(a > 0 and b = 3 and c = 3) from v",)),
    Case("used in views, rules and policies", ROWS + """
         create function f(r t) returns int language sql as 'select r.id';
         create function g() returns setof t language sql as 'select * from public.t';
         create function h() returns bigint return (select sum(f(t)) from t);
         create view v as select f(t) as f1, t.f as f2, t.id, t.v from t;
         create view w as select g.id, f(g) from g();
         create view x as select * from v join w using (id);
         create table other (id int);
         create rule r as on insert to other do also select f(g) from g() where id = new.id;
         create policy p on other using (exists (select from g() where g.f = other.id))""",
         "alter table t rename v to w; alter table t drop d", CHANGES,
         holds=("select count(*) = (select count(*) from t) from x",)),
    Case("by an ordinary role", f"""set role {OWNER}; {ROWS}
         create function f(r t) returns setof t language sql as 'select r.*';
         create function g() returns bigint return (select count(*) from t, f(t)); reset role""",
         "alter table t drop d",
         CHANGES, user=OWNER, holds=("select g() = (select count(*) from t)",)),
]


ODD = r"""
    create schema "s.x"; create schema "Überall"; set search_path to "s.x";
    create table "order" (id int primary key, "select" int, "a""b" text, "Ä" date);
    insert into "order" select g, g * 10, 'row ' || g from generate_series(1, 30) g;
    create view "order_v" as select "order"."select", "order"."a""b", "order".id from "order";
    create view "Überall"."order" as select * from "s.x"."order" as "x y" natural join order_v;
    create materialized view "M""m" as select "Überall"."order".id, "select" from "Überall"."order",
      lateral (select 1 from "order" o where o.id = "order".id) l;
    create unique index "I i" on "M""m" (id);
    create function "order"(r "order", "s" "order"[] default null) returns setof "order" language sql
      as 'select (r).*';
    create function "Überall"."sel'ect"() returns bigint return
      (select sum("order"."select") from "order", "order"("order".*) as "f f" where "f f"."a""b" <> '$$');
    create table other (id int); create rule "order" as on delete to other do also
      delete from "order" where "order".id = old.id;
    create policy "order" on other using (exists (select from "order" where "order".id = other.id));
    comment on function "order" is ''; reset search_path;"""
CHANGED = """insert into "s.x"."order" values (101, 1, 'new'); delete from "s.x"."order" where id = 5;
    update "s.x"."order" set "a""b" = null where id = 7"""

NAMES = [
    Case("odd ones", ODD, 'alter table "s.x"."order" rename "select" to "from"', CHANGED,
         holds=('select "Überall"."sel\'ect"() > 0',),
         again='alter table "s.x"."order" rename "from" to "to"'),
    Case("odd ones, by an ordinary role", f"set role {OWNER}; {ODD} reset role",
         'alter table "s.x"."order" rename "a""b" to "c""d"', CHANGED, user=OWNER),
]


@pytest.mark.parametrize("case", named({"names": NAMES, "bodies": BODIES, "signatures": SIGNATURES}))
def test_comes_out_as_plain_alter_table_gives_it(oracle, case):
    oracle.check(case)


@pytest.mark.parametrize("case", named({"refused": [
    Case("column dropped that a body uses",
         ROWS + "create function f() returns bigint return (select sum(n) from t)",
         "alter table t drop n"),
    Case("column retyped that a body uses",
         ROWS + "create function f() returns bigint return (select sum(n) from t)",
         "alter table t alter n type bigint")]}))
def test_is_refused_in_the_words_of_plain_alter_table(oracle, case):
    oracle.check_refusal(case, 2)
