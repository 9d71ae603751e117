"""Policies, rules, statistics and identities that others change while a run is on."""
import pytest

from support.hold import held_build, held_copy
from support.oracle import (ROWS, Case, named, new_oracle, oracle_databases, oracle_server,
                            oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

SETUP = ROWS + """
create table log (id int);
create policy p on t using (id > 0); create policy gone on t for select using (true);
create rule r as on update to t do also insert into log values (new.id);
create rule off as on delete to t do also insert into log values (old.id);
create statistics st on n, v from t; create statistics st_gone on n, d from t;
create function nothing() returns trigger language plpgsql as 'begin return null; end';
create trigger g after insert on t for each row execute function nothing();
create extension pg_trgm; create index i on t (v);
"""
CHANGES = """
alter table t enable row level security; drop policy gone on t;
create policy fresh on t as restrictive for insert with check (v <> 'bad');
alter policy p on t using (n > 0); comment on policy p on t is 'p';
alter table t disable rule off; comment on rule off on t is 'off'; drop rule r on t;
create rule fresh as on delete to t do also insert into log values (-old.id);
drop statistics st_gone; create statistics fresh (mcv) on v, d from t;
alter statistics st set statistics 50; comment on statistics st is 'st';
comment on statistics fresh is 'fresh';
create schema s; alter statistics st set schema s;
alter trigger g on t depends on extension pg_trgm; alter index i depends on extension pg_trgm;
"""
ALTER = "alter table t add x int default 5"

# not while a chunk is copied: most of it would wait for that
CASES = [Case("while indexes are built", SETUP, ALTER, CHANGES, hold=held_build),
         Case("and a column renamed", SETUP, "alter table t rename v to text", CHANGES,
              hold=held_build)]

NO_KEY = """
create table t (id int not null, n int, v text not null);
insert into t select g, g, 'v' || g from generate_series(1, 30) g;
create unique index k on t (id);
"""
IDENTITY = [Case(f"identity {kind}, set for the run", NO_KEY
                 + f"alter table t replica identity {kind}", ALTER,
                 "create statistics st on n, v from t; create index on t (n);"
                 "update t set n = 5 where id < 5; delete from t where id = 7",
                 args=("--set-replica-identity",), hold=hold)
            for kind in ("default", "full", "nothing") for hold in (held_copy, held_build)]


@pytest.mark.parametrize("case", named({"meanwhile": CASES, "identity": IDENTITY}))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)
