"""A partitioned table comes out of walter, with all below it, as it comes out of plain ALTER TABLE."""
import pytest

from support.hold import held_build
from support.oracle import (OWNER, READER, WRITER, Case, named, new_oracle, oracle_databases,
                            oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

# Three ranges and the rest; the columns of "middle" are in another order than the table's.
TREE = """
create table t (id int, d date not null, n int default 7, v text, primary key (id, d))
  partition by range (d);
create table early partition of t for values from (minvalue) to ('2020-01-01');
create table middle (gone int, v text, d date not null, id int not null, n int);
alter table middle drop gone;
alter table t attach partition middle for values from ('2020-01-01') to ('2021-01-01');
create table late partition of t for values from ('2021-01-01') to ('2022-01-01');
create table rest partition of t default;
"""
ROWS = TREE + """
insert into t select g, date '2019-12-17' + g, g * 10, 'row ' || g from generate_series(1, 30) g;
insert into t select g, date '2020-12-01' + g, g * 10, 'row ' || g from generate_series(31, 60) g;
"""
# What arrives through the root and directly: new rows, rows that move, NULLs, deletes.
CHANGES = """
begin;
insert into t values (101, '2020-05-05', 7, 'new'), (102, '2021-05-05', 7, 'elsewhere');
insert into middle (id, d) values (103, '2020-06-06');
update t set n = null, v = 'changed' where id in (3, 20, 40);
commit;
update t set d = '2020-07-07' where id = 4;
update t set d = '2021-08-08' where id = 21;
update t set d = '2030-09-09', id = 104 where id = 22;
update middle set v = v || '!' where id between 23 and 26;
begin;
update t set d = '2021-02-02' where id = 6;
update t set d = '2019-02-02' where id = 6;
update t set d = '2020-02-02', n = 66 where id = 6;
commit;
delete from t where id in (5, 27, 59);
"""
ALTER = "alter table t alter n type bigint, add x int default 5"
# VALIDATE leaves the keys that the server derives for the partitions as they were.
VALIDATED = '"(definition|from_table)": .*REFERENCES (early|middle|late|rest)\\('

SHAPES = [
    Case("range", ROWS, ALTER, CHANGES),
    Case("range, by the wal2json plugin", ROWS, ALTER, CHANGES, args=("--plugin=wal2json",)),
    Case("list, with null", """
         create table t (k varchar(9), id int not null, n numeric(9, 2)) partition by list (k);
         create table a partition of t (primary key (id)) for values in ('x', null, 'it''s');
         create table b partition of t (primary key (id)) for values in ('y');
         insert into t select (array['x', 'y', null, 'it''s'])[1 + g % 4], g, g
           from generate_series(1, 20) g;""", "alter table t alter n type numeric(12, 1)",
         "update t set k = 'y' where id = 1; update t set k = null where id = 2;"
         "insert into t values ('it''s', 30, 1), (null, 31, 2); delete from t where id = 4"),
    Case("hash", """
         create table t (id int primary key, n int, v text) partition by hash (id);
         create table h0 partition of t for values with (modulus 3, remainder 0);
         create table h1 partition of t for values with (modulus 3, remainder 1);
         create table h2 partition of t for values with (modulus 3, remainder 2);
         insert into t select g, g, 'v' from generate_series(1, 50) g""", ALTER,
         "update t set id = id + 100 where id % 7 = 1; delete from t where id = 5;"
         "insert into t select g, g from generate_series(200, 220) g"),
    Case("by an expression, of two columns", """
         create table t (a int not null, k text, id int) partition by range (a, lower(k));
         create table x partition of t for values from (1, 'a') to (2, minvalue);
         create table o partition of t for values from (2, 'a') to (maxvalue, maxvalue);
         alter table x add primary key (id); alter table o add primary key (id);
         insert into t select 1 + g % 2, 'B', g from generate_series(1, 20) g;""",
         "alter table t add z text default 'z', alter id type bigint",
         "update t set a = 3 where id = 2; insert into t values (1, 'X', 30)"),
    Case("two levels, with odd names", """
         create table t (id int, d date, k char(3) not null, n int, primary key (id, d, k))
           partition by range (d);
         create table "Sub" partition of t for values from ('2020-01-01') to ('2021-01-01')
           partition by list (k);
         create table "x y" partition of "Sub" for values in ('x', 'y');
         create table "Rest" partition of "Sub" default partition by hash (id);
         create table r0 partition of "Rest" for values with (modulus 2, remainder 0);
         create table r1 partition of "Rest" for values with (modulus 2, remainder 1);
         create table o partition of t default;
         create index "by N" on t (n); create index "only Sub" on "Sub" (k, n);
         insert into t select g, date '2020-12-10' + g, (array['x', 'y', 'z'])[1 + g % 3], g
           from generate_series(1, 40) g;""", ALTER,
         "update t set k = 'z' where id = 1; update t set d = '2020-05-05' where id = 31;"
         "update t set id = id + 1000 where k = 'z';"
         "insert into t values (100, '2020-01-01', 'x', 1); delete from t where id = 3"),
    Case("leaves that are emptied", ROWS, ALTER, CHANGES + """
         truncate late; insert into t values (300, '2021-03-03');
         update t set d = '2020-12-31' where id = 300; insert into late values (301, '2021-03-04');
         truncate early, rest; insert into t values (302, '2040-01-01');""", hold=held_build),
    Case("all of it emptied", ROWS, ALTER,
         CHANGES + "truncate t; insert into t values (302, '2040-01-01'), (303, '2020-03-03')",
         hold=held_build),
    Case("by an ordinary role", f"set role {OWNER}; {ROWS} create index on t (n);"
         f"grant select on t to {READER}; grant update (n) on middle to {WRITER};"
         f"grant insert on late to {WRITER} with grant option; reset role", ALTER, CHANGES,
         user=OWNER),
    Case("replica identity by an index of each leaf", """
         create table t (id int not null, k int not null, n int) partition by range (k);
         create table a partition of t for values from (0) to (100);
         create table b partition of t for values from (100) to (200);
         create unique index au on a (id); alter table a replica identity using index au;
         create unique index bu on b (id); alter table b replica identity using index bu;
         insert into t select g, g * 10, g from generate_series(0, 19) g""", ALTER,
         "update t set k = 150 where id = 1; update t set k = 50 where id = 15;"
         "update t set id = 100 where id = 3; delete from t where id = 4"),
]

NOTE = """
create table log (tab text, what text, id int);
create function note() returns trigger language plpgsql as $$ begin
  insert into public.log values (tg_table_name, tg_name || tg_op, coalesce(new.id, old.id));
  return new; end $$;
"""

PARTS = [
    Case("indexes of the table and of leaves", ROWS + """
         create index "by N" on t (n); create unique index u on t (v, d) include (n);
         create index e on t (lower(v)) where n > 5; create index h on t using hash (v);
         create index own on middle (n, v); create unique index m_u on middle (id);
         alter index middle_n_idx rename to "middle by n";
         alter index "middle by n" set (fillfactor = 50);
         alter index late_lower_idx alter column 1 set statistics 77;
         comment on index own is 'own'; comment on index "by N" is 'n';
         comment on index "middle by n" is 'm';
         alter table middle cluster on "middle by n";""", ALTER, CHANGES),
    Case("unique constraints", ROWS + """
         alter table t add constraint u unique (v, d) deferrable initially deferred;
         alter table middle add constraint own unique (n, id), add constraint "Own" unique (v);
         comment on constraint u on t is 'u'; comment on constraint own on middle is 'own';""",
         ALTER, CHANGES),
    Case("checks", ROWS + """
         alter table t add constraint c check (n is null or n >= 0),
           add constraint later check (n <> 70) not valid;
         alter table middle add constraint own check (n < 5000),
           add constraint own_later check (n > 300) not valid,
           add constraint alone check (id > 0) no inherit;
         comment on constraint c on t is 'c'; comment on constraint c on middle is 'cm';
         comment on constraint later on late is 'll';""",
         ALTER, "insert into t values (101, '2020-05-05', 500, 'new'); delete from t where id = 20"),
    Case("triggers and their states", NOTE + TREE + """
         create trigger a after insert or update or delete on t for each row
           execute function note();
         create trigger b before insert on t for each row when (new.id > 1)
           execute function note();
         create trigger c after insert on t for each row execute function note();
         create trigger d after insert on t for each row execute function note();
         create trigger s after insert on t for each statement execute function note();
         create constraint trigger k after insert on t deferrable initially deferred
           for each row execute function note();
         create trigger own after update on middle for each row execute function note();
         alter table middle disable trigger c; alter table late enable always trigger a;
         alter table t enable replica trigger d; alter table middle enable trigger d;
         comment on trigger a on middle is 'a of middle'; comment on trigger a on t is 'a';
         insert into t select g, date '2019-12-17' + g, g, 'v' from generate_series(1, 30) g;""",
         ALTER, CHANGES,
         after="insert into t values (300, '2020-05-05', 5, 'x'); insert into middle (id, d) values"
         " (301, '2020-05-05'); update t set n = 1 where id in (300, 301);"
         "update t set d = '2021-01-01' where id = 301"),
    Case("options, comments, targets of leaves", ROWS + """
         alter table middle set (fillfactor = 70, autovacuum_enabled = false);
         alter table late set (toast.autovacuum_enabled = false);
         alter table middle alter v set storage external; alter table t alter n set statistics 33;
         alter table late alter n set statistics 44; alter table rest alter n set default 8;
         alter table rest alter v set not null; comment on table middle is 'm';
         comment on table t is 't'; comment on column late.n is 'n';
         alter table t alter v set default 'v'""", ALTER,
         CHANGES.replace("update t set d = '2030-09-09', id = 104 where id = 22;", "")),
    Case("serial", """
         create table t (id serial, d date, n int, primary key (id, d)) partition by range (d);
         create table a partition of t for values from ('2020-01-01') to ('2021-01-01');
         create table b partition of t default;
         insert into t (d, n) select date '2020-12-20' + g, g from generate_series(1, 20) g""",
         ALTER, "insert into t (d, n) values ('2020-02-02', 1), ('2022-02-02', 2)",
         after="insert into t (d, n) values ('2020-02-03', 1); insert into b (d) values"
         " ('2023-01-01')"),
    Case("identity", """
         create table t (id int generated always as identity (start 100), d date, n int,
           primary key (id, d)) partition by range (d);
         create table a partition of t for values from ('2020-01-01') to ('2021-01-01');
         create table b partition of t default;
         insert into t (d, n) select date '2020-12-20' + g, g from generate_series(1, 20) g""",
         ALTER, "insert into t (d, n) values ('2020-02-02', 1), ('2022-02-02', 2)",
         after="insert into t (d, n) values ('2020-02-03', 1)"),
    Case("generated columns", """
         create table t (id int, d date, n int, m int, g int generated always as (n * 2) stored,
           primary key (id, d)) partition by range (d);
         create table a partition of t for values from ('2020-01-01') to ('2021-01-01');
         create table b (g int generated always as (n * 2) stored, n int, d date not null,
           m int, id int not null);
         alter table t attach partition b default;
         insert into t (id, d, n, m) select g, date '2020-12-20' + g, g, g from
           generate_series(1, 20) g""", "alter table t add x int default 5, alter m type bigint using m + n + g",
         "update t set n = 7 where id in (3, 15); update t set d = '2030-01-01' where id = 2"),
    Case("statistics targets of indexes of an expression", ROWS + """
         create index e on t ((n + 1)); alter index e alter column 1 set statistics 150;
         alter index early_expr_idx alter column 1 set statistics 160;""", ALTER, CHANGES),
    Case("a serial column, dropped", ROWS + "alter table t add s serial",
         "alter table t drop s, alter n type bigint", CHANGES),
    Case("row level security, policies, rules", ROWS + f"""
         alter table t enable row level security; alter table middle enable row level security;
         create policy p on t for select to {READER} using (id > 5);
         create policy q on middle using (id > 1) with check (id > 0);
         create rule r as on delete to middle where old.id = 9 do instead nothing;
         comment on policy q on middle is 'q';""", ALTER, CHANGES),
    Case("statistics and publications", ROWS + """
         create statistics s on n, v from t; create statistics s_m on n, v from middle;
         create publication p for table t with (publish_via_partition_root = true);
         create publication q for table middle where (id > 0), late (id, d);""", ALTER, CHANGES),
    Case("views and a function on the whole table", ROWS + """
         create view w as select id, v from t where id > 5;
         create view w2 as select id from w;
         create materialized view m as select d, count(*) as c from t group by 1;
         create function f(r t) returns int language sql as 'select r.id';
         """, ALTER, CHANGES, after="refresh materialized view m"),
]

REFERENCED = """
create table r (id int primary key, v text unique);
insert into r select g, 'row ' || g from generate_series(0, 1000) g;
insert into r values (1001, 'new'), (1002, 'changed'), (1003, 'elsewhere');
insert into r select 2000 + g, 'row ' || g || '!' from generate_series(1, 60) g;
"""

KEYS = [
    Case("from the table", ROWS + REFERENCED + """
         alter table t add constraint f foreign key (n) references r on update cascade,
           add constraint g foreign key (v) references r (v) on delete cascade deferrable;
         comment on constraint f on t is 'f of t'; comment on constraint g on late is 'late';""",
         ALTER, CHANGES, after="update r set id = 5000 where id = 7; delete from r where v = 'new'"),
    Case("from the table, with names of leaves", ROWS + REFERENCED + """
         alter table middle add constraint "of M" foreign key (v) references r (v);
         alter table t add constraint g foreign key (v) references r (v);
         alter table late add constraint own foreign key (n) references r not valid;
         alter table early add constraint own foreign key (id) references r on delete set null;""",
         ALTER, CHANGES),
    Case("from a table of two levels", REFERENCED + """
         create table t (id int, k int, n int references r, primary key (id, k))
           partition by list (k);
         create table a partition of t for values in (1) partition by hash (id);
         create table a0 partition of a for values with (modulus 2, remainder 0);
         create table a1 partition of a for values with (modulus 2, remainder 1);
         alter table a add constraint "of A" foreign key (id) references r;
         create table b partition of t default;
         insert into t select g, g % 3, g from generate_series(1, 50) g""", ALTER,
         "update t set k = 1 where id = 2; insert into t values (100, 1, 5)"),
    Case("to the table", ROWS + """
         create table c (id int, d date, constraint "To T" foreign key (id, d) references t
           on delete cascade on update cascade deferrable initially deferred);
         insert into c select id, d from t where id between 18 and 22;
         comment on constraint "To T" on c is 'to t'""", ALTER, CHANGES,
         after="delete from t where id = 19; update t set id = 900 where id = 18",
         ignore=VALIDATED),
    Case("to a leaf", ROWS + """
         alter table middle add constraint mu unique (id);
         create table c (id int references middle (id)); insert into c values (20);""", ALTER,
         "insert into t values (101, '2020-05-05', 7, 'new'); insert into c values (101)",
         after="delete from c"),
    Case("added", ROWS + REFERENCED, "alter table t add constraint f foreign key (n) references r,"
         " alter id type int", CHANGES),
    Case("dropped", ROWS + REFERENCED + "alter table t add constraint f foreign key (n)"
         " references r, add constraint g foreign key (v) references r (v)",
         "alter table t drop constraint f, alter n type text", CHANGES),
    Case("of another type, by an ordinary role", f"set role {OWNER}; {ROWS + REFERENCED}"
         "alter table t add constraint f foreign key (n) references r; reset role",
         "alter table t alter n type bigint", CHANGES, user=OWNER),
]

ALTERS = [
    Case("to another type, USING other columns", ROWS,
         "alter table t alter v type int using length(v) + n::int, alter n type text using"
         " '#' || n", CHANGES),
    Case("a new column with a volatile default", ROWS,
         "alter table t add u uuid not null default gen_random_uuid()", CHANGES,
         rows={r: f"select id, d, n, v from {r}" for r in ("t", "early", "middle", "late", "rest")}),
    Case("a new serial column", ROWS, "alter table t add s serial", "", positions=False,
         rows={r: f"select id, d, n, v from {r}" for r in ("t", "early", "middle", "late", "rest")}),
    Case("a dropped column", ROWS + "create index on t (n); create index on middle (v, n)",
         "alter table t drop n", CHANGES),
    Case("a renamed column", ROWS + "create index on t (n)", "alter table t rename n to m",
         CHANGES),
    Case("a renamed key column", ROWS, "alter table t rename id to \"the Id\"", CHANGES),
    Case("NOT NULL", ROWS, "alter table t alter n set not null",
         "insert into t values (101, '2020-05-05', 7, 'new'); delete from t where id = 20;"
         "update t set d = '2021-05-05' where id = 21"),
    Case("a check", ROWS, "alter table t add check (id > 0), add constraint nv check (n > 5) not"
         " valid", CHANGES),
    Case("a unique constraint with the partition key", ROWS,
         "alter table t add unique (v, d), add constraint named unique (n, d, id)", CHANGES),
    Case("another primary key", ROWS,
         "alter table t drop constraint t_pkey, add primary key (d, id, v)",
         CHANGES.replace("(102, '2021-05-05', 7, 'elsewhere')", "(102, '2021-05-05', 7, 'e')")
         .replace("insert into middle (id, d) values (103, '2020-06-06');", "")),
    Case("defaults", ROWS, "alter table t alter n set default 9, alter v set default 'd',"
         " alter n drop default", CHANGES, after="insert into t (id, d) values (500, '2020-01-02')"),
    Case("storage, targets and a comment", ROWS,
         "alter table t alter v set storage external, alter n set statistics 5", CHANGES),
    Case("a dropped constraint", ROWS + "alter table t add constraint c check (n > 0);"
         "alter table t add constraint u unique (n, d)",
         "alter table t drop constraint c, drop constraint u", CHANGES),
    Case("an identity dropped", """
         create table t (id int generated by default as identity, d date, primary key (id, d))
           partition by range (d);
         create table b partition of t default;
         insert into t (d) select date '2020-12-20' + g from generate_series(1, 20) g""",
         "alter table t alter id drop identity", "insert into t (id, d) values (300, '2021-01-01')"),
    Case("row level security", ROWS, "alter table t enable row level security", CHANGES),
    Case("two runs", ROWS, ALTER, CHANGES, again="alter table t drop x, alter n type text"),
]


@pytest.mark.parametrize("case", named({"shape": SHAPES, "part": PARTS, "key": KEYS, "alter": ALTERS}))
def test_tree(oracle, case):
    oracle.check(case)
