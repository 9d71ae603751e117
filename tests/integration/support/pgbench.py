"""PostgreSQL's own load generator."""
import os
import re
import shutil
import signal
import subprocess
import tempfile

FOR_EVER_S = 3600


def initialise(db, scale=1):
    """Make pgbench's tables."""
    done = subprocess.run(db.server.program("pgbench") + [*_where(db), "-i", "-q", "-s", str(scale),
                                                          db.name],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def _where(db):
    return ["-h", db.server.host, "-p", str(db.server.port), "-U", db.user]


class PgBench:
    """A pgbench run.  After stop(): tps, operations, failed, errors, longest_ms."""

    def __init__(self, db, clients=4, protocol="simple", seconds=None, script=None, rate=None):
        """`protocol`: simple, extended or prepared.  `seconds`: None runs until stop().

        `script`: text of a pgbench script; None is the built-in TPC-B-like one.  `rate`: target
        transactions per second.
        """
        self.db = db
        self.seconds = seconds
        self.args = ["-n", "-c", str(clients), "-j", str(min(clients, 2)), "-M", protocol,
                     "-T", str(seconds or FOR_EVER_S), "-l"]
        self.args += ["-R", str(rate)] if rate else []
        self.script = script
        self.tps = self.operations = self.failed = None
        self.longest_ms = None
        self.errors = []
        self._process = None
        self._dir = None

    def start(self):
        self.db.stop_at_the_end(self)
        self._dir = tempfile.mkdtemp(prefix="walter-pgbench.")
        args = list(self.args)
        if self.script is not None:
            path = os.path.join(self._dir, "script.sql")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.script)
            args += ["-f", path]
        # Any server version will do, and the log must be ours to read: never the one in a tree.
        program = "/usr/lib/postgresql/15/bin/pgbench"
        with open(os.path.join(self._dir, "out"), "wb") as out, \
                open(os.path.join(self._dir, "err"), "wb") as err:
            self._process = subprocess.Popen([program, *_where(self.db), *args, self.db.name],
                                             cwd=self._dir, stdout=out, stderr=err,
                                             stdin=subprocess.DEVNULL)
        return self

    def stop(self, timeout=60):
        """Wait for the end of `seconds`, or end it now; collect the results."""
        if self._dir is None:
            return self
        if self.seconds is None and self._process.poll() is None:
            # The signal of pgbench's own -T timer: it finishes the transactions and reports.
            self._process.send_signal(signal.SIGALRM)
        try:
            self._process.wait((self.seconds or 0) + timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.errors.append(f"pgbench: still busy {timeout} s after stop()")
        self._collect()
        shutil.rmtree(self._dir)
        self._dir = None
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _collect(self):
        out, err = (self._read(name) for name in ("out", "err"))
        self.errors += [line for line in err.splitlines() if re.search("error|ERROR|abort", line)]
        if self._process.returncode != 0 and not self.errors:
            self.errors.append(f"pgbench: exit code {self._process.returncode}: {err.strip()}")
        self.tps = float(_number(out, r"^tps = ([0-9.]+)"))
        self.operations = int(_number(out, r"^number of transactions actually processed: (\d+)"))
        self.failed = int(_number(out, r"^number of failed transactions: (\d+)"))
        self.longest_ms = max(self._latencies_us(), default=0) / 1000

    def _read(self, name):
        with open(os.path.join(self._dir, name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def _latencies_us(self):
        """Third field of a line of the log: the time of that transaction, or why it failed."""
        for name in os.listdir(self._dir):
            if name.startswith("pgbench_log."):
                for line in self._read(name).splitlines():
                    field = line.split()[2]
                    if field.isdigit():
                        yield int(field)


def _number(text, pattern):
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else "0"
