"""The oracle: what plain ALTER TABLE makes of a database, walter must make of its twin.

A Case is set up alike in two databases.  In one the statements run as they are, in the other
through walter; then both must have the same definitions, the same sequences and the same rows.
"""
import os
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from . import ordinary
from .dump import diff, fingerprint, schema_dump
from .hold import held_copy
from .versions import skip_unless_understood
from .walter import Walter

# Roles that cases may name; OWNER has the least that a run needs.
OWNER, READER, WRITER = "oracle_owner", "oracle_reader", "oracle_writer"
TABLESPACE = "oracle_space"

# Why a case is left out for an ordinary role that gives triggers behind constraints another state.
INNER = "only a superuser gives the triggers behind constraints a state"

# A table, and what arrives through the stream: new rows, NULLs, changed keys, deletes.
ROWS = """
create table t (id int primary key, n int, v text, d date);
insert into t select g, g * 10, 'row ' || g, date '2020-01-01' + g from generate_series(1, 30) g;
insert into t (id) values (31);
"""
CHANGES = """
begin;
insert into t (id, n, v) values (101, 7, 'new');
insert into t (id) values (102);
update t set n = null, v = 'changed' where id = 3;
commit;
update t set id = 103, v = null where id = 4;
update t set v = v || '!' where id < 9;
delete from t where id = 5;
"""

TABLES = """
    select format('%I.%I', n.nspname, c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and n.nspname !~ '^(pg_|walter|information_schema$)'
     order by 1"""

SEQUENCES = """
    select schemaname, sequencename, sequenceowner, start_value, increment_by, last_value
      from pg_sequences where schemaname !~ '^walter'"""

# The states of the triggers behind foreign keys and deferrable constraints.
HIDDEN_TRIGGERS = """
    select g.tgrelid::regclass::text, k.conname, p.proname, g.tgenabled, g.tgdeferrable,
           g.tginitdeferred
      from pg_trigger g join pg_constraint k on k.oid = g.tgconstraint
      join pg_proc p on p.oid = g.tgfoid join pg_class c on c.oid = g.tgrelid
     where g.tgisinternal and c.relnamespace::regnamespace::text !~ '^walter'
     order by 1, 2, 3"""

# What a finished run may leave: the schema "walter" and the old table in its own schema, inert.
LEFTOVERS = """
    select 'schema ' || nspname from pg_namespace where nspname ~ '^walter_[0-9a-f]+_'
     union all select 'publication ' || pubname from pg_publication where pubname ~ '^walter'
     union all
    select format('foreign key %s of %s', conname, conrelid::regclass) from pg_constraint
     where contype = 'f' and (conrelid::regclass::text ~ '^walter_'
                              or confrelid::regclass::text ~ '^walter_')
     union all
    select 'table ' || c.oid::regclass::text from pg_class c
     where c.relkind = 'r' and c.relnamespace = 'walter'::regnamespace and c.relname <> 'run'"""


@dataclass
class Case:
    """One ALTER on one table.

    setup           SQL, run in both databases
    alter           the statements
    during          SQL that runs before the plain ALTER, and for walter after the snapshot, so that
                    its changes arrive through the stream
    hold            where the run is held for `during`: one of support/hold.py
    again           statements of a second run
    user            the role that alters, else the superuser
    role_settings   its settings in both databases
    args            further arguments of walter
    after           SQL that must do the same in both databases after the ALTER
    rows            {table: query to compare instead of all columns}, where values are random
    holds           queries that must give true in both databases
    positions       must sequences stand at the same value, too?
    ignore          a pattern of lines of the definitions that may differ
    superuser       why an ordinary role could not do it, in plain PostgreSQL or through walter
    """
    name: str
    setup: str
    alter: str
    during: str = ""
    rows: dict = field(default_factory=dict)
    holds: tuple = ()
    user: str = ""
    args: tuple = ()
    role_settings: dict = field(default_factory=dict)
    after: str = ""
    positions: bool = True
    ignore: str = ""
    hold: object = held_copy
    again: str = ""
    superuser: str = ""


def named(cases):
    """Parameters of a test from {kind: list of cases}."""
    return [pytest.param(case, id=f"{kind}: {case.name}", marks=marks(case))
            for kind, group in cases.items() for case in group]


def marks(case):
    return [pytest.mark.superuser(case.superuser)] if case.superuser else []


@pytest.fixture(scope="module", name="server")
def oracle_server(shared_server):
    """The shared server, with the roles."""
    make_roles(shared_server)
    yield shared_server
    drop_roles(shared_server)


@pytest.fixture(scope="module", name="databases")
def oracle_databases(server):
    """Two databases for all cases of a module: to empty one is faster than to make another."""
    pair = [ordinary.new_database(server, prefix) for prefix in ("plain", "online")]
    if ordinary.wanted():
        ordinary.grant(server, *rights(server))
    yield pair
    left = [f"{db.name}: {what}" for db in pair for what in db.drop()]
    assert not left, "; ".join(left)


