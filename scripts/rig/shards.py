"""Run the integration tests as two pytest processes side by side.

    shards.py OUT [pytest argument]...

One compares with plain ALTER TABLE, on servers of its own, and does not mind how long anything
takes; the other has all the rest, one test after the other.  Writes OUT/<shard>.log and
OUT/<shard>.xml.  Exits with the higher status of both; the first Ctrl-C reaches both as well.
"""
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path("tests/integration")


def split():
    """The files of each shard: those that compare take their fixtures from support/oracle.py."""
    files = sorted(TESTS.glob("test_*.py"))
    compare = [file for file in files if "oracle_server" in file.read_text(encoding="utf-8")]
    return {"compare": compare, "others": [file for file in files if file not in compare]}


def start(out, shard, files, args):
    with open(out / f"{shard}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *map(str, files), f"--junitxml={out / shard}.xml",
             *args], stdout=log, stderr=subprocess.STDOUT)


def main():
    out, args = Path(sys.argv[1]), sys.argv[2:]
    running = [start(out, shard, files, args) for shard, files in split().items() if files]
    # from here on a Ctrl-C is theirs, and they must be waited for all the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(max(abs(process.wait()) for process in running))


if __name__ == "__main__":
    main()
