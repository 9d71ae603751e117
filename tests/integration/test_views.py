"""Views on the table, and rules and policies of others that mention it, come along."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, WRITER, Case, named, new_oracle,
                            oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ADD = "alter table t add x int default 5"
VIEW = ROWS + "create view v as select id, n from t where n > 50;"
# Every view must give the rows of the table as it is now.
SAME = "select (select count(*) from {v}) = (select count(*) from t)"

VIEWS = [
    Case("simple", VIEW, ADD, CHANGES,
         holds=("select (select count(*) from v) = (select count(*) from t where n > 50)",)),
    Case("all columns, in other schemas, of odd names", ROWS + """
         create schema "Odd ""s"; create schema s;
         create view "Odd ""s"."V 'w" as select t.*, t.n + 1 as "N + 1" from t;
         create view s.t as select * from public.t;
         create view s.v as select a.id, b.n, t.v from t a join t b using (id), s.t
           where t.id = a.id and exists (select from only public.t where t.d is null);
         create view public."T" as select t.id as t, x.id from t, s.t as x;""", ADD, CHANGES,
         holds=(SAME.format(v="s.t"), SAME.format(v="\"Odd \"\"s\".\"V 'w\""))),
    Case("views on views", VIEW + """
         create view w as select id from v; create view x as select w.id, v.n from w join v using (id);
         create view y as select y.id, t.n from x y join t using (id) join w using (id);
         create view z as select count(*) from y;""", ADD, CHANGES,
         holds=("select (select count(*) from y) = (select count(*) from t where n > 50)",)),
    Case("options, owner, grants, comments, defaults", VIEW + f"""
         alter view v set (security_barrier = true, check_option = local);
         alter view v owner to {OWNER}; grant select on t to {OWNER};
         create view w with (security_barrier) as select id, n, v as "the v" from t
           with cascaded check option;
         grant select on v to {READER} with grant option; grant update (n) on v to {WRITER};
         grant all on w to public; revoke insert on v from {OWNER};
         comment on view v is 'it''s v'; comment on column v.n is 'n of v';
         alter view w alter n set default 7, alter id set default 3 + 4;
         alter view w rename column "the v" to "V"; alter view w rename to "W w";""", ADD, CHANGES),
    Case("invoker's security", ROWS + """
         do $$ begin if current_setting('server_version_num')::int >= 150000 then
         create view v with (security_invoker) as select * from t; end if; end $$;""", ADD),
    Case("triggers instead of", VIEW + """
         create function note() returns trigger language plpgsql as $$
         begin insert into public.t (id, n) values (new.id, new.n); return new; end $$;
         create trigger note instead of insert on v for each row execute function note();
         comment on trigger note on v is 'notes';""", ADD, CHANGES,
         after="insert into v values (777, 1)",
         holds=("select count(*) = 1 from t where id = 777",)),
    Case("of many kinds of queries", ROWS + r"""
         create table other (id int primary key, t int); insert into other values (1, 2);
         create view a as with t as (select id from public.t), u as (table t) select u.id, t.id as i from u, t;
         create view b as select n, count(*), max(v) filter (where id > 3) as m,
           row_number() over (order by n) from t group by n having count(*) > 0 order by n limit 9;
         create view c as select id, v from t group by id;
         create view e as select id from t union all select id from other except (select n from t);
         create view f as select o.id, (select t.v from t where t.id = o.t) as "t.v",
           array(select t.n from t where t.id > o.id) as a, o.t in (select id from t) as b from other o
           left join lateral (select * from t where t.id = o.t) as t on true;
         create recursive view g (id) as select min(id) from t union select t.id + 1 from t join g
           on t.id = g.id;
         create view h as select to_jsonb(t) - 'x' as j, count(t.*) over () as c, t is null as i
           from t;
         create view i as select t.id as t from t tablesample system (50) where v like '%''t.v'
           for update of t;
         create view j as select 'public.t'::regclass as r, t.tableoid::regclass, t.ctid from t;
         create view k as values (1), ((select count(*) from t));
         create view l as select from t;
         create view m as select t_1.id, t.id as i from t t_1 cross join t;
         create view n as select (x).id from (select t as x from t) y;""", ADD, CHANGES),
    Case("of the row type inside", ROWS + """
         create view v as select (null::t).id as i, (t::t).n, id, array[t]::t[] is null as j from t;
         create view w as select (p).id from (select jsonb_populate_record(null::t, '{"id": 3}') as p)
           x""", "alter table t drop d, add y text", CHANGES),
    Case("column renamed", VIEW + "create view w as select *, n as m from t;"
         "create view x as select x.n from w x;",
         "alter table t rename n to amount; alter table t rename v to n", CHANGES),
    Case("column renamed that others have, too", ROWS + """
         create table other (id int, amount int);
         create view v as select * from t join other using (id) where n > amount;
         create view w as select n, amount from t natural join other""",
         "alter table t rename n to value; alter table t add amount text", CHANGES),
    Case("column dropped that no view uses", VIEW + "create view w as select id from t;",
         "alter table t drop d, drop v cascade", CHANGES),
    Case("columns retyped that no view uses", VIEW,
         "alter table t alter v type varchar(100), alter d type timestamp", CHANGES),
    Case("column dropped with its views", VIEW + """
         create view w as select id from t; create view x as select v.n, w.id from v, w;
         create view xx as select v.n, t.id from v join t using (id);
         create view y as select d from t; create view z as select * from y join w on true""",
         "alter table t drop n cascade", CHANGES.replace("n, v", "d, v").replace("7, 'new'",
         "null, 'new'").replace("n = null, ", ""), holds=(SAME.format(v="w"),)),
    Case("key changed that a view groups by", ROWS + """
         create view c as select id, v from t group by id""",
         "alter table t drop constraint t_pkey cascade, add primary key (id)"),
    Case("table's owner changed", VIEW + f"alter table t owner to {OWNER};"
         f"create view w as table t; alter view w owner to {READER}; grant select on t to {READER}",
         f"alter table t add y int; alter table t owner to {WRITER}"),
    Case("constants under settings that write them in other ways", ROWS + r"""
         create view v as select date '2020-03-04' as a, timestamptz '2020-03-04 5:06z' as b, id,
           interval '-1 year 2 days -3:04' as c, 0.1::float8 as d, '\x01'::bytea as e, E'\\' as f,
           time '23:59' as g, '{1.5,NaN}'::float4[] as h from t where d < date '2020-01-15'""", ADD,
         CHANGES, role_settings={
             "datestyle": "SQL, DMY", "timezone": "Asia/Kolkata", "intervalstyle": "sql_standard",
             "extra_float_digits": "-5", "bytea_output": "escape"}),
    Case("twice", VIEW + "create view w as select * from t;", ADD, CHANGES,
         again="alter table t add y int"),
    Case("by an ordinary role", f"""set role {OWNER}; {VIEW} create view w as table v;
         create schema s; create view s.w as table t; reset role"""
         .replace("create schema s;", f"reset role; create schema s authorization {OWNER};"
                  f"set role {OWNER};"), ADD, CHANGES, user=OWNER),
    Case("by an ordinary role, of a role that it is a member of", f"""
         set role {OWNER}; {VIEW} reset role; grant {WRITER} to {OWNER};
         grant create on schema public to {WRITER}; alter view v owner to {WRITER};""",
         ADD, CHANGES, user=OWNER, after=f"revoke {WRITER} from {OWNER}"),
]

RULES = [
    Case("of views", VIEW + """
         create rule "r 1" as on insert to v do instead insert into t (id, n) values (new.id, new.n)
           returning t.id, t.n;
         create rule u as on update to v where new.n > 3 do instead nothing;
         create rule d as on update to v do instead update t set n = new.n where t.id = old.id;
         comment on rule "r 1" on v is 'rule'; """, ADD, CHANGES,
         after="insert into v values (777, 60) returning id; update v set n = 2 where id = 30",
         holds=("select count(*) = 1 from t where id = 777",
                "select n = 2 from t where id = 30")),
    Case("of tables", ROWS + """
         create schema s; create table s.other (id int, n int);
         create rule copy as on insert to s.other do also
           (insert into t (id, n) select new.id, n from s.other o where o.id <> new.id;
            insert into t (id) values (new.id));
         alter table s.other disable rule copy; alter table s.other enable always rule copy;
         create rule del as on delete to s.other where exists (select from t where t.id = old.id)
           do also update t set n = 5 where id = old.id""", "alter table t rename n to amount; alter table t rename id to n",
         CHANGES, after="insert into s.other values (777, 1)",
         holds=("select count(*) = 1 from t where n = 777",)),
    Case("dropped with a column", ROWS + """
         create table other (id int, n int);
         create rule copy as on insert to other do also insert into t (id, n) values (new.id, 1);
         create rule keep as on delete to other do also delete from t where id = old.id""",
         "alter table t drop n cascade", after="insert into other values (800, 1)"),
]

POLICIES = [
    Case("of other tables", ROWS + f"""
         create schema s; create table s.other (id int, n int);
         insert into s.other select g, g from generate_series(1, 100) g;
         grant usage on schema s to {READER}; grant all on s.other to {READER};
         grant select on t to {READER};
         alter table s.other enable row level security;
         create policy "a b" on s.other for select to {READER} using
           (exists (select from t where t.id = other.id and other.n < t.n));
         create policy c on s.other as restrictive using (true)
           with check (id in (select n from t));
         comment on policy c on s.other is 'c'""",
         "alter table t rename n to amount", CHANGES,
         after=f"set role {READER}; select 1 / (count(*) > 0)::int from s.other; reset role"),
    Case("dropped with a column", ROWS + """
         create table other (id int);
         create policy p on other using (id in (select n from t));
         create policy q on other using (id in (select id from t))""",
         "alter table t drop n cascade"),
]

ALL = {"views": VIEWS, "rules": RULES, "policies": POLICIES}


@pytest.mark.parametrize("case", named(ALL))
def test_comes_out_as_plain_alter_table_gives_it(oracle, case):
    oracle.check(case)


REFUSED = [
    Case("column added while a view uses the row type", ROWS + """
         create view v as select (null::t).id as i from t""", "alter table t add x int default 5"),
    Case("column dropped", VIEW, "alter table t drop n"),
    Case("column retyped", VIEW, "alter table t alter n type bigint"),
    Case("column retyped, of a view in another schema", ROWS + """
         create schema s; create view s.w as select n from t""", "alter table t alter n type bigint"),
    Case("primary key dropped that a view groups by",
         ROWS + "create view c as select id, v from t group by id",
         "alter table t drop constraint t_pkey"),
    Case("column retyped that a rule uses", ROWS + """
         create table other (id int); create rule copy as on insert to other do also
           insert into t (id, n) values (new.id, 1)""", "alter table t alter n type bigint"),
    Case("column retyped that a policy uses", ROWS + """
         create table other (id int); create policy p on other using (id in (select n from t))""",
         "alter table t alter n type bigint"),
]


@pytest.mark.parametrize("case", named({"refused": REFUSED}))
def test_is_refused_in_the_words_of_plain_alter_table(oracle, case):
    if case.name == "column added while a view uses the row type" \
            and not 150000 <= oracle.plain.server.version < 180000:
        pytest.skip("this version of PostgreSQL does not refuse it")
    oracle.check_refusal(case, 2)
