"""A lost connection does not end a run: walter goes on in new ones by itself."""
import re

import pytest

from support.load import TwinLoad, assert_same
from support.phases import ALTER, held_in
from support.traces import assert_finished
from support.wait import wait_until_dead
from support.walter import Walter

RESTARTS = {"synchronous_commit": "off"}


@pytest.fixture
def crashing(new_server, new_db):
    """A database on a server of the test's own, which may crash."""
    server = new_server(settings=RESTARTS)
    return new_db(server)


def prepare(db):
    for name in ("t", "twin"):
        db.execute(f"create table {name} (id int primary key, n int, filler text);"
                   f"insert into {name} select i, i, repeat('f', 200)"
                   "  from generate_series(1, 20000) i")


@pytest.mark.parametrize("line, mode", [("is consistent", "immediate"), ("copying", "immediate"),
                                        ("copying", "fast"), ("building", "immediate"),
                                        ("catching up", "immediate")])
def test_server_restarts(crashing, line, mode):
    db = crashing
    prepare(db)
    walter = Walter(db)
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 20000)) as load:
        run = walter.start_perform(ALTER, "--max-rate=8MB")
        run.wait_for_log(line)
        db.server.halt(mode)
        db.server.resume()
        result = run.finish()
        done = load.operations
        load.wait_for(done + 20)
    assert_same(db, "table t", "table twin")
    assert result.stderr.count("trying for 60 s to go on in new connections") == 1
    assert "going on with run" in result.stderr
    assert_finished(db)


def test_server_stays_away(crashing):
    """Exit 6, and the same command goes on."""
    db = crashing
    prepare(db)
    walter = Walter(db)
    holder = db.connect()
    holder.execute("begin; lock table t in access share mode")
    run = walter.start_perform(ALTER, "--reconnect-timeout=2")
    run.wait_for_log("cutover attempt 1: ")
    db.server.halt("immediate")
    result = run.finish(check=6)
    assert re.search(r"run \w+ is kept, and its replication slot holds back WAL: the same walter "
                     "perform goes on with it, walter abort removes it", result.stderr)
    assert result.stderr.count("error: ") == 1
    db.server.resume()
    db.execute("update t set n = n + 1 where id < 100; update twin set n = n + 1 where id < 100")
    assert "going on with run" in walter.perform(ALTER).stderr
    assert_same(db, "table t", "table twin")
    assert_finished(db)


def test_not_asked_to(db, walter, new_db, server):
    with held_in("cutover", walter, new_db(server), "--reconnect-timeout=0") as run:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                   " where application_name ~ '^walter: .* apply$'")
        result = run.finish(check=6)
    assert "is kept" in result.stderr
    wait_until_dead(db)
    walter.perform(ALTER)
    assert_finished(db)


@pytest.mark.parametrize("purpose", ["control", "keeper", "stream", "apply", "copy to"])
def test_sessions_ended_in_the_copy(db, walter, new_db, server, purpose):
    with held_in("copy", walter, new_db(server)) as run:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                   f" where application_name ~ '^walter: ([0-9a-f]+ )?{purpose}$'")
        run.wait_for_log("going on with run")
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                   " where application_name ~ 'copy to$'")
        run.interrupt()
        run.finish(check=7)
    walter.run("abort", "--yes")


def test_what_the_role_may_not_see_is_said_once(db, owner, walter, new_db, server):
    with held_in("copy", walter.as_user(owner), new_db(server), superuser=db) as run:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                   " where application_name ~ '^walter: ([0-9a-f]+ )?control$'")
        run.wait_for_log("going on with run")
        run.interrupt()
        result = run.finish(check=7)
    assert result.stderr.count("GRANT pg_read_all_stats TO") == 1
    walter.as_user(owner).run("abort", "--yes")
