"""Run the integration tests as several pytest processes side by side.

    shards.py OUT [pytest argument]...

Each has servers of its own and takes the next file that nobody has taken, large ones first, so that
none is idle before the end.  One more than there are processors, since a test waits now and then;
with more of them, those that measure stalls would measure each other.  Writes OUT/<shard>.log and
OUT/<shard>.xml.  Exits with the highest status; the first Ctrl-C reaches all of them as well.
"""
import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path("tests/integration")


def write_turns(path):
    """The list that the processes take files from: the larger the file, the longer it runs."""
    files = sorted(TESTS.glob("test_*.py"), key=lambda file: file.stat().st_size, reverse=True)
    path.write_text("".join(f"{file.name}\n" for file in files), encoding="utf-8")


def start(out, shard, turns, args):
    with open(out / f"{shard}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", str(TESTS), f"--turns={turns}",
             f"--junitxml={out / shard}.xml", *args], stdout=log, stderr=subprocess.STDOUT)


def main():
    out, args = Path(sys.argv[1]), sys.argv[2:]
    turns = out / "turns"
    write_turns(turns)
    running = [start(out, f"shard{number}", turns, args) for number in range(os.cpu_count() + 1)]
    # from here on a Ctrl-C is theirs, and they must be waited for all the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = max(abs(process.wait()) for process in running)
    # what nobody took was not tested, whatever the others say
    sys.exit(status or (3 if turns.read_text(encoding="utf-8") else 0))


if __name__ == "__main__":
    main()
