"""What others do to the table in each phase, with clients that go on writing."""
import re

import pytest

from support.load import TwinLoad, assert_same
from support.ordeal import (LOADED, Ordeal, assert_as_promised, create_twins, wait_until_alone)
from support.thorough import THOROUGH
from support.traces import assert_removed
from support.wait import wait_for_queued_lock, wait_until

PHASES = ["copy", "index", "catch-up", "cutover"]

# What ends the run: rows or the definition are not what they were.
FATAL = {
    "add": "alter table t add more int",
    "drop": "alter table t drop spare",
    "rename column": "alter table t rename spare to other",
    "type": "alter table t alter tag type varchar(5)",
    "rewriting type": "alter table t alter spare type bigint",
    "replica identity": "alter table t replica identity full",
}
# What rewrites the file, or nearly so, and loses nothing.
HARMLESS = {
    "vacuum full": "vacuum full t",
    "cluster": "cluster t using t_pkey",
    "truncate": "begin; lock table t, twin; truncate t; truncate twin; commit",
}
# What takes the table away under its name; the clients are told so.
GONE = {
    "drop table": "drop table t cascade",
    "rename": "alter table t rename to gone",
}
# Each change is found in a phase at least, and each phase finds some; that all are found where
# indexes are built is tried elsewhere.
CHANGED = [("copy", "add"), ("copy", "rewriting type"), ("copy", "replica identity"),
           ("catch-up", "drop"), ("catch-up", "type"), ("catch-up", "rewriting type"),
           ("cutover", "rename column"), ("cutover", "replica identity")]
REWRITTEN = [("copy", "truncate"), ("catch-up", "vacuum full"), ("catch-up", "truncate"),
             ("cutover", "cluster"), ("cutover", "truncate")]
TAKEN = [("copy", "drop table"), ("catch-up", "rename"), ("cutover", "drop table")]
ALL = [(phase, change) for phase in PHASES for change in [*FATAL, *HARMLESS, *GONE]]


def chosen(some, changes):
    return [pair for pair in ALL if pair[1] in changes] if THOROUGH else some


def change(ordeal, statement):
    """Do it as soon as the run lets it: a chunk that is copied has a lock, and so has a reader."""
    done = ordeal.start(*statement.split(";"))
    wait_until(done.is_waiting, f"{statement} is done or waits")
    ordeal.let_go()
    done()


@pytest.mark.parametrize("phase,name", chosen(CHANGED, FATAL))
def test_definition_changed(db, walter, phase, name):
    with Ordeal(db, walter, phase) as ordeal:
        change(ordeal, FATAL[name])
        result = ordeal.end((1, 9))
    # it may have been too late for the change to find the run
    if result.code:
        assert re.search("changed by somebody else|rewritten by an ALTER TABLE"
                         "|definition of table .* changed", result.stderr)


@pytest.mark.parametrize("phase,name", chosen(REWRITTEN, HARMLESS))
def test_rewritten(db, walter, phase, name):
    # whoever counts on his own rows would miss them
    load = {"shared": True, "actions": {"key": 0}} if name == "truncate" else {}
    with Ordeal(db, walter, phase, **load) as ordeal:
        change(ordeal, HARMLESS[name])
        ordeal.end()


@pytest.mark.parametrize("phase,name", chosen(TAKEN, GONE))
def test_taken_away(db, walter, phase, name):
    with Ordeal(db, walter, phase) as ordeal:
        change(ordeal, GONE[name])
        result = ordeal.run.finish(check=False)
        ordeal.load.stop()
    assert result.code in (1, 9), str(result)
    assert {error.split(" ")[2] for error in ordeal.load.errors} <= {"42P01:"}, ordeal.load.errors
    wait_until_alone(db)
    walter.run("cleanup", "--yes")
    assert_removed(db)
    if name == "rename":
        assert_same(db, "select id, n, big from gone", "select id, n, big from twin")
    else:
        assert db.query("select 1 from pg_class where relname = 't'") == []


# -- what is no reason to end ---------------------------------------------------------------------

# Where a chunk is copied and where somebody reads, no DDL gets its lock.
INNOCENT = {
    "grant": "grant select, insert on t to public; revoke select on t from public",
    "analyze": "analyze t; analyze t (n)",
    "comment": "comment on table t is 'it'; comment on column t.n is 'a number'",
    "index": "create index later on t (n, id)",
    "statistics": "create statistics st on n, id from t",
    "vacuum": "vacuum t",
}


@pytest.mark.parametrize("phase", PHASES)
def test_innocent(db, walter, phase):
    """None of it ends the run, nor is any of it lost."""
    with Ordeal(db, walter, phase) as ordeal:
        for statements in INNOCENT.values():
            done = ordeal.start(*statements.split(";"))
            done()
        ordeal.end()
    assert db.query_one(
        "select has_table_privilege('public', 't', 'insert'), obj_description('t'::regclass),"
        "       col_description('t'::regclass, 2), to_regclass('public.later') is not null,"
        "       (select count(*) from pg_statistic_ext where stxrelid = 't'::regclass)") == (
        True, "it", "a number", True, 1)


# -- what does not fit ----------------------------------------------------------------------------

MISFITS = {
    "check": ("alter table t alter n type bigint, add extra int default 5,"
              " add constraint small check (spare < 5000)",
              "update t set spare = 7777 where id = 4001", r"\(id\)=\(4001\).*\"small\""),
    "unique": ("alter table t alter n type bigint, add extra int default 5,"
               " add constraint once unique (spare)",
               "update t set spare = 4002 where id = 4001", r"\(id\)=\(4001\).*\"once\""),
    "type": ("alter table t alter tag type varchar(5), add extra int default 5",
             "update t set tag = 'too long' where id = 4001",
             r"\(id\)=\(4001\).*value too long for type character varying\(5\)"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_does_not_fit_in_the_last_drain(db, walter, kind):
    """It is committed by whoever is in the way of the lock, so only the drain can find it."""
    alter, misfit, said = MISFITS[kind]
    create_twins(db)
    for name in ("t", "twin"):
        db.execute(f"insert into {name} select i, i, 'far', i, 'tag'"
                   "  from generate_series(4001, 4002) i;"
                   f"alter table {name} alter spare set default null")
    with TwinLoad(db, "t", "twin", LOADED, keys=(1, 1000)) as load:
        writer = db.connect(autocommit=False)
        writer.execute("lock table t in access share mode")
        run = walter.start_perform(alter, "--lock-timeout", "5000")
        wait_for_queued_lock(db)
        writer.execute(misfit)
        writer.commit()
        result = run.finish(check=3)
        load.wait_for(20)
    assert load.errors == []
    assert re.search(f"error: .*{said}", result.stderr), result.stderr
    assert load.longest_ms < 10000
    assert_as_promised(db, walter, result)
    db.execute("update t set spare = spare - 1")
