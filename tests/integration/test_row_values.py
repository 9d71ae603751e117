"""Values of rows stay in the database: an error names the row by its key, and nothing else of it."""
import pytest

from support.hold import held_copy, held_cutover
from support.traces import assert_removed
from support.wait import wait_for_queued_lock

MARKER = "MARK3R"
TABLE = """
    create table t (id int primary key, n int, s text);
    insert into t select i, i, '7' from generate_series(1, 100) i;
    create function strict(n int, s text) returns int language plpgsql as $$ begin
        if n < 0 then
            raise exception 'too small' using detail = 'the value is ' || s, hint = 'Ask them.';
        end if;
        return n;
    end $$;
"""

# The action, what is done to row 7, and what is said of the reason.
MISFITS = {
    # DETAIL: Failing row contains (7, -1, MARK3R).
    "check": ("add constraint positive check (n > 0)", f"n = -1, s = '{MARKER}'", '"positive"'),
    # invalid input syntax for type integer: "MARK3R"
    "integer": ("alter s type int using s::int", f"s = '{MARKER}'", "for type integer"),
    "date": ("alter s type date using ('2020-01-0' || s)::date", f"s = '\"{MARKER}\" \"'",
             "date/time field value out of range"),
    # DETAIL: Token "MARK3R" is invalid.
    "json": ("alter s type json using s::json", f"s = '{MARKER}'", "for type json"),
    # DETAIL: line 1: Opening and ending tag mismatch: ... <a>MARK3R</b>
    "xml": ("alter s type xml using s::xml", f"s = '<a>{MARKER}</b>'", "invalid XML"),
    # syntax error in tsvector: "'MARK3R"
    "tsvector": ("alter s type tsvector using s::tsvector", f"s = '''{MARKER}'", "tsvector"),
    # what a function says is for its author to answer for, but not what else he knows of the row
    "raised": ("alter n type bigint using strict(n, s)", f"n = -1, s = '{MARKER}'", "too small"),
}


def assert_said(db, result, reason):
    """Key and reason are there, the value is nowhere."""
    assert "(id)=(7)" in result.stderr
    assert reason in result.stderr
    assert MARKER not in result.stderr + result.stdout
    assert_removed(db)
    assert MARKER not in str(db.query("select r::text from walter.run r"))


@pytest.mark.parametrize("method", ["copy", "insert"])
@pytest.mark.parametrize("what", MISFITS)
def test_in_the_copy(db, walter, what, method):
    action, change, reason = MISFITS[what]
    db.execute(TABLE + f"update t set {change} where id = 7")
    assert_said(db, walter.perform(f"alter table t {action}", "-v", f"--copy-method={method}",
                                   check=3), reason)


@pytest.mark.parametrize("what", ["check", "integer", "raised"])
def test_in_the_stream(db, walter, what):
    action, change, reason = MISFITS[what]
    db.execute(TABLE)
    with held_copy(walter, f"alter table t {action}", "-v") as run:
        db.execute(f"update t set {change} where id = 7")
    assert_said(db, run.finish(check=3), reason)


@pytest.mark.parametrize("what", ["check", "integer"])
def test_in_the_drain_under_the_lock(db, walter, what):
    """The change comes with the commit that walter's lock has waited for."""
    action, change, reason = MISFITS[what]
    db.execute(TABLE)
    with db.connect(autocommit=False) as writer:
        with held_cutover(walter, f"alter table t {action}", "-v", "--lock-timeout=3s") as run:
            writer.execute(f"update t set {change} where id = 7")
        # its own lock is in the way now
        wait_for_queued_lock(db)
        writer.commit()
    assert_said(db, run.finish(check=3), reason)


def test_in_a_copy_statement(db, walter):
    db.execute(TABLE + f"update t set s = '{MARKER}' where id = 7")
    result = walter.perform("alter table t alter s type int using 1", "-v", "-c",
                            "insert into %{shadow_table} (id, n, s) select id, n, s::int from t",
                            check=3)
    assert "for type integer" in result.stderr
    assert MARKER not in result.stderr
    assert_removed(db)


def test_of_an_index_the_key_is_said_and_nothing_else(db, walter):
    db.execute(TABLE + f"update t set n = 77, s = '{MARKER}' where id in (7, 8)")
    result = walter.perform("alter table t add constraint once unique (n)", "-v", check=3)
    assert "Key (n)=(77) is duplicated" in result.stderr
    assert MARKER not in result.stderr


def test_in_a_materialized_view(db, walter):
    """Its query meets the value when it is populated from the new table."""
    db.execute(TABLE + "create materialized view m as select id, case when n > 0 then 1"
               " else s::int end as x from t")
    db.execute(f"update t set n = -1, s = '{MARKER}' where id = 7")
    result = walter.perform("alter table t add x int", "-v", check=False)
    assert result.code != 0 and "for type integer" in result.stderr
    assert MARKER not in result.stderr
    assert_removed(db)


def test_in_the_statements_of_others(db, walter):
    """Who is in the way is shown with the beginning of his statement, but for its literals."""
    db.execute(TABLE)
    with db.connect(autocommit=False) as writer, db.connect(autocommit=False) as reader:
        reader.execute("select from t")     # nothing is swapped before he ends
        writer.execute(f"update t set s = '{MARKER}' where id = 7")
        run = walter.start_perform("alter table t alter n type bigint", "-v")
        run.wait_for_log(r"waits for every transaction.*(\n.*)*?update t set s = '\.\.\.'")
        writer.commit()
        # else the slot would wait for this one as well
        run.wait_for_log("replication slot .* is consistent")
        writer.execute(f"update t set s = $${MARKER}$$ where id = 7")
        reader.rollback()
        run.wait_for_log(r"in the way of the lock: .*update t set s = '\.\.\.'")
        writer.commit()
    assert MARKER not in run.finish().stderr
