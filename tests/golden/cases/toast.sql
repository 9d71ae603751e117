-- Out-of-line values that an UPDATE does not touch, without and with a change of the key.
-- tables: public.t
create table t (id int primary key, a text, b bytea, small int);
alter table t alter a set storage external, alter b set storage external;
-- stream
insert into t values (1, repeat('a', 2100), decode(repeat('0b', 2100), 'hex'), 1);
update t set small = 2;
update t set id = 2;
update t set a = 'short', id = 3;
update t set a = repeat('n', 2100);
update t set b = null;
update t set id = 4, small = 3;
delete from t;
