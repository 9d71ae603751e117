"""Nothing is lost: every kind of change that comes while a run is on, against a twin table.

Each case makes its changes after the snapshot and before the copy, so that they reach the new
table through the stream alone.  The twin gets the same changes and a plain ALTER TABLE.
"""
import re
import threading
import time

import pytest

from support.changes import (CASES, COPIED, COPIED_CHANGES, COPIED_ROWS, COPY_STATEMENTS, DOCS,
                             DOCS_ROWS, NUMBERS, PLAIN, PLAIN_ROWS, UNIQUE, UNIQUE_ROWS, WIDEN,
                             toast)
from support.hold import (Twins, held_build, held_copy, held_cutover, migrate, wait_for_waiter,
                          wait_until_true)
from support.load import TwinLoad, assert_same
from support.reports import COSTS
from support.smoke import smoke
from support.thorough import some

PLUGINS = ["pgoutput", "wal2json"]

SIMPLE = (PLAIN + ";" + PLAIN_ROWS).replace("{t}", "t")


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", COPY_STATEMENTS)
def test_changes_arrive_through_a_copy_statement(db, walter, tmp_path, name, plugin):
    statement, expected = COPY_STATEMENTS[name]
    (tmp_path / "copy.sql").write_text(statement)
    twins = Twins(db, COPIED, COPIED_ROWS)
    with held_copy(walter, "alter table t alter id type bigint, add name text",
                   f"--plugin={plugin}", "-c", tmp_path / "copy.sql", "-b", "20") as run:
        twins.do(*COPIED_CHANGES)
    run.finish()
    assert_same(db, "select t::text from t", f"select q::text from ({expected}) q", min_rows=20)


def test_a_copy_statement_that_gives_rows_other_keys(db, walter, tmp_path):
    """No change could find its row again."""
    (tmp_path / "copy.sql").write_text(
        "insert into %{shadow_table} (id, n) select id + 1000, n from t")
    db.execute(SIMPLE)
    result = walter.perform("alter table t alter n type bigint", "-c", tmp_path / "copy.sql",
                            check=2)
    assert 'key column "id"' in result.stderr
    assert db.query("select 1 from pg_namespace where nspname ~ '^walter_'") == []


def test_a_copy_statement_without_the_key(db, walter, tmp_path):
    (tmp_path / "copy.sql").write_text("insert into t (n) select n from t")
    db.execute(SIMPLE)
    result = walter.perform("alter table t alter n type bigint", "-c", tmp_path / "copy.sql",
                            check=2)
    assert 'the copy statement\'s column list lacks key column "id"' in result.stderr
    assert "hint: Add it" in result.stderr
    assert "REPLICA IDENTITY" not in result.stderr
    assert db.query("select 1 from pg_namespace where nspname ~ '^walter_'") == []


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", smoke(
    CASES, "key_changes", "unchanged_toast_and_key_changes", "using_mixes_toast", "cascades",
    "truncate_with_changes", "generated_columns", "identity_columns"))
def test_changes_arrive(db, walter, name, plugin):
    case = CASES[name]
    twins = Twins(db, case.definition, case.rows)
    truncates = "truncate" in "".join(case.scripts)
    migrate(walter, twins, case.alter, *case.scripts, args=(f"--plugin={plugin}", *case.args),
            hold=held_build if truncates else held_copy)


@pytest.mark.parametrize("name", NUMBERS)
def test_changes_of_numbers_arrive(db, walter, name):
    case = NUMBERS[name]
    if db.server.version < case.since:
        pytest.skip(f"needs server version {case.since}")
    twins = Twins(db, case.definition, case.rows)
    migrate(walter, twins, case.alter, *case.scripts)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_changes_arrive_while_the_cutover_waits(db, walter, plugin):
    twins = Twins(db, DOCS + "; create unique index {t}_n on {t} (n)", DOCS_ROWS)
    scripts = (
        "update {t} set n = -n where id <= 5",
        "update {t} set id = id + 1000 where id between 6 and 9",
        "update {t} set n = null, doc = null where id = 10",
        "begin; update {t} set n = -100 where id = 11; update {t} set n = 11 where id = 12;"
        "update {t} set n = 12 where id = 11; commit",
        "insert into {t} values (200, 200, " + toast(200) + ");"
        "update {t} set n = 201 where id = 200",
        "delete from {t} where id = 13")
    migrate(walter, twins,
            "alter table {t} alter doc type text using id || md5(doc), alter n type bigint",
            *scripts, args=(f"--plugin={plugin}",), hold=held_cutover)


