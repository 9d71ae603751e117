"""Nobody reads the log: the run goes on, and what he missed is there when he reads again."""
import fcntl
import os
import subprocess
import threading

from support.wait import wait_for_session, wait_until

TABLE = ("create table t (id int primary key, n int);"
         "insert into t select i, i from generate_series(1, 100) i")
ALTER = "alter table t alter n type bigint"


def start_with_full_pipe(walter, *args):
    """A walter whose stderr takes nothing, and the end of the pipe where it would be read."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(theirs, False)
    try:
        while True:
            os.write(theirs, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(theirs, True)
    process = subprocess.Popen([walter.path, "perform", "-v", "-a", ALTER, *args],
                               env={**os.environ, **walter.db.env}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    return process, ours


def column_type(db):
    return db.query_one("select format_type(atttypid, atttypmod) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'")


def test_nobody_ever_reads(db, walter):
    db.execute(TABLE)
    process, ours = start_with_full_pipe(walter)
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(ours)
    assert column_type(db) == "bigint"


def test_somebody_reads_again(db, walter):
    db.execute(TABLE)
    reader = db.connect(autocommit=False)
    reader.execute("lock table t in access share mode")
    process, ours = start_with_full_pipe(walter)
    log = []

    def read():
        while chunk := os.read(ours, 4096):
            log.append(chunk)

    try:
        wait_for_session(db, "cutover")
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        wait_until(lambda: b"in the way of the lock" in b"".join(log), "the log is read")
        reader.close()
        assert process.wait(60) == 0
        thread.join(10)
    finally:
        process.kill()
        os.close(ours)
    lines = b"".join(log).decode().strip("\n").split("\n")
    assert "debug: phase preflight" in lines[0]
    assert [line for line in lines if "replication slot" in line and "is consistent" in line]
    assert "info: done: 100 rows copied" in lines[-1]
    assert column_type(db) == "bigint"
