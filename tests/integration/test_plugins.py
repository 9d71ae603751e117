"""Both output plugins tell the same story, and each says what it cannot tell."""
import psycopg
import pytest

from support.hold import held_build, held_copy
from support.load import TwinLoad, assert_same

PLUGINS = ["pgoutput", "wal2json"]
SIMPLE = ("create table t (id int primary key, n int);"
          "insert into t select i, i from generate_series(1, 100) i")


def assert_nothing_left(db):
    assert db.query("select 1 from pg_namespace where nspname ~ '^walter_'") == []
    assert db.query("select 1 from pg_publication") == []
    assert db.slots() == []


MIXED = {"n": "int", "si": "smallint", "bi": "bigint", "s": "text", "j": "jsonb", "big": "toast",
         "u": "uuid", "b": "bool", "ts": "timestamptz", "d": "date", "by": "bytea", "a": "array"}
MIXED_TABLE = ("(id int primary key, n int, si smallint, bi bigint, s text, j jsonb, big text,"
               " u uuid, b bool, ts timestamptz, d date, by bytea, a int[])")


def test_both_plugins_give_equal_tables(db, walter):
    """The same workload on two tables, which two runs alter at the same time."""
    for name in ("t", "u"):
        db.execute(f"create table {name} {MIXED_TABLE}; alter table {name} alter big set storage"
                   f" external;"
                   f"insert into {name} (id, n, s) select i, i, 's' from generate_series(1,"
                   f" 2000) i")
    action = "alter id type bigint, alter n type bigint, alter b type text using b::text"
    with TwinLoad(db, "t", "u", MIXED, keys=(1, 2000), clients=2, pause_ms=1,
                  actions={"insert": 30}) as load:
        load.wait_for(50)
        with held_build(walter, f"alter table t {action}", "--plugin=pgoutput") as one:
            with held_build(walter, f"alter table u {action}", "--plugin=wal2json") as other:
                load.wait_for(300)
                load.stop()
    one.finish()
    other.finish()
    assert load.errors == []
    assert_same(db, "select r::text from t r", "select r::text from u r", min_rows=500)


@pytest.mark.parametrize("type_name", ["numeric", "numeric(10,2)", "real", "float8", "amount"])
def test_wal2json_refuses_numbers_that_it_would_lose(db, walter, type_name):
    db.execute("create domain amount as numeric check (value > 0)")
    db.execute(f"{SIMPLE}; alter table t add f {type_name}")
    if takes_numbers_as_strings(db):
        walter.perform("alter table t alter n type bigint", "--plugin=wal2json")
        return
    result = walter.perform("alter table t alter n type bigint", "--plugin=wal2json", check=2)
    assert "--plugin=pgoutput" in result.stderr
    assert_nothing_left(db)
    walter.perform("alter table t alter n type bigint", "--plugin=pgoutput")


def takes_numbers_as_strings(db):
    """Whether the server's wal2json is 2.6 or later."""
    with db.connect() as conn:
        slot = f"probe_{conn.info.backend_pid}"
        conn.execute("select pg_create_logical_replication_slot(%s, 'wal2json', true)", [slot])
        try:
            conn.execute("select pg_logical_slot_peek_changes(%s, null, null,"
                         " 'numeric-data-types-as-string', 'true')", [slot])
        except psycopg.Error:
            return False
        return True


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("schema, table, column", [
    ("public", "Mixed Case", "Column"), ("a.b", "c.d", "e.f"), ("s p", "t,a", "c'q"),
    ("*", "x*", "*"),
    ("back\\slash", "\\", "\\n"), ('quo"te', 'quo"te', 'quo"te'), ("日本", "テーブル", "列"),
    ("select", "table", "user"), ("x" * 63, "y" * 63, "z" * 63), ("%I", "%s", "%")])
def test_names_of_any_kind(db, walter, plugin, schema, table, column):
    def quoted(name):
        return '"' + name.replace('"', '""') + '"'

    name = f"{quoted(schema)}.{quoted(table)}"
    db.execute(f"create schema if not exists {quoted(schema)};"
               f"create table {name} (id int primary key, {quoted(column)} int);"
               f"insert into {name} select i, i from generate_series(1, 50) i;"
               f"create table {quoted(schema)}.other (like {name} including all)")
    with held_copy(walter, f"alter table {name} alter {quoted(column)} type bigint",
                   f"--plugin={plugin}") as run:
        db.execute(f"update {name} set {quoted(column)} = -1 where id = 1;"
                   f" delete from {name} where id = 2;"
                   f"insert into {name} values (51, 51); update {name} set id = 52 where id = 3;"
                   f"insert into {quoted(schema)}.other values (1, 1)")
    run.finish()
    rows = dict(db.query(f"select * from {name}"))
    expected = {i: i for i in range(4, 52)}
    expected.update({1: -1, 52: 3})
    assert rows == expected


@pytest.mark.parametrize("plugin", PLUGINS)
def test_what_else_is_in_the_stream(db, walter, plugin):
    """Messages, origins, other tables and their DDL: nothing of it disturbs."""
    db.execute(SIMPLE + "; create table other (id int primary key, n int, f float8)")
    origin = db.name
    db.execute("select pg_replication_origin_create(%s)", [origin])
    try:
        with held_copy(walter, "alter table t alter n type bigint", f"--plugin={plugin}") as run:
            db.execute("select pg_logical_emit_message(true, 'x', 'in a transaction');"
                       "select pg_logical_emit_message(false, 'x', 'outside')")
            db.execute("begin; insert into other values (1, 1, 'NaN');"
                       " update t set n = 2 where id = 1;"
                       "alter table other add c int; update other set c = 5; truncate other;"
                       "select pg_logical_emit_message(true, 'x', '{\"action\":\"I\"}'); commit")
            with db.superuser.connect() as conn:
                conn.execute("select pg_replication_origin_session_setup(%s)", [origin])
                conn.execute("update t set n = 3 where id = 2")
                conn.execute("insert into other values (2, 2, 2)")
            db.execute("drop table other; create type mood as enum ('a');"
                       " create table later (m mood);"
                       "insert into later values ('a')")
            db.execute("update t set n = 4 where id = 3")
        run.finish()
    finally:
        db.execute("select pg_replication_origin_drop(%s)", [origin])
    assert db.query("select id, n from t where n <> id order by 1") == [(1, 2), (2, 3), (3, 4)]
