"""Changes per second from a backlog.

A reader holds an ACCESS SHARE lock, so that walter copies everything and then stays before the
cutover.  There the walsender's process is stopped, and a backlog of one kind of change after the
other is written.  (Walter itself is not: no answer for a minute, and the walsender would give up.)
The time counts from the moment it goes on until walter's own position, stored with every batch,
says that all of it is applied.  The yardstick is pg_recvlogical with a slot of its own and the same
publication, which only receives the same stream.
"""
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from rig.database import ROWS_PER_SCALE
from rig.machine import Meter
from rig.report import Row

PER_SCALE = 20_000  # changes in a backlog
WRITERS = 2
YARDSTICK = "walter_yardstick"
STEP = 7919  # prime: neighbours in time are not neighbours in the table
HOT = 1000


@dataclass
class Kind:
    """A backlog: transactions of `size` changes each, `sql` with %(i)s and the table's %(rows)s."""
    name: str
    sql: str
    size: int = 1
    at_least: int | None = None      # changes per second
    share: float | None = None       # ... of what the yardstick receives


_SCATTERED = (f"update pgbench_accounts set abalance = abalance + 1 where aid in (select "
              f"1 + ((i * 50 + k) * {STEP}::bigint) %% %(rows)s from generate_series(0, 49) k)")
_HOT = (f"update pgbench_accounts set abalance = abalance + 1 where aid between "
        f"1 + (i * 50) %% {HOT} and (i * 50) %% {HOT} + 50")
KINDS = [
    Kind("updates, one a transaction",
         "update pgbench_accounts set abalance = abalance + 1 "
         f"where aid = 1 + (i * {STEP}::bigint) %% %(rows)s", at_least=30_000, share=0.6),
    Kind("updates of 1,000 rows, one a transaction",
         f"update pgbench_accounts set abalance = abalance + 1 where aid = 1 + i %% {HOT}",
         share=0.8),
    Kind("updates, 50 a transaction", _SCATTERED, 50, at_least=60_000),
    Kind("updates of 1,000 rows, 50 a transaction", _HOT, 50, share=0.7),
    Kind("inserts, 50 a transaction",
         "insert into pgbench_accounts select %(rows)s + i * 50 + k, 1, 0, '' "
         "from generate_series(1, 50) k", 50, at_least=100_000),
    Kind("deletes, 50 a transaction",
         "delete from pgbench_accounts where aid between %(rows)s + i * 50 + 1 "
         "and %(rows)s + i * 50 + 50", 50, at_least=60_000),
]
INDEXED = Kind("updates, four more indexes", KINDS[0].sql, at_least=25_000)
INDEXES = ["create index bench_1 on pgbench_accounts (bid)",
           "create index bench_2 on pgbench_accounts (abalance)",
           "create index bench_3 on pgbench_accounts (bid, abalance)",
           "create index bench_4 on pgbench_accounts (abalance, aid)"]
NO_INDEXES = "drop index bench_1, bench_2, bench_3, bench_4"


def _count(bench):
    return bench.scale * PER_SCALE


def _write(bench, kind, first):
    """Every so manyth transaction of a backlog."""
    sql = kind.sql % {"rows": bench.scale * ROWS_PER_SCALE}
    with bench.database.connect() as conn:
        conn.execute("set synchronous_commit = off")
        conn.execute(f"do $$ begin for i in {first}..{_count(bench) // kind.size - 1} by {WRITERS} "
                     f"loop {sql}; commit; end loop; end $$")


def _write_backlog(bench, conn, kind):
    """Write it; where it ends."""
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda first: _write(bench, kind, first), range(WRITERS)))
    conn.execute("select pg_logical_emit_message(true, 'bench', '')")  # flushes all before it
    return conn.execute("select pg_current_wal_flush_lsn()").fetchone()[0]


def _receive(bench, slot, end):
    """Seconds for receiving the same stream and doing nothing with it."""
    since = time.monotonic()
    bench.database.call("pg_recvlogical", "--dbname", bench.database.name, "--slot", YARDSTICK,
                        "--start", "--no-loop", "--endpos", end, "--file", os.devnull,
                        "--fsync-interval", "0", "--option", "proto_version=1", "--option",
                        f"publication_names={slot}", "--option", "binary=true")
    return time.monotonic() - since


