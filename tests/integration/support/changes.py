"""What may happen to a table while it is altered: cases for test_stream.py."""

# An out-of-line value that does not compress, of about 3 kB, different for each seed.
TOAST = "(select string_agg(md5({seed}::text || i), '') from generate_series(1, 100) i)"


def toast(seed):
    return TOAST.replace("{seed}", str(seed))


class Case:
    """A table, rows, the ALTER, and what happens meanwhile; {t} is the table's name."""

    def __init__(self, definition, rows, alter, *scripts, args=(), since=0):
        self.definition = definition
        self.rows = rows
        self.alter = alter
        self.scripts = scripts
        self.args = args
        self.since = since   # the first server version that can do it


PLAIN = "create table {t} (id int primary key, n int default 7, s text default 'd')"
PLAIN_ROWS = "insert into {t} select i, i, 's' || i from generate_series(1, 100) i"
WIDEN = "alter table {t} alter id type bigint, alter n type bigint"

UNIQUE = "create table {t} (id int primary key, u text unique, n int)"
UNIQUE_ROWS = "insert into {t} select i, 'u' || i, i from generate_series(1, 100) i"

PAIR = "create table {t} (a int, b text, n int, primary key (a, b))"
PAIR_ROWS = "insert into {t} select i / 10, 'b' || i % 10, i from generate_series(1, 100) i"

DOCS = ("create table {t} (id int primary key, n int, doc text, doc2 text);"
        "alter table {t} alter doc set storage external, alter doc2 set storage external")
DOCS_ROWS = ("insert into {t} select i, i, " + toast("i") + ", " + toast("(-i)")
             + " from generate_series(1, 40) i")

