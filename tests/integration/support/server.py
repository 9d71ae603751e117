"""PostgreSQL servers for tests: one made by scripts/cluster, or one that is there already."""
import os
import subprocess
import time
from pathlib import Path

import psycopg

TOP = Path(__file__).resolve().parents[3]
CLUSTER = TOP / "scripts" / "cluster"


def shared_major():
    """The major version that servers have where a test does not ask for one; 15 by default."""
    return os.environ.get("WALTER_TEST_MAJOR", "15")


def majors():
    """The major versions to test, from WALTER_TEST_MAJORS ("13 17 18"); by default the shared one."""
    return os.environ.get("WALTER_TEST_MAJORS", shared_major()).split()


def run_cluster(*args):
    """Run scripts/cluster and return what it printed as a dict."""
    done = subprocess.run([CLUSTER, *args], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"scripts/cluster {' '.join(args)} failed: {done.stderr.strip()}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


class Server:
    """One running server: where it is and how to reach it."""

    def __init__(self, host, port, user, description=None):
        self.host = host
        self.port = int(port)
        self.user = user
        self.description = description or {}

    @classmethod
    def start(cls, major=None, settings=None, fast=False, owner=None):
        """Make and start a cluster.  `major`: shared_major() if not given; `settings`: a dict of
        server settings; `owner`: the process without which it has no use, ourselves if not given."""
        args = ["start", "--major", str(major or shared_major()),
                "--owner", str(owner or os.getpid())]
        args += ["--fast"] if fast else []
        # our own look-ups in the catalogs would spend their time on compiling
        for name, value in {"jit": "off", **(settings or {})}.items():
            args += ["-c", f"{name}={value}"]
        about = run_cluster(*args)
        return cls(about["host"], about["port"], about["user"], about)

    @classmethod
    def external(cls):
        """The server named by WALTER_TEST_PORT and its companions."""
        env = os.environ
        return cls(env.get("WALTER_TEST_HOST", "127.0.0.1"), env["WALTER_TEST_PORT"],
                   env.get("WALTER_TEST_USER", "postgres"))

    @property
    def is_ours(self):
        return bool(self.description)

    def connect(self, dbname="postgres", user=None, **options):
        """A new autocommit connection; with autocommit=False it opens transactions by itself."""
        options.setdefault("autocommit", True)
        return psycopg.connect(host=self.host, port=self.port, user=user or self.user,
                               dbname=dbname, **options)

    @property
    def version(self):
        """Such as 150020."""
        with self.connect() as conn:
            return conn.info.server_version

    def program(self, name):
        """How to call a client program (pg_dump, pgbench) of the server's own major version."""
        about = self.description or {"bindir": os.environ.get("WALTER_TEST_BINDIR"),
                                     "root": os.environ.get("WALTER_TEST_ROOT")}
        bindir = about["bindir"] or "/usr/lib/postgresql/15/bin"
        root = about["root"]
        return (["chroot", root] if root else []) + [f"{bindir}/{name}"]

    def inside(self, path):
        """How the server itself calls a file: one of another major version has a root of its own."""
        return str(path).removeprefix(self.description.get("root") or "")

    def env(self, dbname="postgres", user=None):
        """The PG* variables that lead a client here."""
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": user or self.user,
                "PGDATABASE": dbname}

    def halt(self, mode="fast"):
        """Stop the server and keep its data; mode "immediate" is a crash."""
        run_cluster("halt", "--dir", self.description["dir"], "--mode", mode)

    def resume(self, settings=None):
        """Start the server again after halt(), with more settings if wanted."""
        args = ["start", "--dir", self.description["dir"]]
        for name, value in (settings or {}).items():
            args += ["-c", f"{name}={value}"]
        run_cluster(*args)

    def wait_until_up(self, timeout=30):
        """Wait until the server accepts connections, after a crash of one of its processes."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def remove(self):
        """Stop the server and delete its files; leaves a server alone that is not ours."""
        if self.is_ours:
            run_cluster("stop", "--dir", self.description["dir"])

    def log_size(self):
        log = self.description.get("log")
        return os.path.getsize(log) if log and os.path.exists(log) else 0

    def log_since(self, offset, lines=40):
        """The last lines of the server's log, as far as they lie behind `offset` bytes."""
        log = self.description.get("log")
        if not log or not os.path.exists(log):
            return ""
        with open(log, encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            return "".join(file.readlines()[-lines:])
