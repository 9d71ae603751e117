"""The benchmark: see scripts/bench."""
import argparse
import os
import shlex
import signal
import sys
import time

import psycopg
from support.walter import binary

from rig import apply, capture, converge, copy, impact, machine, memory, scale
from rig.database import ALTER, Database
from rig.perform import Perform
from rig.report import Report, first_line
from rig.tables import ACCOUNTS

PARTS = {"copy": copy.measure, "tables": copy.measure_tables, "apply": apply.measure,
         "impact": impact.measure, "capture": capture.measure, "converge": converge.measure,
         "scale": scale.measure, "memory": memory.measure}
# The table and its successor do not fit into shared_buffers, as a big table's never do.
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
            "maintenance_work_mem": "256MB"}
RESULTS = "bench-results"
QUIET_LIMIT_S, QUIET_TRIES = 600, 8


class Bench:
    """What the parts work with."""

    def __init__(self, database, options, report):
        self.database, self.report = database, report
        self.scale, self.rounds, self.window_s = options.scale, options.rounds, options.window
        self.peaks = {}  # part: (MB of memory, MB of temporary files)
        self.part = "warm-up"
        # share of the processors that others may use; None = whatever
        self.quiet = options.quiet and options.quiet / 100
        self.running = []  # what to stop when something fails

    def say(self, text):
        print(f"  {self.part:<7} {text}", file=sys.stderr, flush=True)

    def reset(self, table=ACCOUNTS):
        """The same start for everything measured: int, without gaps, all of it clean on disk."""
        kind = self.database.value("select atttypid::regtype::text from pg_attribute where "
                                   "attrelid = %s::regclass and attname = %s", table.name,
                                   table.column)
        old_tables = self.database.query("select format('drop schema %I cascade', nspname) "
                                         "from pg_namespace where nspname ~ '^walter_'")
        self.database.execute(*[row[0] for row in old_tables],
                              f"vacuum full {table.name}" if kind == "integer" else
                              f"alter table {table.name} alter {table.column} type integer",
                              "truncate pgbench_history", "vacuum analyze", "checkpoint")

    def wait_until_quiet(self):
        """On a machine that others use as well: begin when they pause."""
        if self.quiet is not None:
            machine.wait_until_idle(self.quiet, QUIET_LIMIT_S)

    def is_too_noisy(self, meter, tries):
        """Is a measurement worth repeating?"""
        return self.quiet is not None and meter.others > self.quiet and tries < QUIET_TRIES

    def warm_up(self):
        """Let the server make what it makes but once: its memory's pages, its WAL files."""
        self.say("a run that does not count")
        self.reset()
        self.start_walter("--drop").finish()

    def start_walter(self, *options, alter=ALTER):
        perform = Perform(self.database, alter, *options)
        self.running.append(perform)
        return perform

    def finish_walter(self, perform):
        outcome = perform.finish()
        memory_mb, files_mb = self.peaks.get(self.part, (0, 0))
        self.peaks[self.part] = (max(memory_mb, outcome.peak_mb), max(files_mb, outcome.files_mb))
        return outcome

    def stop(self):
        for thing in self.running:
            thing.stop()

    def run_repack(self, *options, table="pgbench_accounts"):
        """pg_repack of the same table."""
        self.database.call("pg_repack", "--dbname", self.database.name, "--table", table, *options)


def results_path():
    return os.path.join(RESULTS, time.strftime("%Y%m%d-%H%M%S.json"))


def make_report(options, database):
    facts = {"walter": first_line(binary(), "--version").removeprefix("walter "),
             "postgresql": database.value("show server_version").split()[0],
             "pg_repack": first_line(*database.server.program("pg_repack"),
                                     "--version").split()[-1],
             "machine": machine.describe(), "command": shlex.join(["scripts/bench", *sys.argv[1:]]),
             "quiet": options.quiet, "scale": options.scale, "rounds": options.rounds,
             "window_s": options.window, "settings": SETTINGS}
    return Report(facts)


def measure(options, database):
    database.fill(options.scale)
    database.execute("create extension pg_repack")
    report = make_report(options, database)
    bench = Bench(database, options, report)
    try:
        bench.warm_up()
        for part in [part for part in PARTS if not options.parts or part in options.parts]:
            bench.part = part
            PARTS[part](bench)
        report.add("walter itself, at its highest", memory.rows(bench))
    finally:
        bench.stop()
        report.print()  # what there is, if it failed
    print(f"\n{report.save(options.json or results_path())}")


def main():
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--scale", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quiet", type=int)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--json")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    database = Database(SETTINGS)
    try:
        measure(options, database)
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, AssertionError, psycopg.Error) as error:
        print(f"bench: {error}\n{database.log_end()}", file=sys.stderr)
        return 1
    finally:
        database.remove()
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