def test_the_position_is_stored_with_the_changes(db, walter):
    db.execute(SIMPLE)
    with held_cutover(walter, "alter table t alter n type bigint", "-b", "10") as run:
        position = db.query_one("select 'walter.' || relname from pg_class"
                                " where relname ~ '^position_'")
        db.execute("update t set n = -n where id <= 25")
        after = db.query_one("select pg_current_wal_lsn()")
        db.execute("update t set n = 0 where id = 30")
        wait_until_true(db, f"select changes = 26 from {position}")
        assert db.query_one("select end_lsn > %s::pg_lsn and end_lsn <= pg_current_wal_lsn()"
                            f" and open_lsn = '0/0' and ordinal = 0 from {position}", [after])
    run.finish()


def test_writers_that_fire_no_triggers_and_wait_for_no_disk(db, walter):
    twins = Twins(db, PLAIN, PLAIN_ROWS)
    with held_copy(walter, WIDEN.replace("{t}", "t")) as run:
        db.execute("set session_replication_role = replica; set synchronous_commit = off")
        twins.do("update {t} set n = 3 where id < 20", "delete from {t} where id = 30",
                 "insert into {t} values (300, 3)", "update {t} set id = 400 where id = 40")
        db.execute("reset session_replication_role; reset synchronous_commit")
    run.finish()
    twins.assert_equal(WIDEN)


def test_a_truncate_that_restarts_the_identity(db, walter):
    twins = Twins(db, "create table {t} (id serial primary key, n int)",
                  "insert into {t} (n) select i from generate_series(1, 20) i")
    migrate(walter, twins, "alter table {t} alter n type bigint", "truncate {t} restart identity",
            "insert into {t} (n) values (1), (2)", hold=held_build)
    twins.do("insert into {t} (n) values (3)")
    twins.assert_same_rows()
    assert db.query_one("select max(id) from t") == 3


def test_prepared_transactions(db, walter):
    twins = Twins(db, PLAIN, PLAIN_ROWS)
    with held_copy(walter, WIDEN.replace("{t}", "t"), "--plugin=pgoutput") as run:
        for verdict in ("commit", "rollback"):
            gid = f"{db.name}_{verdict}"
            db.execute("begin")
            twins.do(f"update {{t}} set s = '{verdict}' where id between 10 and 20",
                     f"insert into {{t}} values ({len(verdict)}000, 1, '{verdict}')")
            db.execute(f"prepare transaction '{gid}'")
            twins.do("update {t} set n = n + 1 where id > 50")
            db.execute(f"{verdict} prepared '{gid}'")
    run.finish()
    twins.assert_equal(WIDEN)


@pytest.mark.parametrize("batch", ["1", "2", "7"])
def test_batches_that_cut_transactions(db, walter, batch):
    twins = Twins(db, UNIQUE, UNIQUE_ROWS)
    scripts = (
        "begin; update {t} set n = -n; update {t} set id = id + 1000 where id > 90; truncate {t};"
        "insert into {t} select i, 'u' || i, i from generate_series(1, 50) i;"
        " update {t} set u = u || 'x';"
        "delete from {t} where id % 5 = 0; insert into {t} values (5, 'u6', 5); commit",
        "update {t} set n = n + 1",
        "delete from {t} where id = 7; insert into {t} values (7, 'again', 1)")
    migrate(walter, twins, "alter table {t} alter id type bigint, alter n type bigint", *scripts,
            args=("-b", batch), hold=held_build)


