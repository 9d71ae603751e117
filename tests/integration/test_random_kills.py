"""kill -9 at random moments, again and again, under load: nothing is ever lost.

The seed is in each failure; see support/seed.py.  WALTER_RANDOM_KILLS=100 makes so many of them.
"""
import os
import random
import subprocess
import time

import pytest

from support.faults import ALTER, PATIENT, assert_cleaned_up, assert_twins, loaded
from support.seed import seed
from support.wait import wait_until_dead

COUNT = int(os.environ.get("WALTER_RANDOM_KILLS") or 6)
SEED = seed()
# a machine may have other things to do
pytestmark = pytest.mark.limit(900)
OPTIONS = [(), ("--jobs=1",), ("--apply-jobs=3",), ("--plugin=wal2json",), ("--drop",),
           ("--max-rate=400kB",), ("--pull-batch-count=7",)]


@pytest.fixture(scope="module")
def typical(shared_server):
    """How many seconds a run takes that nobody kills, beside the same clients; learned as we go."""
    return {"s": 3.0}


def kill_after(run, seconds):
    """Give it so long.  True: it was killed, False: it had ended by then."""
    try:
        run.process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        run.kill()
        return True


def clean_up(db, walter, rng):
    """Which may be killed as well."""
    if rng.random() < 0.5:
        kill_after(walter.start("cleanup", "--yes"), rng.uniform(0, 0.5))
        wait_until_dead(db)
    walter.run("cleanup", "--yes")


@pytest.mark.parametrize("number", range(COUNT))
def test_killed_at_a_random_moment(db, walter, typical, record_property, number):
    record_property("seed", f"{SEED}/{number}")
    print(f"WALTER_SEED={SEED}, number {number}")
    rng = random.Random(f"{SEED}/{number}")
    args = (*PATIENT, *rng.choice(OPTIONS))
    with loaded(db) as load:
        for _ in range(rng.choice([1, 1, 2, 3])):
            killed = kill_after(walter.start_perform(ALTER, *args),
                                rng.uniform(0, typical["s"] * 1.1))
            assert_twins(db)
            load.wait_for(10)
            wait_until_dead(db)
            if not killed:
                break
            if rng.random() < 0.2:
                clean_up(db, walter, rng)
        begun = time.monotonic()
        walter.perform(ALTER, *args)
        typical["s"] = (typical["s"] + time.monotonic() - begun) / 2
        # what was left to be done after the swap of a run that died behind it
        walter.run("cleanup", "--yes")
        assert_cleaned_up(db, True)
