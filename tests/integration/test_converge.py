"""Writers that never pause: the cutover is reached while they write, or it is said why not.

The writers note in a table of their own what they have added to which rows, so that every row of
the new table can be checked afterwards.
"""
import re

import pytest

from support.hold import wait_until_true
from support.pgbench import PgBench, initialise

ALTER = "alter table pgbench_accounts alter aid type bigint, alter abalance type bigint"

# Fifty rows a transaction.
FIFTY = """\\set block random(0, 199)
begin;
update pgbench_accounts set abalance = abalance + 1
 where aid > :block * 50 and aid <= (:block + 1) * 50;
insert into noted values (:block);
end;
"""

NOTED_BY_PGBENCH = "select aid, sum(delta) as added from pgbench_history group by aid"
NOTED_BY_FIFTY = ("select block * 50 + i as aid, count(*) as added"
                  " from noted, generate_series(1, 50) i group by 1")


def create(db):
    initialise(db)
    # as a busy application may: what is not flushed comes late into the stream
    db.execute(f"alter database {db.name} set synchronous_commit = off")
    db.execute("create table noted (block int)")


def assert_as_noted(db, noted):
    assert db.query_one("select count(*) from pgbench_accounts") == 100000
    assert db.query(f"select aid, abalance, added from pgbench_accounts left join ({noted}) n"
                    " using (aid) where abalance is distinct from coalesce(added, 0) limit 5") == []


@pytest.mark.parametrize("kind", ["pgbench", "fifty"])
def test_cuts_over_while_they_write(db, walter, kind):
    """Eight clients at full speed; and 10,000 rows a second, which every machine should apply."""
    create(db)
    pgbench, journal, noted = {
        "pgbench": (PgBench(db, clients=8), "pgbench_history", NOTED_BY_PGBENCH),
        "fifty": (PgBench(db, clients=4, script=FIFTY, rate=200), "noted", NOTED_BY_FIFTY),
    }[kind]
    if kind == "pgbench":
        pgbench.args.append("-N")
    with pgbench:
        wait_until_true(db, f"select count(*) > 100 from {journal}")
        result = walter.perform(ALTER, timeout=60)
        after = db.query_one(f"select count(*) from {journal}")
        wait_until_true(db, f"select count(*) > {after} + 100 from {journal}")
    assert pgbench.errors == []
    assert int(re.search(r"(\d+) changes applied, \d+ lock attempt", result.stderr).group(1)) > 100
    assert "backlog" not in result.stderr
    assert db.query_one("select atttypid::regtype::text from pg_attribute"
                        " where attrelid = 'pgbench_accounts'::regclass and attname = 'aid'"
                        ) == "bigint"
    assert_as_noted(db, noted)


# Every row that walter applies takes a millisecond, as long as somebody stands on the brake.
SLOW_TO_APPLY = """
    create table brake ();
    create function slow(bigint) returns boolean language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: [0-9a-f]+ apply$'
           and exists (select from pg_class where relname = 'brake') then
            perform pg_sleep(0.001);
        end if;
        return true;
    end $$;
    alter table pgbench_accounts add check (slow(abalance));
"""


def test_says_that_they_are_too_fast(db, walter):
    create(db)
    db.execute(SLOW_TO_APPLY)
    with PgBench(db, clients=4, script=FIFTY, rate=200) as pgbench:
        run = walter.start_perform(ALTER, "--pull-batch-count", "1000")
        said = run.wait_for_log(r"warning: writers change about (\d+) rows/s, and (\d+) rows/s are "
                                r"applied: the backlog grows, "
                                r"\d.* MB of WAL by now; slow the writers down", timeout=120)
        run.wait_for_log("catching up, never at this rate")
    assert pgbench.errors == []
    assert int(said.group(1)) > int(said.group(2)) > 0
    assert run.is_running
    db.execute("drop table brake")
    result = run.finish()
    assert re.search("info: the backlog (is getting shorter|of changes is worked off)",
                     result.stderr)
    assert_as_noted(db, NOTED_BY_FIFTY)
