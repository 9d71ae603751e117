"""The server is in trouble, or somebody takes away what the run has made."""
import os
import re
import subprocess
import tempfile
import time

import psycopg
import pytest

from support.load import TwinLoad, assert_same
from support.ordeal import ALTER, LOADED, Ordeal, assert_as_promised, create_twins
from support.server import Server, majors
from support.thorough import THOROUGH
from support.wait import wait_for_session, wait_until



# -- what the run has made ------------------------------------------------------------------------

DROPPED = {
    "slot": "select pg_terminate_backend(active_pid), pg_drop_replication_slot(slot_name)"
            "  from pg_replication_slots where slot_name = 'walter_{run}'",
    "publication": "drop publication walter_{run}",
    "altered publication": "alter publication walter_{run} set (publish = 'insert, update')",
    "shadow": "drop table walter_{run}_new.t",
    "renamed shadow": "alter table walter_{run}_new.t rename to mine",
    "truncated shadow": "truncate walter_{run}_new.t",
    "schema": "drop schema walter_{run}_new cascade",
    "row": "delete from walter.run",
    "position": "drop table walter.position_{run}",
    "fence": "drop table walter.fence_{run}",
    "fence's row": "delete from walter.fence_{run}",
    "schema walter": "drop schema walter cascade",
}
TAKEN = [("copy", "shadow"), ("copy", "row"), ("copy", "position"), ("index", "fence"),
         ("index", "altered publication"), ("catch-up", "slot"), ("catch-up", "publication"),
         ("catch-up", "fence's row"), ("catch-up", "schema"), ("cutover", "row"),
         ("cutover", "renamed shadow"), ("cutover", "truncated shadow")]
ALL_TAKEN = [(phase, what) for phase in ("copy", "index", "catch-up", "cutover")
             for what in DROPPED]


@pytest.mark.parametrize("phase,what", ALL_TAKEN if THOROUGH else TAKEN)
def test_taken_away(db, walter, phase, what):
    with Ordeal(db, walter, phase) as ordeal:
        statement = DROPPED[what].format(run=ordeal.name())
        if what == "slot":
            retry(lambda: db.execute(statement))
        else:
            # a chunk that is copied, or a batch, has its lock on the shadow
            done = ordeal.start(statement)
            wait_until(done.is_waiting, f"{statement} is done or waits")
            ordeal.let_go()
            done()
        ordeal.end((1, 4, 6, 9))


def retry(work, timeout=20):
    """Until the server does not object to it any more."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return work()
        except psycopg.Error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_slot_used_by_somebody_else(db, walter):
    """He confirms what he was sent, so it will not be sent again: never go on regardless."""
    with Ordeal(db, walter, "catch-up") as ordeal:
        slot = f"walter_{ordeal.name()}"
        db.execute("select pg_terminate_backend(active_pid) from pg_replication_slots"
                   " where slot_name = %s", [slot])
        thief = subprocess.Popen(
            db.server.program("pg_recvlogical") + [
                "-d", db.dsn, "--slot", slot, "--start", "-f", "/dev/null", "-F", "1", "-s", "1",
                "-o", "proto_version=1", "-o", f"publication_names={slot}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ordeal.load.wait_for(20)
        ordeal.end((6, 9))
        thief.kill()
        thief.wait()


# -- no room --------------------------------------------------------------------------------------

def test_no_room_for_the_copy(db, walter):
    """The server cannot extend the shadow's file: the system says so to the session that copies."""
    with Ordeal(db, walter, "copy", None, "-j", "1") as ordeal:
        limit_files(ordeal.pid("copy to"), 16384)
        result = ordeal.end((1,))
    assert re.search("could not (extend|write) file .*File too large", result.stderr), str(result)


def limit_files(pid, size):
    """As the user whose process it is, whom the kernel lets do that without further rights."""
    about = os.stat(f"/proc/{pid}")
    options = {"user": about.st_uid, "group": about.st_gid, "extra_groups": []} \
        if os.getuid() == 0 else {}
    subprocess.run(["prlimit", f"--pid={pid}", f"--fsize={size}"], check=True, **options)


@pytest.fixture
def small_disk():
    """small_disk(server) makes a directory with 64 MB for it, on a file system of its own."""
    made = []

    def make(server):
        root = server.description["root"]
        where = tempfile.mkdtemp(prefix="walter-small-disk.",
                                 dir=f"{root}/var/lib/walter" if root else None)
        if os.getuid() != 0 or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", where],
                check=False).returncode != 0:
            os.rmdir(where)
            pytest.skip("a small file system cannot be mounted here")
        made.append(where)
        return where

    yield make
    for where in made:
        subprocess.run(["umount", "--lazy", where], check=True)
        os.rmdir(where)


