"""Materialized views while they are read, and when a run is refused, fails or is stopped."""
import re

import psycopg
import pytest

from support.hold import held_build, held_cutover, wait_until_true
from support.pgbench import PgBench
from support.traces import assert_finished, assert_removed
from support.wait import wait_until

ALTER = "alter table t add x int default 5"
TABLE = """
    create table t (id int primary key, n int); insert into t select g, 1 from generate_series(1, 500) g;
    create materialized view m as select id, n from t; create unique index on m (id);
    create materialized view total as select count(*) as c, sum(n) as n from m;
    create view v as select * from m; create table written (n int);
"""
SCRIPT = """\\set id random(1, 500)
select 1 / count(*) from m where id = :id;
select 1 / c from total;
select n / n from v where id = :id;
begin;
update t set n = n + 1 where id = :id;
insert into written values (1);
select 1 / count(*) from t join v using (id) where id = :id;
commit;
"""


def is_populated(db, name="m"):
    return db.query_one("select relispopulated from pg_class where oid = %s::regclass", [name])


def test_readers_never_find_it_empty(db, walter):
    db.execute(TABLE)
    with PgBench(db, clients=6, script=SCRIPT, rate=200) as load:
        for alter in (ALTER, "alter table t drop x", "alter table t set (fillfactor = 70)"):
            walter.perform(alter, "--drop")
    # a division by zero would be an empty matview
    assert load.errors == [] and load.failed == 0
    written = db.query_one("select count(*) from written")
    assert written > 50
    assert db.query_one("select sum(n) from t") == 500 + written
    db.execute("refresh materialized view concurrently m; refresh materialized view total")
    assert db.query_one("select n from total") == 500 + written
    assert_finished(db)


def test_populated_from_what_was_written_during_the_copy(db, walter):
    db.execute(TABLE)
    with held_build(walter, ALTER) as run:
        db.execute("insert into t values (1000, 7)")
    run.finish()
    assert db.query_one("select n from m where id = 1000") == 7
    assert db.query_one("select n from v where id = 1000") == 7
    assert db.query_one("select c from total") == 501


def test_afterwards_it_is_refreshed(db, walter):
    db.execute(TABLE)
    run = walter.start_perform(ALTER, "--matviews=after", "--drop")
    result = run.finish()
    for name in ("m", "total"):
        assert f"refresh materialized view public.{name}" in result.stderr
        assert is_populated(db, name)
    assert db.query_one("select c from total") == 500
    assert_finished(db)


@pytest.mark.parametrize("when", ["before", "after"])
def test_functions_in_it_find_what_they_find_in_psql(db, walter, when):
    if db.server.version >= 170000:
        pytest.skip("from 17 on they find nothing but what is in pg_catalog, in psql as well")
    db.execute("""create table t (id int primary key); insert into t values (1);
        create table names (id int, name text); insert into names values (1, 'one');
        create function name_of(i int) returns text language plpgsql stable as
        'begin return (select name from names where id = i); end';
        create materialized view m as select id, name_of(id) as name, timestamptz '2020-01-01 0:00z'
          ::text as at from t""")
    db.execute(f"alter database {db.name} set timezone to 'Asia/Kolkata'")
    walter.perform("alter table t add x int", f"--matviews={when}")
    assert db.query("select name, at from m") == [("one", "2020-01-01 05:30:00+05:30")]


def test_refresh_that_fails_is_told(db, walter):
    db.execute(TABLE + "create function fails(int) returns int language plpgsql stable as"
               " 'begin return 1 / current_setting(''walter.one'', true)::int; end';"
               f"alter database {db.name} set walter.one = 1; set walter.one = 1;"
               "create materialized view f as select fails(id) from t;"
               f"alter database {db.name} set walter.one = 0")
    result = walter.perform(ALTER, "--matviews=after")
    assert re.search("warning: the new table is in place, but a materialized view is empty: division"
                     " by zero.*; run: refresh materialized view public.f", result.stderr)
    assert is_populated(db) and not is_populated(db, "f")
    assert_finished(db)


def test_population_that_fails_changes_nothing(db, walter):
    db.execute(TABLE + "create function fails(int) returns int language plpgsql stable as"
               " 'begin return 1 / current_setting(''walter.one'', true)::int; end';"
               f"alter database {db.name} set walter.one = 1; set walter.one = 1;"
               "create materialized view f as select fails(id) from t;"
               f"alter database {db.name} set walter.one = 0")
    oid = db.query_one("select 'm'::regclass::oid")
    result = walter.perform(ALTER, check=False)
    assert result.code != 0
    assert "populating a materialized view: division by zero" in result.stderr
    assert db.query_one("select 'm'::regclass::oid") == oid
    assert is_populated(db, "f")
    assert_removed(db)


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_stopped_while_it_is_populated(db, walter, end):
    db.execute(TABLE + "create materialized view waits as select id from t"
               " where pg_advisory_xact_lock_shared(77) is not null")
    gate = db.connect(autocommit=False)
    gate.execute("select pg_advisory_lock(77)")
    run = walter.start_perform(ALTER)
    run.wait_for_log("populating materialized views")
    wait_until_true(db, "select count(*) > 0 from pg_locks where locktype = 'advisory'"
                        " and not granted")
    if end == "interrupt":
        run.interrupt()
        run.finish(check=7)
    else:
        run.kill()
    walter.run("cleanup", "--yes")
    gate.close()
    assert_removed(db)
    assert db.query_one("select count(*) from waits") == 500


