"""What it costs an application that its changes are followed, and nothing else is going on.

A reader's old snapshot keeps walter from the cutover without any lock: its copy is finished, it
applies what comes, and asks now and then whether the snapshot is still there.  The same snapshot is
there in the times without walter.  The load is a third of what the server can do, and does not wait
for the disk: there are enough transactions then to tell a hundredth of them from chance.
"""
import time
from dataclasses import dataclass

from rig import wal
from rig.load import Load, wait
from rig.report import Row

PART_OF_CAPACITY = 1 / 3
WARM_UP_S = 2
AT_LEAST_TPS, AT_MOST_WAL = 97, 1
SETTINGS = "-c synchronous_commit=off"
TABLE = "pgbench_accounts"
STOPPED = 7  # exit code


@dataclass
class Moment:
    """Some seconds of the load."""
    tps: float
    mean_us: float
    p99_us: float
    wal_bytes: float  # of a transaction


@dataclass
class Capture:
    """Without walter, before and after on average; with it."""
    without: Moment
    beside: Moment


def _capacity(bench):
    """Transactions per second of the same load without a limit."""
    load = Load(bench.database, options=["-N"], settings=SETTINGS)
    bench.running.append(load)
    since = time.time()
    load.start()
    wait(WARM_UP_S, load)
    load.stop().check()
    return load.window(since + 1, since + WARM_UP_S).tps


def _watch(bench, load):
    """Let the load go on; (begin, end) of it, in time and in the WAL."""
    begin, begin_lsn = time.time(), wal.position(bench.database)
    wait(2 * bench.window_s, load)
    return begin, time.time(), begin_lsn, wal.position(bench.database)


def _moment(bench, load, begin, end, *lsns):
    window = load.window(begin, end)
    known, wal_bytes = wal.bytes_per_transaction(bench.database, TABLE, *lsns)
    if known == 0:
        raise RuntimeError("no transaction of the load is in the WAL")
    return Moment(window.tps, window.mean_ms * 1000, window.p99_ms * 1000, wal_bytes)


def _watch_all(bench, load):
    """Before, beside and after a walter that is held in sync."""
    before = _watch(bench, load)
    perform = bench.start_walter()
    perform.run.wait_for_log(r"waiting for an old snapshot", 600)
    beside = _watch(bench, load)
    if not perform.run.is_running:
        raise RuntimeError(f"walter has ended:\n{perform.run.log}")
    perform.stop()
    perform.run.finish(check=STOPPED)
    wait(WARM_UP_S, load)
    return before, beside, _watch(bench, load)


def _mean(one, other):
    return Moment(*((vars(one)[name] + vars(other)[name]) / 2 for name in vars(one)))


def _measure_once(bench):
    bench.reset()
    bench.wait_until_quiet()
    rate = _capacity(bench) * PART_OF_CAPACITY
    load = Load(bench.database, options=["-N", "-R", f"{rate:.0f}"], settings=SETTINGS)
    bench.running.append(load)
    with bench.database.connect(autocommit=False) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1 from pg_class")
        load.start()
        wait(WARM_UP_S, load)
        watched = _watch_all(bench, load)
        load.stop().check()
        before, beside, after = (_moment(bench, load, *each) for each in watched)
        reader.rollback()
    capture = Capture(_mean(before, after), beside)
    bench.say(f"{rate:.0f} wanted, {capture.without.tps:.0f} tps without, {beside.tps:.0f} beside, "
              f"{capture.without.wal_bytes:.0f} and {beside.wal_bytes:.0f} bytes of WAL each")
    return capture


def measure(bench):
    bench.database.execute("create extension if not exists pg_walinspect")
    captures = [_measure_once(bench) for _ in range(bench.rounds)]

    def compared(name, unit, field, factor, **target):
        return [Row(f"{name}, without walter", unit,
                    [getattr(each.without, field) for each in captures]),
                Row("  beside it", unit, [getattr(each.beside, field) for each in captures]),
                Row("  that is", "%" if factor == 100 else "x",
                    [factor * getattr(each.beside, field) / getattr(each.without, field)
                     for each in captures], **target)]

    bench.report.add("capture: beside pgbench -N at a third of the capacity, held in sync", [
        *compared("transactions", "/s", "tps", 100, at_least=AT_LEAST_TPS),
        *compared("a transaction takes", "us", "mean_us", 1),
        *compared("99 of 100 within", "us", "p99_us", 1),
        *compared("WAL of a transaction", "B", "wal_bytes", 1, at_most=AT_MOST_WAL)])
