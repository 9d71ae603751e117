"""What only newer versions of PostgreSQL have comes out as plain ALTER TABLE gives it, too."""
import pytest

from support.oracle import (CHANGES, READER, ROWS, Case, new_oracle, oracle_databases,
                            oracle_server, oracle_walter)

pytestmark = pytest.mark.smoke
__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"
TREE = """
create table t (id int primary key, n int, v text) partition by range (id);
create table t1 partition of t for values from (minvalue) to (50);
create table t2 partition of t for values from (50) to (maxvalue);
insert into t select g, g, 'row ' || g from generate_series(1, 100) g;
"""
TREE_CHANGES = ("insert into t values (101, 7, 'new'); update t set n = null where id = 3;"
                "update t set id = 60000, v = null where id = 4; delete from t where id = 5")
VIRTUAL = ROWS + """
alter table t add g int generated always as (coalesce(n, 0) + id) virtual,
  add h text generated always as (upper(v)) stored, add i int generated always as (id * 2) virtual;
comment on column t.g is 'sum'; alter table t alter g set not null, add check (i > 0);
"""

# Cases by the first version that can have them.
CASES = {
    14: [
        Case("compression", ROWS + "alter table t alter v set compression pglz", ALTER, CHANGES),
        Case("multiranges", """create table t (id int primary key, n int, r int4multirange);
             insert into t select g, g, int4multirange(int4range(g, g + 2), int4range(g + 5, null))
               from generate_series(1, 20) g""", ALTER,
             "update t set r = '{}' where id = 3; update t set id = 50 where id = 4;"
             "insert into t values (30, 1, '{[1,2),[4,)}')"),
        Case("function with a parsed body", ROWS + "create function f() returns bigint"
             " begin atomic select count(n) from t; end", "alter table t add x int default 5",
             CHANGES),
        Case("statistics of an expression", ROWS + "create statistics s on (id + 1), v from t",
             ALTER, CHANGES),
    ],
    15: [
        Case("nulls that are not distinct", ROWS + "create unique index on t (n) nulls not distinct"
             " where id < 31; alter table t add unique nulls not distinct (v, d)",
             ALTER, "update t set d = null where id = 7; update t set id = 50 where id = 8"),
        Case("foreign key that sets some columns", """create table r (a int, b int, primary key (a, b));
             insert into r select g, g from generate_series(1, 30) g;""" + ROWS +
             "alter table t add m int, add foreign key (m, n) references r"
             " on delete set null (m); update t set m = 3, n = 3 where id = 3",
             "alter table t alter v type varchar(50)", "update t set v = 'x' where id = 3"),
        Case("view with the rights of who reads it", ROWS +
             "create view w with (security_invoker) as select id from t;"
             f"grant select on w to {READER}", ALTER, CHANGES),
        Case("publication of columns and rows", ROWS +
             "create publication p for table t (id, v) where (id > 5) with (publish = 'insert')",
             ALTER, "insert into t values (101, 7, 'new')"),
    ],
    17: [
        Case("identity of partitions", TREE.replace("n int,", "n int, i bigint generated always as identity,").replace(
                 "into t", "into t (id, n, v)") +
             "create table t3 (like t including all excluding identity)", ALTER,
             "insert into t (id, n) values (101, 7); update t set n = null where id = 3"),
        Case("exclusion constraint of a partitioned table", TREE +
             "alter table t add exclude using btree (id with =, v with =)", ALTER, TREE_CHANGES),
    ],
    18: [
        Case("virtual columns", VIRTUAL, ALTER.replace("n type bigint", "d type timestamp"), CHANGES),
        Case("USING over a virtual column", VIRTUAL, "alter table t alter d type text using"
             " concat(d, g, i)", CHANGES),
        Case("a virtual column among values that are not sent", """
             create table t (id int primary key, n int, big text, doc text,
               g text generated always as (n || left(big, 20)) virtual);
             alter table t alter big set storage external, alter doc set storage external;
             insert into t (id, n, big, doc)
               select g, g, repeat(md5(g::text), 200), repeat(md5(g::text), 200)
               from generate_series(1, 20) g""",
             "alter table t alter doc type text using id || g || doc, add x int",
             "update t set n = n + 1 where id < 5; update t set id = 50 where id = 6;"
             "update t set big = 'short' where id = 7"),
        Case("virtual column that is dropped", VIRTUAL, "alter table t drop g, drop i", CHANGES),
        Case("virtual columns of a partitioned table", TREE +
             "alter table t add g int generated always as (id + 1) virtual",
             ALTER, TREE_CHANGES.replace("into t values", "into t (id, n, v) values")),
        Case("NOT NULL with names", """
             create table t (id int primary key, n int, a int constraint "a is" not null,
               b int constraint b_is not null no inherit, c int, d int not null);
             insert into t select g, g, g, g, nullif(g, 9), g from generate_series(1, 20) g;
             alter table t add constraint c_is not null c not valid;
             comment on constraint "a is" on t is 'needed'; comment on constraint b_is on t is 'b'""",
             ALTER, "update t set n = 1, a = 2, c = 5 where id = 3; update t set id = 40 where id = 4"),
        Case("NOT NULL that is not valid, dropped and set", """
             create table t (id int primary key, n int, a int not null, b int);
             insert into t select g, g, g, g from generate_series(1, 20) g;
             alter table t add constraint b_is not null b not valid""",
             "alter table t alter a drop not null, alter n set not null, alter b set not null"),
        Case("NOT NULL of partitions", TREE + """
             alter table t alter n set not null;
             alter table t1 alter v set not null; alter table t2 alter n set not null;
             comment on constraint t_n_not_null on t2 is 'two'""", ALTER,
             "update t set n = 1 where id = 3; update t set id = 400 where id = 4"),
        Case("NOT NULL of partitions that is not valid", TREE +
             "update t set v = null where id = 7; alter table t add constraint c not null v not valid",
             ALTER, "update t set n = 1 where id = 3"),
        Case("NOT NULL of a single partition", TREE.replace("create table t ", "create table p ")
             .replace("of t ", "of p ").replace("into t ", "into p ").replace("table t1", "table t")
             + "alter table t alter v set not null; alter table t add unique (n)",
             ALTER.replace("n type bigint, add x int default 5",
                                                            "v set default 'x', add check (id < 100)"),
             "update t set v = 'y' where id = 3; delete from t where id = 4"),
        Case("checks and keys that are not enforced", """create table r (id int primary key);
             create table t (id int primary key, n int, m int,
               constraint positive check (m > 0) not enforced,
               constraint known foreign key (m) references r not enforced);
             insert into t select g, g, -g from generate_series(1, 20) g;
             comment on constraint positive on t is 'said'; comment on constraint known on t is 'told'""",
             ALTER, "update t set m = -5 where id = 3; update t set id = 40 where id = 4"),
        Case("key to the table that is not enforced", ROWS + """
             create table c (id int, constraint k foreign key (id) references t not enforced);
             insert into c values (1000)""", ALTER, CHANGES),
        Case("unique without overlaps", """create extension btree_gist;
             create table t (id int primary key, n int, r int4range,
               constraint once unique (n, r without overlaps));
             insert into t select g, g / 2, int4range(g, g + 1) from generate_series(1, 20) g""",
             "alter table t add x int default 5, alter id type bigint",
             "update t set r = int4range(50, 60) where id = 3; update t set id = 40 where id = 4"),
        Case("column that is compressed by default", ROWS +
             "alter table t alter v set compression default", ALTER, CHANGES),
    ],
}


def cases():
    return [pytest.param(since, case, id=f"{since}: {case.name}")
            for since, group in CASES.items() for case in group]


@pytest.mark.parametrize(("since", "case"), cases())
def test_gives_what_plain_alter_table_gives(oracle, since, case):
    if oracle.plain.server.version < since * 10000:
        pytest.skip(f"needs PostgreSQL {since}")
    oracle.check(case)
