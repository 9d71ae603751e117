-- Numbers that are none.
-- tables: public.t
-- differs: wal2json prints NaN and infinite numbers as null
create table t (id int primary key, f4 real, f8 double precision, num numeric, day date);
-- stream
insert into t values (1, 'NaN', 'Infinity', 'NaN', 'infinity');
insert into t values (2, '-Infinity', '-0', 'Infinity', '-infinity');
update t set num = '-Infinity' where id = 1;
