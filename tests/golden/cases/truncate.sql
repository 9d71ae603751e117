-- TRUNCATE of one table, among rows, and one that is rolled back.
-- tables: public.t
create table t (id int primary key, v text);
-- stream
insert into t values (1);
begin;
insert into t values (2);
truncate t;
insert into t values (1);
commit;
begin;
truncate t;
rollback;
delete from t;
