"""What a dead run was to do after its swap is known, shown and done by the cleaning up."""
import re
from contextlib import contextmanager

import pytest

from support.hold import held_copy, wait_for_waiter
from support.traces import assert_finished
from support.wait import wait_until_dead

TABLE = """
create table t (id int primary key, n int);
insert into t select g, g from generate_series(1, 100) g;
create table "Child" (id int references t, constraint "to self" foreign key (id) references t);
insert into "Child" select g from generate_series(1, 100) g;
create materialized view m as select count(*) as n from t;
"""
ALTER = "alter table t alter n type bigint"
VALID = "select count(*) from pg_constraint where contype = 'f' and convalidated"


@contextmanager
def held_after_the_swap(db, walter, *args):
    """Inside, a run has swapped and can go no further."""
    run = walter.start_perform(ALTER, *args)
    run.wait_for_log("building")
    holder = db.superuser.connect()
    holder.execute("begin; lock table pg_catalog.pg_publication in share mode")
    try:
        run.wait_for_log("swapped, lock held")
        yield run
    finally:
        holder.close()


def kill_after_the_swap(db, walter, *args):
    with held_after_the_swap(db, walter, *args) as run:
        run.kill()
    wait_until_dead(db)


@contextmanager
def held_while_validating(db, walter, *args):
    """Inside, a run has done everything but to validate the first foreign key."""
    with held_after_the_swap(db, walter, *args) as run:
        holder = db.connect()
        holder.execute('begin; lock table "Child" in share update exclusive mode')
    try:
        wait_for_waiter(db, '"Child"')
        yield run
    finally:
        holder.close()


@pytest.mark.smoke
def test_killed_after_the_swap(db, walter):
    db.execute(TABLE)
    kill_after_the_swap(db, walter, "--matviews=after", "--drop")
    assert db.query_one(VALID) == 0
    shown = walter.run("cleanup").stdout
    assert re.search("phase swapped: dead", shown)
    assert re.findall("still to be run +(.*)", shown) == [
        "refresh materialized view public.m",
        re.search(r'drop table if exists "walter_\w+"."t"; drop schema .*', shown).group(),
        'alter table public."Child" validate constraint "Child_id_fkey"',
        'alter table public."Child" validate constraint "to self"']
    assert db.query_one(VALID) == 0
    result = walter.run("cleanup", "--yes")
    assert result.stderr.count("info: done: ") == 4
    assert db.query_one(VALID) == 2
    assert db.query_one("select n from m") == 100
    assert db.query_one("select count(*) from pg_namespace where nspname ~ '^walter_'") == 0
    assert "nothing to clean up" in walter.run("cleanup").stdout
    walter.perform("alter table t add x int")


def test_old_table_that_cannot_be_dropped(db, walter):
    """The ALTER is done; the operator is told what to run, and cleanup does it as well."""
    db.execute("create table t (id int primary key, n int); insert into t values (1, 1)")
    with held_after_the_swap(db, walter, "--drop") as run:
        schema = db.query_one("select nspname from pg_namespace where nspname ~ '^walter_'"
                              " and exists (select from pg_class where relnamespace ="
                              " pg_namespace.oid and relname = 't')")
        db.execute(f"create view reader as select * from {schema}.t")
    result = run.finish(check=0)
    assert re.search("warning: the new table is in place, but the old one could not be dropped: "
                     f'.*; run: drop table if exists "{schema}"."t"; .*; or walter cleanup$',
                     result.stderr, re.MULTILINE)
    db.execute("drop view reader")
    walter.run("cleanup", "--yes")
    assert db.query_one("select to_regnamespace(%s) is null", [schema])
    assert "nothing to clean up" in walter.run("cleanup").stdout


def test_kept_table_is_named_for_sql(db, walter):
    db.execute('create table "a ""b" (id int primary key, n int)')
    result = walter.perform('alter table "a ""b" alter n type bigint')
    kept = re.search("the old table is kept as (.*); drop it when", result.stderr).group(1)
    db.execute(f"drop table {kept}")


def test_killed_while_validating(db, owner, walter):
    """The machinery is gone by then; a new run may begin, and takes nothing away from the rest."""
    owner.execute(TABLE)
    runner = walter.as_user(owner)
    with held_while_validating(db, runner) as run:
        run.kill()
        wait_until_dead(db)
    assert_finished(db)
    shown = runner.run("cleanup").stdout
    assert re.search("phase done: dead", shown)
    assert "replication slot" not in shown
    assert len(re.findall("still to be run", shown)) == 2
    runner.perform("alter table t add x int")
    assert db.query_one(VALID) == 0
    runner.run("cleanup", "--yes")
    assert db.query_one(VALID) == 2
    assert "nothing to clean up" in runner.run("cleanup").stdout


