-- Keys that change and keys that do not; a key of several columns, not the first ones.
-- tables: public.one, public.composite
create table one (id int primary key, v text);
create table composite (v text, b text, a int, w int, primary key (a, b));
-- stream
insert into one values (1, 'a'), (2, 'b');
update one set v = 'c' where id = 1;
update one set id = 3 where id = 2;
update one set id = id;
begin;
update one set id = id + 10;
insert into composite values ('v', 'b', 1, null), (null, 'c', 2, 5);
update composite set w = 6;
update composite set b = 'B' where a = 1;
update composite set a = 3, v = null where a = 2;
delete from composite;
delete from one where id = 11;
commit;