CASES = {
    "nulls": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "update {t} set n = null where id <= 10",
        "insert into {t} values (200, null, null)",
        "insert into {t} (id) values (201)",
        "update {t} set n = null, s = null where id = 201",
        "insert into {t} values (202, null, 'x'); update {t} set s = null, n = 1 where id = 202",
        "update {t} set n = 5 where id = 3"),
    "every_sequence_for_a_key": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "insert into {t} values (201, 1); update {t} set n = 2 where id = 201",
        "insert into {t} values (202, 1); delete from {t} where id = 202",
        "delete from {t} where id = 1; insert into {t} values (1, -1, 'again')",
        "update {t} set n = 0 where id = 2; delete from {t} where id = 2;"
        "insert into {t} values (2, -2, 'again'); update {t} set s = 'and again' where id = 2",
        "delete from {t} where id = 3; insert into {t} values (3, -3, 'no');"
        " delete from {t} where id = 3",
        "insert into {t} values (203, 1); delete from {t} where id = 203;"
        " insert into {t} values (203, 2)",
        "update {t} set n = -n; update {t} set n = n * 2 where id % 2 = 0;"
        " delete from {t} where id % 7 = 0"),
    "bulk": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "copy {t} (id) from program 'seq 600 900'",
        "insert into {t} select i from generate_series(901, 950) i",
        "update {t} set n = -id where id > 700", "delete from {t} where id % 3 = 0"),
    "update_of_nothing_new": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "update {t} set id = id, n = n, s = s", "update {t} set s = s where id = 5"),
    "key_changes": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "update {t} set id = id + 1000 where id <= 30",
        "update {t} set id = -1 where id = 40; update {t} set id = 40 where id = 41;"
        "update {t} set id = 41 where id = -1",
        "update {t} set id = -2 where id = 50", "update {t} set id = 50 where id = 51",
        "update {t} set id = 51 where id = -2",
        "update {t} set id = 2000, n = null, s = 'moved' where id = 60;"
        "update {t} set n = 1 where id = 2000; insert into {t} values (60, 60, 'new')",
        "delete from {t} where id = 61; update {t} set id = 61 where id = 62;"
        " delete from {t} where id = 61",
        "insert into {t} values (3000, 1, 'x'); update {t} set id = 3001 where id = 3000;"
        "delete from {t} where id = 3001"),
    "chains_of_key_changes": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "do $$ begin for i in 1..300 loop update {t} set id = id + 1, n = i where id = 999 + i; "
        "if i = 1 then update {t} set id = 1001 where id = 1; end if; end loop; end $$",
        "do $$ begin for i in reverse 100..51 loop update {t} set id = i + 1 where id = i;"
        " end loop; end $$"),
    "composite_keys": Case(
        PAIR, PAIR_ROWS, "alter table {t} alter a type bigint",
        "update {t} set n = -n where a = 3", "delete from {t} where a = 4 and b = 'b5'",
        "update {t} set b = b || 'x' where a = 5", "update {t} set a = a + 100 where a = 6",
        "update {t} set a = 700, b = 'q' where a = 7 and b = 'b1';"
        " update {t} set n = 0 where a = 700",
        "insert into {t} values (1, 'b', 1), (1, '', 2), (11, 'b1', 3), (1, '1b1', 4);"
        "update {t} set n = n + 100 where a in (1, 11); delete from {t} where a = 1 and b = 'b'",
        "update {t} set b = 'swap' where a = 8 and b = 'b1';"
        " update {t} set b = 'b1' where a = 8 and b = 'b2';"
        "update {t} set b = 'b2' where a = 8 and b = 'swap'"),
    "transactions": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "begin; update {t} set n = 1000 where id = 1; savepoint a;"
        " update {t} set n = 0 where id = 1;"
        "insert into {t} values (500); rollback to a; update {t} set s = 'kept' where id = 1;"
        " commit",
        "begin; delete from {t}; rollback",
        "begin; savepoint a; insert into {t} values (501, 1); savepoint b;"
        " insert into {t} values (502, 2);"
        "release b; rollback to a; insert into {t} values (503, 3); commit",
        "begin; truncate {t}; rollback",
        "do $$ begin insert into {t} values (504); begin insert into {t} values (504);"
        " exception when unique_violation then update {t} set n = 504 where id = 504; end; end $$"),
    "upserts": Case(
        UNIQUE, UNIQUE_ROWS, "alter table {t} alter id type bigint",
        "insert into {t} values (1, 'new1', 1), (200, 'new2', 2) on conflict (id)"
        " do update set u = excluded.u, n = {t}.n + 1000",
        "insert into {t} values (300, 'u5', 1) on conflict (u) do update set n = -5, id = 301",
        "insert into {t} values (2, 'u9', 1) on conflict do nothing"),
    "unique_rotations": Case(
        UNIQUE, UNIQUE_ROWS, "alter table {t} alter id type bigint, alter n type bigint",
        "begin; update {t} set u = 'tmp' where id = 1; update {t} set u = 'u1' where id = 2;"
        "update {t} set u = 'u2' where id = 1; commit",
        "update {t} set u = 'tmp' where id = 3", "update {t} set u = 'u3' where id = 4",
        "update {t} set u = 'u4' where id = 3",
        "delete from {t} where id = 5; insert into {t} values (500, 'u5', 1)",
        "update {t} set u = null where id = 6; insert into {t} values (501, 'u6', 1);"
        "update {t} set u = 'u6b' where id = 6",
        "begin; update {t} set u = 'tmp', id = -1 where id = 7;"
        " update {t} set u = 'u7' where id = 8;"
        "update {t} set u = 'u8' where id = -1; commit"),
    "unique_rotations_in_batches": Case(
        UNIQUE, UNIQUE_ROWS, "alter table {t} alter id type bigint",
        "do $$ begin for i in 1..40 loop update {t} set u = 'tmp' where id = 1;"
        " update {t} set u = 'v' || i where id = 2; update {t} set u = 'w' || i where id = 1;"
        " update {t} set u = 'x' where id = 2; update {t} set u = 'v' || i where id = 1;"
        " update {t} set u = 'w' || i where id = 2; end loop; end $$", args=("-b", "7")),
    "deferrable_unique": Case(
        "create table {t} (id int primary key, n int unique deferrable, m int unique)",
        "insert into {t} select i, i, i from generate_series(1, 100) i",
        "alter table {t} alter id type bigint, alter n type bigint",
        "update {t} set n = 101 - n", "update {t} set n = n + 1",
        "begin; set constraints all deferred; update {t} set n = 3 where id = 1;"
        "update {t} set n = n + 500; update {t} set n = 1 where id = 1; commit",
        "begin; update {t} set m = -1 where id = 1; update {t} set m = 1 where id = 2;"
        "update {t} set m = 2 where id = 1; commit"),
    "deferrable_unique_in_batches": Case(
        "create table {t} (id int primary key, n int unique deferrable, m int unique)",
        "insert into {t} select i, i, i from generate_series(1, 100) i",
        "alter table {t} alter id type bigint, alter n type bigint",
        "begin; update {t} set n = 101 - n; insert into {t} select i, i,"
        " i from generate_series(200, 300) i;"
        "update {t} set m = -1 where id = 1; update {t} set m = 1 where id = 2;"
        "update {t} set m = 2 where id = 1; update {t} set n = n + 1; commit",
        "update {t} set n = n + 1", args=("-b", "3")),
    "exclusion": Case(
        "create table {t} (id int primary key, r int4range, exclude using gist (r with &&))",
        "insert into {t} select i, int4range(i * 10, i * 10 + 10) from generate_series(1, 50) i",
        "alter table {t} alter id type bigint",
        "begin; update {t} set r = '[0,1)' where id = 1; update {t} set r = '[10,20)' where id = 2;"
        "update {t} set r = '[20,30)' where id = 1; commit"),
    "unchanged_toast": Case(
        DOCS, DOCS_ROWS, "alter table {t} alter n type bigint",
        "update {t} set n = -n where id <= 10",
        "update {t} set n = 1, doc = 'short' where id = 11; update {t} set n = 2 where id = 11",
        "update {t} set n = 1 where id = 12; update {t} set doc = " + toast(12) + " where id = 12",
        "update {t} set doc = " + toast(13) + " where id = 13; update {t} set n = 0 where id = 13",
        "update {t} set doc = doc || 'x' where id = 14; update {t} set doc2 = null where id = 14",
        "insert into {t} values (200, 1, " + toast(200) + ", null);"
        "update {t} set n = 2 where id = 200",
        "delete from {t} where id = 15; insert into {t} values (15, 1, " + toast(15) + ", 'x');"
        "update {t} set n = 3 where id = 15; update {t} set doc2 = " + toast(16) + " where id = 15",
        "update {t} set doc = doc where id = 17", "update {t} set id = id where id = 18"),
    "unchanged_toast_and_key_changes": Case(
        DOCS, DOCS_ROWS, "alter table {t} alter id type bigint, add x int default 5",
        "update {t} set id = id + 1000 where id <= 5",
        "update {t} set id = 2000, n = null where id = 6; update {t} set n = 3 where id = 2000",
        "begin; update {t} set id = -1 where id = 7; update {t} set id = 7 where id = 8;"
        "update {t} set id = 8 where id = -1; commit",
        "update {t} set id = 3000, doc = 'x' where id = 9;"
        " update {t} set id = 3001 where id = 3000"),
    "toasted_key": Case(
        "create table {t} (k text primary key, n int, s text);"
        " alter table {t} alter k set storage external",
        "insert into {t} select repeat(i % 10 || 'k', 1200), i, 's' from generate_series(1, 9) i",
        "alter table {t} alter n type bigint",
        "update {t} set n = -n where n <= 3", "update {t} set k = k || 'x' where n = 4",
        "delete from {t} where n = 5", "insert into {t} values (repeat('z', 2400), 50, 'x');"
        "update {t} set s = 'y' where n = 50; update {t} set k = 'short' where n = 6;"
        "update {t} set k = repeat('q', 2300) where n = 6"),
    "using_over_toast": Case(
        DOCS, DOCS_ROWS, "alter table {t} alter doc type int using length(doc)",
        "update {t} set n = -n where id <= 10",
        "update {t} set doc = 'short' where id = 11", "update {t} set id = 2000 where id = 12",
        "insert into {t} values (200, 1, " + toast(200) + ", null);"
        "update {t} set n = 2 where id = 200"),
    "using_mixes_toast": Case(
        DOCS, DOCS_ROWS,
        "alter table {t} alter doc type text using id || ':' || n || ':' || md5(doc),"
        " alter id type bigint",
        "update {t} set n = -n where id <= 5",
        "update {t} set n = 1 where id = 6; delete from {t} where id = 6",
        "update {t} set n = 1 where id = 7; update {t} set n = 2, doc = 'other' where id = 7",
        "update {t} set n = 1 where id = 8; delete from {t} where id = 8;"
        "insert into {t} values (8, 8, " + toast(8) + ", null); update {t} set n = 9 where id = 8",
        "update {t} set n = 1000 where id = 9; update {t} set id = 1009 where id = 9",
        "update {t} set id = 1010, n = 7 where id = 10",
        "update {t} set id = 1011, n = 7 where id = 11; update {t} set n = 8 where id = 1011;"
        "update {t} set id = 11 where id = 1011",
        "update {t} set doc = null where id = 12; update {t} set n = 5 where id = 12",
        "update {t} set doc = doc || 'x' where id = 13; update {t} set n = 5 where id = 13",
        "update {t} set id = -1 where id = 14; update {t} set id = 14 where id = 15;"
        "update {t} set id = 15 where id = -1; update {t} set n = n + 1 where id in (14, 15)"),
    "truncate": Case(
        PLAIN, PLAIN_ROWS, WIDEN, "update {t} set n = 0", "truncate {t}",
        "insert into {t} values (1, 1, 'one'), (2, 2, 'two')",
        "update {t} set n = 22 where id = 2"),
    "truncate_with_changes": Case(
        PLAIN, PLAIN_ROWS, WIDEN,
        "begin; insert into {t} values (500, 1); truncate {t};"
        " insert into {t} values (500, 2), (5, 5);"
        "update {t} set id = 501 where id = 500; commit",
        "begin; update {t} set n = 6; truncate {t}; insert into {t} values (7, 7); truncate {t};"
        "insert into {t} values (8, 8); savepoint a; truncate {t}; rollback to a; commit"),
    "truncate_restart_identity": Case(
        "create table {t} (id serial primary key, g int generated always as identity, n int)",
        "insert into {t} (n) select i from generate_series(1, 20) i",
        "alter table {t} alter n type bigint",
        "truncate {t} restart identity", "insert into {t} (n) values (1), (2), (3)"),
    "cascades": Case(
        "create table {t}_parent (id int primary key);"
        "create table {t} (id int primary key, p int references {t}_parent on delete cascade on"
        " update"
        " cascade, q int references {t} on delete set null, n int)",
        "insert into {t}_parent select generate_series(1, 20);"
        "insert into {t} select i, i % 20 + 1, nullif(i - 1, 0), i from generate_series(1, 100) i",
        "alter table {t} alter n type bigint",
        "delete from {t}_parent where id in (3, 4)",
        "update {t}_parent set id = id + 100 where id > 15",
        "delete from {t} where id = 50"),
    "truncate_cascade": Case(
        "create table {t}_parent (id int primary key);"
        "create table {t} (id int primary key, p int references {t}_parent, n int)",
        "insert into {t}_parent select generate_series(1, 20);"
        "insert into {t} select i, i % 20 + 1, i from generate_series(1, 100) i",
        "alter table {t} alter n type bigint",
        "truncate {t}_parent cascade",
        "insert into {t}_parent values (1); insert into {t} values (1, 1, 1)"),
    "identity_full": Case(
        PLAIN + "; alter table {t} replica identity full", PLAIN_ROWS, WIDEN,
        "update {t} set n = null where id <= 10", "delete from {t} where id between 20 and 30",
        "update {t} set id = id + 1000 where id > 90", "insert into {t} values (200, 1)",
        "update {t} set id = 5000, n = 1 where id = 40; update {t} set n = 2 where id = 5000"),
    "identity_full_toast": Case(
        DOCS + "; alter table {t} replica identity full", DOCS_ROWS,
        "alter table {t} alter n type bigint",
        "update {t} set n = -n where id <= 10", "update {t} set id = id + 1000 where id > 35",
        "delete from {t} where id = 20", "update {t} set doc = 'short' where id = 21"),
    "identity_index": Case(
        "create table {t} (id int primary key, k text not null, n int);"
        "create unique index {t}_k on {t} (k) include (n);"
        " alter table {t} replica identity using index {t}_k",
        "insert into {t} select i, 'k' || i, i from generate_series(1, 100) i",
        "alter table {t} alter id type bigint, alter n type bigint",
        "update {t} set id = id + 1000 where id <= 30",
        "update {t} set k = k || 'x' where id between 40 and 50",
        "delete from {t} where id = 60", "update {t} set id = 61000, k = 'new' where id = 61",
        "begin; update {t} set id = -1 where id = 70; update {t} set id = 70 where id = 71;"
        "update {t} set id = 71 where id = -1; commit"),
    "generated_columns": Case(
        "create table {t} (id int primary key, a int, b int generated always as (a * 2) stored,"
        " doc text, l int generated always as (length(doc)) stored);"
        "alter table {t} alter doc set storage external",
        "insert into {t} (id, a, doc) select i, i, " + toast("i")
        + " from generate_series(1, 30) i",
        "alter table {t} alter id type bigint",
        "update {t} set a = -a where id <= 10", "update {t} set doc = 'x' where id = 11",
        "insert into {t} (id, a) values (100, 1)", "update {t} set id = 200 where id = 12"),
    "generated_column_dropped_expression": Case(
        "create table {t} (id int primary key, a int, doc text,"
        " l int generated always as (length(doc)"
        " + a) stored); alter table {t} alter doc set storage external",
        "insert into {t} (id, a, doc) select i, i, " + toast("i")
        + " from generate_series(1, 30) i",
        "alter table {t} alter l drop expression",
        "update {t} set a = -a where id <= 10", "update {t} set doc = 'x' where id = 11",
        "update {t} set id = 200, a = 6 where id = 12", "delete from {t} where id = 13"),
    "identity_columns": Case(
        "create table {t} (id int generated always as identity primary key,"
        " g int generated by default as"
        " identity, n int)",
        "insert into {t} (n) select i from generate_series(1, 50) i",
        "alter table {t} alter id type bigint",
        "insert into {t} (n) values (1), (2)",
        "insert into {t} overriding system value values (1000, 5, 6)",
        "update {t} set id = default where id = 7", "update {t} set g = 99, n = null where id = 8",
        "delete from {t} where id = 9"),
    "dropped_columns": Case(
        "create table {t} (x int, id int primary key, y text, n int, z text);"
        "alter table {t} drop x; alter table {t} drop y; alter table {t} add w text default 'w'",
        "insert into {t} (id, n, z) select i, i, 'z' from generate_series(1, 50) i",
        "alter table {t} drop z, alter n type bigint, add v text default 'v'",
        "update {t} set n = -n where id < 10", "insert into {t} (id, n) values (100, 1)",
        "update {t} set id = 200, w = null where id = 20",
        "update {t} set z = 'only z' where id = 21"),
    "composed_types": Case(
        "create type {t}_mood as enum ('sad', 'it''s ok', 'happy');"
        "create type {t}_pair as (a int, b text);"
        "create domain {t}_name as varchar(20) not null check (value <> 'no');"
        "create domain {t}_names as text[] check (cardinality(value) < 9);"
        "create table {t} (id int primary key, m {t}_mood, p {t}_pair, d {t}_name, ds {t}_names,"
        " a int[],"
        " ps {t}_pair[], r tstzrange, j json, jb jsonb, x xml, bits varbit,"
        " c char(5),"
        " i inet, by bytea, u uuid, iv interval, tz timetz, mo money, pt point, tv tsvector,"
        " o oid)",
        "insert into {t} select i, 'sad', (i, 'b' || i)::{t}_pair, 'd' || i, '{a,b}', array[i,"
        " null],"
        " array[(i, null)::{t}_pair], '[2020-01-01, 2021-01-01)', '{\"a\":  1}',"
        " '{\"a\": 1}',"
        " '<a>1</a>', B'101', 'c', '10.0.0.1/8', '\\x00ff', md5(i::text)::uuid, '1 day',"
        " '10:00+02', 12.5,"
        " '(1,2)', 'a:1 b:2', i from generate_series(1, 20) i",
        "alter table {t} alter id type bigint",
        "update {t} set m = 'it''s ok', p = (null, 'x,\"(y')::{t}_pair, d = 'upd',"
        " a = '[2:3]={7,8}' where id <= 5",
        "update {t} set ds = null, a = '{}', ps = null, r = 'empty',"
        " j = null where id = 6",
        "update {t} set iv = '-1 day -02:03:04', x = 'text only', jb = '[1e400, 1.10,"
        " \"\\u00e9\"]' where id = 7",
        "insert into {t} (id, d, m, by, bits, c, mo) values (100, E'a\\tb\\n\\\\N', 'happy',"
        " '\\x5c4e00', B'', E'\\\\', -7.25)",
        "insert into {t} (id, d, a) values (101, '', '{{1,2},{3,null}}');"
        " update {t} set d = '\\N' where id = 101",
        "update {t} set pt = '(-0,1e-300)', i = '::1', tv = null, o = 4294967295 where id = 8"),
}

