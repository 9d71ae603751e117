"""Nobody else there: how long does the change take?"""
import sys

from rig.database import ALTER, ROWS_PER_SCALE
from rig.machine import Meter
from rig.report import Row

TARGET = 1.5
PLAIN, WALTER, ALONE, REPACK = ("plain ALTER TABLE (nobody gets in)", "walter perform --drop",
                                "walter perform --drop --jobs=1", "pg_repack")


def _run(bench, name):
    if name == PLAIN:
        bench.database.execute(ALTER)
    elif name == REPACK:
        bench.run_repack()
    else:
        bench.finish_walter(bench.start_walter(*name.split()[2:]))


def _measure_once(bench, name):
    for tries in range(1, sys.maxsize):
        bench.reset()
        bench.wait_until_quiet()
        with Meter(bench.database) as meter:
            _run(bench, name)
        bench.say(f"{name}: {meter.seconds:.2f} s, {meter.cpu_s:.2f} s of processors, others "
                  f"{meter.others:.0%}")
        if not bench.is_too_noisy(meter, tries):
            break
    bench.report.noise.append(meter.others)
    return meter


def measure(bench):
    names = [PLAIN, WALTER, ALONE, REPACK]
    meters = {name: [] for name in names}
    for _ in range(bench.rounds):
        for name in names:
            meters[name].append(_measure_once(bench, name))
    rows = []
    for name in names:
        rows.append(Row(name, "s", [meter.seconds for meter in meters[name]]))
        if name != PLAIN:
            ratios = [a.seconds / b.seconds for a, b in zip(meters[name], meters[PLAIN])]
            rows.append(Row("  times plain", "x", ratios,
                            at_most=TARGET if name == WALTER else None))
    for name in (PLAIN, WALTER, REPACK):
        rows.append(Row(f"processors' time, {name.split(' (')[0]}", "s",
                        [meter.cpu_s for meter in meters[name]]))
    bench.report.add(f"copy: {bench.scale * ROWS_PER_SCALE:,} rows, nobody else there", rows)
