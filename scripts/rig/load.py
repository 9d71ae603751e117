"""pgbench as the application, with the time of every single transaction."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

FOR_EVER_S = 3600


@dataclass
class Window:
    """What the clients saw between two moments."""
    seconds: float
    tps: float
    longest_ms: float
    mean_ms: float
    p99_ms: float


class Load:
    """A pgbench run.  After stop(): transactions, failed, errors, window()."""

    def __init__(self, database, clients=4, options=(), script=None, settings=""):
        """`options`: more of pgbench's; none of them is TPC-B.  `script`: text of another one.

        `settings`: of the clients' sessions, as in PGOPTIONS.
        """
        self.database, self.clients = database, clients
        self.args = ["-n", "-l", "-c", str(clients), "-j", "2", "-T", str(FOR_EVER_S), *options]
        self.script, self.settings = script, settings
        self.transactions = []  # (begin, end), seconds since the epoch
        self.processed = self.failed = 0
        self.errors = []
        self._process = self._directory = None

    def start(self):
        self._directory = tempfile.mkdtemp(prefix="walter-load.")
        args = list(self.args)
        if self.script:
            with open(self._path("script.sql"), "w", encoding="utf-8") as file:
                file.write(self.script)
            args += ["-f", "script.sql"]
        with open(self._path("out"), "wb") as out, open(self._path("err"), "wb") as err:
            self._process = subprocess.Popen(
                [*self.database.server.program("pgbench"), *args, self.database.name],
                cwd=self._directory, env=self.database.env | {"PGOPTIONS": self.settings},
                stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        return self

    @property
    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def stop(self):
        """Let every client finish its transaction, then collect.  Does nothing the second time."""
        if self._directory is None:
            return self
        if self.is_running:
            self._process.send_signal(signal.SIGALRM)  # as pgbench's own timer does
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.errors.append("pgbench: clients were still waiting 60 s after the end")
        self._collect()
        shutil.rmtree(self._directory)
        self._directory = None
        return self

    def check(self):
        """Fails when a transaction did."""
        if self.errors or self.failed:
            raise RuntimeError(f"pgbench: {self.failed} failed, {self.errors[:5]}")

    def window(self, begin, end):
        """Transactions that ended in this time; the longest also of those that only touch it."""
        times = sorted((finish - start) * 1000 for start, finish in self.transactions
                       if begin <= finish < end)
        longest = max((finish - start for start, finish in self.transactions
                       if finish >= begin and start < end), default=0)
        return Window(end - begin, len(times) / (end - begin), longest * 1000,
                      sum(times) / max(1, len(times)),
                      times[len(times) * 99 // 100] if times else 0)

    def _path(self, name):
        return os.path.join(self._directory, name)

    def _read(self, name):
        with open(self._path(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def _collect(self):
        out, err = self._read("out"), self._read("err")
        self.errors += [line for line in err.splitlines() if re.search("error|abort", line, re.I)]
        if self._process.returncode != 0 and not self.errors:
            self.errors.append(f"pgbench: exit code {self._process.returncode}: {err.strip()}")
        self.processed = _number(out, r"^number of transactions actually processed: (\d+)")
        self.failed = _number(out, r"^number of failed transactions: (\d+)")
        for name in os.listdir(self._directory):
            if name.startswith("pgbench_log."):
                # a killed pgbench leaves half a line behind
                lines = self._read(name).splitlines(keepends=True)
                self.transactions += [_transaction(line) for line in lines if line[-1] == "\n"]
        self.transactions.sort()


def _number(text, pattern):
    match = re.search(pattern, text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def _transaction(line):
    """Client, number, time in us, script, and the end in s and us.  A failed one has no time."""
    fields = line.split()
    end = int(fields[4]) + int(fields[5]) / 1e6
    return (end - (int(fields[2]) / 1e6 if fields[2].isdigit() else 0), end)


def wait(seconds, *loads):
    """Let time pass; fails when a load has ended meanwhile."""
    time.sleep(seconds)
    for load in loads:
        if not load.is_running:
            raise RuntimeError(f"pgbench has ended: {load.stop().errors}")
