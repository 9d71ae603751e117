"""The demonstration: one ALTER TABLE under load, and the proof that nothing was lost."""
import argparse
import os
import re
import signal
import sys
import time
from dataclasses import dataclass

import psycopg

from rig.database import ALTER, ROWS_PER_SCALE, Database
from rig.load import Load, wait
from rig.perform import Perform

TABLE = "pgbench_accounts"
WARM_UP_S, AFTER_S = 6, 4
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB", "maintenance_work_mem": "256MB"}
SHAPE_COLUMN = 20  # longer ones stick out

SQL_SHAPE = """
select a.attname, format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null'
         else '' end || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = to_regclass(%(table)s) and a.attnum > 0 and not a.attisdropped
union all
select i.indexrelid::regclass::text, regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '')
  from pg_index i where i.indrelid = to_regclass(%(table)s)
union all
select c.conname || case when c.conrelid = to_regclass(%(table)s) then ''
         else ' of ' || c.conrelid::regclass::text end,
       pg_get_constraintdef(c.oid) || case when c.convalidated then '' else ' NOT VALID' end
  from pg_constraint c
 where to_regclass(%(table)s) in (c.conrelid, c.confrelid) and c.contype <> 'p'
union all
select 'storage', array_to_string(c.reloptions, ', ')
  from pg_class c where c.oid = to_regclass(%(table)s) and c.reloptions is not null
"""

# What exists beyond what every database and pgbench have.
SQL_LEFT = """
select 'replication slot ' || slot_name from pg_replication_slots
union all select 'publication ' || pubname from pg_publication
union all select 'schema ' || nspname from pg_namespace
           where nspname !~ '^pg_' and nspname not in ('public', 'information_schema')
union all select 'table ' || c.oid::regclass::text from pg_class c
           where c.relkind in ('r', 'v', 'm', 'S', 'f', 'p')
             and c.relnamespace not in (select oid from pg_namespace
                  where nspname in ('pg_catalog', 'information_schema', 'pg_toast'))
             and c.oid::regclass::text !~ '^pgbench_'
union all select 'function ' || p.oid::regprocedure::text from pg_proc p
           where p.pronamespace not in ('pg_catalog'::regnamespace,
                                         'information_schema'::regnamespace)
union all select 'trigger ' || tgname || ' on ' || tgrelid::regclass from pg_trigger
           where not tgisinternal
union all select 'session "' || application_name || '"' from pg_stat_activity
           where application_name like 'walter%'
"""


@dataclass
class Facts:
    """What is known about the tables at one moment."""
    shape: dict
    rows: int
    size: str


class Report:
    """Prints what happened, and remembers whether all of it was right."""

    def __init__(self):
        self.passed = True

    def step(self, name, text, since):
        print(f"  {name:<10} {text} ({time.time() - since:.0f} s)", flush=True)

    def title(self, text):
        print(f"\n{text}")

    def fact(self, name, text):
        print(f"  {name:<26}{text}")

    def check(self, holds, text):
        print(f"  {'ok  ' if holds else 'FAIL'}  {text}")
        self.passed = self.passed and bool(holds)


def read_facts(database):
    with database.connect() as conn:
        return Facts(dict(conn.execute(SQL_SHAPE, {"table": TABLE}).fetchall()),
                     conn.execute(f"select count(*) from {TABLE}").fetchone()[0],
                     conn.execute("select pg_size_pretty(pg_total_relation_size(to_regclass(%s)))",
                                  (TABLE,)).fetchone()[0])


def print_log(text):
    """walter's own words, without the date and the details of --verbose."""
    for line in text.splitlines():
        if " debug: " not in line:
            print("    | " + re.sub(r"^\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d)\.\d+", r"\1", line))


def show_shape(report, before, after):
    names = list(before.shape) + [name for name in after.shape if name not in before.shape]
    width = max(map(len, names)) + 2
    report.title(f"{TABLE:<{width + 2}}{'before':<{SHAPE_COLUMN}}after")
    for name in names:
        old, new = before.shape.get(name, "-"), after.shape.get(name, "-")
        print(f"  {name:<{width}}{old:<{SHAPE_COLUMN}}{' =' if old == new else new}")
    print(f"  {'rows':<{width}}{format(before.rows, ','):<{SHAPE_COLUMN}}{after.rows:,}")
    print(f"  {'size with indexes':<{width}}{before.size:<{SHAPE_COLUMN}}{after.size}")
    report.check({name: text for name, text in after.shape.items() if name != "aid"} ==
                 {name: text for name, text in before.shape.items() if name != "aid"} and
                 after.shape.get("aid") == "bigint not null",
                 "aid is bigint; everything else is as it was, under its own name")


def show_run(report, outcome):
    report.title("walter")
    report.fact("rows copied", f"{outcome.rows:,}")
    report.fact("changes applied", f"{outcome.changes:,}")
    report.fact("time", f"{outcome.seconds:.1f} s")
    report.fact("attempts at the lock", f"{outcome.attempts}")
    report.fact("lock waited for, held", f"{outcome.wait_ms:.1f} ms, {outcome.hold_ms:.1f} ms")
    report.fact("memory", f"{outcome.peak_mb:.0f} MB")


