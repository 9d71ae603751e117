"""Hold a run in the middle, so that changes come when the test wants them and not before."""
from contextlib import contextmanager

from .load import assert_same
from .wait import PATIENCE_S, wait_until


def wait_until_true(db, query, params=None, timeout=PATIENCE_S):
    """Wait until the query's only value is true."""
    wait_until(lambda: db.query_one(query, params), query, timeout)


def wait_for_waiter(db, table, timeout=PATIENCE_S):
    """Wait until somebody waits for a lock on the table."""
    wait_until_true(db, "select count(*) > 0 from pg_locks where relation = %s::regclass"
                        " and not granted", [table], timeout)


def wait_for_shadow_waiter(db, shadow, timeout=PATIENCE_S):
    """Wait until somebody waits for a lock on the shadow, or on a partition of it."""
    wait_until_true(db, "select count(*) > 0 from pg_locks l join pg_class c on c.oid = l.relation"
                        " join pg_class s on s.oid = %s::regclass"
                        " and s.relnamespace = c.relnamespace where not l.granted", [shadow],
                    timeout)


@contextmanager
def _held_by_lock(walter, alter, args, mode, superuser):
    """Start a run that meets a lock on its shadow; inside, it waits for that lock."""
    db = superuser.superuser if superuser else walter.db
    writer = db.connect(autocommit=False)
    holder = db.connect(autocommit=False)
    # the slot waits for every transaction that has an xid, long enough to lock the shadow
    writer.execute("select pg_current_xact_id()")
    run = walter.start_perform(alter, *args)
    try:
        run.shadow = run.wait_for_log(r"shadow table ((?s:.+?)) created,").group(1)
        holder.execute(f"lock table {run.shadow} in {mode} mode")
        writer.rollback()
        run.wait_for_log(r"replication slot \S+ is consistent")
        wait_for_shadow_waiter(db, run.shadow)
        yield run
    finally:
        writer.close()
        holder.close()


def held_copy(walter, alter, *args, superuser=None):
    """Start a run and hold its copy: inside, the snapshot is taken and nothing is copied yet.

    So every change made inside reaches the new table through the stream, and through nothing else.
    The first chunk is under way, so the table cannot be truncated.  `superuser`: the database as a
    superuser sees it, where `walter` runs as another role.
    """
    return _held_by_lock(walter, alter, args, "share", superuser)


def held_build(walter, alter, *args, superuser=None):
    """The same, later: inside, all is copied and the index builds wait."""
    return _held_by_lock(walter, alter, args, "row exclusive", superuser)


@contextmanager
def _held_by_reader(walter, alter, args, superuser, statements, message):
    """Start a run beside a transaction that keeps it from its cutover; inside, it has said so."""
    db = superuser.superuser if superuser else walter.db
    reader = db.connect(autocommit=False)
    for statement in statements:
        reader.execute(statement)
    run = walter.start_perform(alter, *args)
    try:
        run.wait_for_log(message)
        yield run
    finally:
        reader.close()


def held_cutover(walter, alter, *args, table="t", superuser=None):
    """Start a run and hold its cutover: inside, it is in sync and waits for its lock."""
    return _held_by_reader(walter, alter, args, superuser,
                           [f"lock table {table} in access share mode"],
                           r"in the way of the lock")


def held_gate(walter, alter, *args, superuser=None):
    """Hold the cutover without a lock: inside, it is in sync and waits for an old snapshot."""
    return _held_by_reader(walter, alter, args, superuser,
                           ["set transaction isolation level repeatable read",
                            "select 1 from pg_class"], r"waiting for an old snapshot")


class Twins:
    """A table "t" and its twin, which get the same statements.

    Afterwards the twin is altered plainly, and both must have equal rows.
    """

    def __init__(self, db, definition, rows=""):
        """`definition`, `rows`: statements with {t} where the table's name goes."""
        self.db = db
        self.do(definition)
        if rows:
            self.do(rows)

    def do(self, *scripts):
        """Run scripts on both; one script without "begin" is one transaction."""
        for script in scripts:
            for name in ("t", "twin"):
                self.db.execute(script.replace("{t}", name))

    def assert_equal(self, alter, min_rows=1):
        """Alter the twin as the table was altered, and compare."""
        self.db.execute(alter.replace("{t}", "twin"))
        self.assert_same_rows(min_rows)

    def assert_same_rows(self, min_rows=1):
        # as text: rows that are merely equal (1.0 and 1.00) are not the same
        assert_same(self.db, "select r::text from t r", "select r::text from twin r", min_rows)


def migrate(walter, twins, alter, *scripts, args=(), min_rows=1, hold=held_copy):
    """Alter "t" while `scripts` run on both tables, compare, and return the run's result."""
    with hold(walter, alter.replace("{t}", "t"), *args) as run:
        twins.do(*scripts)
    result = run.finish()
    twins.assert_equal(alter, min_rows)
    return result
