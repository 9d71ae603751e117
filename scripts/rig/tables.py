"""The tables that are altered: what they look like, and how they are made."""
from dataclasses import dataclass, field


@dataclass
class Table:
    """A table of which `column`, an integer, becomes bigint.

    `make` and `drop` are statements; without them the table is one of pgbench's.
    """
    title: str
    name: str
    column: str = "n"
    make: list = field(default_factory=list)
    drop: list = field(default_factory=list)

    @property
    def alter(self):
        return f"ALTER TABLE {self.name} ALTER COLUMN {self.column} TYPE bigint"


def _own(title, name, columns, values, rows, *more):
    """A table of our own, with `rows` rows of `values`; `more` comes after the rows."""
    return Table(title, name, make=[f"create table {name} ({columns})", *more,
                                    f"insert into {name} select {values} "
                                    f"from generate_series(1, {rows}) i"],
                 drop=[f"drop table {name}"])


ACCOUNTS = Table("rows of pgbench_accounts", "pgbench_accounts", "aid")
INDEXED = Table("pgbench_accounts with four more indexes", "pgbench_accounts", "aid",
                ["create index bench_1 on pgbench_accounts (bid)",
                 "create index bench_2 on pgbench_accounts (abalance)",
                 "create index bench_3 on pgbench_accounts (bid, aid)",
                 "create index bench_4 on pgbench_accounts (filler, aid)"],
                ["drop index bench_1, bench_2, bench_3, bench_4"])
# 20 kB that do not compress
_LONG = "(select string_agg(md5(i::text || k::text), '') from generate_series(1, 625) k)"
# 20 kB that do
_LINES = "(select string_agg('line ' || i || ' ' || k, E'\\n') from generate_series(1, 1600) k)"
# what tables of applications are made of
_USUAL = {"id": ("int primary key", "i"), "n": ("int", "i"), "owner": ("bigint", "i % 1000"),
          "parent": ("bigint", "i"), "created": ("timestamptz", "now()"),
          "changed": ("timestamptz", "now()"), "active": ("boolean", "true"),
          "state": ("text", "'pending'"), "digest": ("text", "md5(i::text)"),
          "name": ("varchar(50)", "'somebody ' || i"), "price": ("numeric(12,2)", "i / 100.0"),
          "amount": ("int", "7"), "day": ("date", "'2026-01-01'"),
          "token": ("uuid", "gen_random_uuid()"), "note": ("text", "null"),
          "extra": ("jsonb", "'{\"a\": 1, \"b\": [1, 2, 3]}'")}


def other_shapes(scale):
    """Rows that are not like those of pgbench_accounts."""
    return [
        _own("rows of two integers", "bench_narrow", "id int primary key, n int", "i, i",
             scale * 100_000),
        _own("rows with a uuid for a key", "bench_uuid", "id uuid primary key, n int, t text",
             "gen_random_uuid(), i, md5(i::text)", scale * 40_000),
        _own("rows of 16 columns of the usual kinds", "bench_usual",
             ", ".join(f"{name} {kind}" for name, (kind, _) in _USUAL.items()),
             ", ".join(value for _, value in _USUAL.values()), scale * 20_000),
        # pg_repack fails where the storage leaves no use for a TOAST table; 2,000 would go there
        _own("rows of 2 kB", "bench_2kb", "id int primary key, n int, filler char(1900)",
             "i, i, 'x'", scale * 4000,
             "alter table bench_2kb alter filler set storage external"),
        _own("rows of 2 kB with 20 kB out of line", "bench_wide",
             "id int primary key, n int, filler char(2000), long text", f"i, i, 'x', {_LONG}",
             scale * 400, "alter table bench_wide alter filler set storage plain, "
             "alter long set storage external"),
        _own("rows with 20 kB that compress", "bench_lines", "id int primary key, n int, long text",
             f"i, i, {_LINES}", scale * 400),
    ]


def of_rows(rows):
    """Rows like those of pgbench_accounts, as many as wanted."""
    return _own(f"{rows:,} rows", "bench_rows",
                "id int primary key, n int, balance int, filler char(84)", "i, i, 0, ''", rows)


def of_columns(columns, rows):
    """Integers side by side."""
    names = [f"c{i}" for i in range(columns - 2)]
    return _own(f"{columns:,} columns, {rows:,} rows", "bench_columns",
                "id int primary key, n int, " + ", ".join(f"{name} int" for name in names),
                "i, i, " + ", ".join("i" for _ in names), rows)


def of_indexes(indexes, rows):
    """Integers side by side, most with an index; the one of the key counts."""
    names = [f"c{i}" for i in range(indexes - 1)]
    table = _own(f"{indexes} indexes, {rows:,} rows", "bench_indexes",
                 "id int primary key, n int, " + ", ".join(f"{name} int" for name in names),
                 "i, i, " + ", ".join(f"i % {k + 2}" for k in range(len(names))), rows)
    table.make += [f"create index on bench_indexes ({name})" for name in names]
    return table
