"""Materialized views that read the table are made anew, with all that is on them."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, TABLESPACE, WRITER, Case, named,
                            new_oracle, oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ADD = "alter table t add x int default 5"
MATVIEW = ROWS + "create materialized view m as select id, n from t where n > 50;"
FRESH = "select not exists (select id, n from {m} except select id, n from t)"
AFTER = ("--matviews=after",)

CASES = [
    Case("simple", MATVIEW, ADD, CHANGES, holds=("select count(*) > 20 from m",),
         after="refresh materialized view m"),
    Case("everything that one can have", f"""
         create schema "S s"; {ROWS}
         create materialized view "S s"."M m" using heap with (fillfactor = 55,
           autovacuum_enabled = false, toast.autovacuum_vacuum_threshold = 99) tablespace {TABLESPACE}
           as select id, n, v as "V v", d from t;
         create unique index "I i" on "S s"."M m" (id) include (n) tablespace {TABLESPACE};
         create index on "S s"."M m" (("V v" || 'x'), n desc nulls last) where n > 5;
         alter materialized view "S s"."M m" cluster on "I i";
         alter index "S s"."M m_expr_n_idx" alter column 1 set statistics 7;
         comment on index "S s"."I i" is 'index';
         comment on materialized view "S s"."M m" is 'it''s m';
         comment on column "S s"."M m"."V v" is 'v';
         alter materialized view "S s"."M m" alter n set statistics 9, alter n set (n_distinct = 5),
           alter "V v" set storage external, alter "V v" set compression pglz;
         grant usage on schema "S s" to {READER};
         grant usage, create on schema "S s" to {OWNER}; grant select on t to {OWNER};
         alter materialized view "S s"."M m" owner to {OWNER};
         set role {OWNER}; grant select on "S s"."M m" to {READER} with grant option;
         grant select (id) on "S s"."M m" to {WRITER}; reset role;
         set role {READER}; grant select on "S s"."M m" to {WRITER}; reset role""", ADD, CHANGES,
         after=f"set role {OWNER}; refresh materialized view concurrently \"S s\".\"M m\"; reset role"),
    Case("read by views, matviews and functions", MATVIEW + """
         create view v as select * from m; create view w as select * from v join t using (id, n);
         create materialized view m2 as select m.id, m.n from m join t using (id);
         create unique index on m2 (id);
         create materialized view m3 as select v.* from v, m2 where m2.id = v.id;
         create function f() returns bigint return (select count(*) from m2);
         create table other (id int); create policy p on other using (id in (select id from m2));
         create rule r as on insert to other do also insert into t (id) select id + 1000 from m""",
         ADD, CHANGES, holds=("select f() > 20", "select count(*) > 0 from w"),
         after="refresh materialized view m; refresh materialized view m2;"
               "refresh materialized view m3"),
    Case("of the row type of a matview", MATVIEW + """
         create function f(r m) returns int language sql as 'select r.id';
         create view v as select f(m), m.f as g from m""", ADD, CHANGES,
         holds=("select count(*) > 0 from v",)),
    Case("column renamed", MATVIEW + "create view v as select n from m",
         "alter table t rename n to amount; alter table t rename v to n", CHANGES),
    Case("dropped with a column", MATVIEW + "create view v as select id from m;"
         "create materialized view m2 as select id from t; create view w as select v.id from v, m2",
         "alter table t drop n cascade"),
    Case("not populated", MATVIEW + "refresh materialized view m with no data;"
         "create unique index on m (id)", ADD, CHANGES),
    Case("default privileges in force", MATVIEW + f"""
         alter default privileges grant select, delete on tables to {READER}""", ADD),
    Case("by an ordinary role", f"set role {OWNER}; {MATVIEW} create unique index on m (id);"
         "create view v as table m; reset role", ADD, CHANGES, user=OWNER,
         holds=("select count(*) > 20 from m",)),
    Case("of another owner, by an ordinary role", f"""set role {OWNER}; {MATVIEW}
         grant select on t to {WRITER}; reset role; grant {WRITER} to {OWNER};
         grant usage, create on schema public to {WRITER};
         alter materialized view m owner to {WRITER}""", ADD, CHANGES, user=OWNER,
         holds=("select count(*) > 20 from m",), after=f"revoke {WRITER} from {OWNER}"),
]

AFTERWARDS = [
    Case("constants", ROWS + """
         create materialized view m as select 'public.t'::regclass::text as r, t.id from t;
         create materialized view s as select 't'::regclass::oid is not null as r""", ADD, CHANGES,
         args=AFTER),
    Case("simple", MATVIEW + "create unique index on m (n); create view v as table m", ADD, CHANGES,
         args=AFTER, holds=("select count(*) > 20 from v",), after="refresh materialized view m"),
    Case("one that reads another, with functions", MATVIEW + f"""
         create function f(r t) returns int language sql as 'select r.id';
         create materialized view m2 as select f(t) as f, m.n from m join t using (id);
         comment on materialized view m2 is 'm2'; grant select on m2 to {READER};
         create materialized view m3 as select * from m2 with no data""", ADD, CHANGES, args=AFTER,
         holds=("select count(*) > 20 from m2",)),
]


@pytest.mark.parametrize("case", named({"before": CASES, "after": AFTERWARDS}))
def test_comes_out_as_plain_alter_table_gives_it(oracle, case):
    oracle.check(case)


@pytest.mark.parametrize("case", named({"refused": [
    Case("column dropped", MATVIEW, "alter table t drop n"),
    Case("column retyped", MATVIEW, "alter table t alter n type bigint")]}))
def test_is_refused_in_the_words_of_plain_alter_table(oracle, case):
    oracle.check_refusal(case, 2)
