-- Tables we do not know, one of the same name in another schema, types and messages in between.
-- tables: app.t, public.fence
create schema app;
create type colour as enum ('red', 'green');
create table app.t (id int primary key, c colour);
create table public.t (id int primary key, different text);
create table public.fence (id int primary key, n bigint);
create table full_identity (a int, c colour);
alter table full_identity replica identity full;
insert into fence values (1, 0);
-- stream
insert into public.t values (1, 'skipped');
begin;
insert into app.t values (1, 'red');
update public.t set different = 'skipped', id = 2;
select pg_logical_emit_message(true, 'prefix', 'content');
insert into full_identity values (1, 'green');
update full_identity set c = 'red';
update fence set n = 1;
delete from full_identity;
delete from public.t;
truncate public.t, full_identity;
update app.t set c = 'green';
commit;
select pg_logical_emit_message(true, 'bytes', '\x00ff22'::bytea);
