"""Security labels stay where they are, and are given with their provider's consent."""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.hold import held_build, held_copy, held_gate
from support.oracle import (CHANGES, OWNER, ROWS, Case, drop_roles, make_roles, named,
                            new_oracle, oracle_databases, oracle_walter)
from support.packages import unpacked
from support.server import Server

__all__ = ["new_oracle", "oracle_databases", "oracle_walter"]   # fixtures

PROVIDER = Path(__file__).parent / "provider" / "labels.c"
OTHER = '"Other ""one"""'
ALTER = "alter table t alter n type bigint, add x int default 5"


@pytest.fixture(scope="module", name="library")
def built_library(shared_server):
    """The providers' module, where the server can read it."""
    major = shared_server.version // 10000
    root = shared_server.description.get("root")
    headers = unpacked(f"postgresql-server-dev-{major}", root) / (
        f"usr/include/postgresql/{major}/server")
    # readable by the user postgres, which pytest's own directories are not
    directory = Path(tempfile.mkdtemp(prefix="walter-labels-", dir=f"{root}/tmp" if root else None))
    os.chmod(directory, 0o755)
    target = directory / "labels.so"
    done = subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-I", headers, "-o", target, PROVIDER],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    yield target
    shutil.rmtree(directory)


@pytest.fixture(scope="module", name="server")
def labelling_server(shared_server, library):
    """A server that has the providers."""
    path = str(library).removeprefix(shared_server.description.get("root", ""))
    server = Server.start(fast=True, settings={"session_preload_libraries": path})
    make_roles(server)
    yield server
    drop_roles(server)
    server.remove()


LABELLED = ROWS + f"""
alter table t add i int generated always as identity, add s serial;
security label for keeper on table t is 'it''s "one"';
security label for {OTHER} on table t is E'two\\nlines';
security label for keeper on column t.n is 'enn'; security label for keeper on column t.v is 'vee';
security label for {OTHER} on column t.d is 'dee';
security label for keeper on sequence t_i_seq is 'identity';
security label for {OTHER} on sequence t_s_seq is 'serial';
"""

# What is made anew with the table, and views, which are not.
DEPENDENTS = LABELLED + f"""
create materialized view m as select v, count(*) from t group by v; create unique index on m (v);
security label for keeper on materialized view m is 'mat'; security label for {OTHER} on column m.v is 'col';
create materialized view "empty one" as select id from t with no data;
security label for keeper on materialized view "empty one" is 'empty';
create view w as select * from t; security label for keeper on view w is 'view';
security label for keeper on column w.v is 'of a view';
create function f(r t) returns int language sql as 'select r.id';
create function f(r int) returns int language sql as 'select r';
create procedure p(r t) language sql as 'select 1';
security label for keeper on function f(t) is 'fun'; security label for {OTHER} on function f(int) is 'int';
security label for keeper on procedure p(t) is 'proc';
create function body() returns bigint begin atomic select count(*) from t; end;
security label for keeper on function body() is 'body';
"""

# Why a case is left out for an ordinary role.
SECRET = "its provider lets only superusers give this label"

