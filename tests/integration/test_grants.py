"""README.md asks for just those rights that a run needs: each of them, and no other."""
import re

import pytest

from support.hold import held_build
from support.load import TwinLoad, assert_same
from support.server import TOP
from support.traces import assert_finished, assert_untouched

pytestmark = pytest.mark.superuser("chooses the rights of its role itself")


def split(statement):
    """GRANT a, b ON c TO d is two rights."""
    match = re.fullmatch(r"GRANT (.*?)( ON .*)", statement)
    return [f"GRANT {right}{match[2]}" for right in match[1].split(", ")] if match else [statement]


def read_rights():
    """What README.md says: the attributes of the role, what it needs, what it may have besides."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    attributes = re.search(r"^    CREATE ROLE migrator ([A-Z ]+) PASSWORD '...';$", text, re.MULTILINE)[1]
    grants = re.findall(r"^    (GRANT [^;]* TO \w+);", text, re.MULTILINE)
    needed, wishes = [[right for grant in grants if ("pg_" in grant) == wish for right in split(grant)]
                      for wish in (False, True)]
    return [f"ALTER ROLE migrator {word}" for word in attributes.split()] + needed, wishes


NEEDED, WISHES = read_rights()
ALTER = "alter table public.t alter n type bigint, add x int default 5"
TABLES = """
    create table p (id int primary key); insert into p select generate_series(1, 20);
    create table t (id serial primary key, n int not null check (n > -1000000000),
                    p int default 7 references p, twice int generated always as (p * 2) stored);
    insert into t (n) select generate_series(1, 1000);
    create index on t (n desc);
    create table c (id int primary key references t);
    create view v as select id, p from t;
    create materialized view m as select count(*) from t;
    create function f() returns trigger language plpgsql as 'begin return new; end';
    create trigger g before insert on t for each row execute function f();
    comment on table t is 'a table';
    create table twin as select id, n from t; alter table twin add primary key (id)
"""


class Shop:
    """A database in which nobody has a right that was not given, with the tables of one role."""

    def __init__(self, db):
        self.db = db
        self.owner = db.create_role("nologin")
        self.migrator = db.create_role("nologin")
        self.names = {"migrator": self.migrator.user, "shop_owner": self.owner.user,
                      "shop": db.name}
        db.execute(f"revoke all on schema public from public;"
                   f"grant create, usage on schema public to {self.owner.user};"
                   f"set role {self.owner.user}; {TABLES}; reset role;"
                   f"revoke all on schema public from {self.owner.user}")

    def real(self, statement):
        """With the names of this database."""
        return re.sub(r"\b(migrator|shop_owner|shop)\b", lambda found: self.names[found[0]], statement)

    def give(self, rights):
        for right in rights:
            self.db.execute(self.real(right))


@pytest.fixture
def shop(db):
    return Shop(db)


def test_they_are_enough(db, walter, shop):
    shop.give(NEEDED)
    runner = walter.as_user(shop.migrator)
    with TwinLoad(db, "t", "twin", {"n": "int not null"}, keys=(21, 1000), actions={"range": 0}
                  ) as load:
        load.wait_for(20)
        runner.perform(ALTER, "--matviews=before")
        runner.perform("alter table t add y text default 'y'", "--plugin=wal2json",
                       "--matviews=after")
        load.wait_for(20)
    assert load.errors == []
    assert_same(db, "select id, n from t", "select id, n from twin")
    assert_finished(db)
    assert "nothing to clean up" in runner.run("cleanup", "--yes").stdout


@pytest.mark.parametrize("name", ["t", "public.t"])
def test_schema_that_the_role_may_not_use(walter, shop, name):
    """Without one right the table is not even found; both are asked for at once."""
    shop.give(NEEDED[:2])
    result = walter.as_user(shop.migrator).perform(f"alter table {name} add x int", check=2)
    assert f"role {shop.migrator.user} may not use schema public, where the table is" in result.stderr
    for right in ("GRANT USAGE ON SCHEMA public TO shop_owner;", "GRANT shop_owner TO migrator;"):
        assert shop.real(right) in result.stderr, str(result)


def test_definition_that_changes_meanwhile(db, walter, shop):
    """What is rehearsed anew needs no more rights than at first."""
    shop.give(NEEDED)
    with held_build(walter.as_user(shop.migrator), ALTER, superuser=db) as run:
        db.execute(f"set role {shop.owner.user}; create index late on t (p); reset role")
    run.finish()
    assert db.query_one("select count(*) from pg_indexes where indexname = 'late'"
                        " and schemaname = 'public'") == 1
    assert_finished(db)


@pytest.mark.parametrize("right", NEEDED)
def test_each_is_needed(db, walter, shop, right):
    """Without it nothing is made, and what cures it is said wherever walter can know."""
    shop.give(other for other in NEEDED if other != right)
    runner = walter.as_user(shop.migrator)
    result = runner.perform(ALTER, check=False)
    assert result.code == 2, str(result)
    if "LOGIN" in right:
        assert "is not permitted to log in" in result.stderr
    else:
        assert f"{shop.real(right)};" in result.stderr, str(result)
    assert_untouched(db)
    shop.give([right])
    runner.perform(ALTER)


@pytest.mark.parametrize("missing", [None, *WISHES])
def test_what_may_be_wished_for(db, walter, shop, missing):
    """With both others in the way can be ended; without one of them they are not."""
    shop.give(NEEDED + [wish for wish in WISHES if wish != missing])
    blocker = db.as_user(db.create_role("login").user)
    shop.db.execute(f"grant usage on schema public to {blocker.user}; grant select on t to {blocker.user}")
    reader = blocker.connect()
    reader.execute("begin; select count(*) from t")
    run = walter.as_user(shop.migrator).start_perform(
        ALTER, "--kill-backends", "--wait-time-for-lock=1", "--old-snapshots=ignore")
    run.wait_for_log("cutover attempt 4: |swapped, lock held")
    if missing is None:
        run.finish()
        assert f"ending the session that is in the way: pid {reader.info.backend_pid}" in run.log
    else:
        assert "swapped" not in run.log
        reader.execute("commit")
        run.finish()
