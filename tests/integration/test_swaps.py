"""Fifty swaps in a row under the eyes of clients: nothing is lost, and nobody notices."""
import re

import pytest

from support.pgbench import PgBench
from support.thorough import some

ACCOUNTS = 2000
ROUNDS = 17     # times three protocols

# Every transaction leaves a trace in a table that is never altered.  bump() keeps its plans.  The
# last statement always returns a bigint: with another type a prepared statement fails after any
# ALTER TABLE.
SCRIPT = rf"""
\set id random(1, {ACCOUNTS})
\set other random(1, {ACCOUNTS})
begin;
update accounts set balance = balance + 1 where id = :id;
select bump(:other);
insert into history (id) values (:id), (:other);
commit;
select balance::bigint from accounts where id = :id;
"""
ALTERS = ["alter table accounts alter filler type varchar(100)",
          "alter table accounts alter balance type bigint",
          "alter table accounts set (fillfactor = 80)",
          "alter table accounts alter balance type integer",
          "alter table accounts alter filler type text, reset (fillfactor)"]


@pytest.mark.limit(400)
@pytest.mark.parametrize("protocol", some(["simple", "prepared"], "extended"))
def test_swaps_under_load(db, walter, protocol, record_property):
    create(db)
    holds = []
    with PgBench(db, clients=8, protocol=protocol, script=SCRIPT, rate=300) as load:
        for number in range(ROUNDS):
            result = walter.perform(ALTERS[number % len(ALTERS)], "--drop")
            holds.append(float(re.search(r"([0-9.]+) ms held", result.stderr).group(1)))
    record_property("longest stall in ms", load.longest_ms)
    record_property("longest hold in ms", max(holds))
    assert load.errors == [] and load.failed == 0
    assert load.operations > ROUNDS * 50
    assert db.query_one("select sum(balance) from accounts") == 2 * load.operations
    assert db.query("select a.id, a.balance, count(h.id) from accounts a left join history h"
                    " using (id) group by 1, 2 having a.balance <> count(h.id)") == []
    assert db.query_one("select count(*) from accounts") == ACCOUNTS


def create(db):
    db.execute(f"""
        create table accounts (id int primary key, balance int not null default 0, filler text);
        insert into accounts select i, 0, repeat('x', 50) from generate_series(1, {ACCOUNTS}) i;
        create table history (id int not null);
        create function bump(int) returns void language plpgsql as $$ begin
            update accounts set balance = balance + 1 where id = $1;
        end $$""")
