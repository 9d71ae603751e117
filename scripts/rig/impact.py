"""What an application notices: pgbench -c 4, TPC-B, before, during and after."""
import time
from dataclasses import dataclass

from rig.load import Load, wait
from rig.report import Row

TARGET_STALL_MS = 60
WARM_UP_S, BASE_S, REST_S = 5, 10, 2


NOTHING, WALTER, REPACK = "nothing", "walter perform", "pg_repack"


@dataclass
class Impact:
    """Of one run of a tool."""
    seconds: float
    stall_ms: float      # longest transaction that had to do with it
    swap_stall_ms: float # ... of those around the swap
    share: float         # transactions per second, % of those without the tool
    hold_ms: float


def _use_tool(bench, tool):
    """Run it; when it began and ended, and what walter says."""
    outcome = None
    begin = time.time()
    if tool == REPACK:
        bench.run_repack()
    elif tool == WALTER:
        outcome = bench.finish_walter(bench.start_walter())
    else:
        time.sleep(BASE_S)
    return begin, time.time(), outcome


def _measure_once(bench, tool):
    bench.reset()
    bench.wait_until_quiet()
    load = Load(bench.database)
    bench.running.append(load)
    load.start()
    wait(WARM_UP_S + BASE_S, load)
    begin, end, outcome = _use_tool(bench, tool)
    wait(REST_S + BASE_S, load)
    load.stop()
    if load.errors or load.failed:
        raise RuntimeError(f"pgbench under {tool}: {load.failed} failed, {load.errors[:5]}")
    before = load.window(begin - BASE_S, begin)
    during = load.window(begin, end)
    after = load.window(end + REST_S, end + REST_S + BASE_S)
    share = during.tps / ((before.tps + after.tps) / 2) * 100
    bench.say(f"{tool}: {during.seconds:.1f} s, {before.tps:.0f}, {during.tps:.0f}, "
              f"{after.tps:.0f} tps, longest {before.longest_ms:.0f}, {during.longest_ms:.0f}, "
              f"{after.longest_ms:.0f} ms")
    swap_ms = load.window(*outcome.phases["cutover"]).longest_ms if outcome else 0
    return Impact(during.seconds, during.longest_ms, swap_ms, share,
                  outcome.hold_ms if outcome else 0)


def measure(bench):
    results = {tool: [] for tool in (NOTHING, WALTER, REPACK)}
    for _ in range(bench.rounds):
        for tool, impacts in results.items():
            impacts.append(_measure_once(bench, tool))

    def row(tool, name, unit, field, **target):
        return Row(name, unit, [getattr(impact, field) for impact in results[tool]], **target)

    share = "  throughput meanwhile, of that without"
    repack = row(REPACK, share, "%", "share")
    bench.report.add("impact: beside pgbench -c 4, TPC-B", [
        row(NOTHING, "without a tool: longest stall of a client", "ms", "stall_ms"),
        row(WALTER, WALTER, "s", "seconds"),
        row(WALTER, "  longest stall of a client", "ms", "stall_ms", at_most=TARGET_STALL_MS),
        row(WALTER, "  longest stall around the swap", "ms", "swap_stall_ms"),
        row(WALTER, "  lock held", "ms", "hold_ms"),
        row(WALTER, share, "%", "share", at_least=repack.median, target="as pg_repack"),
        row(REPACK, REPACK, "s", "seconds"),
        row(REPACK, "  longest stall of a client", "ms", "stall_ms"),
        repack])
