"""Changes that wait and have no room in memory go to disk, once; a full or broken spool costs time.

Each run is held while its copy waits, and a backlog larger than memory's share comes meanwhile.
"""
import os
import re
import resource

import pytest

from support.hold import Twins, held_copy
from support.reports import COSTS
from support.traces import assert_removed, assert_untouched
from support.wait import wait_until

TABLE = "create table {t} (id int primary key, n int, filler text)"
ROWS = "insert into {t} select i, i, 'x' from generate_series(1, 1000) i"
# 60 MB, of which memory takes 32
BACKLOG = ("insert into {t} select i, i, repeat(i || ' ', 170)"
           " from generate_series(10001, 70000) i",)
MORE = ("update {t} set n = -n, filler = 'y' || filler where id % 10 = 0",
        "delete from {t} where id % 7 = 0",
        "update {t} set id = id + 100000 where id % 1000 = 1")
ALTER = "alter table {t} alter id type bigint"
SPOOLED = r"changes that wait are spooled to files in \"(.*)\", at most (.*) of them"
PAUSED = r"reading of the stream pauses"


def spool_files(run, directory):
    """What the process has open in the directory: (descriptor, size)."""
    found = []
    base = f"/proc/{run.pid}/fd"
    for name in os.listdir(base):
        path = f"{base}/{name}"
        try:
            if os.readlink(path).startswith(f"{directory}/"):
                found.append((path, os.stat(path).st_size))
        except FileNotFoundError:
            pass
    return found


def peak_mb(run):
    with open(f"/proc/{run.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) / 1024


def received_all(db):
    """The server has sent, and walter has read, all that was written so far."""
    end = db.query_one("select pg_current_wal_flush_lsn()")
    wait_until(lambda: db.query_one("select write_lsn >= %s::pg_lsn from pg_stat_replication where"
                                    " pid = (select active_pid from pg_replication_slots"
                                    "         where database = current_database())", [end]),
               "walter has read all", 60)


def decoded_bytes(db):
    return db.query_one("select total_bytes from pg_stat_replication_slots where slot_name ="
                        " (select slot_name from pg_replication_slots"
                        "   where database = current_database())")


def held(walter, directory, *args, alter=ALTER):
    return held_copy(walter, alter.replace("{t}", "t"), f"--spool-dir={directory}", *args)


def test_a_backlog_is_decoded_during_the_copy_and_once(db, walter, tmp_path):
    """One transaction; the shadow has no filler, so only the original's changes are large."""
    if db.server.version < 140000:
        pytest.skip("13 does not count what its slots decode")
    twins = Twins(db, TABLE, ROWS)
    alter = "alter table {t} drop filler"
    with db.connect(autocommit=False) as reader:
        reader.execute("lock table t in access share mode")
        with held(walter, tmp_path, alter=alter) as run:
            twins.do(*BACKLOG)
            received_all(db)
            decoded = decoded_bytes(db)
            assert decoded > 50e6
            log = run.wait_for_log(SPOOLED)
            assert (log.group(1), log.group(2)) == (str(tmp_path), "10.0 GB")
            assert 20e6 < sum(size for _, size in spool_files(run, tmp_path)) < 60e6
            assert os.listdir(tmp_path) == []
            twins.do(*MORE)
        run.wait_for_log("in the way of the lock")
        assert decoded_bytes(db) < 1.5 * decoded
        assert spool_files(run, tmp_path) == []
        assert peak_mb(run) < 80 * COSTS
    result = run.finish()
    assert not re.search(PAUSED, result.stderr)
    assert os.listdir(tmp_path) == []
    twins.assert_equal(alter, 40000)


def test_at_its_limit_reading_pauses_and_goes_on(db, walter, tmp_path):
    """Later no file may grow any more, as on a full disk: reading pauses as well."""
    twins = Twins(db, TABLE, ROWS)
    limit = 8 * 1024 * 1024
    with held(walter, tmp_path, f"--spool-limit={limit}") as run:
        twins.do(*BACKLOG)
        run.wait_for_log(PAUSED)
        assert limit / 2 < sum(size for _, size in spool_files(run, tmp_path)) <= limit
        twins.do(*MORE)
        run.wait_for_log(r"copying.* waiting, spooled [78]\.\d MB, reading paused, lag")
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (500000, resource.RLIM_INFINITY))
    result = run.finish()
    assert len(re.findall(PAUSED, result.stderr)) == 1
    assert len(re.findall("warning: could not write to a spool file.*; nothing is lost",
                          result.stderr)) == 1
    twins.assert_equal(ALTER, 40000)


def test_a_spool_that_is_damaged_ends_the_run(db, walter, tmp_path):
    Twins(db, TABLE, ROWS)
    with held(walter, tmp_path) as run:
        db.execute(BACKLOG[0].replace("{t}", "t"))
        run.wait_for_log(SPOOLED)
        received_all(db)
        path, size = spool_files(run, tmp_path)[0]
        with open(path, "r+b", buffering=0) as file:
            file.seek(size // 2 + 5000)   # not where a record begins
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    result = run.finish(check=1)
    assert re.search("could not read back what was spooled .*checksum is wrong", result.stderr)
    assert "hint: Run the statement again with another --spool-dir" in result.stderr
    assert_removed(db)
    assert db.query_one("select count(*) from t") == 61000
    assert db.query_one("select pg_typeof(id)::text from t limit 1") == "integer"


def test_a_run_that_is_killed_leaves_no_file(db, walter, tmp_path):
    Twins(db, TABLE, ROWS)
    with held(walter, tmp_path) as run:
        db.execute(BACKLOG[0].replace("{t}", "t"))
        assert run.wait_for_log(SPOOLED).group(1) == str(tmp_path)
        run.kill()
        assert os.listdir(tmp_path) == []
    walter.run("cleanup", "--yes")


def test_a_directory_that_does_not_do_is_refused(db, walter, tmp_path):
    db.execute(TABLE.replace("{t}", "t"))
    result = walter.perform(ALTER.replace("{t}", "t"), f"--spool-dir={tmp_path}/none", check=2)
    assert f'could not make a spool file in "{tmp_path}/none"' in result.stderr
    assert "hint: Name another directory with --spool-dir" in result.stderr
    assert_untouched(db)
    # without a choice of the operator's there is a way without
    result = walter.perform(ALTER.replace("{t}", "t"), env={"TMPDIR": f"{tmp_path}/none"})
    assert re.search("warning: .*spool file.*will wait on the server", result.stderr, re.I)
