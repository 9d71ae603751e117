"""What hangs on a table comes out of walter as it comes out of plain ALTER TABLE: the rarer things."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, TABLESPACE, WRITER, Case, named,
                            new_oracle, oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"

STATISTICS_SETUP = ROWS + """
create schema s;
create statistics st on id, n, v from t;
create statistics s.st (ndistinct) on n, v from t;
create statistics "S t" (mcv, dependencies) on n, d from t;
create statistics s."exp r" on (lower(v)), (n + id), d from t;
create statistics "stx_1" (mcv) on v, d from t;
alter statistics "S t" set statistics 0; alter statistics st set statistics 77;
comment on statistics s.st is 'it''s in s'; comment on statistics "S t" is 'S t';
"""
STATISTICS = [
    Case("of all kinds", STATISTICS_SETUP, "alter table t add x int default 5", CHANGES),
    Case("types changed under them", STATISTICS_SETUP, "alter table t alter n type bigint", CHANGES),
    Case("columns renamed and dropped", STATISTICS_SETUP,
         "alter table t rename v to text; alter table t drop d, alter id type bigint", CHANGES),
    Case("owner another one", STATISTICS_SETUP + f"alter table t owner to {OWNER};"
         f"alter statistics s.st owner to {READER}; alter statistics st owner to {OWNER}", ALTER,
         CHANGES),
    Case("by an ordinary role", f"grant create, usage on schema public to {OWNER}; set role {OWNER};"
         + STATISTICS_SETUP.replace("create schema s;", "").replace(" s.st", " st2").replace(" s.", " "), ALTER, CHANGES,
         user=OWNER),
    Case("twice", STATISTICS_SETUP, ALTER, CHANGES, again="alter table t add y int"),
    Case("in a schema with a strange name", """create schema "S %s"; create table "S %s"."T" (id int
         primary key, n int); create statistics "S %s"."st %I" on id, n from "S %s"."T";""",
         'alter table "S %s"."T" add x int'),
]

ALL = {"statistics": STATISTICS}


@pytest.mark.parametrize("case", named(ALL))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)
