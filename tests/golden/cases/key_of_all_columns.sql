-- A key that has every column of the table.
-- tables: public.t
-- differs: wal2json does not tell such a key from the whole row of REPLICA IDENTITY FULL
create table t (a int, b int, primary key (a, b));
-- stream
insert into t values (1, 2);
update t set b = 3;
delete from t;
