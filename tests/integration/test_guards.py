"""Row level security and rules while a run is on, and whom they bind."""
import psycopg
import pytest

from support.hold import held_copy
from support.load import TwinLoad, assert_same
from support.traces import assert_finished, assert_untouched


# -- security -------------------------------------------------------------------------------------

GUARDED = """
create table {t} (id int primary key, n int not null, who text default current_user);
insert into {t} select g, g, case when g % 2 = 0 then current_user else 'somebody' end
  from generate_series(1, 500) g;
"""
GUARD = """
create policy own on t using (who = current_user) with check (who = current_user);
alter table t enable row level security;
"""


def test_never_a_filtered_copy(db, owner, walter):
    """The owner reads and writes all rows, those that its own policy would hide from others, too."""
    owner.execute(GUARDED.format(t="t") + "create table twin (id int primary key, n int not null);"
                  "insert into twin select id, n from t;" + GUARD)
    with TwinLoad(owner, "t", "twin", {"n": "int not null"}, keys=(1, 500)) as load:
        load.wait_for(20)
        walter.as_user(owner).perform("alter table t alter n type bigint, add x text default 'x'")
        load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select id, n from t", "select id, n from twin", 100)
    assert_finished(db)
    # and the policy is in force for those whom it is for
    role = db.create_role("login")
    db.execute(f"grant select on t to {role.user}; update t set who = '{role.user}' where id = 2")
    assert role.query("select count(*) from t") == db.query(
        f"select count(*) from t where who = '{role.user}'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        role.execute("update t set who = 'x'")


def test_unsent_values_of_a_guarded_table(db, owner, walter):
    """They are read from the original, which is no filtered reading either."""
    owner.execute(GUARDED.format(t="t") + "alter table t add v text;"
                  "alter table t alter v set storage external;"
                  "update t set v = repeat(md5(id::text), 300) where id <= 20;" + GUARD)
    expected = owner.query("select id, n + 1, v || (n + 1) from t where id <= 20 order by id")
    with held_copy(walter.as_user(owner), "alter table t alter v type text using v || n",
                   superuser=db) as run:
        owner.execute("update t set n = n + 1 where id <= 20")
    run.finish()
    assert owner.query("select id, n, v from t where id <= 20 order by id") == expected


FORCED = "alter table t force row level security"
CURE = "ALTER ROLE {} BYPASSRLS; or, until the run is over, ALTER TABLE public.t NO FORCE ROW"


@pytest.mark.parametrize("superuser", [True, False])
def test_forced_on_the_owner(db, owner, walter, superuser):
    """Not even the owner may read all rows then: refused, and done when one cure is taken."""
    owner.execute(GUARDED.format(t="t") + GUARD + FORCED)
    migrator = walter if superuser else walter.as_user(owner)
    result = migrator.perform("alter table t alter n type bigint", check=2)
    assert f"row level security is forced on public.t, so not even its owner {owner.user} may" \
        in result.stderr
    assert CURE.format(owner.user) in result.stderr
    assert_untouched(db)
    db.execute(f"alter role {owner.user} bypassrls")
    migrator.perform("alter table t alter n type bigint")
    db.execute(f"alter role {owner.user} nobypassrls")
    assert db.query_one("select count(*) from t") == 500
    assert owner.query_one("select count(*) from t") == 250
    assert db.query_one("select relrowsecurity and relforcerowsecurity from pg_class"
                        " where oid = 't'::regclass")


def test_policy_of_the_table_speaks_of_what_the_role_may_not_name(db, owner, walter):
    owner.execute(GUARDED.format(t="t"))
    db.execute("create schema hidden; create table hidden.list (id int);"
               "create policy p on t using (id in (select id from hidden.list))")
    result = walter.as_user(owner).perform("alter table t alter n type bigint", check=2)
    assert "permission denied for schema hidden" in result.stderr
    assert f"hint: The role {owner.user} makes the table's policies and rules again" in result.stderr
    assert_untouched(db)


# -- rules ----------------------------------------------------------------------------------------

def test_rules_fire_once_per_write(db, walter):
    """Before the swap on the original, after it on the new table; never for walter's own writes."""
    db.execute("""
        create table t (id int primary key, n int not null);
        create table twin (id int primary key, n int not null);
        create table log (id int, n int, what text);
        create table twin_log (id int, n int, what text);
        insert into t select g, g from generate_series(1, 500) g; insert into twin table t;
        create rule i as on insert to t do also insert into log values (new.id, 1, 'insert');
        create rule u as on update to t do also insert into log values (new.id, 1, 'update');
        create rule d as on delete to t do also insert into log values (old.id, 1, 'delete');
        create rule i as on insert to twin do also insert into twin_log values (new.id, 1, 'insert');
        create rule u as on update to twin do also insert into twin_log values (new.id, 1, 'update');
        create rule d as on delete to twin do also insert into twin_log values (old.id, 1, 'delete')
        """)
    with TwinLoad(db, "t", "twin", {"n": "int not null"}, keys=(1, 500)) as load:
        load.wait_for(20)
        walter.perform("alter table t add x text default 'x'")
        load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select id, n from t", "select id, n from twin", 100)
    assert_same(db, "table log", "table twin_log", 40)
    assert_finished(db)


def test_old_table_is_in_nobodys_way(db, walter):
    """Neither are its rules and policies: what they spoke of can be dropped."""
    db.execute("""
        create table t (id int primary key, n int); create table list (id int);
        create table log (id int); insert into t values (1, 1);
        create policy p on t using (id in (select id from list)); grant select on t to public;
        alter table t enable row level security;
        create rule r as on update to t do also insert into log values (new.id)""")
    walter.perform("alter table t alter n type bigint")
    db.execute("drop policy p on t; drop table list; drop rule r on t; drop table log")
    (old,), = db.query("select oid::regclass::text from pg_class where relname = 't'"
                       "   and relnamespace::regnamespace::text ~ '^walter_[0-9a-f]+$'")
    assert db.query_one(f"select count(*) from {old}") == 1
    role = db.create_role("login")
    db.execute(f"grant usage on schema {old.split('.')[0]} to {role.user}")
    assert role.query_one(f"select count(*) from {old}") == 0
    db.execute(f"revoke usage on schema {old.split('.')[0]} from {role.user}")
    assert_finished(db)