LABELS = [
    Case("of table, columns and sequences", LABELLED, ALTER, CHANGES),
    Case("of what is renamed, retyped, dropped", LABELLED,
         "alter table t rename n to amount; alter table t alter v type varchar(90), drop d;"
         "alter table t rename i to j; alter table t drop s", CHANGES),
    Case("of an identity column that is dropped", LABELLED, "alter table t drop i", CHANGES),
    Case("of a column that takes another's name", LABELLED,
         "alter table t drop v; alter table t rename n to v; alter table t add n text", CHANGES),
    Case("strange names", ROWS + """
         alter table t rename v to "v "" . é";
         security label for keeper on column t."v "" . é" is 'strange'""",
         'alter table t rename n to "%I %s $1"'),
    Case("of a partition", """
         create table t (id int, n int, v text, d date, primary key (id)) partition by range (id);
         create table t1 partition of t for values from (0) to (1000);
         security label for keeper on table t is 'parent';
         security label for keeper on column t1.n is 'enn';
         security label for keeper on table t1 is 'part'; insert into t values (1, 1), (2, 2)""",
         "alter table t1 alter v set storage main, alter n set default 4",
         "insert into t values (7, 7)"),
    Case("of a tree", """
         create table t (id int, n int, v text, primary key (id)) partition by range (id);
         create table t1 partition of t for values from (0) to (100);
         create table t2 (v text, id int not null, n int); alter table t attach partition t2
           for values from (100) to (1000);
         security label for keeper on table t is 'parent';
         security label for keeper on column t.v is 'of all'; security label for keeper on table t1
         is 'one'; security label for keeper on column t2.n is 'two';
         security label for keeper on column t2.v is 'of two';
         insert into t select g, g, 'v' from generate_series(1, 200) g""",
         "alter table t rename n to amount; alter table t drop v, add x int default 5",
         "update t set n = 0 where id = 7"),
    Case("of what depends on it", DEPENDENTS, "alter table t add x int default 5", CHANGES,
         hold=held_gate),
    Case("of what depends on it, populated afterwards", DEPENDENTS,
         "alter table t rename n to amount", CHANGES, args=("--matviews=after",)),
    Case("given by superusers only", LABELLED
         + "security label for keeper on table t is 'secret';", ALTER, CHANGES,
         superuser=SECRET),
    Case("of an owner's table", LABELLED + f"alter table t owner to {OWNER};", ALTER, CHANGES,
         user=OWNER),
]

# What somebody else does while the run is on.
MEANWHILE = [
    Case("given, changed and taken away", LABELLED, ALTER, f"""
         security label for keeper on column t.d is 'new'; security label for keeper on table t is '2';
         security label for {OTHER} on table t is null; security label for keeper on column t.n is null;
         security label for keeper on sequence t_i_seq is null;
         security label for {OTHER} on sequence t_i_seq is 'new'""", hold=hold)
    for hold in (held_copy, held_build, held_gate)
] + [
    Case("as only superusers may", LABELLED, ALTER,
         "security label for keeper on column t.d is 'secret'", hold=held_gate, superuser=SECRET),
    Case("all taken away", LABELLED, ALTER, f"""
         security label for keeper on table t is null; security label for {OTHER} on table t is null;
         security label for keeper on column t.v is null"""),
]


@pytest.mark.parametrize("case", named({"labels": LABELS, "meanwhile": MEANWHILE}))
def test_labels(oracle, case):
    oracle.check(case)


def test_what_only_a_superuser_may_set(oracle):
    """The owner is refused what his label's provider would not let him set."""
    case = Case("", LABELLED + f"security label for keeper on column t.d is 'secret';"
                f"alter table t owner to {OWNER}", ALTER, user=OWNER)
    oracle.set_up(case)
    result = oracle.check_untouched(case, (2,))
    assert 'only superusers can set "secret" labels' in result.stderr
    assert "hint: A security label is set by its provider" in result.stderr


@pytest.mark.parametrize("on", ["materialized view m", "function f(t)", "sequence t_i_seq"])
def test_what_a_provider_does_not_want_any_more(oracle, on):
    """A label from before the provider's rules: nothing is made that would lose it."""
    case = Case("", DEPENDENTS, ALTER)
    oracle.set_up(case)
    oracle.online.execute(f"security label for keeper on {on} is 'soon'")
    oracle.online.execute("update pg_seclabel set label = 'impossible' where label = 'soon'")
    result = oracle.check_untouched(case, (2,))
    assert "'impossible' is not a valid security label" in result.stderr


def test_provider_that_is_not_loaded(oracle):
    case = Case("", LABELLED, ALTER)
    oracle.set_up(case)
    oracle.online.execute("update pg_seclabel set provider = 'gone' where provider <> 'keeper'")
    result = oracle.check_untouched(case, (2,))
    assert 'security label provider "gone" is not loaded' in result.stderr


def test_row_type(oracle):
    case = Case("", ROWS + "security label for keeper on type t is 'row'", ALTER)
    oracle.set_up(case)
    assert "row type public.t has a security label" in oracle.check_untouched(case, (2,)).stderr
