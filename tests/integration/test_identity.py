"""Tables without a primary key: --set-replica-identity, for the time of the run and not longer."""
import pytest

from support.hold import held_build, held_copy, wait_until_true
from support.load import TwinLoad, assert_same
from support.traces import assert_finished, assert_removed, assert_untouched
from support.wait import wait_until_dead

TABLE = """
create table t (id int not null, n int not null, v text);
create unique index t_id on t (id);
insert into t select g, g, 'v' || g from generate_series(1, 500) g;
"""
ALTER = "alter table t alter n type bigint, add x int default 5"
OPTION = "--set-replica-identity"
READ = """select relreplident::text || coalesce((select ' ' || indexrelid::regclass::text
    from pg_index where indrelid = c.oid and indisreplident), '') from pg_class c where oid = %s::regclass"""
FORMER = {"default": "d", "full": "f", "nothing": "n"}


def identity(db, table="t"):
    return db.query_one(READ, [table])


def old_table(db):
    (name,), = db.query("select oid::regclass::text from pg_class where relname = 't'"
                        "   and relnamespace::regnamespace::text ~ '^walter_[0-9a-f]+$'")
    return name


@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
@pytest.mark.parametrize("former", FORMER)
def test_set_and_given_back_by_the_swap(db, walter, former, plugin):
    db.execute(TABLE + f"alter table t replica identity {former}")
    with held_copy(walter, ALTER, OPTION, f"--plugin={plugin}") as run:
        assert identity(db) == "i t_id"
        assert db.execute("update t set n = n + 1 where id <= 10") == 10
        assert db.execute("update t set id = id + 1000 where id <= 5") == 5
        assert db.execute("delete from t where id = 20") == 1
    result = run.finish()
    assert f"the replica identity of public.t is index t_id until the run is over; it was {former}" \
        in result.stderr
    assert identity(db) == FORMER[former]
    assert identity(db, old_table(db)) == FORMER[former]
    assert db.query_one("select sum(id), sum(n), count(*) from t") == \
        db.query_one("select 5000 + 125250 - 20, 125250 - 20 + 10, 499::bigint")
    assert_finished(db)


def test_under_load_by_the_owner(db, owner, walter):
    owner.execute(TABLE + "create table twin (id int primary key, n int not null);"
                  "insert into twin select id, n from t")
    with TwinLoad(owner, "t", "twin", {"n": "int not null"}, keys=(1, 500)) as load:
        load.wait_for(50)
        walter.as_user(owner).perform(ALTER, OPTION)
        load.wait_for(50)
    assert load.errors == []
    assert_same(db, "select id, n from t", "select id, n from twin", 100)
    assert identity(db) == "d"
    assert_finished(db)


def test_the_best_index(db, walter):
    db.execute(TABLE + """
        alter table t add a int not null default 1, add b int,
          add g int generated always as (id) stored not null;
        create unique index a_wide on t (a, id); create unique index b_null on t (b);
        create unique index c_part on t (id) where id > 0; create unique index d_expr on t ((id + 1));
        create unique index e_gen on t (g);
        alter table t add constraint f_later unique (id) deferrable""")
    with held_copy(walter, "alter table t add x int", OPTION) as run:
        assert identity(db) == "i t_id"
    run.finish()


def test_the_key_of_a_table_with_identity_nothing(db, walter):
    db.execute(TABLE + "alter table t add primary key (n), replica identity nothing")
    with held_copy(walter, "alter table t add x int", OPTION) as run:
        assert identity(db) == "i t_pkey"
        assert db.execute("update t set v = 'x' where n = 3") == 1
    run.finish()
    assert identity(db) == "n"
    assert db.query_one("select v from t where n = 3") == "x"


def test_the_index_dropped_by_the_statement(db, walter):
    db.execute(TABLE + "alter table t add constraint u unique using index t_id")
    with held_copy(walter, "alter table t drop constraint u", OPTION) as run:
        assert db.execute("update t set v = 'x' where id < 100") == 99
    run.finish()
    assert db.query_one("select count(*) from t where v = 'x'") == 99
    assert db.query("select * from pg_index where indrelid = 't'::regclass") == []
    assert_finished(db)


def test_not_for_tables_that_have_one(db, walter):
    """The option is no harm where it is not needed."""
    db.execute(TABLE + "alter table t add primary key (n)")
    with held_copy(walter, "alter table t add x int", OPTION) as run:
        assert identity(db) == "d"
    result = run.finish()
    assert "replica identity" not in result.stderr


UNUSABLE = {
    "no index": "create table t (id int not null, n int)",
    "nullable": "create table t (id int unique, n int)",
    "partial": "create table t (id int not null, n int); create unique index on t (id) where n > 0",
    "expression": "create table t (id int not null, n int); create unique index on t ((id + 1))",
    "deferrable": "create table t (id int not null unique deferrable, n int)",
    "generated": "create table t (n int, id int generated always as (n) stored not null unique)",
    "index of the identity is gone": "create table t (id int not null, n int);"
        "create unique index i on t (id); alter table t replica identity using index i; drop index i",
    "columns of a publication under full": "create table t (id int not null unique, n int);"
        "alter table t replica identity full; create publication p for table t where (n > 0)",
}


@pytest.mark.parametrize("shape", UNUSABLE)
def test_no_usable_index(db, walter, shape):
    db.execute(UNUSABLE[shape])
    before = identity(db)
    result = walter.perform("alter table t add x int", OPTION, check=2)
    assert "has no primary key (or a deferrable one)" in result.stderr
    assert identity(db) == before
    assert_untouched(db)


