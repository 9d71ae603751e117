"""kill -9 at every point that matters, under load: the original is intact, and one command leads out."""
import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from support.faults import (ALTER, BACK, PATIENT, assert_cleaned_up, assert_twins, column_type,
                            faulty, loaded, points, start_until, wait_until_stopped)
from support.thorough import THOROUGH, some
from support.traces import assert_finished
from support.wait import wait_until_dead

# a machine may have other things to do
pytestmark = pytest.mark.limit(900)


@contextmanager
def transaction(db, statement):
    """Somebody does something and does not come to an end with it."""
    holder = db.connect(autocommit=False)
    holder.execute(statement)
    try:
        yield lambda run: None
    finally:
        holder.close()


def alone(db):
    return transaction(db, "select 1")


def reader(db):
    """The cutover does not get its lock."""
    return transaction(db, "select from t limit 1")


def writer(db):
    """The slot waits for him."""
    return transaction(db, "select pg_current_xact_id()")


@contextmanager
def many_changes(db):
    """So many that several sessions share them, and nothing is swapped before they are there."""
    def write(run):
        run.wait_for_log("replication slot .* is consistent")
        for table in ("t", "twin"):
            db.execute(f"insert into {table}"
                       " select -i, i, 'many' from generate_series(1, 5000) i")

    with reader(db):
        yield write


@dataclass
class Death:
    """Where a run dies, and what it takes to get there."""
    point: str              # as in WALTER_FAULT
    swapped: object = False     # whether the ALTER is in force then; None = nobody can know
    beside: object = alone      # a context manager, beside(db), that gives what to do meanwhile
    alter: str = ALTER
    args: tuple = ()
    key: str = "primary key"
    setup: str = ""
    actions: object = None      # of the load

    def __str__(self):
        return self.point


# So little may a transaction of the copy hold that a chunk is more than one.
PARTS = """
do $$ begin
    execute format('alter database %I set logical_decoding_work_mem = ''64kB''', current_database());
end $$;
"""
SEVERAL_CHUNKS = ("--max-rate=400kB",)

BEFORE = [
    Death("preflight.done"),
    Death("shadow.uncommitted"),
    Death("shadow.committed"),
    Death("identity.committed", key="not null unique", args=("--set-replica-identity",)),
    Death("publication.committed"),
    Death("slot.requested", beside=writer),
    Death("slot.created"),
    Death("keeper.opened"),
    Death("stream.opened"),
    Death("copy.piping:100"),
    Death("copy.part_committed", setup=PARTS),
    Death("copy.inserting", args=("--copy-method=insert",)),
    Death("copy.chunk_uncommitted"),
    Death("copy.commit_sent"),
    Death("copy.chunk_done"),
    Death("copy.chunk_done:3", args=SEVERAL_CHUNKS),
    Death("copy.chunk_taken:3", args=SEVERAL_CHUNKS),
    Death("copy.done"),
    Death("index.building"),
    Death("index.built"),
    Death("index.statement_sent"),      # adds the primary key
    Death("index.constrained"),
    Death("index.statement_sent:2"),    # VACUUM
    Death("index.done"),
    Death("catchup.entered"),
    Death("apply.uncommitted"),
    Death("apply.uncommitted:2"),
    Death("apply.parts_committed", beside=many_changes, args=("--apply-jobs=3",),
          actions={"key": 0}),
    Death("apply.committed"),
    Death("catchup.fence"),
    Death("catchup.key_check", alter=f"{ALTER} using p::bigint + 0"),
    Death("catchup.done"),
    Death("cutover.attempt"),
    Death("cutover.attempt:2", beside=reader),
    Death("cutover.lock_requested", beside=reader),
    Death("cutover.locked"),
    Death("cutover.drained"),
    Death("swap.uncommitted"),
]
AFTER = [
    Death("swap.commit_sent", swapped=None),
    Death("swap.committed", swapped=True),
    Death("cleanup.begun", swapped=True),
    Death("cleanup.slot_dropped", swapped=True),
    Death("cleanup.publication_dropped", swapped=True),
    Death("cleanup.shadow_dropped", swapped=True),
    Death("cleanup.schemas_dropped", swapped=True),
    Death("finish.machinery_removed", swapped=True),
    Death("finish.task_begun", swapped=True),
    Death("finish.task_begun:2", swapped=True, args=("--drop",)),
    Death("finish.task_done", swapped=True),
]
# of a run that goes on with one that died before its copy was done, and dies as well
AGAIN = [
    Death("slot.requested", args=SEVERAL_CHUNKS),
    Death("slot.created", args=SEVERAL_CHUNKS),
    Death("keeper.opened", args=SEVERAL_CHUNKS),
    Death("renewal.indexed", args=SEVERAL_CHUNKS),
    Death("renewal.touched", args=SEVERAL_CHUNKS),
    Death("renewal.part_found", args=SEVERAL_CHUNKS, setup=PARTS),
    Death("renewal.slice_uncommitted", args=SEVERAL_CHUNKS),
    Death("renewal.done", args=SEVERAL_CHUNKS),
    Death("copy.chunk_done", args=SEVERAL_CHUNKS),
    Death("copy.done", args=SEVERAL_CHUNKS),
    Death("index.building", args=SEVERAL_CHUNKS),
    Death("apply.uncommitted", args=SEVERAL_CHUNKS),
]
CLEANING_UP = ["cleanup.begun", "cleanup.slot_dropped", "cleanup.publication_dropped",
               "cleanup.shadow_dropped", "cleanup.schemas_dropped"]
