"""Waiting for an event on the server, never for luck."""
import time

# Only a test that fails waits so long: its limit is what keeps it from waiting for ever.
PATIENCE_S = 150


def wait_until(check, what, timeout=PATIENCE_S):
    """Call check() until it returns something true; return that."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"after {timeout} s still not: {what}"
        time.sleep(0.01)


def wait_for_session(db, purpose, condition="true", timeout=PATIENCE_S):
    """Wait for walter's session of that purpose ("apply", "cutover" ...); return its pid."""
    return wait_until(
        lambda: db.query("select pid from pg_stat_activity where datname = current_database()"
                         f" and application_name ~ '^walter: [0-9a-f]+ {purpose}$'"
                         f" and ({condition})"),
        f"a session of walter for {purpose} with {condition}", timeout)[0][0]


def wait_for_queued_lock(db, table="t", mode="AccessExclusiveLock", timeout=PATIENCE_S):
    """Wait until walter stands in the queue for a lock of that mode."""
    wait_until(lambda: db.query_one(
        "select count(*) from pg_locks l join pg_stat_activity a using (pid)"
        " where l.relation = (select oid from pg_class where relname = %s and"
        "                       relnamespace = 'public'::regnamespace)"
        "   and l.mode = %s and not l.granted and a.application_name like 'walter: %%'",
        [table, mode]), f"walter queued for {mode} on {table}", timeout)


def wait_until_dead(db, timeout=PATIENCE_S):
    """Wait until no run in this database shows a sign of life, as after its process was killed."""
    wait_until(lambda: db.query_one(
        "select count(*) from pg_locks where locktype = 'advisory' and classid = 1463897172"
        " and database = (select oid from pg_database where datname = current_database())") == 0,
        "the run's sign of life is gone", timeout)
