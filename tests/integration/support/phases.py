"""Keep a run in a phase of one's choice, for as long as one likes."""
from contextlib import ExitStack, contextmanager

from .wait import wait_for_queued_lock, wait_for_session

ALTER = "alter table t alter n type bigint"

# Code of the table's owner that takes its time in one kind of walter's sessions, and only there.
SLOW = """
    create function slow(bigint) returns bigint language plpgsql immutable as $$ begin
        if current_setting('application_name') ~ '^walter: [0-9a-f]+ {purpose}$' then
            perform pg_sleep(600);
        end if;
        return $1;
    end $$;
"""
TABLE = ("create table t (id int primary key, n int not null);"
         "insert into t select i, i from generate_series(1, 1000) i")


def create_table(owner, phase):
    """The table "t" in a form that makes the phase long."""
    owner.execute(TABLE)
    if phase == "copy":
        owner.execute(SLOW.format(purpose="copy to") +
                      "alter table t add check (slow(n) is not null)")
    if phase == "index":
        owner.execute(SLOW.format(purpose="index") + "create index slow_index on t (slow(n))")
    if phase == "catch-up":
        owner.execute(SLOW.format(purpose="apply") +
                      "alter table t add check (slow(n) is not null)")


PHASES = ["preflight", "publication", "slot", "copy", "index", "catch-up", "cutover"]


@contextmanager
def held_in(phase, walter, other, *args, superuser=None):
    """Create "t" and start a run that gets as far as the phase.

    `other`: another database of the server.  `superuser`: see hold.held_copy.
    """
    db = superuser.superuser if superuser else walter.db
    create_table(walter.db, phase)
    with ExitStack() as stack:
        yield _start(phase, walter, db, other, args, stack)


def _lock(db, mode, stack):
    holder = db.connect()
    stack.callback(holder.close)
    holder.execute(f"begin; lock table t in {mode} mode")


def _start(phase, walter, db, other, args, stack):
    if phase == "preflight":
        _lock(db, "access exclusive", stack)
    if phase == "publication":
        _lock(db, "share update exclusive", stack)
    if phase == "slot":
        writer = other.connect()
        stack.callback(writer.close)
        writer.execute("begin; select pg_current_xact_id()")
    if phase == "cutover":
        _lock(db, "access share", stack)
    run = walter.start_perform(ALTER, *args)
    _wait(phase, run, db)
    return run


def _wait(phase, run, db):
    if phase == "preflight":
        # it cannot even ask for the size of the table
        wait_for_queued_lock(db, mode="AccessShareLock")
    if phase == "publication":
        run.wait_for_log("waiting for VACUUM or DDL on public.t to end")
    if phase == "slot":
        run.wait_for_log("the replication slot waits for every transaction")
    if phase == "copy":
        wait_for_session(db, "copy to", "wait_event = 'PgSleep'")
    if phase == "index":
        wait_for_session(db, "index", "wait_event = 'PgSleep'")
    if phase == "catch-up":
        run.wait_for_log("replication slot .* is consistent")
        db.execute("update t set n = n + 1 where id = 1")
        wait_for_session(db, "apply", "wait_event = 'PgSleep'")
    if phase == "cutover":
        run.wait_for_log("cutover attempt 1: ")


@contextmanager
def held_snapshot(db, walter, *args):
    """A run that has copied everything and waits for the end of an old snapshot."""
    with db.connect() as old:
        old.execute("begin isolation level repeatable read; select 1")
        run = walter.start_perform(ALTER, *args)
        run.wait_for_log("waiting for an old snapshot")
        yield run
