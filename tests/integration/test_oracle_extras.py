"""What hangs on a table comes out of walter as it comes out of plain ALTER TABLE: the rarer things."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, TABLESPACE, WRITER, Case, named,
                            new_oracle, oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"

STATISTICS_SETUP = ROWS + """
create schema s;
create statistics st on id, n, v from t;
create statistics s.st (ndistinct) on n, v from t;
create statistics "S t" (mcv, dependencies) on n, d from t;
create statistics s."exp r" on (lower(v)), (n + id), d from t;
create statistics "stx_1" (mcv) on v, d from t;
alter statistics "S t" set statistics 0; alter statistics st set statistics 77;
comment on statistics s.st is 'it''s in s'; comment on statistics "S t" is 'S t';
"""
STATISTICS = [
    Case("of all kinds", STATISTICS_SETUP, "alter table t add x int default 5", CHANGES),
    Case("types changed under them", STATISTICS_SETUP, "alter table t alter n type bigint", CHANGES),
    Case("columns renamed and dropped", STATISTICS_SETUP,
         "alter table t rename v to text; alter table t drop d, alter id type bigint", CHANGES),
    Case("owner another one", STATISTICS_SETUP + f"alter table t owner to {OWNER};"
         f"alter statistics s.st owner to {READER}; alter statistics st owner to {OWNER}", ALTER,
         CHANGES),
    Case("by an ordinary role", f"grant create, usage on schema public to {OWNER}; set role {OWNER};"
         + STATISTICS_SETUP.replace("create schema s;", "").replace(" s.st", " st2").replace(" s.", " "), ALTER, CHANGES,
         user=OWNER),
    Case("twice", STATISTICS_SETUP, ALTER, CHANGES, again="alter table t add y int"),
    Case("in a schema with a strange name", """create schema "S %s"; create table "S %s"."T" (id int
         primary key, n int); create statistics "S %s"."st %I" on id, n from "S %s"."T";""",
         'alter table "S %s"."T" add x int'),
]

INDEXES = [
    Case("rare kinds and options", ROWS + """
         create extension pg_trgm; create extension btree_gist;
         alter table t add a int[], add r int4range, add j jsonb, add p point;
         create unique index i_nnd on t (n) nulls not distinct where id < 31;
         alter table t add constraint c_nnd unique nulls not distinct (id, n);
         create index i_siglen on t using gist (to_tsvector('simple', v) tsvector_ops (siglen = 100));
         create index i_trgm on t using gin (v gin_trgm_ops) with (gin_pending_list_limit = 128);
         create index i_path on t using gin (j jsonb_path_ops);
         create index i_minmax on t using brin (d date_minmax_multi_ops (values_per_range = 16))
           with (pages_per_range = 2, autosummarize = on);
         create index i_bloom on t using brin (n int4_bloom_ops (n_distinct_per_range = 50));
         create index i_collate on t (v collate "C" text_pattern_ops desc nulls last, d asc nulls first)
           include (n) with (deduplicate_items = off, fillfactor = 77);
         create index i_quad on t using spgist (p quad_point_ops);
         create index i_hash on t using hash (d) with (fillfactor = 60);
         create unique index i_unique on t (id desc) include (v) where v is not null;
         alter table t add constraint x_simple exclude (id with =),
           add constraint x_gist exclude using gist (id with =, r with &&) where (n > 0)
             deferrable initially deferred,
           add constraint u_include unique (id) include (v, n) with (fillfactor = 50),
           add constraint u_deferred unique (id, v) deferrable initially deferred;
         comment on constraint x_gist on t is 'x'; comment on index i_nnd is 'nnd';
         alter index i_collate depends on extension pg_trgm;""",
         "alter table t add x int default 5",
         "update t set id = 103, v = null where id = 4; delete from t where id = 5;"
         "insert into t (id, n, r) values (201, 1, '[1,5)'), (202, 1, '[1,5)')",
         after="insert into t (id, v) values (3, 'x') on conflict on constraint t_pkey"
         "   do update set v = excluded.v;"
         "insert into t (id, n) values (6, 60) on conflict on constraint c_nnd do nothing"),
    Case("columns of rare indexes renamed, retyped and dropped", ROWS + """
         alter table t add constraint u unique nulls not distinct (n, id),
           add constraint x exclude using gist (int4range(id, n + 1000000) with &&) where (id < 0);
         create index i on t (lower(v) collate "C" desc, n) include (d) where v <> '';""",
         "alter table t rename n to amount; alter table t drop d; alter table t rename v to text",
         CHANGES),
    Case("dropped and added by the statement", ROWS + """
         alter table t add constraint u unique (n) deferrable;
         create index i on t (v) with (fillfactor = 50)""",
         "alter table t drop constraint u, add constraint u unique (n, id) include (v),"
         " drop constraint t_pkey, add primary key (id) include (n)", CHANGES),
]

IDENTITY = [
    Case(f"replica identity {kind}", ROWS + "alter table t add k int generated always as identity;"
         f"create unique index k2 on t (k); alter table t replica identity {kind}",
         ALTER, CHANGES) for kind in ("full", "using index k2", "default")
] + [
    Case("set by the statement", ROWS + "create unique index k on t (id)",
         "alter table t replica identity full, alter n type bigint", CHANGES),
    Case("set to an index by the statement", ROWS + "create unique index k on t (id)",
         "alter table t replica identity using index k; alter table t cluster on k", CHANGES),
    Case("the cluster mark taken away", ROWS + "alter table t cluster on t_pkey",
         "alter table t set without cluster, alter n type bigint", CHANGES),
] + [
    Case(f"none, of a table with identity {kind}", f"""
         create table t (id int not null, n int, v text not null);
         insert into t select g, g, 'v' || g from generate_series(1, 30) g;
         create unique index k on t (v, id) include (n); create index on t (n);
         alter table t replica identity {kind};""", ALTER,
         "update t set n = null where id = 3; update t set id = 103 where id = 4;"
         "insert into t values (200, 1, 'new'); delete from t where id = 5",
         args=("--set-replica-identity",)) for kind in ("full", "nothing", "default")
]

OPTIONS = [
    Case("of table and toast table", ROWS + """
         alter table t set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_threshold = 7,
           autovacuum_freeze_max_age = 200000000, log_autovacuum_min_duration = 5,
           vacuum_index_cleanup = off, vacuum_truncate = off, fillfactor = 80,
           autovacuum_vacuum_cost_delay = 3, toast.autovacuum_enabled = false,
           toast.vacuum_truncate = off, toast.autovacuum_vacuum_scale_factor = 0.5);
         alter table t alter v set storage external, alter v set (n_distinct = -0.25,
           n_distinct_inherited = 3), alter v set compression pglz, alter d set statistics 0,
           alter n set statistics 1000;""",
         "alter table t set (fillfactor = 70), reset (vacuum_truncate), alter d set statistics 9;"
         "alter table t alter n type bigint", CHANGES),
    Case("autovacuum switched by the statement", ROWS + "alter table t set (fillfactor = 80)",
         "alter table t set (autovacuum_enabled = false), alter n type bigint", CHANGES),
    Case("storage, compression and statistics of renamed and retyped columns", ROWS + """
         alter table t alter v set storage main, alter v set compression pglz, alter v set statistics
           7, alter n set statistics 3, alter n set (n_distinct = 4)""",
         "alter table t rename v to text; alter table t alter text type varchar(50), alter n type"
         " text", CHANGES),
    Case("tablespace, and where the indexes are", ROWS + f"""create index i on t (n);
         alter table t set tablespace {TABLESPACE}; alter index i set tablespace {TABLESPACE}""",
         "alter table t alter n type bigint, add unique (v, id) using index tablespace "
         + TABLESPACE, CHANGES),
    Case("tablespace changed by the statement", ROWS + "create index i on t (n)",
         f"alter table t set tablespace {TABLESPACE}; alter table t alter n type bigint", CHANGES),
]

COMMENTS = [
    Case("on everything", ROWS + r"""
         alter table t add s serial, add i int generated always as identity,
           add constraint c check (n > -1) not valid, add constraint u unique (v),
           add constraint x exclude (id with =), add constraint f foreign key (n) references t
             not valid, add constraint valid check (id > 0);
         create index "I i" on t (n); create statistics st on n, v from t;
         create table child (t int constraint "Child's" references t);
         create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger g before insert on t for each row execute function nothing();
         create rule r as on update to t do also notify t; create policy p on t;
         comment on table t is E'it''s "t"\n\\ %s %I';
         comment on column t.id is 'id %'; comment on column t.s is 's'; comment on column t.i is 'i';
         comment on constraint c on t is 'c'; comment on constraint u on t is E'u\\';
         comment on constraint x on t is 'x'; comment on constraint f on t is 'f';
         comment on constraint valid on t is 'valid'; comment on constraint t_pkey on t is 'pkey';
         comment on constraint "Child's" on child is 'it''s';
         comment on index "I i" is 'I i'; comment on index t_pkey is 'index pkey';
         comment on index u is 'index u'; comment on index x is 'index x';
         comment on statistics st is 'st'; comment on sequence t_s_seq is 's seq';
         comment on sequence t_i_seq is 'i seq'; comment on trigger g on t is 'g';
         comment on rule r on t is 'r'; comment on policy p on t is 'p'""",
         "alter table t rename n to amount; alter table t rename constraint u to uu; alter table t"
         " add x int default 5",
         "insert into t (id) values (101); delete from t where id = 5"),
]

GRANTS = [
    Case("default privileges of all kinds leave nothing", ROWS + f"""
         alter table t add i int generated always as identity, add s serial;
         grant select (n) on t to {READER} with grant option; grant insert on t to public;
         alter default privileges grant all on tables to public;
         alter default privileges in schema public grant all on tables to {READER} with grant option;
         alter default privileges grant all on sequences to public;
         alter default privileges in schema public grant all on sequences to {WRITER};
         create table other (id int); drop table other""", ALTER, CHANGES),
    Case("default privileges that take from the owner", ROWS + f"""
         alter table t owner to {OWNER}; alter default privileges for role {OWNER} revoke insert on
           tables from {OWNER}; grant select on t to {READER}""", ALTER, CHANGES,
         after=f"alter default privileges for role {OWNER} grant insert on tables to {OWNER}"),
    Case("column privileges passed on", ROWS + f"""alter table t owner to {OWNER}; set role {OWNER};
         grant select (id, n), update (v) on t to {WRITER} with grant option; set role {WRITER};
         grant select (id) on t to {READER} with grant option; grant update (v) on t to public;
         set role {READER}; grant select (id) on t to public; reset role""",
         "alter table t rename v to text; alter table t alter n type bigint", CHANGES),
]

KEYS_OF_OTHERS = [
    Case("that reference an index without a constraint", ROWS + """
         create unique index k on t (n, id);
         create table child (n int, id int, foreign key (n, id) references t (n, id) match full
           on update cascade on delete set null);
         insert into child values (10, 1), (20, 2), (null, null)""",
         "alter table t add x int default 5",
         "insert into t (id, n) values (101, 7); update t set v = 'x' where id = 10",
         after="update t set n = 11 where id = 1; delete from t where id = 2"),
    Case("with all actions", ROWS + """
         create unique index k on t (id, n);
         create table a (id int, n int, k int, foreign key (id, n) references t (id, n)
           on delete set null (n) on update cascade);
         create table b (id int references t on delete restrict on update no action deferrable);
         create table c (id int references t on delete cascade deferrable initially deferred);
         create table d (id int default 7, n int default 70, foreign key (id, n) references t (id, n)
           match full on delete set default on update set null);
         insert into a values (1, 10); insert into b values (2); insert into c values (3);
         insert into d values (4, 40), (null, null)""",
         "alter table t add x int default 5; alter table t rename n to amount",
         "insert into t (id, n) values (101, 7); update t set v = 'x' where id = 10",
         after="delete from t where id in (1, 3, 4); update t set amount = 71 where id = 7"),
]

PARTITIONED = ROWS + """
create unique index k on t (id, n);
create table c (day date, t_id int constraint "To t" references t on delete cascade deferrable,
  n int, foreign key (t_id, n) references t (id, n) match full on update cascade on delete set null)
  partition by range (day);
