"""Every kind of table comes out of walter as it comes out of plain ALTER TABLE."""
import re

import pytest

from support.hold import held_build, held_copy, held_gate
from support.oracle import (CHANGES, INNER, OWNER, READER, ROWS, TABLESPACE, WRITER, Case, named,
                            new_oracle, oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"
# The same table with numbers that can refer to PARENTS, or to the table itself.
SMALL = ROWS.replace("g * 10", "g")

KEYS = [
    Case("composite, of many types", """
         create type color as enum ('red', 'green', 'blue');
         create domain code as varchar(8) check (value <> '');
         create table t (a smallint, b bigint, c text, d uuid, e date, f color, g code, h bytea,
           n int, v text, primary key (h, a, c, b, d, e, f, g));
         insert into t select s, s, 'c ' || s, md5(s::text)::uuid, date '2020-01-01' + s,
           (array['red', 'green', 'blue']::color[])[1 + s % 3], 'g' || s,
           decode(md5(s::text), 'hex'), s * 10, 'v' from generate_series(1, 20) s;""", ALTER,
         "update t set f = 'red', v = null where a = 3; update t set c = '', h = '' where a = 4;"
         "delete from t where a = 5; update t set v = 'w' where a between 6 and 8;"),
    Case("rows that share half of the key", """
         create table t (a int, b int, n int, primary key (a, b));
         insert into t select g / 10, g % 10, g from generate_series(1, 50) g;""", ALTER,
         "delete from t where a = 1 and b = 1; update t set b = 100 where a = 2 and b = 2;"
         "update t set n = 0 where a = 3 and b = 3"),
    Case("values that are equal but not the same", """
         create table t (a numeric, b float8, c interval, d char(5), n int,
           primary key (a, b, c, d));
         insert into t select g, g, g * interval '1 hour', g, g from generate_series(1, 20) g;""",
         ALTER, "update t set a = 3.00, n = 1 where a = 3; update t set b = '-0' where a = 4;"
         "update t set b = 0 where a = 4; update t set c = interval '5 hours 0.00 s' where a = 5;"
         "insert into t values ('NaN', 'Infinity', '0', '', 3); update t set n = 4 where a = 'NaN';"
         "insert into t values (30, 30, '24:00', '', 3); update t set c = '1 day' where a = 30;"
         "delete from t where a = 7"),
    Case("arrays, ranges, addresses, jsonb", """
         create table t (a int[], b int4range, c inet, d jsonb, n int, primary key (a, b, c, d));
         insert into t select array[g, null], int4range(g, null), ('10.0.0.' || g)::inet,
           jsonb_build_object('a', g), g from generate_series(1, 20) g;""", ALTER,
         "update t set n = 1 where n = 3; update t set a = '{}', b = 'empty' where n = 4;"
         "delete from t where n = 5; insert into t values ('{{1},{2}}', '(,)', '::1', '[1.0]', 6)"),
    Case("a collation under which other texts are equal", """
         create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table t (id text collate ci primary key, n int);
         insert into t select 'row ' || g, g from generate_series(1, 20) g;""", ALTER,
         "update t set id = 'ROW 3' where id = 'row 3'; update t set n = 1 where id = 'Row 4';"
         "delete from t where id = 'ROW 5'; insert into t values ('Row 5', 5)"),
    Case("replica identity using an index", """
         create table t (id int primary key, k int not null, m text not null, n int);
         create unique index "by k" on t (m, k) include (n);
         alter table t replica identity using index "by k";
         insert into t select g, g + 1000, 'm', g from generate_series(1, 20) g;""", ALTER,
         "update t set id = 200 where id = 3; update t set k = 5 where id = 4;"
         "delete from t where id = 5; update t set n = null where id = 6;"
         "insert into t values (101, 101, '', 101)"),
    Case("replica identity full with a primary key", ROWS + "alter table t replica identity full",
         ALTER, CHANGES),
    Case("primary key with included columns", """
         create table t (id int, n int, v text, constraint "the key" primary key (id) include (v));
         insert into t select g, g, 'v' from generate_series(1, 20) g;""", ALTER, CHANGES),
]

# All kinds of types in one table, and a function that makes rows of it.
TYPES = r"""
create type color as enum ('red', 'green', 'blue');
create type pair as (a int, b text);
create type outer_pair as (p pair, q pair[]);
create domain positive as int check (value > 0);
create domain positives as positive[] check (cardinality(value) < 5);
create domain needed as text not null default 'needed' check (value <> '');
create type floats as range (subtype = float8, subtype_diff = float8mi);
create table t (id int primary key, n int, a int[], b text[][], c pair, d outer_pair, e color,
  f color[], g positive, h positives, i needed, j int4range, k tstzmultirange, l floats, m json,
  o jsonb, p bytea, q xml, r money, s inet, u tsvector, w numeric, xx float4, y float8, z interval,
  aa timetz, bb bit(5), cc varbit, dd point, ee polygon, ff macaddr8, gg cidr, hh tsquery,
  ii "char", jj name, kk pg_lsn, ll regtype, mm uuid, nn char(7), oo path, pp circle, qq oid,
  rr jsonpath, ss pair[], tt bool, uu timestamp);
create function fill(first int, last int) returns void language sql as $$
  insert into t select s, s * 10, array[s, null], '[0:1][2:2]={{a},{NULL}}',
    row(s, 'a "b"')::pair, row(row(s, null)::pair, array[row(1, ',')::pair, null])::outer_pair,
    'green', '{red,NULL,blue}', s::positive, array[s]::positives, 'i', int4range(s, s + 5),
    '{[2020-01-01, 2020-01-02), (2021-01-01,)}', floats(-0.0, 'Infinity'),
    '{"b":  1.10, "a": null, "a": 1e400}', '{"b": 1.10, "a": null}', '\x00ff61',
    '<a b="c">d</a>', '-1234.56', '10.1.2.3/8', 'a:1A fat:2B,4C cat''s:5', 1.10, 0.1, 1.0 / 3,
    '-1 mon 2 days -03:04:05.678', '04:05:06.789-08', '10101', '101', '(1.5,-2)',
    '((0,0),(1,1),(1,0))', '08:00:2b:01:02:03:04:05', '10.1/16', '!a & (b | c)', 'x', 'name',
    '16/B374D848', 'int4', md5(s::text)::uuid, 'ab', '((0,0),(1,1))', '<(1,2),3>', 4294967295,
    '$.a[*] ? (@ > 1)', array[row(1, 'x')::pair], true, '2020-01-01'
    from generate_series(first, last) s $$;
select fill(1, 20);
insert into t (id, w, xx, y, uu, i) values (21, 'NaN', '-0', '-0', 'infinity', 'x'),
  (22, 'Infinity', 'NaN', '-Infinity', '-infinity', 'y'),
  (23, 123456789012345678901234567890.123456789, 1e-38, 1e-308, '4713-01-01 BC', 'z'),
  (24, 1e-100, 3.4e38, 1.7976931348623157e308, '294276-12-31 23:59:59.999999', 'i');
"""

VALUES = [
    Case("all kinds of types", TYPES, ALTER, """
         select fill(101, 105); update t set w = 'NaN', y = '-0', z = '1 year -1 day' where id = 3;
         update t set a = null, c = null, d = null, e = null, g = null, o = null where id = 4;
         update t set c = row(null, null)::pair, ss = '{}', h = '{}', p = '' where id = 5;
         insert into t (id, w, y) values (106, '-Infinity', 'NaN')"""),
    Case("all kinds of types changed", r"""
         create type color as enum ('red', 'green', 'blue');
         create type pair as (a int, b text);
         create domain positive as int check (value > 0);
         create table t (id int primary key, a color, b pair, c positive, d numeric, e float8,
           f int[], g jsonb, h bytea, i int4range, j timestamptz);
         insert into t select s, 'red', row(s, 'x')::pair, s, s / 8.0, 'NaN', array[s, null],
           '[1.0]', '\x01', int4range(s, null), '2020-01-01' from generate_series(1, 20) s;""",
         """alter table t alter a type text, alter b type text using (b).b || (b).a,
         alter c type bigint, alter d type float8, alter e type numeric, alter f type text[],
         alter g type json using g::json, alter h type text using encode(h, 'hex'), alter i type
         int using lower(i), alter j type date""", """
         insert into t values (101, 'blue', null, 1, 'NaN', 'NaN', '{}', 'null', '', 'empty',
           '2021-01-01');
         update t set d = null, e = 1e-7 where id = 3; update t set b = null, f = null where id = 4
         """),
    Case("domain that forbids NULL", """
         create domain needed as text not null check (value <> 'bad');
         create table t (id int primary key, n int, d needed);
         insert into t select g, g, 'd' || g from generate_series(1, 20) g;""",
         "alter table t alter n type bigint, alter d type varchar(20)",
         "insert into t values (101, 1, 'x'); update t set d = 'y' where id = 3"),
    Case("no rows", "create table t (id int primary key, n int)", ALTER),
    Case("no rows, first ones streamed", "create table t (id int primary key, n int, v text)",
         ALTER, "insert into t values (4, 4, 'four'), (5, 5, 'five');"
         "update t set n = 6 where id = 4; delete from t where id = 5"),
    Case("all rows deleted", ROWS, ALTER, "delete from t"),
    Case("truncated", ROWS, ALTER,
         "insert into t values (101); truncate t; insert into t values (1, 2)", hold=held_build),
    Case("large values", """
         create table t (id int primary key, n int, v text, w bytea, p text);
         alter table t alter v set storage external, alter p set storage plain;
         insert into t select g, g, repeat(md5(g::text), 200 * g),
           decode(repeat('00ff', 5000), 'hex'), repeat('p', 1000) from generate_series(1, 20) g;""",
         ALTER, "update t set n = 0 where id < 6; update t set id = 104 where id = 7;"
         "update t set v = null where id = 8; update t set v = v || 'x' where id = 9;"
         "insert into t select 200 + id, n, v, w from t where id = 10;"
         "delete from t where id = 11"),
    Case("columns that were dropped earlier", f"""
         create table t (gone int, id int, gone2 text, n int, gone3 int, v text);
         alter table t drop gone, drop gone2, drop gone3, add primary key (id),
           add late int default 3;
         insert into t select g, g, 'v' from generate_series(1, 20) g;
         create index on t (v, n) where late > 1; comment on column t.late is 'late';
         alter table t alter late set statistics 7; grant select (late) on t to {READER};""",
         "alter table t alter n type bigint, drop v; alter table t add w text default 'w'",
         "insert into t (id, n) values (101, 7); update t set late = null where id = 3;"
         "update t set id = 200 where id = 4; delete from t where id = 5"),
    Case("one column only", "create table t (id int primary key); insert into t values (1), (2)",
         "alter table t alter id type bigint",
         "insert into t values (3); update t set id = 4 where id = 1; delete from t where id = 2"),
    Case("many columns", """do $$ begin execute (select 'create table t (id int primary key, '
         || string_agg(format('c%s int default %s', g, g), ', ') || ')'
         from generate_series(1, 400) g); end $$;
         insert into t (id) select generate_series(1, 10)""",
         "alter table t alter c77 type bigint, drop c78",
         "insert into t (id, c5) values (101, 7); update t set c399 = null where id = 3"),
]

GENERATED_COLUMN = ROWS + "alter table t add g int generated always as (id * 2) stored"
ONE_MORE = "insert into t (n) values (99)"

GENERATED = [
    Case("generated columns", ROWS + """
         alter table t add g int generated always as (coalesce(n, 0) + id) stored,
           add h text collate "C" generated always as (upper(v)) stored;
         create index on t (g); create index on t (h, g);
         alter table t add check (g >= 0), alter g set statistics 5;
         comment on column t.g is 'sum'""", "alter table t add x int default 5", CHANGES),
    Case("USING over a generated column", GENERATED_COLUMN,
         "alter table t alter v type text using v || g", CHANGES),
    Case("generated column of another type", GENERATED_COLUMN, "alter table t alter g type bigint",
         CHANGES),
    Case("identity always", """create table t (id int generated always as identity
         (start 10 increment 10 minvalue -5 maxvalue 100000 cycle cache 3) primary key, n int);
         insert into t (n) select g from generate_series(1, 20) g;
         comment on sequence t_id_seq is 'counts';""", ALTER,
         "insert into t (n) values (1), (2); update t set n = 3 where id = 10; delete from t where"
         " id = 20; insert into t (id, n) overriding system value values (7, 7)", after=ONE_MORE),
    Case("identity by default, its sequence renamed and moved on", f"""
         create table t (id bigint generated by default as identity
         (sequence name "My Counter" start 5) primary key, n int);
         insert into t (n) select g from generate_series(1, 20) g;
         select setval('"My Counter"', 777); insert into t values (1000000, 1);
         grant usage on sequence "My Counter" to {READER}""", ALTER,
         "insert into t (n) values (1)", after=ONE_MORE),
    Case("identity never used",
         "create table t (id int generated always as identity (start 50) primary key, n int)",
         ALTER, after=ONE_MORE),
    Case("identity of other types than the column's",
         "create table t (id smallint generated always as identity primary key,"
         " m int generated by default as identity, n int); alter sequence t_m_seq as bigint;"
         "insert into t (n) values (1)", ALTER, after=ONE_MORE),
    Case("identity sequences that have each other's names", """
         create table t (a int generated always as identity (start 100) primary key,
           b int generated always as identity (start 200), n int); insert into t (n) values (1);
         alter sequence t_a_seq rename to x; alter sequence t_b_seq rename to t_a_seq;
         alter sequence x rename to t_b_seq""", ALTER, "insert into t (n) values (1)",
         after=ONE_MORE),
    Case("serial", f"create table t (id serial primary key, n int, s smallserial, b bigserial);"
         "insert into t (n) select g from generate_series(1, 20) g;"
         "alter sequence t_s_seq increment 3 cache 5; comment on sequence t_b_seq is 'big';"
         f"grant usage, select on sequence t_id_seq to {READER}", ALTER,
         "insert into t (n) values (1); update t set s = 100 where id = 3", after=ONE_MORE),
    Case("sequences shared with others, or owned by another column", """create schema elsewhere;
         create sequence elsewhere.counter; create sequence shared; create sequence counter;
         create table t (id int primary key default nextval('elsewhere.counter'), n int,
           m int default nextval('shared'), k text default 'k' || nextval('counter'));
         create table other (id int default nextval('shared'));
         alter sequence counter owned by t.n;
         insert into t (n) select g from generate_series(1, 20) g;""", ALTER,
         "insert into t (n) values (1)", after=ONE_MORE + "; insert into other values (default)"),
    Case("serial by an ordinary role", f"""set role {OWNER};
         create table t (id serial primary key, n int, i int generated always as identity);
         insert into t (n) select g from generate_series(1, 20) g; reset role""", ALTER,
         "insert into t (n) values (1)", after=ONE_MORE, user=OWNER),
    Case("serial by a superuser who is not the owner", f"""set role {OWNER};
         create table t (id serial primary key, n int, i int generated always as identity);
         insert into t (n) select g from generate_series(1, 20) g; reset role""", ALTER,
         "insert into t (n) values (1)", after=ONE_MORE),
]

INDEXES = [
    Case("ten indexes", ROWS + f"""
         alter table t add r int4range, add a int[], add p point, add w text collate "C";
         create index i_partial on t (n) where v like 'row%' and n is not null;
         create index i_expression on t
           (lower(v), (n + 1), (coalesce(w, v) || 'x') collate "C" desc);
         create index i_include on t (v) include (n, w);
         create index i_class on t (v text_pattern_ops, w varchar_pattern_ops);
         create index "I order" on t (n desc nulls last, id asc nulls first) with (fillfactor = 60);
         create index i_gin on t using gin (a) with (fastupdate = off);
         create index i_gist on t using gist (r, p) with (buffering = on);
         create index i_brin on t using brin (id) with (pages_per_range = 4);
         create index i_hash on t using hash (v);
         create unique index i_unique on t (id, v) tablespace {TABLESPACE};
         create index i_spgist on t using spgist (p);
         comment on index "I order" is 'it''s the order';
         alter index i_expression alter column 2 set statistics 77;
         alter table t cluster on "I order";""", ALTER, CHANGES),
    Case("only the key's", ROWS, ALTER, CHANGES),
    Case("in a tablespace, of constraints", ROWS + f"""
         alter table t add constraint u unique (n) with (fillfactor = 50) using index tablespace
           {TABLESPACE}, add constraint e exclude using gist (int4range(id, id + 1) with &&)
           with (fillfactor = 70) using index tablespace {TABLESPACE} where (id > 0);
         alter index t_pkey set tablespace {TABLESPACE}""", ALTER, CHANGES),
    Case("with dates, for a role that writes them its own way", ROWS + """
         create index on t (n) where d > '2020-02-03';
         alter table t add constraint late check (d > '2020-02-03') not valid,
           alter d set default '2020-04-05';
         create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger early before insert on t for each row when (new.d < '2020-02-03')
           execute function nothing();""",
         "alter table t add x date default '06/07/2020', add check (d < '31/12/2030')",
         "update t set d = '2020-12-01' where id = 5",
         role_settings={"datestyle": "SQL, DMY"}),
    Case("names of the schema that indexes would take", ROWS + """
         create table t_x_key (id int); create sequence t_z_seq; create sequence t_z_seq1;
         create table other (n int, constraint t_y_key check (n > 0));
         create index t_w_key on other (n);""",
         "alter table t add x int unique, add y int unique, add z serial, add w int constraint free"
         " unique; alter table t drop x; alter table t add x int unique"),
    Case("names of constraints that others have", ROWS + """
         create table parent (id int primary key); update t set n = null;
         create table other (n int, constraint t_n_check check (n > 0),
           constraint t_n_fkey foreign key (n) references t);""",
         "alter table t add check (n > -5), add foreign key (n) references parent"),
]

NAME_63 = "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwxyz_123456789"
KEY_63 = "key_" + NAME_63[:59]


def with_names(table, key, column):
    """Set-up, statement and changes of a table with these names."""
    return (f"create table {table} ({key} serial primary key, {column} int, v text);"
            f"insert into {table} ({column}) select generate_series(1, 20);"
            f"create index on {table} ({column}); alter table {table} add unique ({column}, {key}),"
            f" add check ({column} > 0), add s int generated always as identity;"
            f"comment on column {table}.{column} is 'c'",
            f"alter table {table} alter {column} type bigint, add unique (v, {column})",
            f"insert into {table} ({column}) values (7); delete from {table} where {key} = 4;"
            f"update {table} set {column} = 8, {key} = 99 where {key} = 3")


def in_schema(statements, schema="s"):
    return f"set search_path to {schema}; {statements}; reset search_path"


NAMES = [Case(name, *with_names(*names)) for name, names in {
    "mixed case": ('"Table"', '"Id"', '"Column N"'),
    "reserved": ('"select"', '"table"', '"user"'),
    "hyphens, dots and spaces": ('"my-table.x y"', '"i.d"', '"a b"'),
    "quotes": ('''"it's ""quoted"""''', '''"'"''', '''""""'''),
    "backslashes and percent signs": (r'"\t%s%I"', r'"\\"', '"%"'),
    "unicode": ('"täble_🐘"', '"ключ"', '"列"'),
    "of 63 bytes": (NAME_63, KEY_63, NAME_63),
    "of our own": ("source", "walter_seq", "walter_set"),
    "more of our own": ("walter_source", "walter_row", "p"),
    "yet more of our own": ("probe", "c", "s2"),
    "all the same": ("t", "k", "t"),
    "in another schema": ('s."T"', "id", "n"),
}.items()]
NAMES[-1].setup = "create schema s;" + NAMES[-1].setup
STRANGE = '"S-1 ""x"""'
_SETUP, _ALTER, _CHANGES = with_names("t", "id", "n")
NAMES += [
    Case("in another schema, by option", "create schema s;" + in_schema(_SETUP), _ALTER,
         in_schema(_CHANGES), args=("-s", "s"), role_settings={"search_path": ["s", "public"]}),
    Case("in another schema, by the role's path", "create schema s;" + in_schema(_SETUP), _ALTER,
         in_schema(_CHANGES), role_settings={"search_path": ["s", "pg_catalog"]}),
    Case("in a schema with a strange name",
         f"create schema {STRANGE};" + in_schema(_SETUP, STRANGE),
         _ALTER.replace("table t", f"table {STRANGE}.t"), in_schema(_CHANGES, STRANGE)),
]

PARENTS = """
create table parent (id int primary key, a int, b text, unique (a, b));
insert into parent select g, g, 'b' from generate_series(1, 30) g;
"""

FOREIGN_KEYS = [
    Case("to others, all actions", PARENTS + SMALL + """
         alter table t add a int, add b text;
         update t set a = id, b = 'b' where id <= 30;
         alter table t
           add constraint f1 foreign key (n) references parent on delete cascade on update restrict,
           add constraint f2 foreign key (a, b) references parent (a, b) match full
             on delete set null on update cascade deferrable initially deferred,
           add constraint f3 foreign key (a, b) references parent (a, b) on delete set null (b)
             deferrable,
           add constraint "F 4" foreign key (n) references parent on delete set default not valid;
         comment on constraint f1 on t is 'first';""", ALTER,
         "insert into t (id, n, a, b) values (101, 7, 7, 'b'); update t set n = null where id = 3;"
         "delete from t where id = 5",
         after="update parent set a = 1000 where id = 8; delete from parent where id in (9, 10)"),
    Case("to itself, both as parent and as child", ROWS + """
         alter table t add up int,
           add constraint up foreign key (up) references t on delete cascade;
         update t set up = id - 1 where id > 1;""", ALTER,
         "insert into t (id, up) values (101, 101), (102, 31); update t set up = 1 where id = 3;"
         "delete from t where id = 101", after="delete from t where id = 20"),
    Case("from others", SMALL + """
         alter table t add constraint u unique (n, id);
         create table child (id int references t on delete cascade on update cascade, n int,
           constraint two foreign key (n, id) references t (n, id) match full deferrable);
         create schema s; create table s."Child" ("T" int);
         alter table s."Child" add constraint "to T" foreign key ("T") references t not valid;
         insert into child select id, n from t where n between 10 and 20;
         insert into s."Child" values (1), (2);
         comment on constraint two on child is 'two';""", ALTER,
         "update t set v = 'x' where id = 10; delete from t where id = 5;"
         "insert into t values (101, 101); insert into child values (101, 101)",
         after="delete from t where id = 15"),
    Case("from others that do not fit, not valid", ROWS + """
         create table child (id int);
         insert into child values (1), (1000), (null);
         alter table child add constraint f foreign key (id) references t not valid;""", ALTER,
         CHANGES),
    Case("both ways between two tables", PARENTS + SMALL + """
         alter table t add foreign key (n) references parent;
         alter table parent add t int references t deferrable initially deferred;
         update parent set t = id;""", ALTER,
         "insert into t values (101, 7); update parent set t = 101 where id = 1;"
         "update t set v = 'x' where id = 2", after="delete from t where id = 1"),
    Case("of tables with one name in two schemas", PARENTS + SMALL + """
         create schema s; create table s.parent (id int primary key);
         insert into s.parent select generate_series(1, 30);
         alter table t add constraint f1 foreign key (n) references parent,
           add constraint f2 foreign key (n) references s.parent on delete cascade;
         create table s.t (id int references t); insert into s.t values (3)""", ALTER,
         "insert into t values (101, 7)", after="delete from t where id = 9;"
         "delete from s.parent where id = 10"),
    Case("several children of the same key", ROWS + "".join(
         f"create table child{i} (t int references t); insert into child{i} values ({i});"
         for i in range(1, 6)), ALTER, "delete from t where id > 10"),
    Case("partitioned parent", """create table parent (id int primary key) partition by range (id);
         create table parent1 partition of parent for values from (0) to (100);
         insert into parent select generate_series(1, 50);""" + SMALL +
         "alter table t add constraint f foreign key (n) references parent on delete cascade",
         ALTER, "insert into t values (101, 7)", after="delete from parent where id = 9",
         # VALIDATE leaves the keys that the server derives for the partitions as they were
         ignore='"(definition|from_table)": .*parent1'),
    Case("by an ordinary role that may reference but not read", SMALL + f"""
         alter table t owner to {OWNER}; create table parent (id int primary key);
         insert into parent select generate_series(0, 300);
         grant references on parent to {OWNER};
         alter table t add constraint f foreign key (n) references parent""",
         ALTER + ", add constraint g foreign key (x) references parent",
         "insert into t (id, n) values (101, 7)", user=OWNER),
]

NOTHING = "create function nothing() returns trigger language plpgsql as 'begin return new; end';"

TRIGGERS = [
    Case("in all states", ROWS + NOTHING + """
         create trigger a after insert on t for each row execute function nothing('x', 'it''s');
         create trigger b before update of id, v on t for each row
           when (old.v is distinct from new.v) execute function nothing();
         create trigger c after delete on t referencing old table as gone for each statement
           execute function nothing();
         create constraint trigger d after insert or update on t deferrable initially deferred
           for each row when (new.v <> 'x') execute function nothing();
         create trigger "E e" before truncate on t execute function nothing();
         create constraint trigger f after delete on t not deferrable for each row
           execute function nothing();
         alter table t disable trigger a; alter table t enable replica trigger b;
         alter table t enable always trigger c; alter table t enable always trigger d;
         comment on trigger d on t is 'it''s d'; comment on trigger "E e" on t is 'e';""", ALTER),
    Case("that write elsewhere do so once", ROWS + """
         create table log (id int, what text);
         create function note() returns trigger language plpgsql as $$
         begin insert into public.log values (coalesce(new.id, old.id), tg_op || tg_table_schema);
         return null; end $$;
         create trigger note after insert or update or delete on t for each row
           execute function note();
         alter table t enable always trigger note;""", ALTER, CHANGES,
         after="update t set n = 5 where id = 10"),
    Case("that change the row", ROWS + """
         create function shout() returns trigger language plpgsql as $$
         begin new.v := upper(new.v); return new; end $$;
         create trigger shout before insert or update on t for each row
           execute function shout();""", ALTER, CHANGES,
         after="update t set n = 5 where id = 10"),
    Case("inner triggers disabled", PARENTS + SMALL + """
         alter table t add constraint f foreign key (n) references parent,
           add constraint u unique (v) deferrable;
         create table child (t int references t);
         alter table t disable trigger all;""", ALTER, "insert into t values (101, 7)",
         superuser=INNER),
]

GRANTS = [
    Case("to several roles", ROWS + f"""alter table t owner to {OWNER}; set role {OWNER};
         grant select, insert on t to {READER}; grant update on t to {READER} with grant option;
         grant all on t to {WRITER} with grant option; grant references, trigger on t to public;
         grant select (id, v), update (n) on t to {READER};
         grant insert (n) on t to {WRITER} with grant option; grant select (v) on t to public;
         set role {READER}; grant update on t to {WRITER}; reset role;
         set role {WRITER}; grant insert (n) on t to {READER}; grant select on t to {READER};
         reset role""", ALTER, CHANGES),
    Case("passed on from role to role", ROWS + f"""alter table t owner to {OWNER}; set role {OWNER};
         grant select on t to {WRITER} with grant option;
         grant update (n) on t to {WRITER} with grant option; set role {WRITER};
         grant select on t to {READER} with grant option;
         grant update (n) on t to {READER} with grant option; set role {READER};
         grant select on t to public; grant update (n) on t to public; reset role""", ALTER),
    Case("owner's own revoked", ROWS + f"""alter table t owner to {OWNER}; set role {OWNER};
         grant select on t to {READER}; revoke insert, truncate on t from {OWNER}; reset role;""",
         ALTER, "update t set n = 5 where id = 3"),
    Case("all others revoked", ROWS + f"""alter table t owner to {OWNER};
         revoke insert, update, delete, truncate, references, trigger on t from {OWNER};""", ALTER,
         CHANGES),
    Case("on sequences", f"""create table t (id serial primary key, n int,
         i int generated always as identity); grant select on t to {READER};
         grant usage on sequence t_id_seq to {READER} with grant option;
         grant select, update on sequence t_i_seq to {READER}; grant usage on sequence t_i_seq to
         public; insert into t (n) values (1), (2);""", ALTER),
    Case("default privileges in force", ROWS + f"""
         alter table t add i int generated always as identity, add s serial;
         alter default privileges grant select, delete on tables to {READER};
         alter default privileges in schema public grant all on tables to {WRITER};
         alter default privileges grant usage on sequences to {READER};""", ALTER, CHANGES),
    Case("default privileges for a new column's sequence", ROWS + f"""
         alter default privileges grant usage on sequences to {READER};
         alter default privileges in schema public grant all on sequences to {WRITER}
           with grant option;""",
         "alter table t add s serial, add i int generated always as identity"),
    Case("column of a grant renamed, another dropped", ROWS + f"""
         grant select (n), update (n, v) on t to {READER};""",
         "alter table t rename n to amount; alter table t drop v"),
    Case("granted meanwhile", ROWS + "alter table t add i int generated always as identity;"
         f"grant select on t to {READER}", ALTER,
         f"revoke select on t from {READER}; grant update on t to {WRITER} with grant option;"
         f"grant select (id) on t to {READER}; grant usage on sequence t_i_seq to {READER}"),
    Case("by an ordinary role", f"""set role {OWNER}; {ROWS}
         grant select on t to {READER} with grant option; grant update (n) on t to {WRITER};
         revoke truncate on t from {OWNER}; reset role""", ALTER, CHANGES, user=OWNER),
]

OPTIONS = [
    Case("everything that a table can have", ROWS + r"""
         alter table t set (fillfactor = 61, autovacuum_enabled = false, parallel_workers = 2,
           toast.autovacuum_vacuum_threshold = 99, toast_tuple_target = 200,
           user_catalog_table = false);
         alter table t alter v set statistics 33, alter v set storage main,
           alter n set (n_distinct = 5), alter v set compression pglz;
         comment on table t is 'it''s "t"'; comment on column t.v is E'v\n\\x';
         comment on constraint t_pkey on t is 'key'; comment on index t_pkey is 'key index';
         alter table t add constraint c check (n > -5), add constraint d check (n > 50) not valid;
         comment on constraint c on t is 'c'; comment on constraint d on t is 'd';""",
         ALTER, "insert into t (id, n) values (101, 70); delete from t where id = 5;"
         "update t set n = 60, v = null where id = 3;"
         "update t set id = 103 where id = 9"),
    Case("owner other than the superuser who alters", ROWS + f"alter table t owner to {OWNER}",
         ALTER, CHANGES),
    Case("owner who may not create in the schema", "create schema s;" + in_schema(
         ROWS + f"alter table t owner to {OWNER}; grant usage on schema s to {OWNER}"),
         "alter table s.t alter n type bigint", in_schema(CHANGES)),
    Case("by an ordinary role", f"set role {OWNER}; {ROWS} reset role", ALTER, CHANGES, user=OWNER),
    Case("tablespace", ROWS + f"alter table t set tablespace {TABLESPACE}", ALTER, CHANGES),
    Case("deferrable constraints", ROWS + """
         alter table t add constraint u unique (n) deferrable initially deferred,
           add constraint w unique (v) deferrable,
           add constraint e exclude using btree (id with =) deferrable initially deferred;
         comment on constraint u on t is 'u'; comment on index u is 'index u';""", ALTER,
         "begin; update t set n = -1 where id = 1; update t set n = 10 where id = 2;"
         "update t set n = 20 where id = 1; commit; delete from t where id = 5",
         after="begin; update t set n = n - 10; commit"),
    Case("checks that call functions, no inherit", ROWS + """
         create function fine(n int) returns bool immutable language sql
           as 'select n is null or n > 0';
         alter table t add constraint c check (fine(n)) no inherit,
           add constraint d check (public.fine(id)) not valid;""",
         "alter table t add x int default 5", CHANGES),
    Case("defaults of all kinds", ROWS + r"""
         create type mood as enum ('sad', 'glad'); create domain word as text default 'word';
         create function three() returns int language sql as 'select 3';
         alter table t add a timestamptz default now(), add b mood default 'glad',
           add c int default three(), add u text default current_user || '\x',
           add e int[] default '{1}', add f text default 'it''s', add w word;""", ALTER,
         CHANGES, rows={"t": "select id, n, v, d, b, c, u, e, f, w, x from t"}),
]

# What a run reads at its beginning, and others may change while it is on.
SETTING = ROWS + NOTHING + """
    create type mood as enum ('sad', 'glad'); create domain small as int check (value < 1000);
    create type pair as (a int, b int); create table other (id int primary key);
    insert into other values (1);
    alter table t add constraint c check (n > 0), add s serial,
      add i int generated always as identity, add m mood, add a pair[], add b small,
      add u text unique deferrable, add o int default 1 references other;
    create index by_expression on t ((n + 1)); create index by_date on t (d);
    comment on column t.v is 'old';
    create trigger touch after insert on t for each row execute function nothing();"""

DISABLE_ALL = "alter table t disable trigger all"

FOLLOWED = [
    "comment on table t is 'new'", "comment on column t.n is 'new'", "comment on column t.v is null",
    "comment on constraint c on t is 'new'", "comment on constraint t_u_key on t is 'new'",
    "comment on index t_pkey is 'new'; comment on index by_expression is 'newer'",
    "comment on trigger touch on t is 'new'",
    "comment on sequence t_i_seq is 'new'; comment on sequence t_s_seq is 'new'",
    "alter table t alter n set statistics 50",
    "alter index by_expression alter column 1 set statistics 50",
    "alter table t disable trigger touch", DISABLE_ALL,
    "create index added on t (v, n); create unique index added_too on t ((id * 2)) where id > 0",
    "alter table t add constraint added unique (id, n)", "alter table t cluster on by_expression",
    "alter table t add constraint added check (n < 7) not valid",
    "alter table t add constraint added foreign key (s) references t (id) not valid",
    "alter table t drop constraint t_o_fkey",
    "alter table t add foreign key (o) references other on delete cascade",
    "create trigger added before update on t for each row execute function nothing()",
    "drop trigger touch on t", f"grant select on t to {READER}",
]

NOTICED = [
    "alter table t alter n set (n_distinct = 9)", "alter sequence t_i_seq cache 9",
    "alter sequence t_s_seq rename to renamed", "alter table t set (fillfactor = 50)",
    "alter type mood add value 'so so'", "alter domain small add check (value > 0) not valid",
    "alter domain small set default 3", "alter type pair rename attribute a to c",
    "alter table t alter n set default 3", "alter table t add check (n < 100000)",
    "alter table t alter n set not null", "alter table t alter d type timestamp",
    "create view v as select * from t",
]

ALL = {"key": KEYS, "values": VALUES, "generated": GENERATED, "indexes": INDEXES, "names": NAMES,
       "foreign keys": FOREIGN_KEYS, "triggers": TRIGGERS, "grants": GRANTS, "options": OPTIONS}


@pytest.mark.parametrize("case", named(ALL))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)