every_death = pytest.mark.parametrize("death", BEFORE + AFTER, ids=str)
# Going on is tried at each point. Cleaning up looks only at what is left, which is the same for most:
# every third; WALTER_TEST_THOROUGH=1 for all.
some_deaths = pytest.mark.parametrize("death", (BEFORE + AFTER)[::1 if THOROUGH else 3], ids=str)


@contextmanager
def died(db, walter, death):
    """Inside, a run has died, the load goes on, and the original is what it should be.

    Gives whether the ALTER is in force.
    """
    db.execute(death.setup)
    with loaded(db, death.key, death.actions) as load:
        with death.beside(db) as do_meanwhile:
            run = start_until(death.point, walter, death.alter, *death.args)
            do_meanwhile(run)
            run.finish(timeout=300, check=-signal.SIGKILL)
        load.wait_for(20)
        assert_twins(db)
        swapped = column_type(db) == "bigint"
        assert swapped == death.swapped or death.swapped is None
        # that is how others see that the run is dead
        wait_until_dead(db)
        yield swapped


@some_deaths
def test_cleanup_leads_out(db, walter, death):
    with died(db, walter, death) as swapped:
        walter.run("cleanup", "--yes")
        assert_cleaned_up(db, swapped)
        walter.perform(BACK if swapped else death.alter, *PATIENT, *death.args)
        assert_finished(db)
    assert column_type(db) == ("integer" if swapped else "bigint")


@every_death
def test_perform_leads_out(db, walter, death):
    with died(db, walter, death):
        walter.perform(death.alter, *PATIENT, *death.args)
        # what was to be done after the swap of a run that is done but for that
        walter.run("cleanup", "--yes")
        assert_cleaned_up(db, True)


@pytest.mark.parametrize("death", AGAIN, ids=str)
def test_killed_again(db, walter, death):
    in_the_copy = "copy.part_committed" if death.setup else "copy.chunk_done:3"
    with died(db, walter, replace(death, point=in_the_copy)):
        start_until(death.point, walter, ALTER, *death.args).finish(check=-signal.SIGKILL)
        assert_twins(db)
        walter.perform(ALTER, *PATIENT, *death.args)
        assert_cleaned_up(db, True)


def fence_marker(db):
    table = db.query_one("select relname from pg_class where relkind = 'r' and relname ~ '^fence_'")
    return db.query_one(f"select marker from walter.{table}")


def test_fences_of_a_dead_run(db, walter):
    """They come again, in the stream of the run that goes on with it, which waits for newer ones."""
    with loaded(db):
        with reader(db):
            start_until("cutover.attempt:5", walter, ALTER).finish(check=-signal.SIGKILL)
        wait_until_dead(db)
        before = fence_marker(db)
        run = start_until("catchup.fence=stop", walter, ALTER)
        wait_until_stopped(run)
        assert fence_marker(db) > before
        run.signal(signal.SIGCONT)
        run.finish()
        assert_cleaned_up(db, True)


@contextmanager
def died_cleaning_up(db, walter, point):
    """Inside, a run has died, and the cleaning up after it as well."""
    with died(db, walter, Death("catchup.done")):
        faulty(walter).run("cleanup", "--yes", env={"WALTER_FAULT": point}, check=-signal.SIGKILL)
        yield


@pytest.mark.parametrize("point", CLEANING_UP)
def test_cleanup_killed(db, walter, point):
    with died_cleaning_up(db, walter, point):
        walter.run("cleanup", "--yes")
        assert_cleaned_up(db, False)
        walter.perform(ALTER, *PATIENT)
        assert_cleaned_up(db, True)


@pytest.mark.parametrize("point", CLEANING_UP)
def test_cleanup_killed_and_perform(db, walter, point):
    """Half of it is gone: perform begins anew, or says that it has to."""
    with died_cleaning_up(db, walter, point):
        result = walter.perform(ALTER, *PATIENT, check=False)
        if result.code == 9:
            walter.perform(ALTER, *PATIENT, "--restart")
        else:
            assert result.code == 0, str(result)
        assert_cleaned_up(db, True)


@pytest.mark.parametrize("point", some(
    ["copy.piping:100", "copy.commit_sent", "index.building", "apply.uncommitted",
     "cutover.lock_requested", "cutover.locked", "swap.uncommitted", "swap.commit_sent",
     "cleanup.slot_dropped"], "cutover.drained"))
def test_frozen(db, walter, point):
    """SIGSTOP: nobody has to wait for a walter that does nothing, and afterwards it goes on."""
    with loaded(db) as load:
        run = start_until(f"{point}=stop", walter, ALTER)
        wait_until_stopped(run)
        load.wait_for(50)
        assert_twins(db)
        run.signal(signal.SIGCONT)
        # the server has ended its session, and it may have given up for that
        if run.finish(check=False).code != 0:
            assert run.process.returncode == 6 and point == "swap.uncommitted", run.log
            walter.run("cleanup", "--yes")
            walter.perform(ALTER, *PATIENT)
        assert_cleaned_up(db, True)


def test_every_point_is_tested():
    """Those that are in the source are those that runs die at here."""
    tested = {death.point.split(":")[0] for death in BEFORE + AFTER + AGAIN}
    assert tested == points()
