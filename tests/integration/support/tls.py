"""A certificate authority of the test's own, and passwords that a server asks for."""
import os
import shutil
import subprocess
from pathlib import Path

HBA = """
local all {superuser} trust
host all {superuser} 127.0.0.1/32 trust
local all all scram-sha-256
hostssl all all 127.0.0.1/32 scram-sha-256
hostssl all all ::1/128 scram-sha-256
"""


def make_ca(directory, name):
    """A certificate authority: {name}.crt and {name}.key in the directory.  Returns the former."""
    certificate = Path(directory) / f"{name}.crt"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-out", certificate,
             "-keyout", certificate.with_suffix(".key"))
    return certificate


def make_certificate(directory, ca, host):
    """server.crt and server.key for a host, signed by that authority."""
    key, request = Path(directory) / "server.key", Path(directory) / "server.csr"
    names = Path(directory) / "names"
    names.write_text(f"subjectAltName=DNS:{host}\n", encoding="ascii")
    _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", f"/CN={host}", "-keyout", key, "-out", request)
    _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca.with_suffix(".key"),
             "-CAcreateserial", "-days", "2", "-extfile", names,
             "-out", Path(directory) / "server.crt")


def _openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"openssl {args[0]} failed: {done.stderr}"


def secure(server, directory):
    """Have a server of ours use that certificate, and ask everybody but its superuser for a password.

    By TCP it then lets nobody else in without TLS.
    """
    data = Path(server.description["data"])
    owner = data.stat()
    for name in ("server.crt", "server.key"):
        shutil.copy(Path(directory) / name, data / name)
        os.chmod(data / name, 0o600)
    (data / "pg_hba.conf").write_text(HBA.format(superuser=server.user), encoding="ascii")
    for name in ("server.crt", "server.key", "pg_hba.conf"):
        os.chown(data / name, owner.st_uid, owner.st_gid)
    with server.connect() as conn:
        conn.execute("alter system set ssl = on")
        conn.execute("select pg_reload_conf()")
