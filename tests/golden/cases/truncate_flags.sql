-- TRUNCATE with CASCADE, RESTART IDENTITY and several tables.
-- tables: public.t, public.child
-- differs: wal2json's TRUNCATE has no flags and is one message for each table
create table t (id serial primary key);
create table child (id int primary key references t);
create table other (id int primary key);
-- stream
truncate t cascade;
truncate child restart identity;
truncate other, child, t restart identity cascade;
truncate other;
