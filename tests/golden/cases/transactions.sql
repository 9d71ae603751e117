-- Savepoints rolled back and kept, COPY, ON CONFLICT, ON DELETE CASCADE, rows locked only.
-- tables: public.t, public.child
create table t (id int primary key, v text);
create table child (id int primary key, t int references t on delete cascade on update cascade);
-- stream
begin;
insert into t values (1, 'kept');
savepoint a;
insert into t values (2, 'lost');
update t set v = 'lost';
rollback to a;
savepoint b;
insert into t values (3, 'kept');
release b;
select * from t for update;
commit;
begin;
insert into t values (9, 'lost');
rollback;
copy t from stdin;
4	copied
5	\N
\.
insert into t values (1, 'conflict'), (6, 'new') on conflict (id) do update set v = excluded.v;
insert into t values (1, 'nothing') on conflict do nothing;
insert into child values (1, 4), (2, 5);
update t set id = 7 where id = 4;
delete from t where id in (5, 7);
merge into t using (values (1, 'merged'), (8, 'merged')) as s (id, v) on t.id = s.id
    when matched then update set v = s.v when not matched then insert values (s.id, s.v);
