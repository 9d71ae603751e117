"""What tables have and what is done to them: material for combinations.

Every feature is SQL that works on TABLE alone and together with all others; every ALTER works, or
fails in PostgreSQL itself, whatever features there are.
"""
from .oracle import OWNER, READER, TABLESPACE, WRITER

LONG = "ü" * 31 + "x"                           # 63 bytes
STRANGE = 'we"ird na.me %s $1 \\ \'x'

TABLE = """
create table t (gone int, id int, n int, v text, d date, k int not null default 7, j jsonb,
                a int[], w numeric(10,2), r int4range, s text, f int default 1);
alter table t drop gone;
alter table t add constraint t_pkey primary key (id);
insert into t (id, n, v, d, j, a, w, r, s, f)
  select g, g * 10, 'row ' || g, date '2020-01-01' + g, jsonb_build_object('g', g), array[g, g + 1],
         g / 4.0, int4range(g, g + 1), repeat('s', g * 20), 1 + g % 3 from generate_series(1, 30) g;
insert into t (id) values (31);
create table other (id int primary key, b int, c int);
insert into other select g, g, g from generate_series(1, 3) g;
create unique index other_bc on other (b, c);
create schema s;
create function touch() returns trigger language plpgsql as
  $$ begin if tg_op = 'DELETE' then return old; end if; return new; end $$;
"""

# What comes through the stream; no feature may make it fail.
CHANGES = """
begin;
insert into t (id, n, v, f) values (101, 7, 'new', 2);
insert into t (id) values (102);
update t set n = null, v = 'changed' where id = 3;
commit;
update t set id = 103, v = null where id = 4;
update t set v = v || '!', w = 1.5 where id < 9;
delete from t where id = 5;
"""

