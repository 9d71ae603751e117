-- REPLICA IDENTITY USING INDEX: the primary key may change without an old row.
-- tables: public.t
create table t (id int primary key, k text not null, j int not null, v text);
create unique index t_jk on t (j, k) include (v);
alter table t replica identity using index t_jk;
-- stream
insert into t values (1, 'a', 10, 'v');
update t set id = 2;
update t set v = 'w';
update t set k = 'b';
update t set j = 11, id = 3;
delete from t;