@pytest.fixture(name="walter")
def oracle_walter(databases):
    runner = Walter(databases[1])
    yield runner
    runner.cleanup()


@pytest.fixture(name="oracle")
def new_oracle(databases, walter):
    for db in databases:
        empty(db)
    return Oracle(databases[0], walter)


def make_roles(server):
    """The roles and the tablespace that cases may use."""
    drop_roles(server)
    with server.connect() as conn:
        conn.execute(f"create role {OWNER} login replication")
        conn.execute(f"create role {READER}")
        conn.execute(f"create role {WRITER}")
        if server.version >= 150000:
            conn.execute("set allow_in_place_tablespaces to on")
            conn.execute(f"create tablespace {TABLESPACE} owner {OWNER} location ''")


def rights(server):
    """What an ordinary role needs to do with them what cases do."""
    spaces = [f"create on tablespace {TABLESPACE}"] if server.version >= 150000 else []
    return [OWNER, READER, WRITER, *spaces]


def drop_roles(server):
    with server.connect() as conn:
        conn.execute(f"drop tablespace if exists {TABLESPACE}")
        conn.execute(f"drop role if exists {OWNER}, {READER}, {WRITER}")


class Oracle:
    """Two databases, and the comparison of what happens in them."""

    def __init__(self, plain, walter):
        self.plain = plain
        self.online = walter.db
        self.walter = walter

    def check(self, case):
        """Run the case in both databases and compare."""
        self.set_up(case)
        if case.during:
            self.plain.execute(case.during)
        for statement in [case.alter] + ([case.again] if case.again else []):
            self.alter_plainly(case, statement)
        self.alter_online(case)
        assert find_leftovers(self.online) == []
        drop_old_tables(self.online)
        self.compare(case)

    def check_any(self, case, declined=None):
        """Like check, but where PostgreSQL refuses the statement, so must walter; `declined` is a
        pattern of what walter says where it refuses what PostgreSQL does."""
        self.set_up(case)
        try:
            self.plain.execute(case.during)
            self.alter_plainly(case, case.alter)
        except psycopg.Error as error:
            print(f"PostgreSQL says: {error}")
            self.online.execute(case.during)
            self.check_untouched(case, (2, 3))
            return
        if declined:
            assert re.search(declined, self.check_untouched(case, (2,)).stderr)
            return
        self.alter_online(case)
        assert find_leftovers(self.online) == []
        drop_old_tables(self.online)
        self.compare(case)

    def check_untouched(self, case, codes):
        before = describe(self.online)
        result = self.run_walter(case).perform(case.alter, *case.args, check=False)
        assert result.code in codes, result.stderr
        assert describe(self.online) == before
        assert self.online.slots() == []
        return result

    def check_refusal(self, case, code):
        """Both must refuse the statement in the same words; walter must leave nothing behind."""
        self.set_up(case)
        before = describe(self.online)
        with pytest.raises(psycopg.Error) as error:
            self.alter_plainly(case, case.alter)
        result = self.run_walter(case).perform(case.alter, *case.args, check=code)
        assert error.value.diag.message_primary in result.stderr
        assert describe(self.online) == before
        assert self.online.slots() == []

    def check_misfit(self, case):
        """The rows must not fit, in both; walter must leave nothing behind but its state schema."""
        self.set_up(case)
        with pytest.raises(psycopg.Error) as error:
            self.plain.execute(case.during or "select")
            self.alter_plainly(case, case.alter)
        result = self.alter_online(case, check=3)
        # a copied row that violates NOT NULL is an INSERT's error, in other words
        assert f"(SQLSTATE {error.value.sqlstate})" in result.stderr
        self.online.execute("drop table walter.run; drop schema walter")
        assert self.online.slots() == []
        self.plain.execute("rollback")
        self.compare(case)

    def set_up(self, case):
        if ordinary.wanted() and OWNER in f"{case.setup} {case.during} {case.user}":
            pytest.skip("superuser: chooses the owners itself")
        skip_unless_understood(self.plain.server, case.setup, case.alter, case.during, case.after,
                               case.again)
        for db in (self.plain, self.online):
            set_up(db, case)

    def run_walter(self, case):
        return self.walter.as_user(seen_by(self.online, case))

    def alter_plainly(self, case, statement):
        with single_session(seen_by(self.plain, case)) as role:
            role.execute(statement)

    def alter_online(self, case, check=True):
        walter = self.run_walter(case)
        if case.during:
            with case.hold(walter, case.alter, *case.args, superuser=self.online) as run:
                self.online.execute(case.during)
            result = run.finish(check=check)
        else:
            result = walter.perform(case.alter, *case.args, check=check)
        if case.again:
            walter.perform(case.again, *case.args)
        return result

    def compare(self, case):
        # whoever has altered, and may read it or not
        pair = [self.plain.superuser, self.online.superuser]
        for db in pair:
            if case.after:
                # in a session of its own, without cached numbers of sequences
                db.close()
                db.execute(case.after)
                db.close()
            for query in case.holds:
                assert db.query_one(query) is True, f"{db.name}: {query}"
        plain, online = (describe(db, case.positions) for db in pair)
        assert plain.keys() == online.keys()
        found = [f"{part}: {line}" for part in plain for line in diff(plain[part], online[part])
                 if not line.startswith(("---", "+++"))
                 and not (case.ignore and re.search(case.ignore, line))]
        plain, online = (read_rows(db, case.rows) for db in pair)
        found += [f"{table}: {line}" for table in plain
                  for line in diff_rows(plain[table], online[table])]
        assert not found, "plain (-) and online (+) differ:\n" + "\n".join(found)


