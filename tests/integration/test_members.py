"""Tables that belong to an extension, and sequences that others use."""
import pytest

from support.hold import held_copy
from support.traces import assert_finished, assert_untouched

TABLE = """
create table t (id int generated always as identity primary key, n int, s serial);
insert into t (n) select generate_series(1, 50);
"""
ALTER = "alter table t alter n type bigint, add x int default 5"
MEMBERS = """select pg_describe_object(classid, objid, 0) from pg_depend
    where refclassid = 'pg_extension'::regclass and deptype = 'e' and classid = 'pg_class'::regclass
      and refobjid = (select oid from pg_extension where extname = 'plpgsql') order by 1"""
JOIN = "alter extension plpgsql add {}; "


def own_extension(db):
    """As if the role that alters had made it."""
    db.execute(f"update pg_extension set extowner = '{db.user}'::regrole where extname = 'plpgsql'")


def members(db):
    return [name for (name,) in db.query(MEMBERS)]


def test_member_of_an_extension(db, walter):
    own_extension(db)
    db.execute(TABLE + JOIN.format("table t") + JOIN.format("sequence t_id_seq")
               + JOIN.format("sequence t_s_seq") + "grant select on t to public")
    before = members(db)
    assert before == ["sequence t_id_seq", "sequence t_s_seq", "table t"]
    for alter in (ALTER, "alter table t rename n to amount"):
        with held_copy(walter, alter) as run:
            db.execute("insert into t (s) values (default)")
        run.finish()
        assert members(db) == before
    assert db.query_one("select has_table_privilege('public', 't', 'select')")
    # the extension holds nothing of what is left
    for (name,) in db.query("select nspname from pg_namespace where nspname ~ '^walter_'"):
        db.execute(f"drop table {name}.t; drop schema {name}")
    walter.perform("alter table t alter id drop identity, drop s", "--drop")
    assert members(db) == ["table t"]
    assert_finished(db)


def test_only_a_sequence_is_a_member(db, walter):
    own_extension(db)
    db.execute(TABLE + JOIN.format("sequence t_id_seq"))
    walter.perform(ALTER, "--drop")
    assert members(db) == ["sequence t_id_seq"]


def test_extension_of_somebody_else(db, owner, walter):
    owner.execute(TABLE)
    db.execute(JOIN.format("table t"))
    result = walter.as_user(owner).perform(ALTER, check=2)
    assert f"table public.t belongs to extension plpgsql, which role {owner.user} does not own" \
        in result.stderr
    assert_untouched(db)


def test_made_a_member_meanwhile(db, walter):
    own_extension(db)
    db.execute(TABLE)
    with held_copy(walter, ALTER) as run:
        db.execute(JOIN.format("table t"))
    run.finish()
    assert members(db) == ["table t"]


@pytest.mark.parametrize("alter", ["alter table t drop s", "alter table t drop s cascade"])
def test_sequence_of_a_dropped_column_that_others_use(db, walter, alter):
    """Plain ALTER TABLE refuses it, or takes the others' default away."""
    db.execute(TABLE + "create table other (id int default nextval('t_s_seq'), v text)")
    result = walter.perform(alter, check=2)
    assert "cannot drop column s of table" in result.stderr
    assert "default value for column id of table public.other depends on sequence public.t_s_seq" \
        in result.stderr
    assert_untouched(db)
    db.execute("alter sequence t_s_seq owned by none")
    walter.perform(alter, "--drop")
    db.execute("insert into other (v) values ('goes on')")
    assert db.query("select id, v from other") == [(51, "goes on")]


def test_sequence_that_others_use_goes_on(db, walter):
    db.execute(TABLE + "create table other (id int default nextval('t_s_seq'), v text)")
    walter.perform(ALTER, "--drop")
    db.execute("insert into other (v) values ('a'); insert into t (n) values (1);"
               "insert into other (v) values ('b')")
    assert db.query("select id from other union all select s from t where s > 50 order by 1") == [
        (51,), (52,), (53,)]
