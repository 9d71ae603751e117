"""A throw-away server with pgbench's tables in it."""
import os
import subprocess

from support.server import Server

ALTER = "ALTER TABLE pgbench_accounts ALTER COLUMN aid TYPE bigint"
ROWS_PER_SCALE = 100_000


class Database:
    """Database "demo" of a server of its own; remove() takes both away."""

    name = "demo"

    def __init__(self, settings):
        self.server = Server.start("15", settings)
        with self.server.connect() as conn:
            conn.execute(f"create database {self.name}")

    @property
    def env(self):
        """For Run and subprocess: the environment, with PG* variables that lead here."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return variables | self.server.env(self.name)

    @property
    def data(self):
        """The server's data directory."""
        return self.server.description["data"]

    @property
    def log(self):
        """The server's log."""
        return self.server.description["log"]

    def log_end(self, lines=40):
        """The last lines of the server's log, under a heading."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "--- the server's log\n" + "".join(file.readlines()[-lines:])

    def connect(self, **options):
        return self.server.connect(self.name, **options)

    def query(self, sql, *params):
        with self.connect() as conn:
            return conn.execute(sql, params or None).fetchall()

    def value(self, sql, *params):
        """The one value that a query gives."""
        return self.query(sql, *params)[0][0]

    def execute(self, *statements):
        """Each statement in a transaction of its own."""
        with self.connect() as conn:
            for statement in statements:
                conn.execute(statement)

    def call(self, program, *args):
        """Run a client program to its end; its output.  Fails with what it said."""
        done = subprocess.run([*self.server.program(program), *args], env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(args)}: exit code {done.returncode}\n"
                               f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def fill(self, scale, *options):
        """Make pgbench's tables."""
        self.call("pgbench", "-i", "-q", "-s", str(scale), *options, self.name)

    def remove(self):
        self.server.remove()
