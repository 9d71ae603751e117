"""The tests as an ordinary role: WALTER_TEST_ROLE=owner, see README.md."""
import os
import re

import psycopg

from .database import Database

# Owns what the tests make, and runs walter.
ROLE = "test_owner"
# Does what that role may not.  Not the first superuser: what that one owns, cannot be handed over.
HELPER = "test_helper"
# Of these an ordinary role sees less, and a test looks at them to know how far a run is.
WATCHED = re.compile(r"\bpg_stat_(activity|replication|progress_\w+)\b")
# What is another's to grant is no error, but a warning.
NOT_GRANTED = ("01006", "01007")
GRANTS = re.compile(r"\s*(grant|revoke)\b[^;]*(;\s*(grant|revoke)\b[^;]*)*;?\s*$", re.IGNORECASE)


def wanted():
    """Whether the tests are to run as an ordinary role."""
    role = os.environ.get("WALTER_TEST_ROLE", "superuser")
    if role not in ("owner", "superuser"):
        raise ValueError(f"WALTER_TEST_ROLE={role}: there are superuser and owner")
    return role == "owner"


def new_database(server, prefix="t", options=""):
    """A new database for a test, seen by the role as which it is to run."""
    kind = OrdinaryDatabase if wanted() else Database
    return kind.create(server, prefix, options)


class OrdinaryDatabase(Database):
    """A database seen by a role with LOGIN, REPLICATION, CREATE on database and schema, no more.

    What it may not do a superuser does in its place, and what he made is the role's own afterwards.
    So a test need not know as whom it runs.
    """

    def __init__(self, database):
        super().__init__(database.server, database.name, ROLE, database)
        self._helper = database.as_user(HELPER)
        self._warnings = []

    @property
    def superuser(self):
        return self._helper

    @classmethod
    def create(cls, server, prefix="t", options=""):
        database = Database.create(server, prefix, options)
        _create_roles(server)
        database.grant_create(ROLE)
        database.close()
        return cls(database)

    def connect(self, **options):
        conn = super().connect(**options)
        conn.add_notice_handler(lambda notice: self._warnings.append(notice.sqlstate)
                                if notice.sqlstate in NOT_GRANTED else None)
        return conn

    def _run(self, statement, params):
        text = statement if isinstance(statement, str) else statement.as_string(self._conn)
        if WATCHED.search(text):
            return self._as_helper(statement, params)
        try:
            self._warnings.clear()
            cursor = super()._run(statement, params)
        except psycopg.errors.InsufficientPrivilege:
            return self._as_helper(statement, params)
        if self._warnings and GRANTS.match(text):
            return self._as_helper(statement, params)
        return cursor

    def _as_helper(self, statement, params):
        cursor = self._helper._run(statement, params)
        try:
            self._helper.execute(f"reassign owned by {HELPER} to {ROLE}")
        except psycopg.errors.InsufficientPrivilege:
            pass    # such as an event trigger, which must be a superuser's
        return cursor

    def close(self):
        super().close()
        self._helper.close()

    def drop(self):
        self.close()
        return self.parent.drop()


def _create_roles(server):
    """Both are the same in all databases, so that tables of two can be compared."""
    with server.connect() as conn:
        for name, options in ((ROLE, "replication"), (HELPER, "superuser")):
            if not conn.execute("select from pg_roles where rolname = %s", [name]).rowcount:
                conn.execute(f"create role {name} login {options}")


def grant(server, *rights):
    """Give the role rights that a test's own statements take for granted."""
    with server.connect() as conn:
        for right in rights:
            conn.execute(f"grant {right} to {ROLE}")


def drop_roles(server):
    """Leave a server that is not ours as it was."""
    with server.connect() as conn:
        conn.execute(f"drop role if exists {ROLE}, {HELPER}")