@pytest.mark.parametrize("method", ["copy", "insert"])
def test_truncate_while_the_table_is_copied(db, walter, method):
    """The copy begins anew and finds nothing; what came before the TRUNCATE must not matter."""
    twins = Twins(db, "create table {t} (id int primary key, n int, filler text)",
                  "insert into {t} select i, i, repeat('x', 1000) from generate_series(1, 20000) i")
    with held_copy(walter, "alter table t alter n type bigint", "-j", "1",
                   f"--copy-method={method}") as run:
        twins.do("update {t} set n = -n where id between 100 and 200",
                 "delete from {t} where id = 1",
                 "insert into {t} values (-1, 1), (-2, 2)", "update {t} set id = -3 where id = 3")
        truncation = threading.Thread(
            target=db.connect().execute, args=("truncate t; insert into t values (5, 5), (6, 6)",))
        truncation.start()
        wait_for_waiter(db, "t")
        db.execute("truncate twin; insert into twin values (5, 5), (6, 6)")
    truncation.join(60)
    twins.do("update {t} set n = 7 where id = 6")
    result = run.finish()
    assert "copying it again" in result.stderr
    twins.assert_equal("alter table {t} alter n type bigint")


def test_deferred_constraints_and_a_leaf_that_is_emptied_before_it_is_copied(db, walter):
    """The first batch of a transaction fits, the next one does not until the TRUNCATE comes."""
    twins = Twins(db, "create table {t} (id int primary key, n int,"
                      "  unique (id, n) deferrable initially deferred) partition by range (id);"
                      "create table {t}_1 partition of {t} for values from (0) to (20000);"
                      "create table {t}_2 partition of {t} for values from (20000) to (40000)",
                  "insert into {t} select i, i from generate_series(1, 20200) i")
    with held_copy(walter, "alter table t alter n type bigint", "-j", "1", "-b", "4") as run:
        twins.do("begin; insert into {t} select i, i from generate_series(25001, 25004) i;"
                 "update {t} set id = id + 1000 where id between 20100 and 20200;"
                 "update {t} set n = -n where id < 50; commit",
                 "truncate {t}_2", "insert into {t} values (20005, 5), (20006, 6)")
    result = run.finish()
    assert "public.t_2 was rewritten or emptied during the copy; changes wait" in result.stderr
    twins.assert_equal("alter table {t} alter n type bigint", 10000)


def test_an_empty_leaf_that_is_rewritten_before_it_is_copied(db, walter):
    """It had no rows before, so none are missed and no TRUNCATE has to come."""
    twins = Twins(db, "create table {t} (id int primary key, n int) partition by range (id);"
                      "create table {t}_1 partition of {t} for values from (0) to (20000);"
                      "create table {t}_2 partition of {t} for values from (20000) to (40000)",
                  "insert into {t} select i, i from generate_series(1, 19000) i")
    with held_copy(walter, "alter table t alter n type bigint", "-j", "1") as run:
        db.execute("vacuum full t_2")
        twins.do("insert into {t} select i, i from generate_series(20001, 20010) i")
    result = run.finish()
    assert "public.t_2 was rewritten or emptied during the copy" in result.stderr
    twins.assert_equal("alter table {t} alter n type bigint", 10000)


def test_rewritten_while_the_copy_finds_no_rows(db, walter):
    """Nobody has seen a row, so none is missing, and no TRUNCATE is waited for."""
    twins = Twins(db, "create table {t} (id int primary key, n int, filler text)"
                  " with (autovacuum_enabled = false)",
                  "insert into {t} select i, i, repeat('x', 1000) from generate_series(1, 20000) i")
    twins.do("delete from {t}")
    with held_copy(walter, "alter table t alter n type bigint", "-j1", "--max-rate=10MB") as run:
        vacuum = threading.Thread(target=db.connect().execute, args=("vacuum full t",))
        vacuum.start()
        wait_for_waiter(db, "t")
    vacuum.join(60)
    twins.do("insert into {t} values (5, 5), (6, 6)", "update {t} set n = 7 where id = 6")
    result = run.finish()
    assert "copying it again" in result.stderr
    twins.assert_equal("alter table {t} alter n type bigint")


