-- DDL that leaves the columns as they are: the table is announced again, and nothing else happens.
-- tables: public.t
create table t (id int primary key, v text);
-- stream
insert into t values (1, 'a');
vacuum full t;
insert into t values (2, 'b');
alter table t add constraint v_short check (length(v) < 100);
create index on t (v);
update t set v = 'c' where id = 1;
alter table t rename to renamed;
alter table renamed rename to t;
delete from t;