FEATURES = {
    # indexes
    "expression index": "create index i_expression on t ((n + 1), lower(v))",
    "partial index": "create index i_partial on t (v) where n > 20 and v is not null",
    "covering index": "create unique index i_covering on t (id) include (n, v)",
    "sorted index": "create index i_sorted on t (n desc nulls last, v nulls first)",
    "operator class": "create index i_opclass on t (v text_pattern_ops)",
    "collation": 'create index i_collation on t (v collate "C")',
    "gin index": "create index i_gin on t using gin (j jsonb_path_ops) with (fastupdate = off)",
    "gin array": "create index i_gin_a on t using gin (a)",
    "gist index": "create index i_gist on t using gist (r)",
    "brin index": "create index i_brin on t using brin (n) with (pages_per_range = 2)",
    "hash index": "create index i_hash on t using hash (v)",
    "spgist index": "create index i_spgist on t using spgist (v)",
    "nulls not distinct": "create unique index i_nulls on t (id, n) nulls not distinct",
    "index fillfactor": "create index i_fill on t (n) with (fillfactor = 60)",
    "index tablespace": f"create index i_space on t (n) tablespace {TABLESPACE}",
    "index statistics": "create index i_stats on t ((n * 2));"
                        "alter index i_stats alter column 1 set statistics 77",
    "index comment": "create index i_comment on t (d); comment on index i_comment is 'it''s'",
    "cluster mark": "create index i_cluster on t (n); alter table t cluster on i_cluster",
    "strange index": f'create index "{STRANGE.replace(chr(34), chr(34) * 2)}" on t (n)',
    "long index": f'create index "{LONG}" on t (n)',
    # constraints
    "unique": "alter table t add constraint c_unique unique (id, v)",
    "deferrable unique": "alter table t add constraint c_deferrable unique (id, n) deferrable"
                         " initially deferred",
    "exclusion": "alter table t add constraint c_exclusion exclude using gist (r with =)"
                 " where (id < 0)",
    "check": "alter table t add constraint c_check check (n < 100000 and v <> 'never')",
    "check not valid": "alter table t add constraint c_not_valid check (n <> 12345) not valid",
    "check no inherit": "alter table t add constraint c_no_inherit check (k > 0) no inherit",
    "constraint comment": "alter table t add constraint c_comment check (id > 0);"
                          "comment on constraint c_comment on t is 'positive'",
    "strange constraint":
        f'alter table t add constraint "{STRANGE.replace(chr(34), chr(34) * 2)}" check (k < 99)',
    # foreign keys
    "foreign key": "alter table t add constraint k_out foreign key (f) references other",
    "foreign key not valid":
        "alter table t add constraint k_not_valid foreign key (k) references other not valid;"
        "insert into other values (7)",
    "foreign key from another": "create table child (id int primary key, t int references t"
                                " on update cascade on delete set null);"
                                "insert into child values (1, 1), (2, 4), (3, 5)",
    "foreign key to itself": "alter table t add constraint k_self foreign key (k) references t",
    "foreign key match full": "alter table t add b int, add c int, add constraint k_full"
                              " foreign key (b, c) references other (b, c) match full;"
                              "update t set b = 2, c = 2 where id = 7",
    "foreign key deferrable": "alter table t add constraint k_deferrable foreign key (f) references"
                              " other on update restrict deferrable initially deferred",
    "foreign key to an index": "create unique index i_target on t (id, k);"
                               "create table refers (a int primary key, b int, foreign key (a, b)"
                               " references t (id, k) on update cascade on delete cascade);"
                               "insert into refers values (5, 7), (6, 7)",
    # triggers
    "trigger": "create trigger g_row before insert or update on t for each row"
               " execute function touch()",
    "trigger of columns": "create trigger g_columns before update of n, v on t for each row"
                          " when (old.n is distinct from new.n) execute function touch('a''b')",
    "constraint trigger": "create constraint trigger g_constraint after insert on t deferrable"
                          " initially deferred for each row execute function touch()",
    "transition tables": "create trigger g_statement after update on t referencing old table as o"
                         " new table as n for each statement execute function touch()",
    "trigger disabled": "create trigger g_off after delete on t for each row execute function"
                        " touch(); alter table t disable trigger g_off",
    "trigger always": "create trigger g_always after insert on t for each row execute function"
                      " touch(); alter table t enable always trigger g_always;"
                      "comment on trigger g_always on t is 'always'",
    "trigger on replicas": "create trigger g_replica after insert on t for each row execute"
                           " function touch(); alter table t enable replica trigger g_replica",
    # security
    "policies": f"""alter table t enable row level security;
        create policy p_all on t using (n > 0) with check (n is not null);
        create policy p_role on t as restrictive for select to {READER}, {WRITER}
          using (k in (select id from other));
        comment on policy p_all on t is 'all'""",
    "forced security": "alter table t force row level security",
    "policy of another": "create policy p_other on other using (id in (select f from t))",
    "grants": f"grant select, insert on t to {READER} with grant option; grant all on t to {WRITER}",
    "grants of columns": f"grant select (n), update (n, v) on t to {READER} with grant option;"
                         f"set role {READER}; grant select (n) on t to {WRITER}; reset role",
    "default privileges": f"alter default privileges grant select on tables to {WRITER};"
                          f"alter default privileges in schema public grant usage on sequences to"
                          f" {READER}",
    # rules and statistics
    "rule": "create rule u_rule as on delete to t where old.id < 0 do also delete from other"
            " where id = old.id; comment on rule u_rule on t is 'rule'",
    "rule disabled": "create rule u_off as on update to t do instead nothing;"
                     "alter table t disable rule u_off",
    "statistics": "create statistics st on n, v from t; create statistics s.st_mcv (mcv) on n, d"
                  " from t; alter statistics st set statistics 50; comment on statistics st is 'st'",
    "expression statistics": "create statistics st_expression on (n + 1), (lower(v)) from t",
    "column statistics": "alter table t alter n set statistics 55, alter v set (n_distinct = -0.5)",
    # storage
    "storage": "alter table t alter v set storage external, alter s set storage main",
    "compression": "alter table t alter s set compression pglz",
    "options": "alter table t set (fillfactor = 70, autovacuum_vacuum_threshold = 99)",
    "toast options": "alter table t set (toast.autovacuum_enabled = off)",
    "tablespace": f"alter table t set tablespace {TABLESPACE}",
    "comments": "comment on table t is 'a \"table\"'; comment on column t.n is 'enn';"
                "comment on column t.d is E'two\\nlines'",
    # replication
    "replica identity full": "alter table t replica identity full",
    "publication": "create publication pub for table t, other",
    "publication of columns": "create publication pub_columns for table t (id, k) where (id > 3)"
                              " with (publish = 'insert')",
    "publication of a schema": "create publication pub_schema for tables in schema public",
    # columns
    "serial": "alter table t add c_serial serial",
    "identity": "alter table t add c_identity bigint generated always as identity"
                " (start 1000 increment by 5 cache 3)",
    "generated": "alter table t add c_generated int generated always as (id * 2) stored",
    "sequence by hand": "alter table t add c_hand int; create sequence hand owned by t.c_hand;"
                        "alter table t alter c_hand set default nextval('hand');"
                        "select setval('hand', 500)",
    "sequence of another": "create sequence shared; alter table t alter n set default"
                           " nextval('shared'); alter table other alter c set default"
                           " nextval('shared')",
    "domain": "create domain small as int default 3 check (value < 1000); alter table t add c_domain"
              " small",
    "enum": "create type mood as enum ('sad', 'glad'); alter table t add c_enum mood default 'sad',"
            " add c_enums mood[]",
    "composite": "create type pair as (x int, y text); alter table t add c_pair pair, add c_pairs"
                 " pair[]; update t set c_pair = (id, v), c_pairs = array[(1, 'a')::pair]",
    "strange column": f'alter table t add "{STRANGE.replace(chr(34), chr(34) * 2)}" int default 4',
    "not null": "update t set n = 0 where n is null; alter table t alter d set default now()",
    # dependents
    "view": "create view w_view as select id, k, upper(s) as upper from t where f > 0",
    "view on view": "create view s.w_base with (security_barrier) as select id, k from t;"
                    "create view w_top as select b.id + b.k as sum from s.w_base b;"
                    f"comment on column w_top.sum is 'sum'; grant select on w_top to {READER}",
    "view with a check": "create view w_check as select id, k, f from t where id > 0"
                         " with cascaded check option; alter view w_check alter k set default 9",
    "materialized view": "create materialized view m_view as select f, count(*) from t group by f;"
                         "create unique index on m_view (f); comment on materialized view m_view"
                         " is 'mat'",
    "function with a body": "create function fn_body(i int) returns bigint begin atomic"
                            " select count(*) from t where t.id < i; end",
    "function of the row": "create function fn_row(r t) returns text language sql as"
                           " $$ select r.s $$; comment on function fn_row(t) is 'row'",
    "plpgsql": "create function fn_plpgsql() returns int language plpgsql as $$ declare r t;"
               " begin select * into r from t order by id limit 1; return r.id; end $$",
    # last, so that everything is the table's owner's
    "owner": f"alter table t owner to {OWNER}; grant create, usage on schema public to {OWNER};"
             f"grant all on other to {OWNER}",
}