# Settings of a role, as SQL, that change what text means, or how long a session may live.
HOSTILE = {
    "datestyle": "'sql, dmy'", "intervalstyle": "'sql_standard'", "timezone": "'Asia/Kolkata'",
    "extra_float_digits": "-5", "bytea_output": "'escape'", "xmlbinary": "'hex'",
    "xmloption": "'document'", "lc_monetary": "'C'", "statement_timeout": "'1s'",
    "lock_timeout": "'1s'", "idle_in_transaction_session_timeout": "'1s'",
    "idle_session_timeout": "'5s'", "search_path": "'odd, public'",
    "default_transaction_isolation": "'serializable'", "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on", "standard_conforming_strings": "off",
    "quote_all_identifiers": "on", "enable_indexscan": "off",
    "plan_cache_mode": "'force_custom_plan'", "row_security": "on", "client_encoding": "'LATIN1'",
    "client_min_messages": "'debug1'", "transform_null_equals": "on", "array_nulls": "off",
    "escape_string_warning": "off", "backslash_quote": "'off'",
}


def hostile_owner(db):
    owner = db.create_owner()
    db.execute(f"grant {owner.user} to {db.user}")      # who changes its tables
    known = [name for (name,) in db.query("select lower(name) from pg_settings")]
    for name, value in HOSTILE.items():
        if name in known:
            db.execute(f"alter role {owner.user} set {name} = {value}")
    return owner


@pytest.mark.parametrize("mode", ["binary", "text", "wal2json"])
def test_a_role_with_hostile_settings(db, walter, mode):
    owner = hostile_owner(db)
    floats = ", f float8, rs real[]" if mode != "wal2json" else ""
    extra = ", acl aclitem" if mode == "text" else ""
    twins = Twins(
        db, "create table {t} (id int primary key, ts timestamptz, d date, iv interval, by bytea,"
            f" x xml, mo money, rc regclass, n int, nu text[]{floats}{extra});"
            f"alter table {{t}} owner to {owner.user}",
        "insert into {t} (id, ts, d, iv, by, x, mo, rc, n, nu) select i, '2020-02-03 04:05:06+00',"
        " '2020-02-03', '-1 day -02:03:04', '\\x005c41ff', '<a>1</a>', '12.34', 'pg_class', i,"
        " array['x', null, 'NULL']"
        " from generate_series(1, 20) i")
    shown = "ts::text || d::text || iv::text || by::text"
    alter = f"alter table {{t}} alter n type text using {shown} || n, alter id type bigint"
    scripts = ["update {t} set n = -n where id <= 5",
               "update {t} set d = '2001-12-11', iv = '-1 mon +3 days' where id = 6",
               "update {t} set x = 'no document', mo = '-7.5' where id = 7",
               "insert into {t} (id, ts, iv) values (100, 'infinity', '1 year -1 sec'),"
               " (101, '0044-03-15 BC', '0')",
               "update {t} set rc = 'pg_stat_activity', nu = array[null, 'null'] where id = 8",
               "update {t} set ts = '2020-07-01 00:00 America/New_York' where id = 9"]
    if mode != "wal2json":
        scripts.append("update {t} set f = 0.1 + 0.2, rs = array[1/3::real, 'NaN'] where id < 4")
    if mode == "text":
        # what is copied as text is written in walter's formats, and only the zone is the role's
        alter = alter.replace(shown, "extract(hour from ts)::text")
        scripts.append("update {t} set acl = '=r/postgres' where id = 3")
    plugin = "wal2json" if mode == "wal2json" else "pgoutput"
    with held_copy(walter.as_user(owner), alter.replace("{t}", "t"), f"--plugin={plugin}",
                   superuser=db) as run:
        twins.do(*scripts)
    run.finish()
    with owner.connect() as conn:
        conn.execute("set default_transaction_read_only = off")
        conn.execute(alter.replace("{t}", "public.twin"))
    twins.assert_same_rows(20)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_databases_of_other_encodings(server, new_db, walter, encoding):
    db = new_db(server, options=f"encoding '{encoding}' locale 'C' template template0")
    twins = Twins(db, "create table {t} (id int primary key, s text, n int)",
                  "insert into {t} values (1, E'\\xe9', 1), (2, 'b', 2)")
    if encoding == "LATIN1":
        db.execute("set client_encoding = 'LATIN1'")
        twins.do("alter table {t} rename s to \"n\xe4me\"")
    migrate(type(walter)(db, walter.path, walter.runs), twins,
            "alter table {t} alter n type bigint",
            "insert into {t} values (3, E'\\xe9\\xff', 3)", "update {t} set n = 5 where id = 1",
            "update {t} set id = 4 where id = 2")


