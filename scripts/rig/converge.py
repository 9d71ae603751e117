"""Does it come to an end while others write as fast as they can?"""
import subprocess
from dataclasses import dataclass

from rig.database import ROWS_PER_SCALE
from rig.load import Load, wait
from rig.report import Row

WARM_UP_S, LIMIT_S = 3, 600
SETTINGS = "-c synchronous_commit=off"
FIFTIES_PER_SCALE = 16  # transactions of 50 rows a second; 40,000 rows at the usual scale

# neighbours, in one order: no two of them wait for each other crosswise
_FIFTY = """\\set first 50 * random(0, {blocks} - 1)
update pgbench_accounts set abalance = abalance + 1 where aid between :first + 1 and :first + 50;
"""


@dataclass
class Try:
    """One run beside the writers."""
    seconds: float
    catch_up_s: float
    changes_per_s: float  # that the writers made and walter applied
    share: float          # of the writers' rate before
    is_done: bool


def _loads(bench):
    """{what it is: how to make it}."""
    database = bench.database
    rate = bench.scale * FIFTIES_PER_SCALE
    fifty = _FIFTY.format(blocks=bench.scale * ROWS_PER_SCALE // 50)
    return {
        "pgbench -N -c 8": lambda: Load(database, 8, ["-N"], settings=SETTINGS),
        f"{rate} x 50 rows a second":
            lambda: Load(database, 4, ["-R", str(rate)], fifty, SETTINGS),
    }


def _perform(bench):
    """How it ended, or None where it did not within the limit."""
    perform = bench.start_walter()
    try:
        perform.run.process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        perform.stop()
        return perform, None
    return perform, bench.finish_walter(perform)


def _result(load, perform, outcome, end):
    before = load.window(perform.begin - WARM_UP_S, perform.begin)
    during = load.window(perform.begin, end)
    share = during.tps / before.tps * 100
    if outcome is None:
        return Try(LIMIT_S, LIMIT_S, 0, share, False)
    catch_up_s = sum(end - begin for name, (begin, end) in outcome.phases.items()
                     if name in ("catchup", "cutover"))
    return Try(outcome.seconds, catch_up_s, outcome.changes / outcome.seconds, share, True)


def _measure_once(bench, name, make_load):
    bench.reset()
    bench.wait_until_quiet()
    load = make_load()
    bench.running.append(load)
    load.start()
    wait(2 * WARM_UP_S, load)
    perform, outcome = _perform(bench)
    end = outcome.end if outcome else perform.begin + LIMIT_S
    load.stop().check()
    tried = _result(load, perform, outcome, end)
    bench.say(f"{name}: {'done' if tried.is_done else 'NOT done'} after {tried.seconds:.1f} s, "
              f"{tried.changes_per_s:,.0f} changes/s")
    return tried


def _rows(name, tries):
    done = sum(one.is_done for one in tries)
    return [Row(name, "s", [one.seconds for one in tries], at_most=LIMIT_S - 1,
                target=f"ends: {done} of {len(tries)}"),
            Row("  from the indexes to the swap", "s", [one.catch_up_s for one in tries]),
            Row("  changes meanwhile", "/s", [one.changes_per_s for one in tries]),
            Row("  the writers' throughput, of that before", "%", [one.share for one in tries])]


def measure(bench):
    loads = _loads(bench)
    tries = {name: [] for name in loads}
    for _ in range(bench.rounds):
        for name, make_load in loads.items():
            tries[name].append(_measure_once(bench, name, make_load))
    bench.report.add("converge: beside writers, synchronous_commit = off",
                     [row for name in loads for row in _rows(name, tries[name])])
