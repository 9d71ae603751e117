"""Expressions over values that the stream leaves out, of rows that went on changing.

The changes come before the copy and are applied one by one, so what walter reads from the original
is always newer than the change that it needs it for.
"""
import pytest

from support.hold import Twins, held_copy, migrate
from support.load import TwinLoad

PLUGINS = ["pgoutput", "wal2json"]
BATCHES = [[], ["-b", "1"]]

KINDS = ("create table {t} (id int primary key, kind text not null, payload text not null,"
         " n int default 0, u int, unique (u) deferrable initially deferred);"
         "alter table {t} alter payload set storage external")
KINDS_ROWS = ("insert into {t} select g, 'n', repeat('7', 3000), 0, g"
              " from generate_series(1, 200) g")
TO_NUMBER = ("alter table {t} alter payload type numeric"
             " using case kind when 'n' then payload::numeric else 0 end")
NO_NUMBER = "kind = 't', payload = repeat('z', 3000)"

CHANGES = {
    "later_change": [f"update {{t}} set {NO_NUMBER} where id = 2"],
    "there_and_back": [f"update {{t}} set {NO_NUMBER} where id = 2",
                       "update {t} set n = 7 where id = 2",
                       "update {t} set kind = 'n', payload = repeat('8', 3000) where id = 2",
                       "update {t} set n = 8 where id = 2"],
    "deleted": [f"update {{t}} set {NO_NUMBER} where id = 2", "delete from {t} where id = 2"],
    "deleted_and_back": ["delete from {t} where id = 2",
                         f"insert into {{t}} values (2, 't', repeat('z', 3000), 1, 2)"],
    "other_key": ["update {t} set id = 1002 where id = 2",
                  f"update {{t}} set {NO_NUMBER} where id = 1002"],
    "key_of_another": ["update {t} set id = 1002 where id = 2",
                       f"update {{t}} set id = 2, {NO_NUMBER} where id = 3",
                       "update {t} set n = n + 1 where id in (2, 1002)"],
    "other_values_change_places": ["begin; update {t} set u = 1002 where id = 2;"
                                   " update {t} set u = 2 where id = 3; commit",
                                   f"update {{t}} set {NO_NUMBER} where id in (2, 3)"],
}


@pytest.mark.parametrize("batch", BATCHES, ids=["all", "one_by_one"])
@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_row_goes_on_changing(db, walter, name, plugin, batch):
    """An expression gets the values of one version of the row."""
    migrate(walter, Twins(db, KINDS, KINDS_ROWS), TO_NUMBER,
            "update {t} set n = n + 1 where id < 10", *CHANGES[name],
            args=(f"--plugin={plugin}", *batch))


# both of a pair may be left out of the stream, and the key may change without them
PAIRS = ("create table {t} (id int primary key, a text, b text, c text);"
         "alter table {t} alter a set storage external, alter b set storage external")
PAIRS_ROWS = ("insert into {t} select g, repeat('a' || g, 2000), repeat('b' || g, 2000), 'c'"
              " from generate_series(1, 200) g")


@pytest.mark.parametrize("batch", BATCHES, ids=["all", "one_by_one"])
@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("then", ["update {t} set id = 1002 where id = 2",
                                  "update {t} set id = 1002 where id = 2;"
                                  "update {t} set id = 2 where id = 3"],
                         ids=["moved", "replaced"])
def test_a_key_changes_without_the_values(db, walter, then, plugin, batch):
    """A row that is not found under the key of a change gets its value with its new key."""
    migrate(walter, Twins(db, PAIRS, PAIRS_ROWS),
            "alter table {t} alter c type text using md5(a || b)",
            "update {t} set a = repeat('x', 3000) where id = 2", then,
            args=(f"--plugin={plugin}", *batch))


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_row_goes_on_changing_under_a_copy_statement(db, walter, tmp_path, name, plugin):
    statement = tmp_path / "copy.sql"
    statement.write_text(
        "insert into t (id, kind, n, u, payload) select id, kind, n, u,"
        " case kind when 'n' then payload::numeric else 0 end from t where n < 8")
    twins = Twins(db, KINDS, KINDS_ROWS)
    with held_copy(walter, TO_NUMBER.replace("{t}", "t"), f"--plugin={plugin}",
                   f"--copy-statement={statement}", "-b", "1") as run:
        twins.do("update {t} set n = n + 1 where id < 10", *CHANGES[name])
    run.finish()
    twins.do("delete from {t} where n >= 8")
    twins.assert_equal(TO_NUMBER)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_changes_of_a_load(db, walter, plugin):
    """Rows change what the expression needs in any order, and their keys, in small batches."""
    twins = Twins(db, "create table {t} (id int primary key, n int, big text);"
                      "alter table {t} alter big set storage external",
                  "insert into {t} select g, g, repeat('7', 3000) from generate_series(1, 500) g")
    alter = "alter table {t} alter big type text using id || ':' || n || md5(big)"
    with TwinLoad(db, "t", "twin", {"n": "int", "big": "toast"}, keys=(1, 500), clients=3,
                  pause_ms=1) as load:
        load.wait_for(50)
        with held_copy(walter, alter.replace("{t}", "t"), f"--plugin={plugin}", "-b", "3") as run:
            load.wait_for(200)
            load.stop()
    assert load.errors == []
    run.finish()
    twins.assert_equal(alter)
