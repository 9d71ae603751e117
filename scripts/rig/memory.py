"""What walter needs for itself: the most of all parts, and of a run with one huge transaction."""
from rig.database import ROWS_PER_SCALE
from rig.report import Row

TARGET_MB = 100
HUGE_ROWS = 1_000_000


def measure(bench):
    """One transaction of a million changed rows while the copy is on."""
    bench.reset()
    with bench.database.connect(autocommit=False) as reader:
        reader.execute("lock table pgbench_accounts in access share mode")
        perform = bench.start_walter()
        perform.run.wait_for_log(r"info: copying", 600)
        bench.database.execute(f"update pgbench_accounts set abalance = 1 where aid <= {HUGE_ROWS}")
        reader.rollback()
    outcome = bench.finish_walter(perform)
    expected = min(HUGE_ROWS, bench.scale * ROWS_PER_SCALE)
    if outcome.changes < expected:
        raise RuntimeError(f"{outcome.changes} changes applied, {expected} were made")
    bench.say(f"{outcome.changes:,} changes in one transaction: {outcome.peak_mb:.0f} MB")


def rows(bench):
    """Of all parts that have run."""
    names = {"memory": "one transaction of 1,000,000 rows"}
    found = []
    for part, (memory_mb, files_mb) in bench.peaks.items():
        found += [Row(names.get(part, part), "MB", [memory_mb], at_most=TARGET_MB),
                  Row("  temporary files", "MB", [files_mb])]
    return found