create table c1 partition of c for values from ('2020-01-01') to ('2021-01-01');
create table c2 (filler int, n int, t_id int, day date); alter table c2 drop filler;
alter table c attach partition c2 for values from ('2021-01-01') to ('2022-01-01');
create table "C 3" partition of c for values from ('2022-01-01') to ('2024-01-01')
  partition by range (day);
create table "C 3a" partition of "C 3" for values from ('2022-01-01') to ('2023-01-01');
create table c3b partition of "C 3" default;
create table alone (t_id int references t);
insert into c values ('2020-02-02', 1, 10), ('2021-02-02', 2, 20), ('2022-02-02', 3, 30),
  ('2023-02-02', 4, 40), ('2023-02-03', null, null);
comment on constraint "To t" on c is 'to t';
"""
KEYS_OF_OTHERS += [
    Case("of a partitioned table", PARTITIONED, "alter table t add x int default 5",
         "insert into t (id, n) values (101, 7); insert into c values ('2020-03-03', 101, 7);"
         "update t set v = 'x' where id = 3",
         after="update t set n = 21 where id = 2; create table c4 partition of c default;"
         "delete from t where id in (1, 4); insert into c values ('2030-01-01', 101, 7)"),
    Case("of a partitioned table, and the key renamed", PARTITIONED,
         "alter table t rename id to number; alter table t rename n to amount", CHANGES.replace(
             "id = 3", "id = 13").replace("id = 4", "id = 14").replace("id = 5", "id = 15")),
    Case("of a partitioned table by an ordinary role", f"set role {OWNER};" + PARTITIONED
         + "reset role", "alter table t alter v type varchar(100)", user=OWNER),
]

NOTHING = "create function nothing() returns trigger language plpgsql as 'begin return null; end';"
TRIGGERS = [
    Case("of all kinds, with columns renamed", ROWS + NOTHING + """
         create extension pg_trgm;
         create trigger a after update on t referencing old table as o new table as "New"
           for each statement when (true) execute function nothing('a', 'b''b');
         create trigger a2 after update of n, v on t for each statement execute function nothing();
         create trigger b after update on t for each row when (old.n is distinct from new.n
           or old.* is distinct from new.*) execute function nothing();
         create constraint trigger c after insert or update of v on t from t deferrable initially
           deferred for each row when (new.v <> 'x') execute function nothing();
         create trigger "D d" after truncate on t execute function nothing();
         create trigger e after delete on t for each row execute function nothing();
         alter trigger a on t depends on extension pg_trgm;
         alter table t disable trigger a, enable always trigger b, enable replica trigger "D d";
         comment on trigger a on t is 'a'""",
         "alter table t add x int default 5; alter table t rename v to text", CHANGES),
    Case("dropped with a column, switched by the statement", ROWS + NOTHING + """
         create trigger a after update of d on t for each row execute function nothing();
         create trigger b after update on t for each row execute function nothing()""",
         "alter table t drop d cascade; alter table t disable trigger b", CHANGES),
]

SEQUENCES = [
    Case("of ours in others' defaults", f"""
         create table t (id serial primary key, n int, s bigserial);
         alter sequence t_s_seq increment 5 minvalue -100 maxvalue 9999 cycle cache 7;
         grant usage on sequence t_id_seq to {READER};
         create table other (id int default nextval('t_id_seq'), s text default 'x' ||
           nextval('t_s_seq'::regclass)); insert into t (n) values (1), (2); insert into other
           values (default)""", ALTER, "insert into t (n) values (3); insert into other values"
         " (default)", after="insert into other values (default); insert into t (n) values (4)"),
    Case("others' in our defaults", """
         create table other (id serial); create sequence free start 100;
         create table t (id int primary key default nextval('other_id_seq'),
           n int default nextval('free'));
         alter sequence free owned by t.n; insert into t values (default), (default)""",
         "alter table t alter n type bigint, add x int default 5", "insert into t values (default)",
         after="insert into t values (default); insert into other values (default)"),
]

PUBLICATIONS = [
    Case("of all kinds", ROWS + """
         create table other (id int); create schema s;
         create publication a for table t with (publish = 'insert, delete');
         create publication b for table other, t where (id > 5 and v is not null);
         create publication c for table t (v, id) with (publish_via_partition_root);
         create publication "D ""d" for table t (id, n) where (n > 0 or n is null)
           with (publish = 'insert');
         create publication e for tables in schema public, table other;
         create publication f for table other; comment on publication b is 'b'""".replace(
             " and v is not null", ""),
         "alter table t add x int default 5, drop d", CHANGES),
    Case("columns renamed, and dropped with the membership", ROWS + """
         create publication a for table t (id, n) where (id > 5);
         create publication b for table t (id, v)""",
         "alter table t rename n to amount; alter table t rename id to number;"
         " alter table t drop v cascade",
         CHANGES),
]

ALL = {"publications": PUBLICATIONS, "statistics": STATISTICS, "indexes": INDEXES, "identity": IDENTITY, "options": OPTIONS,
       "comments": COMMENTS, "grants": GRANTS, "keys of others": KEYS_OF_OTHERS,
       "triggers": TRIGGERS, "sequences": SEQUENCES}


@pytest.mark.parametrize("case", named(ALL))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)
