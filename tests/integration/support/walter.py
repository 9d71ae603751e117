"""Running the binary under test."""
import codecs
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .server import TOP
from .wait import PATIENCE_S


def binary():
    """The program under test: WALTER_BIN, or the one of the build directory."""
    return Path(os.environ.get("WALTER_BIN") or TOP / "build" / "src" / "walter")


@dataclass
class Result:
    """How a run ended."""
    args: list
    code: int       # exit code; -9 and the like when a signal ended it
    stdout: str
    stderr: str

    def __str__(self):
        return (f"walter {' '.join(self.args)}\nexit code {self.code}\n"
                f"--- stdout\n{self.stdout}--- stderr\n{self.stderr}")


class Run:
    """A started walter.  Its log is read all the time, so that it never blocks on a full pipe."""

    def __init__(self, path, args, env):
        self.args = [str(arg) for arg in args]
        self._news = threading.Condition()
        self._text = {"stdout": "", "stderr": ""}
        self._open_streams = 2
        self.process = subprocess.Popen([path, *self.args], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True)
                         for name in self._text]
        for reader in self._readers:
            reader.start()

    def _read(self, name):
        stream = getattr(self.process, name)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := stream.read1(65536):
            with self._news:
                self._text[name] += decoder.decode(chunk)
                self._news.notify_all()
        stream.close()
        with self._news:
            self._open_streams -= 1
            self._news.notify_all()

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        """What it wrote to stderr so far."""
        with self._news:
            return self._text["stderr"]

    @property
    def output(self):
        """What it wrote to stdout so far."""
        with self._news:
            return self._text["stdout"]

    @property
    def is_running(self):
        return self.process.poll() is None

    def wait_for_log(self, pattern, timeout=PATIENCE_S, start=0):
        """Wait until the log from character `start` on matches; return the match.

        Fails when walter ends without it, or at the timeout.  To wait for something new, pass
        start=len(run.log) taken before.
        """
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                # Whole lines only: half a line may match less than was meant.
                end = self._text["stderr"].rfind("\n") + 1
                match = regex.search(self._text["stderr"], start, end)
                if match:
                    return match
                if self._open_streams == 0:
                    raise AssertionError(f"walter ended without logging /{pattern}/:\n"
                                         f"{self._text['stderr']}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"walter did not log /{pattern}/ within {timeout} s:\n"
                                         f"{self._text['stderr']}")
                self._news.wait(left)

    def signal(self, number):
        self.process.send_signal(number)

    def interrupt(self):
        """SIGINT: a clean, resumable stop."""
        self.signal(signal.SIGINT)

    def terminate(self):
        """SIGTERM."""
        self.signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        return self.finish(check=False)

    def finish(self, timeout=PATIENCE_S, check=True):
        """Wait for the end.  `check`: True demands exit code 0, a number demands that one."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"walter is still running after {timeout} s:\n{self.log}") from None
        for reader in self._readers:
            reader.join(10)
        result = Result(self.args, self.process.returncode, self.output, self.log)
        if check is not False:
            wanted = 0 if check is True else check
            assert result.code == wanted, f"exit code {wanted} expected\n{result}"
        return result


class Walter:
    """Runs the binary against one database."""

    def __init__(self, db, path=None, runs=None):
        self.db = db
        self.path = Path(path or binary())
        self.runs = [] if runs is None else runs
        if not os.access(self.path, os.X_OK):
            raise AssertionError(f"there is no program {self.path}: build it or set WALTER_BIN")

    def as_user(self, db):
        """The same for another role: pass what Database.create_owner() returned."""
        return Walter(db, self.path, self.runs)

    def start(self, *args, env=None):
        """Start it with the PG* variables of the database; returns a Run."""
        variables = {name: value for name, value in os.environ.items()
                     if not name.startswith("PG")}
        variables.update(self.db.env, **(env or {}))
        run = Run(self.path, args, variables)
        self.runs.append(run)
        return run

    def run(self, *args, check=True, timeout=PATIENCE_S, env=None):
        """Run it to its end; returns a Result."""
        return self.start(*args, env=env).finish(timeout, check)

    def perform(self, alter, *args, **options):
        """run("perform", "-a", alter, ...)"""
        return self.run("perform", "-a", alter, *args, **options)

    def start_perform(self, alter, *args, **options):
        """start("perform", "-a", alter, ...)"""
        return self.start("perform", "-a", alter, *args, **options)

    def cleanup(self):
        """Kill what a test left running."""
        for run in self.runs:
            if run.is_running:
                run.kill()

    def report(self):
        """The logs of all runs, for the report of a failed test."""
        return "\n".join(f"$ walter {' '.join(run.args)}\nexit code {run.process.poll()}\n"
                         f"{run.output}{run.log}" for run in self.runs)
