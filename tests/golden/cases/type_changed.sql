-- A column that changes its type in the middle of the stream.
-- tables: public.t
create table t (id int primary key, v int);
-- stream
insert into t values (1, 1);
alter table t alter column v type bigint;
insert into t values (2, 2);