@pytest.mark.smoke
def test_types_that_travel_as_text(db, walter):
    twins = Twins(db, "create table {t} (id int primary key, a aclitem, s text, n int)",
                  "insert into {t} select i, '=r/postgres', 's', i from generate_series(1, 20) i")
    result = migrate(
        walter, twins, "alter table {t} alter n type bigint",
        "update {t} set s = E'a\\tb\\nc\\\\.\\r' where id = 1",
        "update {t} set s = '\\N' where id = 2",
        "update {t} set s = '' where id = 3", "update {t} set s = null, a = null where id = 4",
        "update {t} set id = 100 where id = 5", r"insert into {t} values (50, null, E'\\.', 1)")
    assert "as text" in result.stderr


# -- what does not fit --------------------------------------------------------------------------

def assert_nothing_left(db):
    assert db.query("select 1 from pg_namespace where nspname ~ '^walter_'") == []
    assert db.query("select 1 from pg_publication") == []
    assert db.query("select 1 from walter.run where phase <> 'done'") == []
    assert db.slots() == []


# The action, the change, the row's key in the message, and the reason in it.
MISFITS = {
    "too_large": ("alter n type smallint", "update t set n = 70000 where id = 7",
                  "(id)=(7)", "out of range"),
    "check": ("add constraint positive check (n > 0)", "update t set n = -1 where id = 8",
              "(id)=(8)", '"positive"'),
    "unique": ("add constraint once unique (n)", "insert into t values (200, 9)",
               "(id)=(200)", '"once"'),
    "null": ("alter n set not null", "insert into t values (201, null)", "(id)=(201)", '"n"'),
    "using": ("alter s drop default, alter s type int using substr(s, 2)::int",
              "update t set s = 'sx' where id = 10", "(id)=(10)", "invalid input syntax"),
    "key": ("alter id type smallint", "update t set id = 70000 where id = 11",
            "(id)=(11)", "out of range"),
    "exclusion": ("add constraint apart exclude (n with =)", "update t set n = 13 where id = 12",
                  "(id)=(12)", '"apart"'),
    "raised": ("alter n type bigint using strict(n)", "update t set n = -5 where id = 16",
               "(id)=(16)", "too small: -5"),
    "index_row_size": ("add constraint once unique (s)",
                       "update t set s = " + toast(1) + " || " + toast(2) + " where id = 17",
                       "(id)=(17)", "exceeds btree"),
    "deferred": ("add constraint later unique (n) deferrable initially deferred",
                 "update t set n = 15 where id = 14", None, '"later"'),
}


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", MISFITS)
def test_a_change_that_does_not_fit(db, walter, name, plugin):
    action, change, key, reason = MISFITS[name]
    db.execute(SIMPLE)
    db.execute("create function strict(n int) returns int language plpgsql as $$ begin"
               " if n < 0 then raise 'too small: %', n; end if; return n; end $$")
    with held_copy(walter, f"alter table t {action}", f"--plugin={plugin}") as run:
        db.execute("update t set n = n where id between 20 and 40")
        db.execute(change)
        before = db.query("select t::text from t order by 1")
    error = run.finish(check=3).stderr.splitlines()
    error = "\n".join(line for line in error if "error:" in line)
    assert reason in error
    if key:
        assert f"row {key} changed meanwhile does not fit" in error
    assert db.query("select t::text from t order by 1") == before
    assert_nothing_left(db)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_value_that_does_not_fit_for_a_moment_only(db, walter, plugin):
    """Within one batch only what a row ends up as has to fit."""
    db.execute(SIMPLE)
    with held_copy(walter, "alter table t alter n type smallint", f"--plugin={plugin}") as run:
        db.execute("begin; update t set n = 70000; update t set n = 5; commit")
        db.execute("insert into t values (500, 70000); delete from t where id = 500")
    run.finish()
    assert db.query("select distinct n from t") == [(5,)]


