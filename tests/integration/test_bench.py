"""scripts/bench: measures, and keeps what it measured."""
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.reports import COSTS
from support.server import TOP
from support.walter import binary

pytestmark = pytest.mark.superuser("makes a server of its own")


@pytest.fixture
def server_files():
    """For TMPDIR: the server's user must get there, and pytest closes its own directories."""
    with tempfile.TemporaryDirectory(prefix="walter-bench.") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_measures_and_writes_it_down(tmp_path, server_files):
    wanted = tmp_path / "results.json"
    done = subprocess.run([TOP / "scripts" / "bench", "--no-setup", "--scale", "1", "--rounds", "1",
                           "--window", "1", "--json", wanted.name,
                           "copy", "apply", "capture", "scale", "memory"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
                          env=os.environ | {"TMPDIR": str(server_files), "WALTER_BIN": str(binary())})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(wanted)
    results = json.loads(wanted.read_text(encoding="utf-8"))
    rows = {row["name"].strip(): row for section in results["sections"] for row in section["rows"]}
    assert rows["plain ALTER TABLE (nobody gets in)"]["median"] > 0
    assert rows["pg_repack"]["median"] > 0 and rows["pg_repack -j 2"]["median"] > 0
    assert rows["inserts, 50 a transaction"]["unit"] == "/s"
    assert rows["inserts, 50 a transaction"]["median"] > 100
    assert rows["walter, memory: most less least"]["unit"] == "MB"
    assert {section["title"].split(":")[0] for section in results["sections"]} == {
        "copy", "apply", "capture", "scale", "walter itself, at its highest"}
    assert 1 < rows["one transaction of 1,000,000 rows"]["median"] < 100 * COSTS
    assert results["scale"] == 1 and results["walter"] and "--rounds 1" in results["command"]
    assert not list(server_files.iterdir())