_WALSENDER = """
select pid, wait_event in ('WalSenderMain', 'WalSenderWaitForWAL')
from pg_stat_activity
where pid = (select active_pid from pg_replication_slots where slot_name = %s)"""


@contextmanager
def _stopped(conn, slot):
    """The slot's walsender stands still inside, where it waits and has no lock of the server's."""
    is_waiting = False
    while not is_waiting:
        pid, _ = conn.execute(_WALSENDER, [slot]).fetchone()
        os.kill(pid, signal.SIGSTOP)
        _, is_waiting = conn.execute(_WALSENDER, [slot]).fetchone()
        if not is_waiting:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _drain(bench, conn, perform, run, kind):
    """One backlog: what it took to apply it, and the yardstick's seconds."""
    position = f"select sum(changes) from walter.position_{run}"
    with _stopped(conn, f"walter_{run}"):
        until = conn.execute(position).fetchone()[0] + _count(bench)
        conn.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (YARDSTICK,))
        since = time.monotonic()
        end = _write_backlog(bench, conn, kind)
        bench.say(f"{kind.name}: {_count(bench):,} changes written in "
                  f"{time.monotonic() - since:.2f} s")
    with Meter(bench.database) as meter:
        while conn.execute(position).fetchone()[0] < until:
            if not perform.run.is_running:
                raise RuntimeError(f"walter has ended:\n{perform.run.log}")
            time.sleep(0.01)
    with _stopped(conn, f"walter_{run}"):
        yardstick_s = _receive(bench, f"walter_{run}", end)
    conn.execute("select pg_drop_replication_slot(%s)", (YARDSTICK,))
    return meter, yardstick_s


def _round(bench, conn, perform, run, kind):
    """The rates of walter and of the yardstick."""
    for tries in range(1, sys.maxsize):
        bench.wait_until_quiet()
        meter, yardstick_s = _drain(bench, conn, perform, run, kind)
        bench.say(f"{kind.name}: applied in {meter.seconds:.2f} s, "
                  f"pg_recvlogical {yardstick_s:.2f} s, others {meter.others:.0%}")
        # what was inserted twice would be an error
        if kind.size > 1 or not bench.is_too_noisy(meter, tries):
            break
    bench.report.noise.append(meter.others)
    return _count(bench) / meter.seconds, _count(bench) / yardstick_s


def _rows(kind, rates):
    rows = [Row(kind.name, "/s", [rate for rate, _ in rates], at_least=kind.at_least),
            Row("  pg_recvlogical to /dev/null", "/s", [yardstick for _, yardstick in rates])]
    return rows + [Row("  share of it", "%", [rate / yardstick * 100 for rate, yardstick in rates],
                       at_least=kind.share and kind.share * 100)]


def _run(bench, kinds):
    """One run of walter for all rounds of these kinds of change; the rows."""
    rates = {id(kind): [] for kind in kinds}
    with bench.database.connect() as conn, \
            bench.database.connect(autocommit=False) as reader:
        reader.execute("lock table pgbench_accounts in access share mode")
        perform = bench.start_walter()
        perform.run.wait_for_log(r"info: cutover attempt 1: ", 600)
        run = conn.execute("select run from walter.run where phase <> 'done'").fetchone()[0]
        for _ in range(bench.rounds):
            for kind in kinds:
                rates[id(kind)].append(_round(bench, conn, perform, run, kind))
        reader.rollback()
    bench.finish_walter(perform)
    return [row for kind in kinds for row in _rows(kind, rates[id(kind)])]


def measure(bench):
    bench.reset()
    rows = _run(bench, KINDS)
    bench.reset()
    bench.database.execute(*INDEXES)
    try:
        rows += _run(bench, [INDEXED])
    finally:
        bench.database.execute(NO_INDEXES)
    bench.report.add(f"apply: backlogs of {_count(bench):,} changes", rows)