def test_stopped_while_validating(db, walter):
    db.execute(TABLE)
    with held_while_validating(db, walter) as run:
        assert "alive, left alone" in walter.run("cleanup").stdout
        run.interrupt()
        result = run.finish(check=0)
    assert re.search("is not validated: stopped on request; run: .*; or walter cleanup$",
                     result.stderr, re.MULTILINE)
    assert len(re.findall('warning: still to be done: alter table public."Child" validate',
                          result.stderr)) == 2
    walter.run("cleanup", "--yes")
    assert db.query_one(VALID) == 2


def test_stopped_while_cleaning_up(db, walter):
    """It may take as long as it takes, and can be stopped like everything else."""
    db.execute(TABLE)
    kill_after_the_swap(db, walter)
    holder = db.connect()
    holder.execute('begin; lock table "Child" in share update exclusive mode')
    run = walter.start("cleanup", "--yes")
    wait_for_waiter(db, '"Child"')
    run.interrupt()
    run.finish(check=7)
    holder.close()
    walter.run("cleanup", "--yes")
    assert db.query_one(VALID) == 2


def test_what_does_not_validate_stays(db, walter):
    """Nor does it keep the others."""
    db.execute(TABLE)
    kill_after_the_swap(db, walter)
    db.execute("set session_replication_role = replica; delete from t where id = 7; reset all;"
               ' alter table "Child" add constraint fits foreign key (id) references t not valid;'
               " insert into walter.run select 'aaaaaaaa', 'done', 0, 0, table_name, owner,"
               "   statement, plugin, system_identifier, timeline, null, null, null,"
               """   array['alter table public."Child" validate constraint gone',"""
               """     'drop schema walter', 'create table public.more ()'] from walter.run""")
    result = walter.run("cleanup", "--yes", check=1)
    assert re.search('violates foreign key constraint "Child_id_fkey"', result.stderr)
    assert re.search('warning: constraint "gone" .* does not exist; left out: ', result.stderr)
    assert db.query_one("select to_regclass('more') is not null")
    shown = walter.run("cleanup").stdout
    assert re.findall("still to be run +(.*)", shown) == [
        'alter table public."Child" validate constraint "Child_id_fkey"',
        'alter table public."Child" validate constraint "to self"', "drop schema walter"]
    db.execute('delete from "Child" where id = 7; update walter.run set unfinished ='
               " nullif(array_remove(unfinished, 'drop schema walter'), '{}')")
    walter.run("cleanup", "--yes")
    assert db.query_one("select count(*) from pg_constraint where contype = 'f'"
                        " and not convalidated") == 1


def test_not_asked_for(db, walter):
    db.execute(TABLE)
    kill_after_the_swap(db, walter, "--skip-foreign-key-validation")
    assert "still to be run" not in walter.run("cleanup").stdout
    walter.run("cleanup", "--yes")
    assert db.query_one(VALID) == 0


@pytest.mark.parametrize("mine", [True, False])
def test_state_table_of_an_older_version(db, owner, walter, mine):
    """It learns to say what is left, where the role may teach it that."""
    owner.execute(TABLE)
    db.execute("create table u (id int primary key, n int)")
    walter.perform("alter table u add x int")
    db.execute("alter table walter.run drop column unfinished;"
               f"grant usage, create on schema walter to {owner.user};"
               f"grant select, insert, update, delete on walter.run to {owner.user}"
               + (f"; alter table walter.run owner to {owner.user}" if mine else ""))
    runner = walter.as_user(owner)
    kill_after_the_swap(db, runner)
    assert ("still to be run" in runner.run("cleanup").stdout) == mine
    runner.run("cleanup", "--yes")
    assert db.query_one(VALID) == (2 if mine else 0)


def test_statements_of_others_are_not_run(db, owner, walter):
    """Who may write walter.run must not have a mightier role run what he has written."""
    owner.execute(TABLE)
    runner = walter.as_user(owner)
    kill_after_the_swap(db, runner)
    result = walter.run("cleanup", "--yes", check=1)
    assert (f"walter.run can be written by roles that may not act as this one: {owner.user}"
            in result.stderr)
    assert "hint: Run walter cleanup as the owner of schema walter" in result.stderr
    assert db.query_one(VALID) == 0
    assert_finished(db)
    runner.run("cleanup", "--yes")
    assert db.query_one(VALID) == 2


def test_writers_by_grant(db, walter):
    db.execute(TABLE)
    stranger = db.create_role("login")
    kill_after_the_swap(db, walter)
    for privilege, code in [("insert", 1), ("select", 0)]:
        db.execute(f"revoke all on walter.run from {stranger.user};"
                   f"grant {privilege} on walter.run to {stranger.user}")
        walter.run("cleanup", "--yes", check=code)
    assert db.query_one(VALID) == 2


def test_no_statement_in_place_of_an_identity(db, walter):
    """The former replica identity is one of three words, or nothing."""
    db.execute("create table t (id int not null, n int); create unique index on t (id)")
    with held_copy(walter, ALTER, "--set-replica-identity") as run:
        run.kill()
    wait_until_dead(db)
    db.execute("update walter.run set former_identity = 'full; create table public.made ()'")
    walter.run("cleanup", "--yes")
    assert db.query_one("select to_regclass('made') is null")