def followed(change, hold):
    marks = [pytest.mark.superuser(INNER)] if change == DISABLE_ALL else []
    return pytest.param(change, hold, marks=marks)


# the copy is held with a lock of its own on the table, in whose way DDL must not stand
@pytest.mark.parametrize(("change", "hold"), [
    *(followed(change, held_copy) for change in FOLLOWED
      if not re.match(r"drop|alter table t (add|drop|cluster)", change)),
    *(followed(change, held_build) for change in FOLLOWED[::3]),
    *(followed(change, held_gate) for change in FOLLOWED)])
def test_follows_what_others_change(oracle, change, hold):
    oracle.check(Case("meanwhile", SETTING, ALTER, change, hold=hold))


@pytest.mark.parametrize("change", NOTICED)
def test_notices_what_it_cannot_follow(oracle, change):
    db = oracle.online
    db.execute(SETTING + "delete from t where n is null;")
    with held_build(oracle.walter, ALTER, superuser=db) as run:
        db.execute(change)
    assert_stopped(db, run.finish(check=1))


def test_notices_an_index_that_it_has_built_in_vain(oracle):
    db = oracle.online
    db.execute(SETTING)
    with held_gate(oracle.walter, ALTER, superuser=db) as run:
        db.execute("drop index by_date")
    assert_stopped(db, run.finish(check=1))


def assert_stopped(db, result):
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'") == "integer"