EMPTY = r"""
    select format('alter role %I in database %I reset all', r.rolname, d.datname)
      from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
      join pg_database d on d.oid = s.setdatabase where d.datname = current_database()
     union all
    select format('alter default privileges for role %I revoke all on %s from %s', r.rolname,
                  case a.defaclobjtype when 'r' then 'tables' else 'sequences' end,
                  case x.grantee when 0 then 'public'
                    else quote_ident(pg_get_userbyid(x.grantee)) end)
      from pg_default_acl a join pg_roles r on r.oid = a.defaclrole, aclexplode(a.defaclacl) x
     where a.defaclnamespace = 0 and x.grantee <> a.defaclrole
     union all
    select format('drop publication %I', pubname) from pg_publication
     union all
    select format('drop schema %I cascade', nspname) from pg_namespace
     where nspname !~ '^pg_' and nspname <> 'information_schema'"""


def empty(db):
    """Make a database as it was when it was new, whatever a case has left in it."""
    db.close()
    db.execute("select pg_terminate_backend(pid) from pg_stat_activity"
               " where datname = current_database() and pid <> pg_backend_pid()")
    db.drop_slots()
    for (statement,) in db.query(EMPTY):
        db.execute(statement)
    db.execute("create schema public; grant usage on schema public to public")


def seen_by(db, case):
    """The database as the role sees it that alters, with a session of its own."""
    return db.as_user(case.user or db.user)


def set_up(db, case):
    name = sql.Identifier(db.name)
    db.execute(sql.SQL("grant create on database {} to {}").format(name, sql.Identifier(OWNER)))
    db.execute(f"grant create, usage on schema public to {OWNER}")
    user = sql.Identifier(case.user or db.user)
    for setting, value in case.role_settings.items():
        values = value if isinstance(value, list) else [value]
        db.execute(sql.SQL("alter role {} in database {} set {} to {}").format(
            user, name, sql.Identifier(setting), sql.SQL(", ").join(map(sql.Literal, values))))
    for transaction in case.setup.split(";commit;"):
        db.execute(transaction)


@contextmanager
def single_session(db):
    yield db
    db.close()


def find_leftovers(db):
    return [row[0] for row in db.query(LEFTOVERS)] + [f"slot {slot}" for slot in db.slots()]


def drop_old_tables(db):
    """Drop what runs have left, without CASCADE: nothing may depend on it."""
    for (name,) in db.query("select oid::regclass::text from pg_class where relkind in ('r', 'p')"
                            " and not relispartition"
                            " and relnamespace::regnamespace::text ~ '^walter_[0-9a-f]+$'"):
        db.execute(f"drop table {name}")
    for (name,) in db.query("select nspname from pg_namespace where nspname ~ '^walter_'"):
        db.execute(f"drop schema {name}")
    db.execute("drop table walter.run; drop schema walter")


def describe(db, positions=True):
    """All definitions that must be the same: {part: list of lines or fingerprint}."""
    parts = {"dump": [statement.replace(db.name, "DATABASE") for statement in schema_dump(db)],
             "sequences": read_lines(db, SEQUENCES) if positions else [],
             "hidden triggers": read_lines(db, HIDDEN_TRIGGERS)}
    for (table,) in db.query(TABLES):
        parts[f"definition of {table}"] = fingerprint(db, table, positions=positions)
    return parts


def read_rows(db, queries):
    """{table: lines}, of all tables; `queries` says what to read instead of all columns."""
    return {table: read_lines(db, queries.get(re.sub("^public[.]", "", table), f"table {table}"))
            for (table,) in db.query(TABLES)}


def read_lines(db, query):
    """Rows as the server writes them, so that NaN and -0 are compared too."""
    return sorted(row[0] for row in db.query(f"select (q.*)::text from ({query}) q"))


def diff_rows(plain, online):
    plain, online = Counter(plain), Counter(online)
    return ([f"-{line[:200]}" for line in (plain - online).elements()]
            + [f"+{line[:200]}" for line in (online - plain).elements()])
