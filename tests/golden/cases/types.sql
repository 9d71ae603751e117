-- Values of all kinds of types, NULLs, empty values and characters that JSON escapes.
-- tables: public.everything
create type mood as enum ('sad', 'it''s "fine"', 'happy');
create type pair as (x int, y text);
create domain digest as bytea;
create domain positive as int check (value > 0);
create table everything (
    id int primary key, i2 smallint, i8 bigint, f4 real, f8 double precision, num numeric,
    num2 numeric(12,4), cash money, flag boolean, txt text, vc varchar(20), fixed char(6),
    internal "char", label name, raw bytea, hash digest, pos positive, day date, clock time,
    clocktz timetz, stamp timestamp, stamptz timestamptz, span interval, id4 uuid, addr inet,
    net cidr, mac macaddr, bits bit(5), vbits bit varying, doc json, docb jsonb, tree xml,
    feeling mood, two pair, ints int[], texts text[][], raws bytea[], moods mood[], range int4range,
    ranges int4multirange, spot point, shape polygon, words tsvector, query tsquery, pos_oid oid,
    class regclass, snap pg_snapshot, wal pg_lsn);
-- stream
insert into everything values (
    1, -32768, 9223372036854775807, 0.1, 1e-300, 123456789012345678901234567890.0012300, -0.5000,
    12.34, true, E'tab\t line\n quote" back\\ slash/ \x01 nbsp\u00a0 \U0001F600 "value":5,', 'v',
    'ab', 'x', 'a name', '\x000102ff5c22', '\xdeadbeef', 7, '2024-02-29', '23:59:59.999999',
    '12:00:00+05:30', '2000-01-01 00:00:00', '1999-12-31 23:59:59.5+00',
    '-1 mons +2 days -03:04:05.000006', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1', '10.0.0.0/8',
    '08:00:2b:01:02:03', B'10101', B'', '{"a": 1.10,  "b":[1e400, "x"]}', '{"a": 1.10, "b": null}',
    '<a b="c">text</a>', 'it''s "fine"', '(1,"two, ""2""")', '{1,NULL,-3}', '{{a,"b,c"},{NULL,"\""}}',
    '{"\\x00","\\x"}', '{sad,"it''s \"fine\""}', '[1,10)', '{[1,2),[5,)}', '(1.5,-2)',
    '((0,0),(0,1),(1,0))', 'a:1A b', 'a & !b', 4294967295, 'pg_catalog.pg_class', '10:20:10,14',
    '16/B374D848');
insert into everything (id) values (2);
insert into everything (id, txt, raw, texts, ints, doc) values (3, '', '', '{}', '{}', '"unquoted 12 -3.5e6"');
insert into everything (id, num, f8, f4, i8)
    values (4, ('1' || repeat('0', 330) || '.000001')::numeric, 1.7976931348623157e308, -0.0, -9223372036854775808);
insert into everything (id, num, f8, f4, i8) values (5, 1e-320, 5e-324, 1e-37, 0);
update everything set flag = false, txt = null, num = 0.10 where id = 1;
delete from everything where id = 2;
