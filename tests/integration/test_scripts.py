"""The scripts that check and count: that they notice what they are there to notice."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.server import TOP

pytestmark = pytest.mark.superuser("needs no server")

CHECK_LAYERS = TOP / "scripts" / "check-layers"


def layers(top):
    done = subprocess.run([CHECK_LAYERS, top], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert (done.returncode == 0) == (done.stdout == "")
    return done.stdout


@pytest.fixture(name="tree")
def fixture_tree(tmp_path):
    """A source tree in which everything is as it should be."""
    files = {
        "include/err.h": "#include <stdbool.h>\n",
        "include/decoder.h": '#include "err.h"\n',
        "decoder/decoder.c": '#include "decoder.h"\n#include <jansson.h>\n#include <string.h>\n',
        "src/base/mem.h": '#include "err.h"\n',
        "src/pg/conn.h": '#include "base/mem.h"\n',
        "src/pg/conn.c": '#include "pg/conn.h"\n#include <libpq-fe.h>\nvoid f(void) { PQfinish(0); }\n',
        "src/pg/sql.c": "#include <libpq-fe.h>\nvoid q(void) { PQescapeLiteral(0, 0, 0); }\n",
        "src/plan/ddl.c": '#include "pg/conn.h"\n#include <pg_query.h>\n',
        "src/ctl/state.h": '#include "pg/conn.h"\n',
        "src/phase/migration.h": '#include "ctl/state.h"\n',
        "src/phase/queue.h": "\n",
        "src/phase/copy.h": '#include "phase/migration.h"\n',
        "src/phase/copy.c": '#include "phase/copy.h"\n#include "queue.h"\n#include "decoder.h"\n',
        "src/phase/cutover.h": "\n",
        "src/phase/migration.c": '#include "phase/copy.h"\n#include "phase/cutover.h"\n',
        "src/cli/help.c": '#include "phase/migration.h"\n/* PQfinish() in a comment */\n',
        "src/main.c": '#include "ctl/state.h"\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_layers_accept_what_is_right(tree):
    assert layers(tree) == ""


@pytest.mark.parametrize("name, line, what", [
    ("src/base/mem.c", '#include "pg/conn.h"', "base must not include pg"),
    ("src/base/mem.c", "#include <libpq-fe.h>", "only pg may include it"),
    ("src/pg/conn.c", '#include "plan/ddl.c"', "pg must not include plan"),
    ("src/pg/conn.c", "void g(void) { decoder_read(0); }", "pg must not know the decoder"),
    ("src/plan/ddl.c", '#include "ctl/state.h"', "plan must not include ctl"),
    ("src/ctl/state.c", '#include "../phase/queue.h"', "ctl must not include phase"),
    ("src/phase/copy.c", '#include "phase/cutover.h"', "only migration.c"),
    ("src/phase/copy.c", '#include "cutover.h"', "only migration.c"),
    ("src/phase/copy.c", "#include <pg_query.h>", "only plan may include it"),
    ("src/phase/copy.c", "#include <libpq-fe.h>", "only pg may include it"),
    ("src/phase/copy.c", "void g(void) { PQexec(0, 0); }", "only src/pg calls libpq"),
    ("src/pg/conn.c", "void g(void) { PQescapeLiteral(0, 0, 0); }", "only src/pg/sql.c quotes"),
    ("src/phase/copy.c", "void g(void) { conn_version(0); }", "only src/pg/version.h compares"),
    ("src/phase/copy.c", 'char q[] = "where current_setting(\'server_version_num\')";',
     "only src/pg/version.h compares"),
    ("src/cli/help.c", "#include <libpq-fe.h>", "only pg may include it"),
    ("decoder/decoder.c", '#include "base/mem.h"', "decoder must not include base"),
    ("decoder/decoder.c", "#include <sys/socket.h>", "no I/O"),
    ("decoder/decoder.c", "#include <time.h>", "knows no time"),
    ("include/err.h", '#include "base/mem.h"', "include must not include base"),
    ("src/pg/conn.c", '#include "nowhere.h"', "none of our headers"),
    ("src/extra/new.c", "", "in no layer"),
])
def test_layers_refuse(tree, name, line, what):
    path = Path(tree / name)
    path.parent.mkdir(exist_ok=True)
    text = path.read_text() if path.exists() else ""
    path.write_text(f"{text}{line}\n")
    found = layers(tree)
    assert what in found
    assert len(found.splitlines()) == 1
    if line:
        assert found.startswith(f"{name}:{text.count(chr(10)) + 1}: ")


def test_layers_refuse_an_empty_tree(tmp_path):
    assert "no source files" in layers(tmp_path)


# -- other versions of the server -----------------------------------------------------------------

def test_a_version_that_cannot_be_installed_is_a_failure(tmp_path):
    env = os.environ | {"WALTER_ROOTS": str(tmp_path), "WALTER_MIRROR": "http://127.0.0.1:9/debian"}
    env.pop("WALTER_TEST_PORT", None)
    done = subprocess.run([TOP / "scripts" / "matrix", "--no-setup", "--smoke", "--majors", "13"],
                          env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 1
    assert "FAIL  PostgreSQL 13 (could not be installed" in done.stdout
    assert "is the mirror reachable?" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize("test, matrix, total, code", [
    ("echo '7 passed, 0 failed'", "echo '3 passed, 0 failed'", "10 passed, 0 failed", 0),
    ("echo '7 passed, 2 failed'; exit 1", "echo '3 passed, 0 failed'", "10 passed, 2 failed", 1),
    ("echo '7 passed, 0 failed'", "echo '3 passed, 1 failed'; exit 1", "10 passed, 1 failed", 1),
    ("echo '7 passed, 0 failed'", "exit 1", "7 passed, 1 failed", 1),
    ("echo nothing", "echo '3 passed, 0 failed'", "3 passed, 1 failed", 1),
    ("echo '7 passed, 0 failed'; exit 3", "echo '3 passed, 0 failed'", "10 passed, 1 failed", 1),
])
def test_continuous_integration_adds_up(tmp_path, test, matrix, total, code):
    shutil.copytree(TOP / ".ci", tmp_path / ".ci")
    (tmp_path / "scripts").mkdir()
    for name, text in (("test", test), ("matrix", matrix)):
        (tmp_path / "scripts" / name).write_text(f"#!/bin/sh\necho 'ok    {name}'\n{text}\n")
        (tmp_path / "scripts" / name).chmod(0o755)
    done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, timeout=30,
                          check=False)
    assert (done.stdout.splitlines(), done.returncode) == (
        ["ok    test"] + (["nothing"] if "nothing" in test else []) + ["ok    matrix", total], code)
