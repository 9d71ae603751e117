"""Schemas that nobody here has written: walter does to each of their tables what plain ALTER does.

They come from Debian packages.  WALTER_SEED: see support/seed.py.
"""
import os
import random
import re
import subprocess

import psycopg
import pytest

from support.fill import fill
from support.hold import held_copy
from support.oracle import (Case, Oracle, drop_old_tables, find_leftovers, oracle_server,
                            single_session)
from support.ordinary import new_database
from support.packages import unpacked
from support.seed import seed
from support.thorough import THOROUGH
from support.walter import Walter

__all__ = ["oracle_server"]   # fixture

SEED = seed()

DAVICAL = "davical/usr/share/davical/dba"
# {name: files of packages, in the order in which they are run}
SCHEMAS = {
    # 55 tables, 68 foreign keys, 81 triggers, 108 functions
    "kea": ["kea-admin/usr/share/kea/scripts/pgsql/dhcpdb_create.pgsql"],
    # rules, a view, composite types, cascading keys, sequences, tables without a primary key
    "davical": ["libawl-php/usr/share/awl/dba/awl-tables.sql",
                "libawl-php/usr/share/awl/dba/schema-management.sql",
                f"{DAVICAL}/davical.sql", f"{DAVICAL}/base-data.sql",
                f"{DAVICAL}/views/dav_principal.sql", f"{DAVICAL}/caldav_functions.sql",
                f"{DAVICAL}/rrule_functions.sql"],
}

WIDER = {"smallint": "integer", "integer": "bigint", "bigint": "numeric", "text": "varchar(9999)",
         "timestamp without time zone": "timestamptz(3)", "boolean": "text", "date": "timestamp",
         "timestamp with time zone": "timestamptz(3)", "bytea": "text", "inet": "text"}

COLUMNS = """
    select a.attname, format_type(a.atttypid, a.atttypmod), a.attnum = any (i.indkey)
      from pg_attribute a left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
     where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum"""

TABLES = """
    select c.oid::regclass::text, exists (select from pg_index i where i.indrelid = c.oid
             and i.indisprimary)
      from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"""


# Triggers and defaults say when they were at work; the rows that fill() makes are of 2020.
TIMELESS = ("select regexp_replace(r::text, '20(2[1-9]|[3-9]\\d)-\\d\\d-\\d\\d [0-9:.]+', 'now', 'g')"
            " from {table} r")


def load(db, files):
    """Run the files of unpacked packages."""
    for file in files:
        package, _, path = file.partition("/")
        text = (unpacked(package) / path).read_text(encoding="utf-8")
        done = subprocess.run(db.server.program("psql") + ["-qX", "-v", "ON_ERROR_STOP=1", "-f", "-"],
                              input=text, env={**os.environ, **db.env}, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{file}: {done.stderr}"


@pytest.fixture(name="pair")
def new_pair(server, request):
    """The schema, filled, in two databases that are the same to the oid."""
    plain = new_database(server, "plain")
    load(plain, SCHEMAS[request.param])
    fill(plain, 1, 8, triggers=False)
    plain.execute("analyze")
    plain.close()
    online = new_database(server, "online", f"template {plain.name}")
    yield plain, online
    for db in (plain, online):
        assert db.drop() == []


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def statements(db, table, chance):
    """The same wishes, with less and less in them: the first that PostgreSQL grants is taken."""
    columns = db.query(COLUMNS, [table])
    retyped = chance.choice([c for c in columns if wider(c[1])] or [None])
    dropped = chance.choice([c for c in columns if not c[2] and c != retyped] or [None])
    renamed = chance.choice([c for c in columns if c not in (retyped, dropped)] or [None])
    add = ["add walter_added int default 5"]
    retype = [f"alter {quoted(retyped[0])} type {wider(retyped[1])}"
              + (f" using {quoted(retyped[0])}::text" if retyped[1] in ("bytea", "inet") else "")
              ] if retyped else []
    drop = [f"drop {quoted(dropped[0])}"] if dropped else []
    rename = (f"; alter table {table} rename {quoted(renamed[0])} to"
              f" {quoted(renamed[0] + '_renamed')}" if renamed else "")
    for wish in (add + retype + drop, add + retype, add + drop, add):
        yield f"alter table {table} " + ", ".join(wish) + rename


def wider(kind):
    if re.match(r"(character varying|character|numeric)\b", kind):
        return "text"
    return WIDER.get(kind)


def alter_both(oracle, table, chance, live):
    """Alter a table in both databases; what PostgreSQL refuses walter must refuse."""
    for statement in statements(oracle.plain, table, chance):
        case = Case(table, "", statement)
        try:
            if live:
                fill(oracle.plain, 11, 18, table)
            with single_session(oracle.plain) as role:
                role.execute(statement)
        except psycopg.Error as error:
            print(f"{statement}: {error}")
            result = oracle.walter.perform(statement, check=False)
            assert result.code in (2, 3), f"{error}\n{result}"
            assert error.diag.message_primary in result.stderr
            if live:
                fill(oracle.online, 11, 18, table)
            continue
        print(statement)
        if not live:
            oracle.walter.perform(statement)
            return
        with held_copy(oracle.walter, case.alter) as run:
            fill(oracle.online, 11, 18, table)
        run.finish()
        return
    pytest.fail(f"PostgreSQL does nothing to {table}")


@pytest.mark.parametrize("pair", SCHEMAS, indirect=True)
def test_tables(pair):
    """Every third one, and with WALTER_TEST_THOROUGH=1 all; what has no key is refused in any case."""
    plain, online = pair
    oracle = Oracle(plain, Walter(online))
    chance = random.Random(SEED)
    print(f"WALTER_SEED={SEED}")
    tables = plain.query(TABLES)
    live = chance.sample([table for table, key in tables if key], 4)
    for number, (table, key) in enumerate(tables):
        if key and (table in live or THOROUGH or number % 3 == 0):
            alter_both(oracle, table, chance, table in live)
        elif not key:
            result = oracle.walter.perform(f"alter table {table} add x int", check=2)
            assert "has no primary key" in result.stderr
    assert find_leftovers(online) == []
    drop_old_tables(online)
    # triggers, keys and sequences do what they did
    for db in (plain, online):
        fill(db, 21, 26)
    oracle.compare(Case("all", "", "", rows={table: TIMELESS.format(table=table)
                                             for table, _ in tables}))
