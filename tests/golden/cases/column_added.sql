-- A column that appears in the middle of the stream.
-- tables: public.t
create table t (id int primary key);
-- stream
insert into t values (1);
alter table t add column extra int default 7;
insert into t values (2);
