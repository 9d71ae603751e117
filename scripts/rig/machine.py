"""The machine: what it is, and who used its processors while something was measured."""
import os
import platform
import re
import resource
import time

TICKS = os.sysconf("SC_CLK_TCK")


def describe():
    """One machine, in a few words each."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    return {"processors": os.cpu_count(), "model": model.group(1) if model else platform.machine(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "kernel": platform.release(), "load_average": os.getloadavg()[0]}


def _process_s(pid, with_dead_children):
    """Seconds of processor time of a process, user and system."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11:15 if with_dead_children else 13])) / TICKS


def _server_s(postmaster):
    """Of a server: sessions that ended have been added to their parent."""
    with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as file:
        children = file.read().split()
    return _process_s(postmaster, True) + sum(_process_s(pid, False) for pid in children)


def _children_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _busy_s():
    """Of the whole machine, without idle and waiting for I/O."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) / TICKS for field in file.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4]


class Meter:
    """with Meter(database) as meter: ... - then meter.seconds, cpu_s, others.

    `cpu_s` is the server and the programs that were started and ended inside; `others` the share of
    the machine that went to anybody else: the noise in the measurement.
    """

    def __init__(self, database):
        with open(os.path.join(database.data, "postmaster.pid"), encoding="ascii") as file:
            self._postmaster = int(file.readline())

    def _read(self):
        return (time.monotonic(), _server_s(self._postmaster) + _children_s(), _busy_s())

    def __enter__(self):
        self._begin = self._read()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu_s, busy_s = (b - a for a, b in zip(self._begin, self._read()))
        self.others = max(0, busy_s - self.cpu_s) / self.seconds / os.cpu_count()


def wait_until_idle(share, limit_s):
    """Wait until less than `share` of the processors is used, or the limit is reached."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        begin, since = _busy_s(), time.monotonic()
        time.sleep(1)
        if (_busy_s() - begin) / (time.monotonic() - since) / os.cpu_count() < share:
            return
