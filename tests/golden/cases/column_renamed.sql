-- A column that is renamed in the middle of the stream.
-- tables: public.t
create table t (id int primary key, v text);
-- stream
insert into t values (1, 'a');
alter table t rename column v to w;
update t set w = 'b';