# Keys whose values may be equal without being the same bytes.
NUMBERS = {
    "numeric_keys": Case(
        "create table {t} (k numeric primary key, n int)",
        "insert into {t} select i, i from generate_series(1, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set k = 1.00 where k = 1", "update {t} set n = -1 where k = 1.0",
        "update {t} set k = 2.0, n = 5 where k = 2; update {t} set k = 2.000, n = 6 where k = 2",
        "delete from {t} where k = 3; insert into {t} values (3.0, 1);"
        " update {t} set n = 2 where k = 3",
        "insert into {t} values ('NaN', 1), (1e300, 3), (0.1, 4);"
        "update {t} set n = 9 where k = 'NaN'; delete from {t} where k = 4"),
    "new_numbers": Case(
        "create table {t} (k numeric primary key, mr int4multirange)",
        "insert into {t} select i, '{[1,2), [4,6)}' from generate_series(1, 50) i",
        "alter table {t} add x int default 3",
        "insert into {t} values ('Infinity', '{}'); update {t} set k = '-Infinity' where k = 1",
        since=140000),
    "float_keys": Case(
        "create table {t} (k float8 primary key, f real, n int)",
        "insert into {t} select i, i + 0.1, i from generate_series(0, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set k = '-0' where k = 0", "update {t} set n = -1 where k = 0",
        "update {t} set k = 'NaN', f = 'Infinity' where k = 1;"
        " update {t} set n = 3 where k = 'NaN'",
        "insert into {t} values (1e-300, '-Infinity', 1), (0.1, 'NaN', 2);"
        " update {t} set f = 0.3 where k = 0.1"),
}

