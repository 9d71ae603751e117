"""scripts/demo: shows a live change, says so when something is wrong, and always tidies up."""
import os
import signal
import subprocess

import pytest

from support.server import TOP
from support.walter import binary

pytestmark = pytest.mark.superuser("makes a server of its own")

DEMO = TOP / "scripts" / "demo"


@pytest.fixture(name="demo")
def fixture_demo(tmp_path):
    """Starts scripts/demo on a small table, its files in a directory of its own."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)  # the server's user must get there
    started = []

    def start(program=None):
        env = os.environ | {"TMPDIR": str(tmp_path), "WALTER_BIN": str(program or binary())}
        process = subprocess.Popen([DEMO, "--scale", "1", "--clients", "2", "--no-setup"], env=env,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_shows_a_live_change_and_leaves_nothing(demo, tmp_path):
    process = demo()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "FAIL" not in output
    assert "bigint not null" in output
    assert "errors: 0" in output
    assert "All as it should be" in output
    assert not list(tmp_path.iterdir())


def test_a_failing_program_fails_the_demo(demo, tmp_path):
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\necho 'error: no such luck' >&2\nexit 3\n")
    false.chmod(0o755)
    process = demo(false)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert "no such luck" in output
    assert "FAILED" in output
    assert list(tmp_path.iterdir()) == [false]


def test_interrupted_it_removes_its_server(demo, tmp_path):
    process = demo()
    output = ""
    while "walter perform" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None), output + rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
