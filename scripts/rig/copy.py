"""Nobody else there: how long does the change take?"""
import sys
from contextlib import contextmanager

from rig import tables
from rig.database import ROWS_PER_SCALE
from rig.machine import Meter
from rig.report import Row

PLAIN, WALTER, ALONE, REPACK, TWO = TOOLS = (
    "plain ALTER TABLE (nobody gets in)", "walter perform --drop", "walter perform --drop --jobs=1",
    "pg_repack", "pg_repack -j 2")

# {tool: times walter's seconds may be of its}
MOST_ACCOUNTS = {PLAIN: 1.15, REPACK: 1.0}
MOST_INDEXED = {PLAIN: 0.8, TWO: 0.9}
MOST_OTHERS = {PLAIN: 1.25}


def _run(bench, table, tool):
    """Use the tool; what walter says of the run."""
    if tool == PLAIN:
        return bench.database.execute(table.alter)
    if tool.startswith("pg_repack"):
        return bench.run_repack(*tool.split()[1:], table=table.name)
    return bench.finish_walter(bench.start_walter(*tool.split()[2:], alter=table.alter))


def _measure_once(bench, table, tool):
    for tries in range(1, sys.maxsize):
        bench.reset(table)
        bench.wait_until_quiet()
        with Meter(bench.database) as meter:
            meter.outcome = _run(bench, table, tool)
        bench.say(f"{tool}: {meter.seconds:.2f} s, {meter.cpu_s:.2f} s of processors, others "
                  f"{meter.others:.0%}")
        if not bench.is_too_noisy(meter, tries):
            break
    bench.report.noise.append(meter.others)
    return meter


def use_tools(bench, table, tools):
    """All rounds, each of which begins with another tool: {tool: a Meter per round}."""
    meters = {tool: [] for tool in tools}
    for number in range(bench.rounds):
        first = number % len(tools)
        for tool in tools[first:] + tools[:first]:
            meters[tool].append(_measure_once(bench, table, tool))
    return meters


def ratio(name, meters, of, at_most=None):
    """Row of the seconds of one tool in those of another, round by round."""
    return Row(name, "x", [a.seconds / b.seconds for a, b in zip(meters, of)], at_most=at_most)


@contextmanager
def made(bench, table):
    """The table is there inside."""
    bench.say(table.title)
    bench.database.execute(*table.make)
    try:
        yield
    finally:
        bench.database.execute(*table.drop)


def seconds_rows(meters, most):
    """Rows of the seconds of all tools, and of how they compare with plain."""
    rows = []
    for tool, taken in meters.items():
        rows.append(Row(tool, "s", [meter.seconds for meter in taken]))
        if tool != PLAIN:
            rows.append(ratio("  times plain", taken, meters[PLAIN],
                              most.get(PLAIN) if tool == WALTER else None))
    return rows


def _compare(bench, table, title, most):
    meters = use_tools(bench, table, TOOLS)
    rows = seconds_rows(meters, most)
    rows += [ratio(f"walter, times {tool}", meters[WALTER], meters[tool], at_most)
             for tool, at_most in most.items() if tool != PLAIN]
    rows += [Row(f"processors' time, {tool.split(' (')[0]}", "s", [meter.cpu_s for meter in taken])
             for tool, taken in meters.items()]
    bench.report.add(f"{title}, nobody else there", rows)


def measure(bench):
    _compare(bench, tables.ACCOUNTS,
             f"copy: {bench.scale * ROWS_PER_SCALE:,} {tables.ACCOUNTS.title}", MOST_ACCOUNTS)


def measure_tables(bench):
    """Tables of other shapes."""
    shapes = [(tables.INDEXED, MOST_INDEXED)]
    shapes += [(table, MOST_OTHERS) for table in tables.other_shapes(bench.scale)]
    for table, most in shapes:
        with made(bench, table):
            _compare(bench, table, f"tables: {table.title}", most)