def test_owner_of_a_matview_reads_with_his_own_rights_only(db, walter):
    other = db.create_role()
    db.execute(f"grant {other.user} to {db.user}")
    db.execute(TABLE + f"grant usage, create on schema public to {other.user};"
               "create materialized view theirs as select id from t;"
               f"alter materialized view theirs owner to {other.user}")
    result = walter.perform(ALTER, check=False)
    assert result.code != 0 and "permission denied for table t" in result.stderr
    assert_removed(db)
    db.execute(f"grant select on t to {other.user}")
    walter.perform(ALTER)
    assert db.query_one("select count(*) from theirs") == 500
    assert not db.query_one("select has_schema_privilege(%s, relnamespace, 'usage') from pg_class"
                            " where relname = 't' and relnamespace::regnamespace::text ~ '^walter_'",
                            [other.user])


def test_owner_of_a_matview_reads_another_one_only(db, walter):
    """He may read the table by way of somebody else's matview, before the swap and after it."""
    other = db.create_role()
    db.execute(f"grant {other.user} to {db.user}")
    db.execute(TABLE + f"grant usage, create on schema public to {other.user};"
               "create materialized view ours as select id from t;"
               "create table u (n int); insert into u values (1);"
               "create materialized view elsewhere as select n from u;"
               f"grant select on ours, elsewhere to {other.user};"
               "create materialized view theirs as"
               "  select id + 1 as next from ours, elsewhere;"
               f"alter materialized view theirs owner to {other.user}")
    walter.perform(ALTER)
    assert db.query_one("select count(*) from theirs") == 500
    assert db.query_one("select relacl::text from pg_class where relname = 'ours'").count(
        f"{other.user}=r/") == 1
    db.execute(f"refresh materialized view ours; set role {other.user};"
               "refresh materialized view theirs")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(f"set role {other.user}; select from t")
    db.execute("reset role")
    assert_finished(db)


def test_autovacuum_and_readers_of_a_matview_are_waited_for(db, walter):
    db.execute(TABLE)
    reader = db.connect(autocommit=False)
    with held_cutover(walter, ALTER) as run:
        reader.execute("select * from m limit 1")
    run.wait_for_log("exclusive lock on public.m: not granted within .*in the way of the lock: pid "
                     f"{reader.info.backend_pid}")
    reader.commit()
    run.finish()


def test_snapshot_older_than_its_rows_is_waited_for(db, walter):
    db.execute(TABLE)
    old = db.connect()
    with held_build(walter, ALTER) as run:
        old.execute("begin isolation level repeatable read; select 1")
    run.wait_for_log("waiting for an old snapshot, to which the new table would look empty")
    assert old.execute("select count(*) from m").fetchone() == (500,)
    old.execute("commit")
    run.finish()


def test_changed_while_the_indexes_are_built(db, walter):
    role = db.create_role()
    db.execute(TABLE)
    with held_build(walter, ALTER) as run:
        db.execute(f"grant select on m to {role.user}; create index m_n on m (n);"
                   "comment on materialized view m is 'new'; drop materialized view total")
    run.finish()
    assert db.query_one("select has_table_privilege(%s, 'm', 'select')", [role.user]) is True
    assert db.query_one("select obj_description('m'::regclass)") == "new"
    assert db.query_one("select indrelid::regclass::text from pg_index"
                        " where indexrelid = 'm_n'::regclass") == "m"
    assert_finished(db)


def test_changed_when_it_is_built_anew_already(db, walter):
    role = db.create_role()
    db.execute(TABLE)
    with held_cutover(walter, ALTER, "--drop") as run:
        db.execute(f"grant select on m to {role.user}")
    run.finish()
    assert db.query_one("select has_table_privilege(%s, 'm', 'select')", [role.user]) is True
    with held_cutover(walter, "alter table t drop x") as run:
        db.execute("create index m_n on m (n)")
    result = run.finish(check=1)
    assert "a materialized view is new, gone, or not what it was" in result.stderr
    assert_removed(db)


def test_refreshed_meanwhile(db, walter):
    db.execute(TABLE)
    with held_cutover(walter, ALTER) as run:
        db.execute("refresh materialized view m; refresh materialized view concurrently m")
    run.finish()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        db.query("select x from m")
    wait_until(lambda: is_populated(db), "populated")
