"""What an application notices: pgbench -c 4, TPC-B, before, during and after."""
import time
from dataclasses import dataclass

from rig.load import Load, wait
from rig.report import Row

TARGET_STALL_MS, TARGET_THROTTLED = 30, 85
WARM_UP_S, REST_S = 5, 2

WALTER, NOTHING, REPACK = "walter perform", "without a tool", "pg_repack"
# walter keeps the old table, pg_repack drops it: so both
DROP = "walter perform --drop"
# the aim is about these: the application keeps most of its throughput, the run takes longer
THROTTLED = ("walter perform --max-rate=16MB", "walter perform --nice=80",
             "walter perform --max-rate=16MB --snapshot-max-age=3")


@dataclass
class Impact:
    """Of one run of a tool."""
    seconds: float
    stall_ms: float      # longest transaction that had to do with it
    swap_stall_ms: float # ... of those around the swap
    p99_ms: float
    share: float         # transactions per second, % of those without the tool
    lost: float          # transactions that would have been done without it
    hold_ms: float


def _use_tool(bench, tool, idle_s):
    """Run it; when it began and ended, and what walter says."""
    outcome = None
    begin = time.time()
    if tool == REPACK:
        bench.run_repack()
    elif tool == NOTHING:
        time.sleep(idle_s)
    else:
        outcome = bench.finish_walter(bench.start_walter(*tool.split()[2:]))
    return begin, time.time(), outcome


def _impact(load, base_s, begin, end, outcome):
    before = load.window(begin - base_s, begin)
    during = load.window(begin, end)
    after = load.window(end + REST_S, end + REST_S + base_s)
    base_tps = (before.tps + after.tps) / 2
    swap_ms = load.window(*outcome.phases["cutover"]).longest_ms if outcome else 0
    return Impact(during.seconds, during.longest_ms, swap_ms, during.p99_ms,
                  during.tps / base_tps * 100, (base_tps - during.tps) * during.seconds,
                  outcome.hold_ms if outcome else 0)


def _measure_once(bench, tool, idle_s):
    bench.reset()
    bench.wait_until_quiet()
    load = Load(bench.database)
    bench.running.append(load)
    load.start()
    wait(WARM_UP_S + bench.window_s, load)
    begin, end, outcome = _use_tool(bench, tool, idle_s)
    wait(REST_S + bench.window_s, load)
    load.stop().check()
    impact = _impact(load, bench.window_s, begin, end, outcome)
    bench.say(f"{tool}: {impact.seconds:.1f} s, {impact.share:.0f} % of the throughput, "
              f"{impact.lost:.0f} transactions lost, longest {impact.stall_ms:.0f} ms")
    return impact


def _rows(results, tool, stall=None, p99=None, share=None):
    """`stall`, `p99`, `share`: what they should be."""
    def row(name, unit, field, target):
        return Row(name, unit, [getattr(impact, field) for impact in results[tool]],
                   **(target or {}))

    rows = [row(tool, "s", "seconds", None),
            row("  longest stall of a client", "ms", "stall_ms", stall),
            row("  99 of 100 transactions within", "ms", "p99_ms", p99),
            row("  throughput meanwhile, of that without", "%", "share", share),
            row("  transactions lost", "n", "lost", None)]
    if tool.startswith("walter"):
        rows += [row("  longest stall around the swap", "ms", "swap_stall_ms", None),
                 row("  lock held", "ms", "hold_ms", None)]
    return rows


def _report(results):
    """Lists of rows become one table; what pg_repack leaves is an aim of walter's."""
    nothing, repack = (_rows(results, tool) for tool in (NOTHING, REPACK))
    p99, share = repack[2].median, repack[3].median
    rows = nothing + _rows(results, WALTER, {"at_most": TARGET_STALL_MS},
                           {"at_most": p99, "target": "as pg_repack"},
                           {"at_least": share, "target": "as pg_repack"})
    rows += repack + _rows(results, DROP)
    for tool in THROTTLED:
        rows += _rows(results, tool, share={"at_least": TARGET_THROTTLED})
    return rows


def measure(bench):
    results = {tool: [] for tool in (WALTER, NOTHING, REPACK, DROP, *THROTTLED)}
    for _ in range(bench.rounds):
        for tool, impacts in results.items():
            # without a tool it takes as long as walter did just before
            idle_s = results[WALTER][-1].seconds if tool == NOTHING else 0
            impacts.append(_measure_once(bench, tool, idle_s))
    bench.report.add("impact: beside pgbench -c 4, TPC-B", _report(results))
