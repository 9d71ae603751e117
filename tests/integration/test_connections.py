"""All the ways that libpq knows to reach a server lead a whole run to its end, in each session."""
import os
from urllib.parse import quote

import pytest

from support.server import Server
from support.tls import make_ca, make_certificate, secure
from support.traces import assert_finished, assert_untouched
from support.wait import wait_until

ALTER = "alter table t alter n type bigint"
# what has to be written in another way in one place or the other
PASSWORD = "s3cr/t @:é'\\ %?#"
NOBODY_LISTENS = 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Where certificates, service files and the like are."""
    return tmp_path_factory.mktemp("connections")


@pytest.fixture(scope="module")
def server(files):
    """A server with TLS and passwords, on the Unix socket, 127.0.0.1 and ::1."""
    one = Server.start(os.environ.get("WALTER_TEST_MAJOR", "15"), fast=True,
                       settings={"listen_addresses": "127.0.0.1,::1",
                                 "password_encryption": "scram-sha-256"})
    try:
        make_certificate(files, make_ca(files, "ca"), "localhost")
        make_ca(files, "stranger")
        secure(one, files)
        with one.connect() as conn:
            wait_until(lambda: conn.execute("show ssl").fetchone() == ("on",), "TLS is on")
        yield one
    finally:
        one.remove()


@pytest.fixture
def role(db, owner):
    """The ordinary role, with a password and a table."""
    db.execute(f"alter role {owner.user} password {quoted(PASSWORD)}")
    db.execute("create table t (id int primary key, n int);"
               "insert into t select i, i from generate_series(1, 100) i;"
               f"alter table t owner to {owner.user}")
    return owner.user


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def assert_done(db):
    """The run is over, and each of its sessions has come by its own."""
    assert db.query_one("select format_type(atttypid, -1) from pg_attribute"
                        " where attrelid = 't'::regclass and attname = 'n'") == "bigint"
    assert db.query_one("select count(*), sum(n) from t") == (100, 5050)
    assert_finished(db)


def tcp(server, role, db, host="127.0.0.1"):
    return {"PGHOST": host, "PGPORT": str(server.port), "PGUSER": role, "PGDATABASE": db.name}


def test_tls_with_a_verified_certificate(server, db, walter, role, files):
    """The role is let in by nothing else, so all sessions have it, that of the stream, too."""
    walter.perform(ALTER, env={**tcp(server, role, db, "localhost"), "PGPASSWORD": PASSWORD,
                               "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(files / "ca.crt")})
    assert_done(db)


@pytest.mark.parametrize("host, ca, complaint", [
    ("127.0.0.1", "ca", "does not match host name"),
    ("localhost", "stranger", "certificate verify failed")])
def test_a_certificate_that_proves_nothing(server, db, walter, role, files, host, ca, complaint):
    result = walter.perform(
        ALTER, check=6, env={**tcp(server, role, db, host), "PGPASSWORD": PASSWORD,
                             "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(files / f"{ca}.crt")})
    assert complaint in result.stderr
    assert_untouched(db)


def test_without_tls_where_it_is_demanded(server, db, walter, role):
    result = walter.perform(ALTER, check=2, env={**tcp(server, role, db), "PGSSLMODE": "disable",
                                                 "PGPASSWORD": PASSWORD})
    assert "no encryption" in result.stderr or "SSL off" in result.stderr
    assert_untouched(db)


# -- where the password comes from ----------------------------------------------------------------

def password_file(files, server, role, db):
    written = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    path = files / "pgpass"
    path.write_text(f"127.0.0.1:{server.port}:{db.name}:{role}:{written}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def service_file(files, server, role, db):
    path = files / "pg_service.conf"
    path.write_text(f"[shop]\nhost=127.0.0.1\nport={server.port}\nuser={role}\n"
                    f"dbname={db.name}\npassword={PASSWORD}\n", encoding="utf-8")
    return path


def uri(role, db, hosts):
    return f"postgresql://{role}:{quote(PASSWORD, safe='')}@{hosts}/{db.name}"


def by_variable(server, role, db, _):
    return [], {**tcp(server, role, db), "PGPASSWORD": PASSWORD}


def by_password_file(server, role, db, files):
    return [], {**tcp(server, role, db),
                "PGPASSFILE": str(password_file(files, server, role, db))}


def by_service_file(server, role, db, files):
    return ["-d", "service=shop"], {"PGSERVICEFILE": str(service_file(files, server, role, db))}


def by_service_variable(server, role, db, files):
    return [], {"PGSERVICE": "shop", "PGSERVICEFILE": str(service_file(files, server, role, db))}


def by_option(server, role, db, _):
    return ["-h", "127.0.0.1", "-p", server.port, "-u", role, "-d", db.name,
            "--password", PASSWORD], {}


def by_uri(server, role, db, _):
    return ["-d", uri(role, db, f"127.0.0.1:{server.port}")], {}


def by_key_value(server, role, db, _):
    word = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    return ["-d", f"host=127.0.0.1 port={server.port} user={role} dbname={db.name}"
                  f" password='{word}'"], {}


def by_socket(server, role, db, _):
    return ["-h", server.description["host"]], {"PGPASSWORD": PASSWORD, "PGUSER": role,
                                                "PGDATABASE": db.name}


def by_ipv6(server, role, db, _):
    return [], {**tcp(server, role, db, "::1"), "PGPASSWORD": PASSWORD}


def by_the_second_host(server, role, db, _):
    return ["-d", uri(role, db, f"127.0.0.1:{NOBODY_LISTENS},[::1]:{server.port}")], {}


WAYS = [by_variable, by_password_file, by_service_file, by_service_variable, by_option, by_uri,
        by_key_value, by_socket, by_ipv6, by_the_second_host]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_leads_to_the_server_and_shows_no_password(server, db, walter, role, files, way):
    """Not in the log, which is as long as it can be, nor on the server, while it runs or after."""
    args, env = way(server, role, db, files)
    # it waits for this reader, and can be looked at
    with db.connect(autocommit=False) as reader:
        reader.execute("lock table t in access share mode")
        run = walter.start_perform(ALTER, "-v", *args, env=env)
        run.wait_for_log("in the way of the lock")
        seen = db.query("select a::text from pg_stat_activity a"
                        " where application_name like 'walter: %'")
        states = db.query("select r::text from walter.run r")
    result = run.finish()
    assert len(seen) >= 4 and len(states) == 1
    for text in (result.stdout, result.stderr, str(seen), str(states),
                 str(db.query("select r::text from walter.run r"))):
        assert_no_part_of(PASSWORD, text)
    assert_done(db)


def assert_no_part_of(password, text):
    for form in (password, quote(password, safe=""), "s3cr"):
        assert form not in text


# -- connections that fail ------------------------------------------------------------------------

WRONG = {"wrong password": ({"PGPASSWORD": "s3cret"}, 2, "authentication failed"),
         "no such role": ({"PGUSER": "nobody", "PGPASSWORD": "s3cret"}, 2, "authentication failed"),
         "no such database": ({"PGDATABASE": "nothing"}, 2, "does not exist"),
         "no server": ({"PGPORT": str(NOBODY_LISTENS)}, 6, "could not connect"),
         "no host": ({"PGHOST": "no.such.host.invalid"}, 6, "could not connect")}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_shows_no_password(server, db, walter, role, what):
    change, code, complaint = WRONG[what]
    variables = {**tcp(server, role, db), "PGPASSWORD": PASSWORD, **change}
    result = walter.perform(ALTER, "-v", check=code, env=variables)
    assert complaint in result.stderr
    assert "s3cr" not in result.stderr
    result = walter.perform(
        ALTER, "-v", "-d", f"postgresql://{variables['PGUSER']}:"
        f"{quote(variables['PGPASSWORD'], safe='')}@{variables['PGHOST']}:{variables['PGPORT']}/{variables['PGDATABASE']}", check=code)
    assert complaint in result.stderr
    assert "s3cr" not in result.stderr
    assert_untouched(db)


# libpq finds the parts of these in the wrong places, and would say of them what it misses there
@pytest.mark.parametrize("dbname", [
    "postgresql://u:s3cr/et@h/x", "postgresql://u:1/s3cr@h/x", "postgresql://u:12s3cr/et@h/x",
    "postgresql://u:x@s3cr@h/x", "postgresql://u:%zzs3cr@h/x", "postgresql://u:s3cr@[h/x",
    "postgresql://u:s3cr@h/x?passwort=s3cr", "postgresql://u@h/x?password=s3cr&s3cr",
    "host=h password=my s3cr", "host=h password=my s3cr=x", "host=h password='s3cr",
    "host=h passwort=s3cr"])
@pytest.mark.parametrize("command", [("perform", "-a", ALTER), ("cleanup",)], ids=lambda c: c[0])
def test_a_connection_string_that_cannot_be_read_shows_no_password(walter, command,
                                                                   dbname):
    result = walter.run(*command, "-v", "-d", dbname, check=1)
    assert "could not read the connection string" in result.stderr
    assert "s3cr" not in result.stderr
