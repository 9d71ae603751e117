"""Breaking runs on purpose, beside clients that write, and what must be true all the time."""
import os
import re
from contextlib import contextmanager
from pathlib import Path

from .load import TwinLoad, assert_same
from .server import TOP
from .traces import assert_finished, assert_removed
from .wait import wait_until
from .walter import Walter

# -- a table and its twin ---------------------------------------------------------------------------

ROWS = 2000
ALTER = "alter table t alter n type bigint, alter p type bigint"
# where the ALTER is in force already, the next run does something else
BACK = "alter table t alter n type integer, alter p type integer"

# Others may be at work on the machine.
PATIENT = ("--lock-hold=5s",)

# Nobody is referenced, or the clients could not delete.
TABLES = """
create table parent (id bigint primary key);
insert into parent values (1);
create table t (id int {key}, n int, v text, p int references parent);
insert into t select i, i, repeat('x', 40), nullif(i % 2, 0) from generate_series(1, {rows}) i;
create index on t (n);
create table twin (id int primary key, n int, v text, p int);
insert into twin table t;
create table child (id int references t (id));
"""


def column_type(db):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'")


def assert_twins(db):
    """Good at any moment: both are read in one snapshot."""
    assert_same(db, "select id, n, v, p from t", "select id, n, v, p from twin", ROWS // 2)


@contextmanager
def loaded(db, key="primary key", actions=None, crashes=False):
    """Make the tables, and clients that write them; all is well with them at the end.

    `crashes`: the server does, and the clients are told so.
    """
    db.execute(TABLES.format(rows=ROWS, key=key))
    if crashes:
        db.execute("checkpoint")    # these at least are not lost
    with TwinLoad(db, "t", "twin", {"n": "int", "v": "text"}, keys=(1, ROWS),
                  actions=actions) as load:
        load.wait_for(10)
        yield load
        load.wait_for(20)
    assert [error for error in load.errors if not crashes or "in its twin" in error] == []
    assert_twins(db)


def assert_cleaned_up(db, swapped):
    """All is gone, and all is done that was to be done after the swap."""
    if swapped:
        assert_finished(db)
    else:
        assert_removed(db)
    assert db.query_one("select count(*) from pg_constraint where not convalidated") == 0
    assert db.query_one("select relreplident from pg_class where oid = 't'::regclass") == "d"
    assert column_type(db) == ("bigint" if swapped else "integer")


# -- the program that dies where a test wants it to: see src/base/fault.h ---------------------------

POINT = re.compile(r'FAULT_POINT\("([^"]+)"\)')


def faulty(walter):
    """The same as `walter`, with the build that has fault points: WALTER_FAULT_BIN."""
    path = Path(os.environ.get("WALTER_FAULT_BIN") or TOP / "build-faults" / "src" / "walter")
    return Walter(walter.db, path, walter.runs)


def points():
    """The names of all points that the source has."""
    return {name for file in (TOP / "src").rglob("*.c")
            for name in POINT.findall(file.read_text(encoding="utf-8"))}


def start_until(point, walter, alter, *args):
    """Start a run that dies at the point, such as "copy.chunk_done:2", or stops: "copy.done=stop"."""
    return faulty(walter).start_perform(alter, *PATIENT, *args, env={"WALTER_FAULT": point})


def wait_until_stopped(run, timeout=200):
    """Wait until a run has come to its point and stopped there."""
    def state():
        assert run.is_running, f"walter has ended:\n{run.log}"
        stat = Path(f"/proc/{run.pid}/stat").read_text(encoding="utf-8")
        return stat.rsplit(")", 1)[1].split()[0]

    wait_until(lambda: state() == "T", "walter is stopped", timeout)