OTHERS_CHANGES = [
    "alter table t add x int", "alter table t drop s", "alter table t rename n to m",
    "alter table t alter n type bigint", "alter table t replica identity full",
    "alter table t alter n set default 8", "alter table t rename to other", "drop table t"]


@pytest.mark.parametrize("plugin, change", [
    *[(plugin, change) for plugin in PLUGINS for change in OTHERS_CHANGES],
    ("pgoutput", 'drop publication "{name}"')])
def test_the_table_is_altered_by_somebody_else(db, walter, plugin, change):
    db.execute(SIMPLE)
    with held_build(walter, "alter table t alter id type bigint", f"--plugin={plugin}") as run:
        name = run.shadow.split('"')[1].removesuffix("_new")
        db.execute(change.replace("{name}", name))
        if "rename to" not in change and "drop table" not in change:
            db.execute("update t set id = id where id < 10")
    error = run.finish(check=1).stderr
    assert "publication" not in change or f'publication "{name}"' in error
    assert_nothing_left(db)


# -- much ---------------------------------------------------------------------------------------

class Memory:
    """Watches the peak memory of a run."""

    def __init__(self, run):
        self.run = run
        self.peak_mb = 0
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self):
        while self.run.is_running:
            try:
                with open(f"/proc/{self.run.pid}/status", encoding="ascii") as status:
                    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read())
            except OSError:
                break
            if peak:
                self.peak_mb = max(self.peak_mb, int(peak.group(1)) / 1024)
            time.sleep(0.05)

    def finish(self, **options):
        result = self.run.finish(**options)
        self.thread.join()
        return result


@pytest.mark.parametrize("plugin, rows", some([("pgoutput", 700000)], ("wal2json", 200000)))
def test_a_transaction_of_a_million_rows(db, walter, plugin, rows):
    """One transaction of 10/7 of `rows` changes; wal2json is the slower one."""
    twins = Twins(db, "create table {t} (id int primary key, n int)",
                  "insert into {t} select i, i from generate_series(1, 1000) i")
    alter = "alter table {t} alter id type bigint"
    with held_copy(walter, alter.replace("{t}", "t"), f"--plugin={plugin}") as run:
        memory = Memory(run)
        twins.do(f"begin; insert into {{t}} select i, i from generate_series(1001, {rows}) i;"
                 f"update {{t}} set n = -n where id <= {rows} * 3 / 7; commit",
                 "delete from {t} where id % 100 = 0")
    memory.finish(timeout=200)
    assert memory.peak_mb < 100 * COSTS
    twins.assert_equal(alter, rows * 9 / 10)


@pytest.mark.parametrize("moves", [False, True])
def test_every_set_of_unsent_columns(db, walter, moves):
    """Each set needs statements of its own; there are more than a session keeps prepared."""
    names = [f"c{n}" for n in range(9)]
    sets = ", ".join(f"{name} = case when n & {1 << bit} <> 0 then 'x' else {name} end"
                     for bit, name in enumerate(names))
    twins = Twins(db, f"create table {{t}} (id int primary key, n int, {' text,'.join(names)} text);"
                      "alter table {t} " + ", ".join(f"alter {name} set storage external"
                                                     for name in names),
                  "insert into {t} select i, i" + ", repeat(md5(i::text), 70)" * 9
                  + " from generate_series(1, 511) i")
    migrate(walter, twins, "alter table {t} alter id type bigint",
            f"update {{t}} set {'id = id + 1000, ' if moves else ''}{sets}",
            f"update {{t}} set n = -n{', id = id + 5000' if moves else ''}")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_wide_rows(db, walter, plugin):
    twins = Twins(db, "create table {t} (id int primary key, doc text, n int);"
                      "alter table {t} alter doc set storage external",
                  "insert into {t} select i, repeat(i || 'x', 1500000), i from generate_series(1,"
                  " 4) i")
    alter = "alter table {t} alter n type bigint, alter id type bigint"
    with held_copy(walter, alter.replace("{t}", "t"), f"--plugin={plugin}") as run:
        memory = Memory(run)
        twins.do("update {t} set doc = doc || 'y' where id = 1", "update {t} set n = 5",
                 "insert into {t} select i, repeat(i || 'z', 1500000), i from generate_series(10,"
                 " 25) i",
                 "update {t} set id = id + 100 where id < 4", "delete from {t} where id = 4")
    memory.finish()
    assert memory.peak_mb < 100 * COSTS
    twins.assert_equal(alter)


