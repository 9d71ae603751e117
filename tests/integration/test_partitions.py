"""A partition comes out of walter as it comes out of plain ALTER TABLE, in its place."""
import pytest

from support.hold import held_build, held_copy
from support.oracle import (INNER, OWNER, READER, WRITER, Case, named, new_oracle,
                            oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

# Three ranges; "t" is the middle one, and its columns are in another order than the parent's.
PARENT = """
create table p (id int, d date not null, n int default 7, v text, primary key (id, d))
  partition by range (d);
create table early partition of p for values from (minvalue) to ('2020-01-01');
create table t (gone int, v text, d date not null, id int not null, n int);
alter table t drop gone;
alter table p attach partition t for values from ('2020-01-01') to ('2021-01-01');
create table late partition of p for values from ('2021-01-01') to (maxvalue);
"""
ROWS = PARENT + """
insert into p select g, date '2019-12-17' + g, g * 10, 'row ' || g from generate_series(1, 30) g;
"""
# What arrives through the parent and directly: new rows, rows that move in and out, NULLs, deletes.
CHANGES = """
begin;
insert into p values (101, '2020-05-05', 7, 'new'), (102, '2022-05-05', 7, 'elsewhere');
insert into t (id, d) values (103, '2020-06-06');
update p set n = null, v = 'changed' where id in (3, 20);
commit;
update p set d = '2020-07-07' where id = 4;
update p set d = '2021-08-08' where id = 21;
update p set d = '2020-09-09', id = 104 where id = 22;
update t set v = v || '!' where id between 23 and 26;
delete from p where id in (5, 27);
"""
ALTER = "alter table t set (fillfactor = 70)"

# VALIDATE leaves the keys that the server derives for the partitions as they were.
VALIDATED = '"(definition|from_table)": .*REFERENCES (early|t|late)\\('

PLACES = [
    Case("range", ROWS, ALTER, CHANGES),
    Case("range, by the wal2json plugin", ROWS, ALTER, CHANGES, args=("--plugin=wal2json",)),
    Case("list, with null", """
         create table p (k varchar(9), id int not null, n numeric(9, 2)) partition by list (k);
         create table t partition of p (primary key (id)) for values in ('x', null, 'it''s');
         create table o partition of p (primary key (id)) for values in ('y');
         insert into p select (array['x', 'y', null, 'it''s'])[1 + g % 4], g, g
           from generate_series(1, 20) g;""", ALTER,
         "update p set k = 'y' where id = 1; update p set k = null where id = 2;"
         "insert into p values ('it''s', 30, 1), (null, 31, 2); delete from p where id = 4"),
    Case("by an expression, of two columns", """
         create table p (a int not null, k text, id int) partition by range (a, lower(k));
         create table t partition of p for values from (1, 'a') to (2, minvalue);
         alter table t add primary key (id);
         create table o partition of p for values from (2, 'a') to (maxvalue, maxvalue);
         insert into p select 1 + g % 2, 'B', g from generate_series(1, 20) g;""", ALTER,
         "update p set a = 3 where id = 2; insert into p values (1, 'X', 30)"),
    Case("default", """
         create table p (id int primary key, n int) partition by range (id);
         create table o partition of p for values from (1) to (10);
         create table q partition of p for values from (20) to (30);
         create table t partition of p default;
         insert into p select g, g from generate_series(1, 40) g;""", ALTER,
         "insert into p values (100, 1), (-1, 1); update p set id = 5 + 100 where id = 5;"
         "update p set id = 5 where id = 15; delete from t where id = 35"),
    Case("default, the only one", """
         create table p (id int primary key, n int) partition by list (id);
         create table t partition of p default; insert into p values (1, 1), (2, 2)""", ALTER,
         "insert into p values (3, 3); delete from p where id = 1"),
    Case("beside a default partition", ROWS + """
         drop table late; create table rest partition of p default;
         insert into p values (200, '2030-01-01', 1, 'rest');""", ALTER, CHANGES),
    Case("beside a default partition that is partitioned", ROWS + """
         drop table late; create table rest partition of p default partition by list (d);
         create table rest7 partition of rest for values in ('2022-05-05');
         create table restd partition of rest default;""", ALTER, CHANGES),
    Case("of a partition", """
         create table p (id int, d date, k char(3) not null, n int, primary key (id, d, k))
           partition by range (d);
         create table "Sub" partition of p for values from ('2020-01-01') to ('2021-01-01')
           partition by list (k);
         create table t partition of "Sub" for values in ('x', 'y');
         create table "Rest" partition of "Sub" default;
         create table o partition of p default;
         create index "by N" on p (n);
         insert into p select g, date '2020-12-20' + g, (array['x', 'y', 'z'])[1 + g % 3], g
           from generate_series(1, 30) g;""", ALTER,
         "update p set k = 'z' where id = 1; update p set d = '2020-05-05' where id = 21;"
         "insert into p values (100, '2020-01-01', 'x', 1); delete from p where id = 3"),
    Case("of a table partitioned by hash, in a range", """
         create table p (id int, d date, primary key (id, d)) partition by hash (id);
         create table h partition of p for values with (modulus 2, remainder 0)
           partition by range (d);
         create table o partition of p for values with (modulus 2, remainder 1);
         create table t partition of h for values from ('2020-01-01') to ('2021-01-01');
         insert into p select g, date '2020-02-20' + g from generate_series(1, 30) g;""", ALTER,
         "insert into p select g, '2020-12-12' from generate_series(31, 60) g;"
         "update p set d = '2020-03-03' where id % 3 = 1; delete from p where id % 5 = 1"),
    Case("in another schema than its parent", """
         create schema "S s"; create schema "P";
         create table "P"."p p" (id int primary key, n int) partition by range (id);
         create table "S s".t partition of "P"."p p" for values from (1) to (100);
         create index "i i" on "P"."p p" (n);
         insert into "P"."p p" select g, g from generate_series(1, 30) g;""",
         'alter table "S s".t set (fillfactor = 70), alter n set default 8',
         'insert into "P"."p p" values (50, 1); insert into "S s".t (id) values (51)'),
    Case("by an ordinary role", f"set role {OWNER}; {ROWS} create index on p (n);"
         f"grant select on t to {READER}; grant update (n) on t to {WRITER}; reset role", ALTER,
         CHANGES, user=OWNER),
    Case("that belongs to another role than its parent", ROWS + f"alter table t owner to {OWNER}",
         ALTER + ", alter n set default 8", CHANGES),
]

NOTE = """
create table log (tab text, what text, id int);
create function note() returns trigger language plpgsql as $$ begin
  insert into public.log values (tg_table_name, tg_name || tg_op, coalesce(new.id, old.id));
  return new; end $$;
"""

PARTS = [
    Case("indexes of the parent and of its own", ROWS + """
         create index "by N" on p (n); create unique index u on p (v, d) include (n);
         create index e on p (lower(v)) where n > 5; create index h on p using hash (v);
         create index own on t (n, v); create unique index t_u on t (id);
         alter index t_n_idx rename to "t by n"; alter index "t by n" set (fillfactor = 50);
         alter index t_lower_idx alter column 1 set statistics 77;
         comment on index own is 'own'; comment on index "t by n" is 'n';
         alter table t cluster on "t by n";""", ALTER, CHANGES),
    Case("an index with the same columns in another order", ROWS + """
         create index i on p (n, v); create index own on t (v, n);""", ALTER, CHANGES),
    Case("unique constraints of the parent and of its own", ROWS + """
         alter table p add constraint u unique (v, d) deferrable initially deferred;
         alter table t add constraint own unique (n, id), add constraint "Own" unique (v);
         comment on constraint own on t is 'own';
         alter table t rename constraint own to mine;""", ALTER, CHANGES),
    Case("replica identity by an index of its own", ROWS + """
         create unique index own on t (d, id); alter table t replica identity using index own;""",
         ALTER, CHANGES),
    Case("checks of the parent and of its own", ROWS + """
         alter table p add constraint c check (n is null or n >= 0),
           add constraint "c 2" check (id <> 1000);
         alter table t add constraint own check (n < 5000),
           add constraint later check (n > 300) not valid,
           add constraint alone check (id > 0) no inherit;
         comment on constraint c on t is 'c'; comment on constraint own on t is 'own';""",
         ALTER, "insert into p values (101, '2020-05-05', 500, 'new'); delete from p where id = 20"),
    Case("row triggers of the parent, its own, their states", NOTE + PARENT + """
         create trigger a after insert or update or delete on p for each row
           execute function note();
         create trigger b before insert on p for each row when (new.n > 1)
           execute function note();
         create trigger c after insert on p for each row execute function note();
         create trigger d after insert on p for each row execute function note();
         create trigger s after insert on p for each statement execute function note();
         create constraint trigger k after insert on p deferrable initially deferred
           for each row execute function note();
         create trigger own after update on t for each row execute function note();
         alter table t disable trigger c; alter table t enable always trigger a;
         alter table p enable replica trigger d; alter table t enable trigger d;
         alter table t disable trigger own; comment on trigger a on t is 'a of t';
         insert into p select g, date '2019-12-17' + g, g, 'v' from generate_series(1, 30) g;""",
         ALTER, CHANGES,
         after="insert into p values (300, '2020-05-05', 5, 'x'); insert into t (id, d) values"
         " (301, '2020-05-05'); update p set n = 1 where id in (300, 301);"
         "update p set d = '2022-01-01' where id = 301"),
    Case("triggers of the parent's parent", NOTE + """
         create table r (id int primary key, n int) partition by range (id);
         create table p partition of r for values from (1) to (100) partition by range (id);
         create table t partition of p for values from (1) to (50);
         create trigger a after insert on r for each row execute function note();
         create trigger b after insert on p for each row execute function note();
         create trigger c after insert on t for each row execute function note();
         alter table p disable trigger a; insert into r values (1, 1)""", ALTER,
         "insert into r values (2, 2)", after="insert into r values (3, 3)"),
    Case("foreign keys of its own, both ways", ROWS + """
         create table other (id int primary key); insert into other select generate_series(0, 999);
         alter table t add constraint own foreign key (n) references other;
         alter table t add constraint u unique (id);
         create table child (id int references t (id)); insert into child values (20);""", ALTER,
         "insert into p values (101, '2020-05-05', 7, 'new'); insert into child values (101)",
         after="delete from child"),
    Case("foreign keys of the parent", ROWS + """
         create table other (id int primary key, v text unique);
         insert into other select g, 'row ' || g from generate_series(0, 999) g;
         insert into other values (1000, 'new'), (1001, 'changed'), (1002, 'elsewhere');
         insert into other select 2000 + g, 'row ' || g || '!' from generate_series(1, 30) g;
         alter table t add constraint "of T" foreign key (v) references other (v)
           on delete cascade deferrable;
         alter table p add constraint f foreign key (n) references other on update cascade,
           add constraint g foreign key (v) references other (v) on delete cascade deferrable;
         alter table t add constraint own foreign key (id) references other;
         comment on constraint f on t is 'f of t'""", ALTER, CHANGES,
         after="update other set id = 5000 where id = 7; delete from other where v = 'new'"),
    Case("foreign keys to the parent", ROWS + f"""
         create table child (id int, d date, n int, constraint "To P" foreign key (id, d)
           references p on delete cascade on update cascade deferrable initially deferred);
         insert into child select id, d from p where id between 18 and 22;
         create schema s; create table s.child (n int, d date);
         alter table s.child add constraint f foreign key (n, d) references p not valid;
         comment on constraint "To P" on child is 'to p'""", ALTER,
         CHANGES + "insert into child values (101, '2020-05-05'); delete from p where id = 18",
         after="delete from p where id = 101; update p set id = 1000 where id = 19",
         ignore=VALIDATED),
    Case("foreign keys of the parent's parent, their triggers disabled", """
         create table other (id int primary key); insert into other select generate_series(1, 99);
         create table r (id int primary key, n int references other) partition by range (id);
         create table p partition of r for values from (1) to (100) partition by range (id);
         create table t partition of p for values from (1) to (50);
         insert into r select g, g from generate_series(1, 20) g;
         alter table t disable trigger all;""", ALTER,
         "insert into r values (30, 30)", after="insert into t values (31, 1001)",
         # pg_dump names these triggers, whose names are made of oids
         ignore="DISABLE TRIGGER .RI_ConstraintTrigger_c_", superuser=INNER),
    Case("views, rules and functions on it and on its parent", ROWS + """
         create view of_t as select id, v from t where n > 50; create view of_p as select * from p;
         create view on_view as select count(*) from of_t;
         create materialized view mat as select d, n from t; create unique index on mat (d);
         create function f(r t) returns int language sql return r.n;
         create rule quiet as on delete to of_t do instead delete from t where id = old.id;""",
         ALTER, CHANGES, after="delete from of_t where id = 9; insert into of_p (id, d) values"
         " (300, '2020-02-02'); refresh materialized view mat"),
    Case("policies and statistics of its own and of its parent", ROWS + f"""
         create policy own on t for select to {READER} using (n > 50);
         create policy of_p on p using (id > 3); alter table t enable row level security;
         alter table p enable row level security;
         create statistics st on n, v from t; create statistics sp on n, v from p;
         grant select on t, p to {READER};""", ALTER, CHANGES),
    Case("publications of it and of its parent", ROWS + """
         create publication pub_p for table p; create publication pub_t for table t;
         create publication pub_root for table p with (publish_via_partition_root = true);
         create publication pub_o for table only early""", ALTER, CHANGES),
    Case("all that a partition may have of its own", ROWS + rf"""
         alter table t alter n set default 9, alter v set not null, alter v set storage external,
           alter n set statistics 55, alter d set default '2020-01-02',
           set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
         comment on table t is 'the t'; comment on column t.n is 'n';
         grant select on p to {READER}; grant select (v), update (n) on t to {WRITER};
         grant insert on t to {READER} with grant option;""", ALTER,
         CHANGES.replace("insert into t (id, d) values (103, '2020-06-06');", "")),
    Case("serial and generated columns of the parent", """
         create table p (id bigserial, d date, n int, g int generated always as (n * 2) stored,
           primary key (id, d)) partition by range (d);
         create table t partition of p for values from ('2020-01-01') to ('2021-01-01');
         create table o partition of p default;
         insert into p (d, n) select date '2020-12-20' + g, g from generate_series(1, 30) g;""",
         ALTER, "insert into p (d, n) values ('2020-01-01', 5), ('2022-01-01', 6);"
         "update p set d = '2020-02-02' where n = 30", after="insert into p (d) values ('2020-3-3')"),
    Case("identity of the parent", """
         create table p (id int generated always as identity, d date, primary key (id, d))
           partition by range (d);
         create table t partition of p for values from ('2020-01-01') to ('2021-01-01');
         create table o partition of p default;
         insert into p (d) select date '2020-12-20' + g from generate_series(1, 30) g;""",
         ALTER, "insert into p (d) values ('2020-01-01'), ('2022-01-01')",
         after="insert into p (d) values ('2020-3-3')"),
    Case("while the indexes are built", ROWS + "create index on p (v)", ALTER, CHANGES,
         hold=held_build),
    Case("twice", ROWS, ALTER, CHANGES, again="alter table t reset (fillfactor), alter n set"
         " default 3, alter v set statistics 9"),
]

BIG = ROWS + "create index i on p (n); alter table t add constraint c check (n > -1), add unique (n);"

ALTERS = [Case(alter, BIG, f"alter table t {alter}", CHANGES) for alter in (
    "set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1), alter v set storage main",
    "alter v set statistics 33, alter n set default 5, alter n set (n_distinct = 5)",
    "alter v set storage external",
    "add constraint x check (id > 0), add check (v <> ''), drop constraint c",
    "add constraint x unique (v, n), drop constraint t_n_key",
    "rename constraint c to renamed",
    "add constraint x check (n > 1000) not valid, alter n drop default",
    "replica identity full",
)] + [
    Case("set not null", BIG, "alter table t alter v set not null, alter n set not null",
         "insert into p values (101, '2020-05-05', 7, 'new'); delete from t where id = 20"),
    Case("drop not null", BIG.replace("v text, d date not null, id int not null",
                                      "v text not null, d date not null, id int not null"),
         "alter table t alter v drop not null",
         "insert into p values (101, '2020-05-05', 7, 'new'); delete from t where id = 20"),
    Case("three statements", BIG, "alter table t add constraint x check (id > 0);"
         "alter table t rename constraint x to y; alter table t set (fillfactor = 60)", CHANGES),
    Case("disable trigger", NOTE + ROWS + "create trigger a after insert on p for each row"
         " execute function note(); create trigger b after insert on t for each row execute"
         " function note()",
         "alter table t disable trigger a, enable always trigger b, set (fillfactor = 50)", CHANGES,
         after="insert into p values (300, '2020-05-05', 5, 'x')"),
    Case("add a foreign key", ROWS + "create table other (id int primary key);"
         "insert into other select generate_series(0, 999);",
         "alter table t add constraint f foreign key (n) references other on delete cascade",
         CHANGES, after="delete from other where id = 7"),
    Case("change the owner", ROWS, f"alter table t owner to {OWNER}", CHANGES),
    Case("identity by a new index", ROWS + "create unique index i on t (d, id)",
         "alter table t replica identity using index i", CHANGES),
]

# What others do to the parent while the run is on, and is followed.
OTHERS = {
    "an index": "create index newer on p (v); comment on index t_v_idx is 'v'",
    "a unique constraint": "alter table p add constraint newer unique (n, d)",
    "a trigger": NOTE + "create trigger newer after insert or update on p for each row execute"
                 " function note(); alter table t disable trigger newer; insert into p values"
                 " (110, '2020-05-05', 7, 'no note')",
    "a default partition": "drop table late; create table rest partition of p default;"
                           "insert into p values (110, '2025-05-05', 7, 'rest')",
    "a foreign key": "create table r (id int primary key); insert into r select"
                     " generate_series(1, 999); alter table p add constraint newer foreign key (id)"
                     " references r on delete cascade",
    "a foreign key to it": "create table child (id int, d date, constraint f foreign key (id, d)"
                           " references p); insert into p values (120, '2020-01-01'); insert"
                           " into child values (120, '2020-01-01')",
    "another partition": "create table p0 partition of p for values from ('1990-01-01') to"
                         " ('1991-01-01')",
    "renamed": "alter table p rename to p2",
    "moved and an index": "create schema s; alter table p set schema s;"
                          "create index newer on s.p (v)",
}
FOLLOWED = [Case(f"{what}, {when}", ROWS.replace("(minvalue)", "('2000-01-01')"), ALTER, during,
                 hold=hold, after="insert into t (id, d) values (300, '2020-06-06')",
                 ignore=VALIDATED)
            for what, during in OTHERS.items()
            for when, hold in (("copy", held_copy), ("index", held_build))
            # from 18 on it waits for readers of the partitions, and so for the copy that is held
            if (what, when) != ("a unique constraint", "copy")]

ALL = {"place": PLACES, "with": PARTS, "alter": ALTERS, "others": FOLLOWED}


@pytest.mark.parametrize("case", named(ALL))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)
