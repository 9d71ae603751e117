"""A run under load, held where one likes, and what must be true whatever is done to it.

    with Ordeal(db, walter, "copy", other) as ordeal:
        db.execute("select pg_terminate_backend(%s)", [ordeal.pid("keeper")])
        ordeal.let_go()
        ordeal.end((6,))

At the end either the ALTER is done and the table equals its twin, or the exit code is one of those
named, the table is as it was and equals its twin, and one command leaves nothing of the run.
"""
import re
import threading

from .load import TwinLoad, assert_same
from .traces import assert_finished, assert_removed
from .wait import wait_for_session, wait_until

ALTER = "alter table t alter n type bigint, add extra int default 5"
PHASES = ["slot", "copy", "index", "catch-up", "cutover"]
LOADED = {"n": "int not null", "big": "toast"}

# `spare` and `tag` are nobody's, for those who change columns.
TABLE = """
    create table {name} (id int primary key, n int not null, big text, spare int, tag varchar(10));
    insert into {name} select i, i, repeat('x', i % 50), i, 'tag' from generate_series(1, 1000) i;
"""
# Code of the owner's that waits for a lock in one kind of walter's sessions, and only there.
GATE = 4711
GATED = """
    create function gated(bigint) returns bigint language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: [0-9a-f]+ {purpose}$' then
            perform pg_catalog.pg_advisory_xact_lock_shared(%d);
        end if;
        return $1;
    end $$;
""" % GATE
GATES = {
    "copy": GATED.format(purpose="copy to") + "alter table t add check (gated(n) is not null);",
    "index": GATED.format(purpose="index") + "create index gated_index on t (gated(n));",
    "catch-up": GATED.format(purpose="apply") + "alter table t add check (gated(n) is not null);",
}


def create_twins(db):
    for name in ("t", "twin"):
        db.execute(TABLE.format(name=name))


class Ordeal:
    """A table "t", a twin, clients that write both alike, and a run that is held in the phase."""

    def __init__(self, db, walter, phase, other=None, *args, superuser=None, rows=True, env=None,
                 **load):
        """`other`: another database of the server, for phase "slot".  `superuser`: `db` as a
        superuser sees it, where the run is an ordinary role's.  `rows`: create the tables.
        `load`: options of TwinLoad."""
        self.db = db
        self.walter = walter
        self.phase = phase
        self.args = args
        self.env = env
        self.superuser = superuser.superuser if superuser else db
        if rows:
            create_twins(db)
        if phase in GATES:
            db.execute(GATES[phase])
        self.holder = (other if phase == "slot" else self.superuser).connect()
        self.load = TwinLoad(db, "t", "twin", LOADED, **{"keys": (1, 1000), "pause_ms": 5, **load})
        self.run = None

    def __enter__(self):
        self.load.start()
        self.hold()
        self.run = self.walter.start_perform(ALTER, *self.args, env=self.env)
        self.wait_until_held()
        return self

    def __exit__(self, *_):
        self.let_go()
        self.load.stop()

    def hold(self):
        if self.phase == "slot":
            self.holder.execute("begin; select pg_current_xact_id()")
        elif self.phase == "cutover":
            self.holder.execute("begin; lock table t in access share mode")
        elif self.phase:
            self.holder.execute(f"select pg_advisory_lock({GATE})")

    def wait_until_held(self):
        purposes = {"copy": "copy to", "index": "index", "catch-up": "apply"}
        if self.phase == "slot":
            self.run.wait_for_log("the replication slot waits for every transaction")
        elif self.phase == "cutover":
            self.run.wait_for_log("cutover attempt 1: ")
        elif self.phase:
            wait_for_session(self.superuser, purposes[self.phase], "wait_event = 'advisory'", 60)

    def let_go(self):
        """What holds the run does so no more."""
        self.holder.close()

    # -- who is there ---------------------------------------------------------------------------

    def pid(self, session):
        return self.superuser.query_one(
            "select min(pid) from pg_stat_activity where datname = current_database()"
            "   and application_name ~ %s", [session_pattern(session)])

    def shadow(self):
        return re.search(r"shadow table ((?s:.+?)) created,", self.run.log).group(1)

    def name(self):
        """The run's own, eight digits."""
        return self.superuser.query_one("select run from walter.run")

    def start(self, *statements):
        """Run the statements in a session of their own; returns a function that waits for them."""
        conn = self.superuser.connect()
        failed = []

        def work():
            try:
                for statement in statements:
                    conn.execute(statement)
            except Exception as error:      # pylint: disable=broad-except
                failed.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def join(timeout=60):
            thread.join(timeout)
            assert not thread.is_alive(), f"still not done: {statements}"
            assert not failed, failed
        join.is_waiting = lambda: self.superuser.query_one(
            "select count(*) from pg_locks where pid = %s and not granted",
            [conn.info.backend_pid]) > 0 or not thread.is_alive()
        return join

    # -- the end --------------------------------------------------------------------------------

    def end(self, codes=(), allowed=None, timeout=120):
        """Let it end; 0 or one of these exit codes.  Returns the result.

        `allowed`: pattern of errors that the application may have had.
        """
        self.let_go()
        result = self.run.finish(timeout, check=False)
        assert result.code in (0, *codes), str(result)
        self.load.wait_for(20)
        self.load.stop()
        errors = [error for error in self.load.errors
                  if allowed is None or not re.search(allowed, error)]
        assert errors == []
        assert_as_promised(self.db, self.walter, result)
        return result


def session_pattern(session):
    return "^walter: control$" if session == "control" else f"^walter: [0-9a-f]+ {session}$"


def assert_as_promised(db, walter, result):
    """Done and right, or not done and right."""
    kind, extra = db.query_one(
        "select format_type(atttypid, atttypmod), exists (select from pg_attribute"
        "         where attrelid = 't'::regclass and attname = 'extra' and not attisdropped)"
        "  from pg_attribute where attrelid = 't'::regclass and attname = 'n'")
    assert_same(db, "select id, n, big from t", "select id, n, big from twin")
    if result.code == 0:
        assert (kind, extra) == ("bigint", True), str(result)
        assert_finished(db)
        assert db.query_one("select count(*) from t where extra is distinct from 5") == 0
        return
    assert (kind, extra) == ("integer", False), str(result)
    wait_until_alone(db)
    walter.run("cleanup", "--yes")
    assert_removed(db)


def wait_until_alone(db, timeout=30):
    """Until no session of a run is there any more."""
    wait_until(lambda: db.query_one(
        "select count(*) from pg_stat_activity where datname = current_database()"
        "   and application_name like 'walter: %'") == 0, "walter's sessions are gone", timeout)