MIXED = {"n": "int", "s": "text", "j": "jsonb", "big": "toast", "u": "uuid", "b": "bool",
         "ts": "timestamptz", "by": "bytea", "a": "array"}
MIXED_TABLE = (
    "create table {t} (id int primary key, n int, s text, j jsonb, big text, u uuid, b bool,"
    " ts timestamptz,"
    " by bytea, a int[]); alter table {t} alter big set storage external;"
    "create index on {t} (n); create index on {t} (s)")
MIXED_ROWS = ("insert into {t} (id, n, s, big) select i, i, 's', " + toast("i")
              + " from generate_series(1, 2000) i")


@pytest.mark.parametrize("plugin", smoke(PLUGINS, "pgoutput"))
def test_random_changes_during_the_whole_run(db, walter, plugin):
    Twins(db, MIXED_TABLE, MIXED_ROWS)
    with TwinLoad(db, "t", "twin", MIXED, keys=(1, 2000), clients=3, pause_ms=1) as load:
        load.wait_for(100)
        walter.perform("alter table t alter id type bigint, alter n type bigint,"
                       " add x int default 5",
                       f"--plugin={plugin}")
        load.wait_for(100)
    assert load.errors == []
    names = "id, n, s, j, big, u, b, ts, by, a"
    assert_same(db, f"select {names} from t", f"select {names} from twin")
    assert db.query("select 1 from t where x is distinct from 5") == []


@pytest.mark.parametrize("plugin", smoke(PLUGINS, "pgoutput"))
def test_random_changes_until_the_cutover(db, walter, plugin):
    """An expression mixes what was sent with what was not, and rows change their keys meanwhile."""
    twins = Twins(db, MIXED_TABLE, MIXED_ROWS)
    alter = ("alter table {t} alter id type bigint,"
             " alter big type text using id || ':' || n || md5(big)")
    with TwinLoad(db, "t", "twin", MIXED, keys=(1, 2000), clients=3, pause_ms=1) as load:
        load.wait_for(50)
        with held_cutover(walter, alter.replace("{t}", "t"), f"--plugin={plugin}") as run:
            load.wait_for(400)
            load.stop()
    assert load.errors == []
    run.finish()
    twins.assert_equal(alter)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_unsent_values_are_read_under_the_lock(db, walter, plugin):
    """The drain meets such changes all the time, and the cutover must come all the same."""
    Twins(db, DOCS, DOCS_ROWS)
    alter = "alter table {t} alter doc type text using n || md5(doc)"
    with TwinLoad(db, "t", "twin", {"n": "int"}, keys=(1, 40), clients=2, pause_ms=0,
                  actions={"insert": 0, "delete": 0, "range": 0}) as load:
        load.wait_for(50)
        run = walter.start_perform(alter.replace("{t}", "t"), f"--plugin={plugin}", "-v")
        run.wait_for_log("phase cutover$")
        result = run.finish()
    assert load.errors == []
    assert len(re.findall("cutover attempt", result.stderr)) < 5
    assert_same(db, "select id, n from t", "select id, n from twin")
    # nothing wrote doc, so it is known but for the number that a row had at the swap
    assert db.query("select id from t join twin using (id) where right(t.doc, 32) <> md5(twin.doc)"
                    " or left(t.doc, -32) !~ '^-?[0-9]+$'") == []


