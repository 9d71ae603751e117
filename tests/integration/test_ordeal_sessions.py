"""Walter's sessions ended, cut off or frozen in each phase, with clients that go on writing."""
import threading

import pytest

from support.ordeal import ALTER, Ordeal, create_twins, assert_as_promised, session_pattern
from support.load import TwinLoad
from support.proxy import Proxy
from support.thorough import THOROUGH


PAIRS = [("slot", "control"), ("slot", "stream"),
         ("copy", "control"), ("copy", "keeper"), ("copy", "stream"), ("copy", "apply"),
         ("copy", "copy to"), ("copy", "copy from"),
         ("index", "control"), ("index", "stream"), ("index", "apply"), ("index", "index"),
         ("catch-up", "control"), ("catch-up", "stream"), ("catch-up", "apply"),
         ("cutover", "control"), ("cutover", "stream"), ("cutover", "apply"),
         ("cutover", "cutover")]
# Each session and each phase at least once; that a session was ended is tried in others as well.
CUT = [("slot", "stream"), ("copy", "keeper"), ("copy", "copy to"), ("index", "index"),
       ("index", "control"), ("catch-up", "apply"), ("cutover", "cutover"), ("cutover", "stream")]
FROZEN = [("slot", "stream"), ("copy", "keeper"), ("copy", "stream"), ("copy", "copy from"),
          ("index", "index"), ("catch-up", "control"), ("cutover", "apply")]
PHASES_WITH_STREAM = ["copy", "index", "catch-up", "cutover"]
ENDED = [("copy", "copy from"), ("catch-up", "control"), ("index", "stream")]

# How soon a silent network is noticed, which is a minute where nothing is said.
IMPATIENT = ("keepalives_idle=1 keepalives_interval=1 keepalives_count=1 tcp_user_timeout=1500"
             " connect_timeout=3")


@pytest.fixture
def other(new_db, server):
    """Another database of the same server."""
    return new_db(server)


@pytest.mark.parametrize("phase,session", PAIRS if THOROUGH else ENDED)
def test_ended_by_somebody(db, other, walter, phase, session):
    with Ordeal(db, walter, phase, other) as ordeal:
        db.execute("select pg_terminate_backend(%s)", [ordeal.pid(session)])
        ordeal.end((6,))


@pytest.mark.parametrize("phase,session", PAIRS if THOROUGH else CUT)
def test_cut(db, other, walter, phase, session):
    with Proxy(db.server) as proxy, Ordeal(db, walter, phase, other, env=proxy.env) as ordeal:
        assert proxy.cut(session_pattern(session)) > 0
        ordeal.end((6,))


@pytest.mark.parametrize("phase,session", PAIRS if THOROUGH else FROZEN)
def test_frozen(db, other, walter, phase, session):
    """Nobody says that the connection is gone; it is found out all the same."""
    with Proxy(db.server) as proxy, Ordeal(
            db, walter, phase, other, "-d", f"dbname={db.name} {IMPATIENT}",
            env=proxy.env) as ordeal:
        assert proxy.freeze(session_pattern(session)) > 0
        ordeal.let_go()
        ordeal.run.finish(60, check=False)
        # the server has not heard of it
        proxy.close()
        ordeal.end((6,))


# -- under the lock -------------------------------------------------------------------------------

class WhenLocked:
    """Calls `then` once, when the cutover's session says the first thing after it has its locks."""

    def __init__(self, then):
        self.then = then
        self.seen = threading.Event()

    def __call__(self, session, kind, payload):
        if (session.endswith(" cutover") and kind == "Q" and not self.seen.is_set()
                and payload.startswith(b"set local statement_timeout")):
            self.then()
            self.seen.set()


@pytest.mark.parametrize("session", ["control", "stream", "apply", "cutover"])
def test_frozen_under_the_lock(db, walter, session):
    """The application waits for --lock-hold and a moment, not for a silent connection."""
    create_twins(db)
    with Proxy(db.server) as proxy, TwinLoad(db, "t", "twin", {"n": "int not null"},
                                             keys=(1, 1000)) as load:
        watch = proxy.watch = WhenLocked(lambda: proxy.freeze(session_pattern(session)))
        run = walter.start_perform(ALTER, "--lock-hold", "300", env=proxy.env)
        assert watch.seen.wait(60)
        # by itself walter would go on waiting for a minute
        load.wait_for(20, timeout=30)
        assert run.is_running
        proxy.cut(session_pattern(session))
        result = run.finish(check=False)
        load.wait_for(20)
    assert result.code in (0, 6), str(result)
    assert load.errors == []
    assert load.longest_ms < 10000
    assert_as_promised(db, walter, result)


def test_commit_whose_answer_is_swallowed(db, walter):
    """For the server the session is still there, and idle; nobody has to wait until it is not."""
    create_twins(db)

    def swallow(session, kind, payload):
        swap = session.endswith(" cutover") and kind == "Q" and payload == b"commit\0"
        return "freeze after" if swap else None

    with Proxy(db.server, swallow) as proxy, TwinLoad(db, "t", "twin", {"n": "int not null"},
                                                      keys=(1, 1000)) as load:
        result = walter.perform(ALTER, "-d", f"dbname={db.name} {IMPATIENT}", env=proxy.env,
                                timeout=40)
        load.wait_for(20)
    assert "the server says that the swap has happened" in result.stderr
    assert load.errors == []
    assert_as_promised(db, walter, result)


@pytest.mark.parametrize("phase", PHASES_WITH_STREAM if THOROUGH else ["catch-up"])
def test_tunnel_that_hangs(db, walter, phase):
    """Its near end acknowledges all that it is sent, so the operating system notices nothing."""
    with Proxy(db.server) as proxy, Ordeal(
            db, walter, phase, None, "-d", f"dbname={db.name} {IMPATIENT}",
            env=proxy.env) as ordeal:
        assert proxy.freeze("walter", answers_for_it=True) >= 3
        ordeal.let_go()
        result = ordeal.run.finish(90, check=False)
        proxy.close()
        ordeal.end((6,))
    assert "nothing was heard of the server" in result.stderr
