"""Does the work grow as the table does, and does walter not?"""
import re

from rig import tables
from rig.copy import PLAIN, WALTER, made, seconds_rows, use_tools
from rig.database import ROWS_PER_SCALE
from rig.report import Row

SIZES = (0.2, 1, 4)  # of the benchmark's table
MOST_PER_ROW = 1.15  # at the largest size, times that at the middle one
MEMORY_MB, MEMORY_SPREAD_MB = 64, 10


def _measure(bench, table, used=(PLAIN, WALTER)):
    with made(bench, table):
        return use_tools(bench, table, used)


def _per_row(meters, rows):
    """Microseconds."""
    return [meter.seconds / rows * 1e6 for meter in meters]


def _size_rows(meters, rows):
    outcomes = [meter.outcome for meter in meters[WALTER]]
    return seconds_rows(meters, {}) + [
        Row("plain, time per row", "us", _per_row(meters[PLAIN], rows)),
        Row("walter, time per row", "us", _per_row(meters[WALTER], rows)),
        Row("walter, memory", "MB", [outcome.peak_mb for outcome in outcomes], at_most=MEMORY_MB),
        Row("walter, temporary files", "MB", [outcome.files_mb for outcome in outcomes])]


def _growth_rows(sizes):
    """`sizes`: {rows: meters}."""
    _, middle, largest = sizes

    def growth(tool):
        return [a / b for a, b in zip(_per_row(sizes[largest][tool], largest),
                                      _per_row(sizes[middle][tool], middle))]

    peaks = [[meter.outcome.peak_mb for meter in meters[WALTER]] for meters in sizes.values()]
    return [Row("plain, time per row: growth", "x", growth(PLAIN)),
            Row("walter, time per row: growth", "x", growth(WALTER), at_most=MOST_PER_ROW),
            Row("walter, memory: most less least", "MB",
                [max(peak) - min(peak) for peak in zip(*peaks)], at_most=MEMORY_SPREAD_MB)]


def _measure_sizes(bench):
    sizes = {}
    for size in SIZES:
        rows = int(bench.scale * ROWS_PER_SCALE * size)
        sizes[rows] = _measure(bench, tables.of_rows(rows))
        bench.report.add(f"scale: {rows:,} rows, nobody else there", _size_rows(sizes[rows], rows))
    _, middle, largest = sizes
    bench.report.add(f"scale: {largest:,} rows against {middle:,}", _growth_rows(sizes))


def _measure_shape(bench, table):
    """One beyond what walter can do is measured without it, and says so."""
    note = None
    try:
        meters = _measure(bench, table)
    except RuntimeError as error:
        note = "walter FAILED: " + " ".join(re.findall(r"error: (.*)", str(error)))
        bench.say(note)
        meters = _measure(bench, table, (PLAIN,))
    bench.report.add(f"scale: {table.title}, nobody else there", seconds_rows(meters, {}), note)


def measure(bench):
    _measure_sizes(bench)
    for table in (tables.of_columns(200, bench.scale * 4000),
                  tables.of_columns(1600, bench.scale * 400),
                  tables.of_indexes(30, bench.scale * 10_000)):
        _measure_shape(bench, table)
