"""Changes per second from a backlog.

A reader holds an ACCESS SHARE lock, so that walter copies everything and then stays before the
cutover.  There its process is stopped, and a backlog of transactions of one row each is written.
The time counts from the moment it goes on until its own position, stored with every batch, says
that all of it is applied.  The yardstick is pg_recvlogical with a slot of its own and the same
publication, which only receives the same stream.
"""
import os
import signal
import sys
import time

from rig.database import ROWS_PER_SCALE
from rig.machine import Meter
from rig.report import Row

TARGET = 30_000
# Quicker than walter's wal_sender_timeout of 60 s, which passes while it stands still.
BACKLOG = 300_000
YARDSTICK = "walter_yardstick"
STEP = 7919  # prime: neighbours in time are not neighbours in the table

SQL_BACKLOG = """
do $$ begin
  for i in 1..%d loop
    update pgbench_accounts set abalance = abalance + 1 where aid = 1 + (i::bigint * %d) %% %d;
    commit;
  end loop;
end $$"""


def _write_backlog(bench, conn, count):
    conn.execute("set synchronous_commit = off")
    conn.execute(SQL_BACKLOG % (count, STEP, bench.scale * ROWS_PER_SCALE))
    conn.execute("set synchronous_commit = on")
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


def _drain(bench, conn, perform, run, count):
    """One backlog: what it took to apply it, and the yardstick's seconds."""
    position = f"select changes from walter.position_{run}"
    before = conn.execute(position).fetchone()[0]
    perform.run.signal(signal.SIGSTOP)
    conn.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (YARDSTICK,))
    end = _write_backlog(bench, conn, count)
    yardstick_s = _receive(bench, f"walter_{run}", end)
    conn.execute("select pg_drop_replication_slot(%s)", (YARDSTICK,))
    with Meter(bench.database) as meter:
        perform.run.signal(signal.SIGCONT)
        while conn.execute(position).fetchone()[0] < before + count:
            if not perform.run.is_running:
                raise RuntimeError(f"walter has ended:\n{perform.run.log}")
            time.sleep(0.01)
    return meter, yardstick_s


def _round(bench, conn, perform, run, count):
    """The rates of walter and of the yardstick."""
    for tries in range(1, sys.maxsize):
        bench.wait_until_quiet()
        meter, yardstick_s = _drain(bench, conn, perform, run, count)
        bench.say(f"{count:,} changes in {meter.seconds:.2f} s, pg_recvlogical "
                  f"{yardstick_s:.2f} s, others {meter.others:.0%}")
        if not bench.is_too_noisy(meter, tries):
            break
    bench.report.noise.append(meter.others)
    return count / meter.seconds, count / yardstick_s


def measure(bench):
    count = min(BACKLOG, bench.scale * ROWS_PER_SCALE)
    bench.reset()
    with bench.database.connect() as conn, \
            bench.database.connect(autocommit=False) as reader:
        reader.execute("lock table pgbench_accounts in access share mode")
        perform = bench.start_walter()
        perform.run.wait_for_log(r"info: cutover attempt 1: ", 600)
        run = conn.execute("select run from walter.run where phase <> 'done'").fetchone()[0]
        rates = [_round(bench, conn, perform, run, count) for _ in range(bench.rounds)]
        reader.rollback()
    bench.finish_walter(perform)
    bench.report.add(f"apply: backlog of {count:,} transactions of one row", [
        Row("walter perform", "/s", [rate[0] for rate in rates], at_least=TARGET),
        Row("pg_recvlogical to /dev/null, same stream", "/s", [rate[1] for rate in rates])])
