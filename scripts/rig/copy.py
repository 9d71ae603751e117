"""Nobody else there: how long does the change take?"""
import sys
from dataclasses import dataclass, field

from rig.database import ALTER, ROWS_PER_SCALE
from rig.machine import Meter
from rig.report import Row

TARGET = 1.5
PLAIN, WALTER, ALONE, REPACK = ("plain ALTER TABLE (nobody gets in)", "walter perform --drop",
                                "walter perform --drop --jobs=1", "pg_repack")
TWO = "pg_repack -j 2"
REPACK_OPTIONS = {REPACK: [], TWO: ["-j", "2"]}


@dataclass
class Table:
    """What is altered; `make` and `drop` have %(n)s, the benchmark's scale."""
    title: str
    name: str
    alter: str
    back: str
    make: list = field(default_factory=list)
    drop: list = field(default_factory=list)
    tools: tuple = (PLAIN, WALTER, REPACK)
    most: dict = field(default_factory=dict)  # {tool: times walter's seconds may be of its}


ACCOUNTS = Table("rows of pgbench_accounts", "pgbench_accounts", ALTER,
                 "alter table pgbench_accounts alter aid type integer",
                 tools=(PLAIN, WALTER, ALONE, REPACK), most={PLAIN: TARGET})

# 20 kB that do not compress
_LONG = ("(select string_agg(md5(i::text || k::text), '') from generate_series(1, 625) k)")
TABLES = [
    Table("pgbench_accounts with four more indexes", "pgbench_accounts", ALTER, ACCOUNTS.back,
          ["create index bench_1 on pgbench_accounts (bid)",
           "create index bench_2 on pgbench_accounts (abalance)",
           "create index bench_3 on pgbench_accounts (bid, aid)",
           "create index bench_4 on pgbench_accounts (filler, aid)"],
          ["drop index bench_1, bench_2, bench_3, bench_4"],
          tools=(PLAIN, WALTER, TWO), most={PLAIN: 0.8, TWO: 0.9}),
    Table("rows of two integers", "bench_narrow",
          "alter table bench_narrow alter n type bigint", "alter table bench_narrow alter n type int",
          ["create table bench_narrow (id int primary key, n int)",
           "insert into bench_narrow select i, i from generate_series(1, %(n)s * 100000) i"],
          ["drop table bench_narrow"], most={PLAIN: 1.25}),
    Table("rows with a uuid for a key", "bench_uuid",
          "alter table bench_uuid alter n type bigint", "alter table bench_uuid alter n type int",
          ["create table bench_uuid (id uuid primary key, n int, t text)",
           "insert into bench_uuid select gen_random_uuid(), i, md5(i::text)"
           " from generate_series(1, %(n)s * 40000) i"],
          ["drop table bench_uuid"], most={PLAIN: 1.25}),
    Table("rows of 2 kB with 20 kB out of line", "bench_wide",
          "alter table bench_wide alter n type bigint", "alter table bench_wide alter n type int",
          ["create table bench_wide (id int primary key, n int, filler char(2000), long text)",
           "alter table bench_wide alter filler set storage plain, alter long set storage external",
           f"insert into bench_wide select i, i, 'x', {_LONG}"
           " from generate_series(1, %(n)s * 400) i"],
          ["drop table bench_wide"], most={PLAIN: 1.25}),
]


def _run(bench, table, tool):
    if tool == PLAIN:
        bench.database.execute(table.alter)
    elif tool in REPACK_OPTIONS:
        bench.run_repack(*REPACK_OPTIONS[tool], table=table.name)
    else:
        bench.finish_walter(bench.start_walter(*tool.split()[2:], alter=table.alter))


def _reset(bench, table):
    """The same start for each tool: without gaps, clean on disk."""
    if table.name == "pgbench_accounts":
        bench.reset()
    else:
        bench.database.execute(table.back, f"vacuum full {table.name}",
                               f"vacuum analyze {table.name}", "checkpoint")


def _measure_once(bench, table, tool):
    for tries in range(1, sys.maxsize):
        _reset(bench, table)
        bench.wait_until_quiet()
        with Meter(bench.database) as meter:
            _run(bench, table, tool)
        bench.say(f"{tool}: {meter.seconds:.2f} s, {meter.cpu_s:.2f} s of processors, others "
                  f"{meter.others:.0%}")
        if not bench.is_too_noisy(meter, tries):
            break
    bench.report.noise.append(meter.others)
    return meter


def _ratio(name, meters, of, at_most=None):
    """Row of the seconds of one tool in those of another, round by round."""
    return Row(name, "x", [a.seconds / b.seconds for a, b in zip(meters, of)], at_most=at_most)


def _measure_table(bench, table, title):
    meters = {tool: [] for tool in table.tools}
    for _ in range(bench.rounds):
        for tool in table.tools:
            meters[tool].append(_measure_once(bench, table, tool))
    rows = []
    for tool in table.tools:
        rows.append(Row(tool, "s", [meter.seconds for meter in meters[tool]]))
        if tool != PLAIN:
            rows.append(_ratio("  times plain", meters[tool], meters[PLAIN],
                               table.most.get(PLAIN) if tool == WALTER else None))
    rows += [_ratio(f"walter, times {tool}", meters[WALTER], meters[tool], at_most)
             for tool, at_most in table.most.items() if tool != PLAIN]
    rows += [Row(f"processors' time, {tool.split(' (')[0]}", "s",
                 [meter.cpu_s for meter in meters[tool]]) for tool in table.tools if tool != ALONE]
    bench.report.add(f"{title}, nobody else there", rows)


def measure(bench):
    _measure_table(bench, ACCOUNTS, f"copy: {bench.scale * ROWS_PER_SCALE:,} {ACCOUNTS.title}")


def measure_tables(bench):
    """Tables of other shapes."""
    for table in TABLES:
        bench.say(table.title)
        bench.database.execute(*[sql % {"n": bench.scale} if "%(n)s" in sql else sql
                                 for sql in table.make])
        try:
            _measure_table(bench, table, f"tables: {table.title}")
        finally:
            bench.database.execute(*table.drop)
