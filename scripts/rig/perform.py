"""A run of walter, measured."""
import datetime
import os
import re
import signal
import stat
import subprocess
import threading
import time
from dataclasses import dataclass, field

from support.walter import Run, binary

DONE = re.compile(r"done: (\d+) rows copied, (\d+) changes applied, (\d+) lock attempts?, "
                  r"([\d.]+) ms waited for the lock, ([\d.]+) ms held")
PHASE = re.compile(r"^(\S+ \S+) debug: phase (\w+) took ([\d.]+) s$", re.MULTILINE)


@dataclass
class Outcome:
    """What a finished run says of itself, and what was measured from outside."""
    rows: int
    changes: int
    attempts: int
    wait_ms: float
    hold_ms: float
    begin: float  # seconds since the epoch
    end: float
    peak_mb: float
    files_mb: float  # most that it had in files, all of them temporary
    phases: dict = field(default_factory=dict)  # name: (begin, end)

    @property
    def seconds(self):
        return self.end - self.begin


def _phase(match):
    end = datetime.datetime.strptime(match[0], "%Y-%m-%d %H:%M:%S.%f").timestamp()
    return match[1], (end - float(match[2]), end)


def _bytes_in_files(pid):
    """On disk, in the files that a process has open for writing, those without a name included."""
    total = 0
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            about = os.stat(descriptor.path)
            is_written = descriptor.stat(follow_symlinks=False).st_mode & stat.S_IWUSR
            total += about.st_blocks * 512 if is_written and stat.S_ISREG(about.st_mode) else 0
    except (FileNotFoundError, ProcessLookupError):
        pass  # closed meanwhile, or the process has ended
    return total


class Perform:
    """`walter perform`, started at once."""

    def __init__(self, database, alter, *options):
        self._env = database.env
        self.begin = time.time()
        self.run = Run(binary(), ["perform", "-v", "--yes", "-a", alter, *options], self._env)
        self._peak_kb = self._peak_files = 0
        self._watcher = threading.Thread(target=self._watch_memory, daemon=True)
        self._watcher.start()

    def _watch_memory(self):
        while self.run.is_running:
            try:
                with open(f"/proc/{self.run.pid}/status", encoding="ascii") as file:
                    match = re.search(r"VmHWM:\s+(\d+)", file.read())
            except (FileNotFoundError, ProcessLookupError):
                return
            self._peak_kb = int(match.group(1)) if match else self._peak_kb
            self._peak_files = max(self._peak_files, _bytes_in_files(self.run.pid))
            time.sleep(0.01)

    def finish(self, timeout=900):
        """Wait for the end; fails with the log when walter did."""
        self.run.process.wait(timeout)
        end = time.time()
        result = self.run.finish(check=False)
        self._watcher.join()
        done = DONE.search(result.stderr)
        if result.code != 0 or not done:
            raise RuntimeError(str(result))
        numbers = [int(text) for text in done.groups()[:3]]
        return Outcome(*numbers, *map(float, done.groups()[3:]), begin=self.begin, end=end,
                       peak_mb=self._peak_kb / 1024, files_mb=self._peak_files / 2**20,
                       phases=dict(map(_phase, PHASE.findall(result.stderr))))

    def stop(self):
        """End it, whatever it is doing, and remove what it has made."""
        if not self.run.is_running:
            return
        self.run.signal(signal.SIGCONT)
        self.run.terminate()
        try:
            self.run.process.wait(20)
        except subprocess.TimeoutExpired:
            self.run.kill()
        Run(binary(), ["abort", "--yes"], self._env).finish(check=False)