def test_no_room_for_wal(small_disk, new_server, new_db, walter):
    """Our slot and a writer fill the disk: the server breaks down until there is room."""
    own = new_server(fast=True, settings={"max_wal_size": "32MB"})
    db = walter.db = new_db(own)
    own.halt()
    where = small_disk(own)
    wal = os.path.join(own.description["data"], "pg_wal")
    subprocess.run(["cp", "-a", wal, where], check=True)
    subprocess.run(["rm", "-r", wal], check=True)
    os.symlink(own.inside(os.path.join(where, "pg_wal")), wal)
    own.resume()
    with Ordeal(db, walter, "copy") as ordeal:
        with pytest.raises(psycopg.Error):
            db.execute("create table junk as"
                       " select repeat('x', 800) from generate_series(1, 100000)")
        ordeal.let_go()
        result = ordeal.run.finish(90, check=False)
        assert result.code in (1, 6, 9), str(result)
        subprocess.run(["mount", "-o", "remount,size=512m", where], check=True)
        bring_up(own)
        ordeal.end((1, 6, 9), allowed=".")


def bring_up(server):
    """Start it, unless it has recovered by itself."""
    try:
        server.wait_until_up(10)
    except psycopg.OperationalError:
        try:
            server.halt("immediate")
        except RuntimeError:
            pass    # it has given up
        server.resume()


# -- a server whose settings change ---------------------------------------------------------------

@pytest.fixture(scope="module", name="shared_lab")
def fixture_shared_lab():
    one = Server.start(os.environ.get("WALTER_TEST_MAJOR", "15"), fast=True,
                       settings={"max_connections": 40})
    yield one
    one.remove()


class Lab:
    """A database on a server whose settings the test may change, and another one."""

    def __init__(self, server, db, other):
        self.server = server
        self.db = db
        self.other = other

    def set(self, **settings):
        with self.server.connect() as conn:
            for name, value in settings.items():
                conn.execute(f"alter system set {name} = '{value}'")
            conn.execute("select pg_reload_conf()")
        for name, value in settings.items():
            wait_until(lambda name=name, value=value: self._shows(name) == value, name)

    def _shows(self, name):
        with self.server.connect() as conn:
            return conn.execute(f"show {name}").fetchone()[0]

    def reset(self):
        with self.server.connect() as conn:
            conn.execute("alter system reset all")
            conn.execute("select pg_reload_conf()")


@pytest.fixture
def lab(shared_lab, new_db, walter):
    made = Lab(shared_lab, new_db(shared_lab), new_db(shared_lab))
    walter.db = made.db
    yield made
    made.reset()


def test_no_connection_left(lab, walter):
    """Others have taken all when the run needs more."""
    owner = lab.db.create_owner()
    taken = []
    with Ordeal(owner, walter.as_user(owner), "slot", lab.other, superuser=lab.db) as ordeal:
        with pytest.raises(psycopg.OperationalError):
            while True:
                taken.append(owner.connect())
        ordeal.let_go()
        ordeal.run.wait_for_log("could not connect: .*(too many|reserved)")
        for conn in taken:
            conn.close()
        ordeal.end((6,))


def test_wal_that_the_slot_needs_is_gone(lab, walter):
    with Ordeal(lab.db, walter, "copy") as ordeal:
        lab.set(max_slot_wal_keep_size="1MB")
        for _ in range(3):
            lab.db.query("select pg_switch_wal()")
            ordeal.load.wait_for(5)
        lab.db.execute("checkpoint")
        wait_until(lambda: lab.db.query_one(
            "select wal_status = 'lost' from pg_replication_slots"
            " where database = current_database()"), "the slot is lost")
        result = ordeal.end((6, 9))
    assert result.code != 0


@pytest.mark.skipif("18" not in majors(), reason="a setting of 18, see WALTER_TEST_MAJORS")
def test_slots_that_idle_are_dropped(new_server, new_db, walter):
    """Ours does not idle, however long the copy takes."""
    own = new_server("18", fast=True, settings={"idle_replication_slot_timeout": "1s"})
    db = walter.db = new_db(own)
    db.execute("select pg_create_logical_replication_slot('idler', 'pgoutput')")
    with Ordeal(db, walter, "copy") as ordeal:
        def look():
            db.execute("checkpoint")
            return db.query_one("select invalidation_reason = 'idle_timeout'"
                                "  from pg_replication_slots where slot_name = 'idler'")
        wait_until(look, "the other slot is invalidated")
        db.execute("select pg_drop_replication_slot('idler')")
        assert ordeal.end().code == 0