ALTERS = {
    "add": "alter table t add x int",
    "add with a constant": "alter table t add x int not null default 5",
    "add with now": "alter table t add x timestamptz default '2020-01-01 00:00:00+00'",
    "add text": "alter table t add x text default 'it''s', add y int[] default '{1,2}'",
    "add serial": "alter table t add x bigserial",
    "add identity": "alter table t add x int generated by default as identity",
    "add generated": "alter table t add x bigint generated always as (id::bigint * 3) stored",
    "add with a check": "alter table t add x int default 1 check (x > 0)",
    "add unique": "alter table t add x int unique",
    "add with a key": "alter table t add x int default 2 references other",
    "drop": "alter table t drop w",
    "drop what is used": "alter table t drop n",
    "drop cascading": "alter table t drop n cascade",
    "drop if exists": "alter table t drop if exists nothing, drop if exists w",
    "rename": "alter table t rename v to renamed",
    "rename a key": "alter table t rename id to key",
    "rename used": "alter table t rename column k to kk",
    "wider": "alter table t alter f type bigint",
    "wider, used": "alter table t alter n type bigint",
    "wider key": "alter table t alter id type bigint",
    "using": "alter table t alter w type text using 'w' || w",
    "using others": "alter table t alter d type text using d || coalesce(v, '')",
    "shorter": "alter table t alter w type numeric(8,1)",
    "varchar": "alter table t alter s type varchar(700)",
    "json to text": "alter table t alter j type text",
    "collation": 'alter table t alter s type text collate "C"',
    "set default": "alter table t alter w set default 3",
    "drop default": "alter table t alter f drop default",
    "set not null": "alter table t alter k set not null, alter id set not null",
    "drop not null": "alter table t alter k drop not null",
    "check": "alter table t add constraint a_check check (id > 0)",
    "check not valid": "alter table t add constraint a_check check (n = 1) not valid",
    "unique": "alter table t add constraint a_unique unique (id, f)",
    "exclude": "alter table t add constraint a_exclude exclude using gist (r with &&) where (id < 0)",
    "foreign key": "alter table t add constraint a_key foreign key (f) references other",
    "foreign key not valid": "alter table t add constraint a_key foreign key (k) references other"
                             " not valid",
    "rename constraint": "alter table t rename constraint t_pkey to a_key",
    "drop constraint": "alter table t drop constraint if exists c_check",
    "validate": "alter table t add constraint a_check check (id > 0) not valid;"
                "alter table t validate constraint a_check",
    "another key": "alter table t drop constraint t_pkey, add constraint a_key primary key (id, k)",
    "statistics": "alter table t alter n set statistics 11, alter f set (n_distinct = 3)",
    "storage": "alter table t alter s set storage external",
    "compression": "alter table t alter v set compression lz4",
    "options": "alter table t set (fillfactor = 55, toast.autovacuum_enabled = on)",
    "reset": "alter table t reset (fillfactor, autovacuum_vacuum_threshold)",
    "cluster": "alter table t cluster on t_pkey",
    "no cluster": "alter table t set without cluster",
    "triggers off": "alter table t disable trigger user",
    "triggers on": "alter table t enable trigger all",
    "security": "alter table t enable row level security",
    "no security": "alter table t disable row level security, no force row level security",
    "identity full": "alter table t replica identity full",
    "identity default": "alter table t replica identity default",
    "owner": f"alter table t owner to {OWNER}",
    "tablespace": f"alter table t set tablespace {TABLESPACE}",
    "several": "alter table t add x int default 3; alter table t rename x to y;"
               "alter table t alter y set default 4, alter w type text",
    "there and back": "alter table t rename v to q; alter table t rename q to v",
}