def show_clients(report, load, outcome):
    end = load.transactions[-1][1] if load.transactions else outcome.end
    windows = {"before": load.window(outcome.begin - WARM_UP_S + 1, outcome.begin),
               "during": load.window(outcome.begin, outcome.end),
               "after": load.window(outcome.end, max(end, outcome.end + 1))}
    report.title(f"{load.clients} clients")
    report.fact("", "".join(f"{name:>12}" for name in windows))
    report.fact("transactions per second", "".join(f"{w.tps:>12,.0f}" for w in windows.values()))
    report.fact("longest stall",
                "".join(f"{w.longest_ms:>9,.0f} ms" for w in windows.values()))
    report.check(windows["during"].tps > 0 and outcome.changes > 0,
                 "they wrote all the time, and the changes were carried over")
    report.check(not load.errors and load.failed == 0, f"errors: {load.failed + len(load.errors)}")
    for error in load.errors[:5]:
        print(f"        {error}")


def check_data(report, database, load, before, after):
    """pgbench's books: every transaction adds one delta to an account, a teller and a branch."""
    report.title("Nothing was lost")
    report.check(after.rows == before.rows, f"accounts: {after.rows:,}, as before")
    history = database.value("select count(*) from pgbench_history")
    report.check(history == load.processed > 0,
                 f"transactions that the clients saw committed: {load.processed:,}, "
                 f"in pgbench_history: {history:,}")
    sums = database.query("select coalesce(sum(delta), 0), (select sum(abalance) from "
                          "pgbench_accounts), (select sum(tbalance) from pgbench_tellers), "
                          "(select sum(bbalance) from pgbench_branches) from pgbench_history")[0]
    report.check(len(set(sums)) == 1, "sums of history, accounts, tellers, branches: "
                 + ", ".join(f"{value:,}" for value in sums))
    wrong = database.value(
        "select count(*) from pgbench_accounts a full join (select aid, sum(delta) as delta from "
        "pgbench_history group by aid) h using (aid) where a.abalance is distinct from "
        "coalesce(h.delta, 0)")
    report.check(wrong == 0, f"accounts whose balance is not what history says: {wrong}")


def check_left(report, database):
    report.title("What is left")
    found = sorted(row[0] for row in database.query(SQL_LEFT))
    for thing in found:
        print(f"        {thing}")
    patterns = [r"schema walter", r"schema walter_[0-9a-f]{8}", r"table walter\.run",
                rf"table walter_[0-9a-f]{{8}}\.{TABLE}"]
    report.check(len(found) == len(patterns) and
                 all(re.fullmatch(pattern, thing) for pattern, thing in zip(patterns, found)),
                 "no slot, publication, trigger, function or session: only the state schema and "
                 "the old table, yours to drop")


def make_database(report, scale):
    since = time.time()
    database = Database(SETTINGS)
    try:
        with database.connect() as conn:
            version = conn.execute("show server_version").fetchone()[0].split()[0]
        report.step("server", f"PostgreSQL {version}, port {database.server.port}", since)
        since = time.time()
        database.fill(scale, "--foreign-keys")
        database.execute("checkpoint")
        report.step("data", f"pgbench scale {scale}: {scale * ROWS_PER_SCALE:,} accounts", since)
    except BaseException:
        database.remove()
        raise
    return database


def alter_under_load(report, database, load):
    """The change itself, with pgbench writing before, during and after it."""
    load.start()
    since = time.time()
    wait(WARM_UP_S, load)
    report.step("load", f"pgbench, {load.clients} clients, TPC-B", since)
    print(f"\n$ walter perform -a '{ALTER}'", flush=True)
    perform = Perform(database, ALTER)
    try:
        outcome = perform.finish()
        print_log(perform.run.log)
        wait(AFTER_S, load)
    finally:
        perform.stop()
        load.stop()
    return outcome


def show(report, database, load):
    before = read_facts(database)
    outcome = alter_under_load(report, database, load)
    after = read_facts(database)
    show_shape(report, before, after)
    show_run(report, outcome)
    show_clients(report, load, outcome)
    check_data(report, database, load, before, after)
    check_left(report, database)


def demonstrate(scale, clients):
    report = Report()
    since = time.time()
    database = make_database(report, scale)
    load = Load(database, clients)
    try:
        show(report, database, load)
    except (RuntimeError, AssertionError, psycopg.Error, OSError) as error:
        print(error, file=sys.stderr)
        print(database.log_end(), file=sys.stderr)
        report.passed = False
    finally:
        load.stop()
        database.remove()
    print(f"\n{'All as it should be' if report.passed else 'FAILED'} ({time.time() - since:.0f} s)")
    return 0 if report.passed else 1


def main():
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--scale", type=int, default=30)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        return demonstrate(options.scale, options.clients)
    except KeyboardInterrupt:
        print("\nstopped; the server is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