EQUAL_KEYS = {
    "citext_keys": Case(
        "create extension if not exists citext; create table {t} (k citext primary key, n int)",
        "insert into {t} select 'k' || i, i from generate_series(1, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set k = 'K1' where k = 'k1'", "update {t} set n = -1 where k = 'k1'",
        "update {t} set k = upper(k::text), n = n + 100; update {t} set n = -2 where k = 'k2'",
        "delete from {t} where k = 'k3'; insert into {t} values ('k3', 1);"
        " update {t} set n = 5 where k = 'K3'",
        "update {t} set k = 'moved' where k = 'k4'"),
    "nondeterministic_keys": Case(
        "create collation {t}_ci (provider = icu, locale = 'und-u-ks-level2',"
        " deterministic = false);"
        "create table {t} (k text collate {t}_ci primary key, n int)",
        "insert into {t} select 'k' || i, i from generate_series(1, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set k = 'K1' where k = 'k1'", "update {t} set n = -1 where k = 'k1'",
        "begin; update {t} set k = 'tmp' where k = 'k2'; update {t} set k = 'K2' where k = 'k3';"
        "update {t} set k = 'k3' where k = 'tmp'; commit",
        "delete from {t} where k = 'K5'"),
    "char_keys": Case(
        "create table {t} (k char(8), m date, n int, primary key (k, m))",
        "insert into {t} select 'k' || i, '2020-01-01', i from generate_series(1, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set k = 'k1   ' where k = 'k1'", "update {t} set n = -1 where k = 'k1'",
        "update {t} set m = '2021-01-01' where k = 'k2'; update {t} set n = 3 where k = 'k2'"),
    "jsonb_keys": Case(
        "create table {t} (k jsonb, iv interval, n int, primary key (k, iv))",
        "insert into {t} select to_jsonb('k' || i), '1 day', i from generate_series(1, 50) i",
        "alter table {t} alter n type bigint",
        "update {t} set iv = '24 hours' where n = 1", "update {t} set n = -2 where n = 2",
        "update {t} set k = '{\"a\": 1}', iv = '30 days' where n = 3;"
        " update {t} set iv = '1 month' where n = 3",
        "delete from {t} where n = 4"),
    "mixed_using_and_equal_keys": Case(
        "create extension if not exists citext; create table {t} (k citext primary key, n int,"
        " doc text);"
        "alter table {t} alter doc set storage external",
        "insert into {t} select 'k' || i, i, " + toast("i") + " from generate_series(1, 20) i",
        "alter table {t} alter doc type text using n || md5(doc)",
        "update {t} set k = 'K1' where k = 'k1'", "update {t} set n = -1 where k = 'k1'",
        "update {t} set n = -n where n between 5 and 9",
        "update {t} set k = 'moved', n = 0 where n = 10",
        "update {t} set n = 1100 where n = 11; delete from {t} where n = 1100"),
}
CASES.update(EQUAL_KEYS)


