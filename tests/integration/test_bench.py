"""scripts/bench: measures, and keeps what it measured."""
import json
import os
import subprocess

from support.server import TOP
from support.walter import binary


def test_measures_and_writes_it_down(tmp_path):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)  # the server's user must get there
    done = subprocess.run([TOP / "scripts" / "bench", "--no-setup", "--scale", "1", "--rounds", "1",
                           "copy", "tables", "apply", "memory"], capture_output=True, text=True, timeout=280,
                          env=os.environ | {"TMPDIR": str(tmp_path), "WALTER_BIN": str(binary())},
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    path = TOP / done.stdout.splitlines()[-1]
    results = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    rows = {row["name"].strip(): row for section in results["sections"] for row in section["rows"]}
    assert rows["plain ALTER TABLE (nobody gets in)"]["median"] > 0
    assert rows["pg_repack"]["median"] > 0 and rows["pg_repack -j 2"]["median"] > 0
    assert rows["inserts, 50 a transaction"]["unit"] == "/s"
    assert rows["inserts, 50 a transaction"]["median"] > 100
    assert 1 < rows["one transaction of 1,000,000 rows"]["median"] < 100
    assert results["scale"] == 1 and results["walter"]
    assert not list(tmp_path.iterdir())
