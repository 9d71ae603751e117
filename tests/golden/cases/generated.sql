-- Generated, identity and dropped columns.
-- tables: public.t
create table t (
    gone int, id int generated always as identity primary key,
    twice int generated always as (n * 2) stored, n int default 5, dropped text, v text,
    upper_v text generated always as (upper(v)) stored);
alter table t drop column gone, drop column dropped;
-- stream
insert into t (v) values ('a');
update t set n = 6;
update t set v = null;
update t set id = default;
delete from t;
