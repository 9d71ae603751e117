"""A fresh database per test, and the roles made for it."""
import select
import time
import uuid

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .versions import skip_unless_understood


class Database:
    """One database as one role sees it.

    execute() and query() share a connection in autocommit mode; connect() opens further ones.  All
    of them are closed when the database is dropped.
    """

    def __init__(self, server, name, user=None, parent=None):
        self.server = server
        self.name = name
        self.user = user or server.user
        self.parent = parent
        self._shared = None
        self._connections = []
        self._roles = []
        self._loads = []

    @classmethod
    def create(cls, server, prefix="t", options=""):
        """Create a database with a name of its own.  `options`: SQL such as "encoding 'LATIN1'"."""
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        with server.connect() as conn:
            conn.execute(sql.SQL("create database {} {}").format(sql.Identifier(name),
                                                                 sql.SQL(options)))
        return cls(server, name)

    # -- connecting ---------------------------------------------------------------------------

    @property
    def dsn(self):
        return make_conninfo(host=self.server.host, port=self.server.port, user=self.user,
                             dbname=self.name)

    @property
    def env(self):
        return self.server.env(self.name, self.user)

    def connect(self, **options):
        conn = self.server.connect(self.name, self.user, **options)
        self._connections.append(conn)
        return conn

    @property
    def _conn(self):
        if self._shared is None or self._shared.closed or _was_cut(self._shared):
            self._shared = self.connect()
        return self._shared

    # -- statements ---------------------------------------------------------------------------

    def _run(self, statement, params):
        try:
            return self._conn.execute(statement, params)
        except psycopg.Error:
            skip_unless_understood(self.server, str(statement))
            raise

    def execute(self, statement, params=None):
        """Run a statement (several, without params) and return the number of rows it touched."""
        return self._run(statement, params).rowcount

    def query(self, statement, params=None):
        """All rows, as tuples."""
        return self._run(statement, params).fetchall()

    def query_one(self, statement, params=None):
        """The only row: its value if it has one column, else a tuple."""
        rows = self.query(statement, params)
        assert len(rows) == 1, f"expected one row, got {len(rows)}: {statement}"
        return rows[0][0] if len(rows[0]) == 1 else rows[0]

    # -- roles --------------------------------------------------------------------------------

    def as_user(self, user):
        """The same database seen by another role."""
        return Database(self.server, self.name, user, self.parent or self)

    @property
    def superuser(self):
        """The same database seen by a superuser, for what a test does to the server."""
        return self.parent or self

    def create_role(self, options="login"):
        """A new role, dropped with the database.  Returns the database as this role sees it."""
        name = f"r_{uuid.uuid4().hex[:10]}"
        self.execute(sql.SQL("create role {} {}").format(sql.Identifier(name), sql.SQL(options)))
        role = self.as_user(name)
        (self.parent or self)._roles.append(role)
        return role

    def create_owner(self):
        """A role with the least that a run needs: LOGIN REPLICATION, CREATE on database, schema."""
        owner = self.create_role("login replication")
        self.grant_create(owner.user)
        return owner

    def grant_create(self, user):
        """Let the role create what a run creates, in this database."""
        name = sql.Identifier(user)
        self.execute(sql.SQL("grant create on database {} to {}").format(
            sql.Identifier(self.name), name))
        self.execute(sql.SQL("grant create, usage on schema public to {}").format(name))

    def stop_at_the_end(self, load):
        """Have load.stop() called before the database is dropped, for tests that fail midway."""
        (self.parent or self)._loads.append(load)

    # -- the end ------------------------------------------------------------------------------

    def slots(self):
        """Names of the replication slots of this database."""
        with self.server.connect() as conn:
            return [row[0] for row in conn.execute(
                "select slot_name from pg_replication_slots where database = %s order by 1",
                [self.name])]

    def drop_slots(self):
        """Drop every replication slot of this database, ending the sessions that use them."""
        with self.server.connect() as conn:
            for slot in self.slots():
                _drop_slot(conn, slot)

    def close(self):
        for conn in self._connections:
            conn.close()

    def drop(self):
        """Drop database and roles; return a list of what the test should not have left behind."""
        for load in self._loads:
            load.stop()
        for role in self._roles:
            role.close()
        self.close()
        left = [f'replication slot "{slot}" is left' for slot in self.slots()]
        self.drop_slots()
        with self.server.connect() as conn:
            left += self._drop_prepared()
            conn.execute(sql.SQL("drop database {} with (force)").format(
                sql.Identifier(self.name)))
            for role in self._roles:
                conn.execute(sql.SQL("drop role {}").format(sql.Identifier(role.user)))
        return left

    def _drop_prepared(self):
        """Not even FORCE drops a database that has prepared transactions."""
        left = []
        with self.server.connect(self.name) as conn:
            rows = conn.execute("select gid from pg_prepared_xacts where database = %s",
                                [self.name]).fetchall()
            for (gid,) in rows:
                left.append(f'prepared transaction "{gid}" is left')
                conn.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
        return left


def _was_cut(conn):
    """Whether the server has ended an idle connection: then there is something to read on it."""
    if not select.select([conn], [], [], 0)[0]:
        return False
    try:
        conn.execute("")
    except psycopg.Error:
        return True
    return False


def _drop_slot(conn, slot, timeout=10):
    deadline = time.monotonic() + timeout
    while True:
        row = conn.execute("select active_pid from pg_replication_slots where slot_name = %s",
                           [slot]).fetchone()
        if row is None:
            return
        if row[0] is None:
            try:
                conn.execute("select pg_drop_replication_slot(%s)", [slot])
                return
            except psycopg.errors.UndefinedObject:
                return  # by the run itself, which has lost its stream and removes what it made
            except psycopg.errors.ObjectInUse:
                continue
        if time.monotonic() > deadline:
            raise RuntimeError(f'replication slot "{slot}" stays in use by pid {row[0]}')
        conn.execute("select pg_terminate_backend(%s)", [row[0]])
        time.sleep(0.05)