def test_a_commit_that_is_streamed_before_it_is_visible(new_server, new_db, walter):
    """It waits for a standby; an unsent value of it must not be looked for before."""
    server = new_server(fast=True, settings={"synchronous_standby_names": "nobody",
                                             "synchronous_commit": "local"})
    db = new_db(server)
    twins = Twins(db, DOCS, DOCS_ROWS)
    alter = "alter table {t} alter doc type text using n || md5(doc)"
    with held_build(type(walter)(db, walter.path, walter.runs), alter.replace("{t}", "t")) as run:
        writer = db.connect()
        writer.execute("set synchronous_commit = on")
        commit = threading.Thread(target=writer.execute, args=(
            "update t set id = 1001, n = -1 where id = 1; update twin set id = 1001, n = -1"
            " where id = 1",))
        commit.start()
        wait_until_true(db, "select count(*) = 1 from pg_stat_activity"
                            " where wait_event = 'SyncRep'")
    wait_until_true(db, "select count(*) = 1 from pg_stat_activity where application_name ~"
                        " 'walter: .* apply from' and query ~ 'pg_visible_in_snapshot'")
    assert db.query("select 1 from t where id = 1001") == []
    db.execute("alter system set synchronous_standby_names = ''")
    db.execute("select pg_reload_conf()")
    commit.join(30)
    run.finish()
    twins.assert_equal(alter)


# -- feedback -----------------------------------------------------------------------------------

SLOT = "pg_replication_slots where database = current_database()"
SENDER = ("pg_stat_replication where pid = (select active_pid from pg_replication_slots"
          " where database = current_database())")

@pytest.mark.parametrize("plugin", PLUGINS)
def test_an_idle_table_in_a_busy_database_keeps_no_wal(db, walter, plugin):
    db.execute(f"{SIMPLE}; create table busy (n int)")
    with held_copy(walter, "alter table t alter n type bigint", f"--plugin={plugin}") as run:
        for n in range(50):
            db.execute("insert into busy values (%s)", [n])
        wait_until_true(db, f"select confirmed_flush_lsn >= %s::pg_lsn from {SLOT}",
                   [db.query_one("select pg_current_wal_lsn()")])
    run.finish()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_what_is_not_applied_is_not_confirmed(db, walter, plugin):
    db.execute(f"{SIMPLE}; create table busy (n int)")
    with held_copy(walter, "alter table t alter n type bigint", f"--plugin={plugin}") as run:
        before = db.query_one("select pg_current_wal_lsn()")
        db.execute("update t set n = 5")
        for n in range(50):
            db.execute("insert into busy values (%s)", [n])
        after = db.query_one("select pg_current_wal_lsn()")
        # walter has read it all, and has said so twice
        wait_until_true(db, f"select write_lsn >= %s::pg_lsn from {SENDER}", [after])
        wait_until_true(db, f"select reply_time > %s from {SENDER}",
                   [db.query_one(f"select reply_time from {SENDER}")])
        assert db.query_one(f"select confirmed_flush_lsn <= %s::pg_lsn from {SLOT}", [before])
    run.finish()
    assert db.query("select distinct n from t") == [(5,)]


def test_the_server_hears_from_us_while_we_wait_and_work(db, walter):
    """The longest silence that a walsender sees, with a full queue and long statements."""
    db.execute("create table t (id int primary key, n int, filler text);"
               "insert into t select i, i, repeat('x', 200) from generate_series(1, 200000) i")
    silence = []
    with held_copy(walter, "alter table t alter id type bigint, add unique (n, filler)") as run:
        db.execute("update t set n = -n")

        def watch():
            with db.superuser.connect() as conn:
                while run.is_running:
                    row = conn.execute("select extract(epoch from clock_timestamp() - reply_time)"
                                       f" from {SENDER}").fetchone()
                    if row and row[0] is not None:
                        silence.append(float(row[0]))
                    time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        time.sleep(2)   # a wait of some length is what is tested
    run.finish()
    watcher.join()
    assert len(silence) > 20
    assert max(silence) < 5


def test_the_server_can_stop_while_changes_are_waiting(new_server, new_db, walter):
    server = new_server(fast=True)
    db = new_db(server)
    db.execute("create table t (id int primary key, n int, filler text);"
               "insert into t select i, i, repeat('x', 200) from generate_series(1, 50000) i")
    other = type(walter)(db, walter.path, walter.runs)
    with held_build(other, "alter table t alter id type bigint", "--reconnect-timeout=0") as run:
        db.execute("update t set n = -n; update t set n = -n; update t set n = -n")
        begun = time.monotonic()
        server.halt("fast")
        took = time.monotonic() - begun
        run.finish(check=6)
        server.resume()
    assert took < 15
    db.drop_slots()
