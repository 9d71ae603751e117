-- REPLICA IDENTITY FULL, with NULLs and out-of-line values; rows that do not change at all.
-- tables: public.t
create table t (id int primary key, a text, b text, n int);
alter table t alter b set storage external;
alter table t replica identity full;
-- stream
insert into t values (1, null, repeat('b', 2100), 1), (2, 'x', null, null);
update t set n = 5 where id = 1;
update t set id = 3, a = null where id = 2;
update t set n = n;
delete from t;