@pytest.mark.parametrize("phase", ["slot", "copy", "cutover"])
def test_standby_that_is_dead(lab, walter, phase):
    """Commits of the application hang, with their locks; ours do not."""
    with Ordeal(lab.db, walter, phase, lab.other) as ordeal:
        lab.set(synchronous_standby_names="nobody")
        wait_until(lambda: lab.db.query_one(
            "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 2,
            "both clients are stuck")
        start = len(ordeal.run.log)
        ordeal.let_go()
        if phase == "slot":
            wait_for_session(lab.db, "stream", "wait_event_type = 'Lock'")
        else:
            ordeal.run.wait_for_log("cutover attempt .*in the way of the lock", start=start)
        lab.reset()
        assert ordeal.end().code == 0


@pytest.mark.parametrize("ordinary", [False, True])
def test_everybody_is_a_standby(lab, walter, ordinary):
    """Commits would wait for what we confirm, which is nothing while the table is copied."""
    db = lab.db.create_owner() if ordinary else lab.db
    with Ordeal(db, walter.as_user(db), "copy", superuser=lab.db) as ordeal:
        lab.set(synchronous_standby_names="*")
        result = ordeal.run.finish(60, check=2)
        lab.reset()
        ordeal.end((2,))
    assert "every commit would wait for it" in result.stderr


def test_prepared_before_the_slot(lab, walter):
    """The slot waits for it, says so, and brings what it has done."""
    create_twins(lab.db)
    lab.db.execute("begin; insert into t (id, n) values (-1, 1); insert into twin (id, n) values"
                   " (-1, 1); update t set n = -5 where id = 1000; update twin set n = -5 where"
                   " id = 1000; prepare transaction 'early'")
    with Ordeal(lab.db, walter, None, rows=False, keys=(1, 900)) as ordeal:
        ordeal.run.wait_for_log("prepared transaction 'early', database")
        lab.db.execute("commit prepared 'early'")
        assert ordeal.end().code == 0
    assert lab.db.query_one("select n from t where id = -1") == 1


def test_neighbours(lab, walter):
    """Two tables at once, a third run that is refused, and somebody else's slot that sees all."""
    db = lab.db
    for name in ("u", "u_twin"):
        db.execute(f"create table {name} (id int primary key, n int not null);"
                   f"insert into {name} select i, i from generate_series(1, 1000) i")
    with Ordeal(db, walter, "copy") as ordeal, TwinLoad(
            db, "u", "u_twin", {"n": "int not null"}, keys=(1, 1000), clients=1) as load:
        db.query("select pg_create_logical_replication_slot('somebody', 'test_decoding')")
        refused = walter.perform("alter table t add y int", check=2)
        assert "another walter is at work on this table" in refused.stderr
        walter.perform("alter table u alter n type bigint")
        assert ordeal.run.is_running
        ordeal.let_go()
        ordeal.run.finish()
        load.wait_for(20)
        load.stop()
        assert ordeal.end().code == 0
    assert load.errors == []
    assert_same(db, "table u", "table u_twin", 100)
    seen = dict(db.query(
        "select split_part(split_part(data, ' ', 2), ':', 1), count(*)"
        "  from pg_logical_slot_get_changes('somebody', null, null)"
        " where data ~ '^table public' group by 1"))
    db.query("select pg_drop_replication_slot('somebody')")
    # it began when both wrote, and neither side of a transaction was left out for it
    assert seen["public.t"] == seen["public.twin"] > 0
    assert seen["public.u"] == seen["public.u_twin"] > 0


# -- a role that has no time ----------------------------------------------------------------------

def test_every_timeout_is_a_second(lab, walter):
    """Each phase takes longer than that, and none of it ends a session of ours."""
    db = lab.db
    owner = db.create_owner()
    db.execute(f"grant {owner.user} to {db.user}")      # for the load
    known = [name for (name,) in db.query("select name from pg_settings")]
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
                 "idle_session_timeout", "transaction_timeout"):
        if name in known:
            db.execute(f"alter role {owner.user} set {name} = '1s'")
    with owner.connect() as conn:
        conn.execute("set statement_timeout = 0")
    create_twins(db)
    db.execute(f"alter table t owner to {owner.user}; alter table twin owner to {owner.user};"
               + SLOW_EVERYWHERE)
    with TwinLoad(db, "t", "twin", LOADED, keys=(1, 1000)) as load:
        writer = lab.other.connect()
        writer.execute("begin; select pg_current_xact_id()")
        run = walter.as_user(owner).start_perform(ALTER)
        # it comes after a second, and one more passes
        run.wait_for_log("the replication slot waits for every transaction")
        writer.close()
        reader = db.connect()
        run.wait_for_log("building")
        reader.execute("begin; lock table t in access share mode")
        run.wait_for_log("cutover attempt 2: ")
        reader.close()
        result = run.finish()
        load.wait_for(20)
    assert load.errors == []
    assert_as_promised(db, walter, result)


# Once per session, where rows are written and where an index is built.
SLOW_EVERYWHERE = """
    create function slow(int) returns int language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: [0-9a-f]+ (copy to|index|apply)$'
           and current_setting('slow.done', true) is distinct from 'yes' then
            perform set_config('slow.done', 'yes', false);
            perform pg_sleep(1.5);
        end if;
        return $1;
    end $$;
    alter table t add check (slow(id) is not null);
    create index slow_index on t (slow(id))
"""