COPIED = ("create table {t} (id int primary key, n int, doc text);"
          "alter table {t} alter doc set storage external;"
          "create table if not exists names (n int primary key, name text);"
          "insert into names select i, 'name ' || i from generate_series(-50,"
          " 50) i on conflict do nothing")
COPIED_ROWS = "insert into {t} select i, i, " + toast("i") + " from generate_series(1, 40) i"
COPIED_CHANGES = (
    "update {t} set n = 60 where id = 1", "update {t} set n = 3 where id = 2",
    "update {t} set n = 70 where id = 3; update {t} set n = 3 where id = 3",
    "insert into {t} values (100, 1, 'x'), (101, 80, 'y')", "update {t} set n = 2 where id = 101",
    "update {t} set doc = 'short' where id = 4", "delete from {t} where id in (5, 35)",
    "update {t} set id = 1006 where id = 6", "update {t} set id = 1007, n = 99 where id = 7",
    "update {t} set id = 1008, n = 99 where id = 8; update {t} set n = 8 where id = 1008",
    "update {t} set id = -1 where id = 9; update {t} set id = 9 where id = 10;"
    " update {t} set id = 10 where id = -1",
    "update {t} set n = 7 where id = 36", "update {t} set n = -n where id between 11 and 15",
    "update {t} set n = 5 where id = 16; delete from {t} where id = 16;"
    " insert into {t} values (16, 6, 'z')",
    "delete from {t} where id = 17; insert into {t} values (17, 99, 'gone');"
    " update {t} set n = 98 where id = 17",
)

COPY_STATEMENTS = {
    "join": ("insert into %{shadow_table} (id, n, doc, name) select a.id, a.n, a.doc, r.name"
             " from t a left join names r on r.n = a.n",
             "select a.id, a.n, a.doc, r.name from twin a left join names r on r.n = a.n"),
    "filter": ("insert into %{shadow_table} (id, n, doc) select id, n, doc from t where n < 30",
               "select id, n, doc, null::text from twin where n < 30"),
    "expressions": ("insert into %{shadow_table} (id, n, doc, name) select id, -n, upper(doc),"
                    " n || md5(doc)"
                    " from t where n is distinct from 8",
                    "select id, -n, upper(doc), n || md5(doc) from twin where n is distinct from"
                    " 8"),
}
