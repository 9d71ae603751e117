"""What a run leaves on the server, and what it must not leave."""
from .wait import wait_until


def traces(db):
    """Names of all that walter has made in this database and that is still there."""
    found = [f"schema {name}" for (name,) in db.query(
        "select nspname from pg_namespace where nspname ~ '^walter' order by 1")]
    found += [f"publication {name}" for (name,) in db.query(
        "select pubname from pg_publication where pubname ~ '^walter' order by 1")]
    found += [f"slot {name}" for name in db.slots() if name.startswith("walter")]
    found += [f"table walter.{name}" for (name,) in db.query(
        "select relname from pg_class where relkind = 'r' and relname <> 'run'"
        "   and relnamespace = to_regnamespace('walter') order by 1")]
    found += [f"session {name}" for (name,) in db.query(
        "select application_name from pg_stat_activity where datname = current_database()"
        "   and application_name like 'walter:%' order by 1")]
    if "schema walter" in found and db.query_one("select to_regclass('walter.run') is not null"):
        found += [f"run {name} in phase {phase}" for name, phase in db.query(
            "select run, phase from walter.run where phase <> 'done' order by 1")]
    return found


def assert_only(db, expected):
    """Of what is there all is expected.  The server may need a moment to see that a session of a
    process that is gone has ended."""
    def left():
        return [trace for trace in traces(db) if trace not in expected]

    def has_settled():
        return not any(trace.startswith("session ") for trace in left())

    try:
        wait_until(has_settled, "the run's sessions are gone", 30)
    finally:
        found = left()
        assert not found, f"walter has left: {found}"


def assert_untouched(db):
    """A refused run: nothing at all was made."""
    assert_only(db, [])


def assert_removed(db):
    """A run that began and failed: nothing remains but the state schema."""
    assert_only(db, ["schema walter"])


def assert_finished(db):
    """A run that is done, without --drop: the old tables remain, and the state schema."""
    assert_only(db, ["schema walter"] + [f"schema walter_{run}" for (run,) in db.query(
        "select run from walter.run where phase = 'done'")])