def test_not_without_the_option(db, walter):
    db.execute(TABLE)
    result = walter.perform(ALTER, check=2)
    assert "ALTER TABLE public.t REPLICA IDENTITY USING INDEX t_id; or add --set-replica-identity" \
        in result.stderr
    assert identity(db) == "d"
    assert_untouched(db)


@pytest.mark.superuser("event triggers belong to superusers")
def test_refused_by_the_server(db, walter):
    """What the rehearsal refuses is refused before the identity is touched."""
    db.execute(TABLE + "create table log (t regclass); create function note() returns event_trigger"
               " language plpgsql as $$ begin insert into public.log select objid from"
               " pg_event_trigger_ddl_commands() where objid = 'public.t'::regclass; end $$;"
               "create event trigger note on ddl_command_end execute function note()")
    walter.perform("alter table t drop nix", OPTION, check=2)
    assert db.query("table log") == []
    assert identity(db) == "d"
    assert_untouched(db)


# -- when it does not come to the swap ------------------------------------------------------------

@pytest.mark.parametrize("hold", [held_copy, held_build])
def test_given_back_when_stopped(db, walter, hold):
    db.execute(TABLE + "alter table t replica identity full")
    with hold(walter, ALTER, OPTION) as run:
        assert identity(db) == "i t_id"
        abort = walter.start("abort", "--yes")
        # before the shadow is dropped, on which the test has a lock
        run.wait_for_log("the replica identity of public.t is full again")
        assert identity(db) == "f"
    run.finish(check=7)
    abort.finish()
    assert db.execute("update t set n = n + 1") == 500
    assert_removed(db)


def test_given_back_by_cleanup(db, walter):
    db.execute(TABLE)
    with held_copy(walter, ALTER, OPTION) as run:
        run.kill()
    wait_until_dead(db)
    assert identity(db) == "i t_id"
    shown = walter.run("cleanup").stdout
    assert "replica identity   back to default" in shown
    assert identity(db) == "i t_id"
    walter.run("cleanup", "--yes")
    assert identity(db) == "d"
    assert_removed(db)


def test_cleanup_waits_for_the_lock_and_stalls_nobody(db, walter):
    db.execute(TABLE)
    with held_copy(walter, ALTER, OPTION) as run:
        run.kill()
    reader = db.connect(autocommit=False)
    other = db.connect()
    try:
        reader.execute("select from t limit 1")
        cleanup = walter.start("cleanup", "--yes")
        wait_until_true(db, "select count(*) > 0 from pg_locks where relation = 't'::regclass"
                            " and mode = 'AccessExclusiveLock' and not granted")
        # behind its short wait everybody else comes through
        other.execute("set statement_timeout = '5s'; select count(*) from t;"
                      "update t set n = n + 1 where id = 1")
        assert identity(db) == "i t_id"
    finally:
        reader.close()
        other.close()
    cleanup.finish()
    assert identity(db) == "d"
    assert_removed(db)


def test_what_somebody_has_set_meanwhile_stays(db, walter):
    db.execute(TABLE)
    with held_copy(walter, ALTER, OPTION) as run:
        run.kill()
    wait_until_dead(db)
    db.execute("alter table t replica identity full")
    walter.run("cleanup", "--yes")
    assert identity(db) == "f"
    assert_removed(db)


def test_changed_meanwhile(db, walter):
    db.execute(TABLE + "create unique index u_other on t (n)")
    with held_build(walter, "alter table t add x int", OPTION) as run:
        db.execute("alter table t replica identity using index u_other")
    result = run.finish(check=1)
    assert "the definition of public.t was changed by somebody else" in result.stderr
    assert identity(db) == "i u_other"
    assert_removed(db)


# -- the lock -------------------------------------------------------------------------------------

def test_waits_for_its_lock(db, walter):
    db.execute(TABLE)
    reader = db.connect(autocommit=False)
    other = db.connect()
    try:
        reader.execute("select from t limit 1")
        run = walter.start_perform(ALTER, OPTION)
        run.wait_for_log("waiting for a moment when nobody uses public.t, to set its replica"
                         " identity\n.* pid .*select from t limit 1")
        other.execute("set statement_timeout = '5s'; select count(*) from t;"
                      "update t set n = n + 1 where id = 1")
        assert identity(db) == "d"
    finally:
        reader.close()
        other.close()
    run.finish()
    assert identity(db) == "d"
    assert_finished(db)


def test_lock_not_granted_in_time(db, walter):
    db.execute(TABLE)
    reader = db.connect(autocommit=False)
    try:
        reader.execute("select from t limit 1")
        result = walter.perform(ALTER, OPTION, "--slot-timeout=1", check=5)
    finally:
        reader.close()
    assert "setting the replica identity" in result.stderr or "within 1 s" in result.stderr
    assert identity(db) == "d"
    assert_removed(db)


# -- the state ------------------------------------------------------------------------------------

def test_state_table_of_an_earlier_version(db, walter):
    """It has no columns for this, and gets them."""
    db.execute(TABLE + "create table other (id int primary key)")
    walter.perform("alter table other add x int")
    db.execute("alter table walter.run drop former_identity, drop identity_index")
    walter.perform("alter table other add y int")
    with held_copy(walter, ALTER, OPTION) as run:
        run.kill()
    wait_until_dead(db)
    walter.run("cleanup", "--yes")
    assert identity(db) == "d"
    walter.perform(ALTER, OPTION)
