"""Clients that write while a run goes on, and know afterwards what must be there.

Every client is a process with a connection of its own.  A load offers start(), stop(), errors (what
any client was told, as text), operations (committed transactions) and longest_ms (the longest
single transaction, which is what a lock costs the application).  Use it as a context manager, or call
stop() yourself.
"""
import datetime
import decimal
import multiprocessing
import random
import time
import traceback
import uuid

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from .wait import PATIENCE_S

PROCESSES = multiprocessing.get_context("fork")

# Results that a client reports while it runs.
COMMITTED, LONGEST_US, UNKNOWN, FIRST_OWN = range(4)
COUNTERS = 8


class RollBack(Exception):
    """Raised by Client.transaction() to roll back on purpose."""


class Client:
    """The part of a load that lives in a client process.  Subclasses say what a transaction does."""

    def __init__(self, number, load, counters):
        self.number = number
        self.load = load
        self.counters = counters
        self.random = random.Random(f"{load.seed}/{number}")
        self.errors = []
        self.conn = None

    def prepare(self):
        """After every (re)connect and every error: learn again what is in the table."""

    def transaction(self):
        """Do the work of one transaction, between begin and commit; return what committed() takes.

        Raising RollBack undoes it on purpose.
        """
        raise NotImplementedError

    def committed(self, outcome):
        """The transaction is committed."""

    def unknown(self, outcome):
        """The connection was lost while the commit was under way."""

    # -- the loop, the same for all -----------------------------------------------------------

    def run(self, stop):
        while not stop.is_set():
            try:
                if self.conn is None:
                    self._connect()
                self._one()
            except psycopg.Error as error:
                self._failed(error)
                if stop.wait(0.05):
                    break
                continue
            if self.load.pause_ms and stop.wait(self.load.pause_ms / 1000):
                break
        if self.conn is not None:
            self.conn.close()

    def _connect(self):
        threshold = 0 if self.load.prepared and self.number % 2 == 0 else None
        conn = psycopg.connect(self.load.db.dsn, autocommit=True, prepare_threshold=threshold,
                               application_name=f"load {self.number}")
        conn.execute("set lock_timeout = 0")
        self.conn = conn
        self.prepare()

    def _one(self):
        committing = False
        outcome = None
        begun = time.monotonic()
        try:
            self.conn.execute("begin")
            outcome = self.transaction()
            committing = True
            self.conn.execute("commit")
        except RollBack:
            self.conn.execute("rollback")
            self._measure(begun)
            return
        except psycopg.Error:
            self._measure(begun)
            if committing and self.conn.closed:
                self.counters[UNKNOWN] += 1
                self.unknown(outcome)
            raise
        self._measure(begun)
        self.committed(outcome)
        self.counters[COMMITTED] += 1

    def _measure(self, begun):
        took_us = int((time.monotonic() - begun) * 1e6)
        self.counters[LONGEST_US] = max(self.counters[LONGEST_US], took_us)

    def _failed(self, error):
        self.report(f"{error.sqlstate or type(error).__name__}: {str(error).strip()}")
        try:
            if self.conn is not None and not self.conn.closed:
                self.conn.execute("rollback")
                self.prepare()
        except psycopg.Error as again:
            self.report(f"while recovering: {str(again).strip()}")
        if self.conn is not None and self.conn.closed:
            self.conn = None

    def report(self, text):
        if len(self.errors) < 200:
            self.errors.append(f"client {self.number}: {text}")


def _client_main(client, stop, pipe):
    try:
        client.run(stop)
    except BaseException:   # pylint: disable=broad-except
        client.report(traceback.format_exc())
    pipe.send(client.errors)
    pipe.close()


class Load:
    """Starts, stops and adds up the clients.  Subclasses name their client class."""

    client_class = Client

    def __init__(self, db, clients=2, pause_ms=2, seed=1, prepared=True):
        """`pause_ms`: between two transactions of a client; 0 is as fast as it can.

        `prepared`: every other client uses prepared statements.
        """
        self.db = db
        self.clients = clients
        self.pause_ms = pause_ms
        self.seed = seed
        self.prepared = prepared
        self.errors = []
        self._stop = PROCESSES.Event()
        self._running = []
        self._counters = []

    def start(self):
        assert not self._counters, "a load can be started only once"
        self.db.stop_at_the_end(self)
        for number in range(self.clients):
            counters = PROCESSES.RawArray("q", COUNTERS)
            client = self.client_class(number, self, counters)
            ours, theirs = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(target=_client_main, args=(client, self._stop, theirs),
                                        daemon=True)
            process.start()
            theirs.close()
            self._counters.append(counters)
            self._running.append((process, ours))
        return self

    def stop(self, timeout=60):
        """Let every client finish its transaction, and collect the errors.

        A client that does not end within `timeout` s (its statement hangs) is an error too.
        """
        self._stop.set()
        deadline = time.monotonic() + timeout
        for number, (process, pipe) in enumerate(self._running):
            try:
                if pipe.poll(max(0, deadline - time.monotonic())):
                    self.errors += pipe.recv()
                else:
                    self.errors.append(f"client {number}: still busy {timeout} s after stop()")
            except EOFError:
                self.errors.append(f"client {number}: process died")
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
        self._running = []
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def total(self, counter):
        return sum(counters[counter] for counters in self._counters)

    @property
    def operations(self):
        """Transactions whose commit was acknowledged; counts while the load runs."""
        return self.total(COMMITTED)

    @property
    def unknown(self):
        """Commits without an answer, because the connection was lost."""
        return self.total(UNKNOWN)

    @property
    def longest_ms(self):
        """The longest single transaction so far, from begin to the answer of commit."""
        return max((counters[LONGEST_US] for counters in self._counters), default=0) / 1000

    def reset_longest(self):
        """Measure from here on, for a test that looks at one phase alone."""
        for counters in self._counters:
            counters[LONGEST_US] = 0

    def wait_for(self, more, timeout=PATIENCE_S):
        """Wait until `more` further transactions are committed."""
        target = self.operations + more
        deadline = time.monotonic() + timeout
        while self.operations < target:
            assert time.monotonic() < deadline, (
                f"only {self.operations} of {target} transactions after {timeout} s")
            assert all(process.is_alive() for process, _ in self._running), "a client died"
            time.sleep(0.005)


# -- values -------------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß漢字'\"\\%,{}"


def _text(rng):
    return "".join(rng.choices(LETTERS, k=rng.randint(0, 20)))


def _toast(rng):
    # Hex digits of random bytes: too long for the row even compressed.
    return rng.randbytes(rng.randint(4000, 9000)).hex()


KINDS = {
    "int": lambda rng: rng.randint(-1_000_000, 1_000_000),
    "smallint": lambda rng: rng.randint(-9999, 9999),
    "bigint": lambda rng: rng.randint(-2**62, 2**62),
    "numeric": lambda rng: decimal.Decimal(rng.randint(-10**17, 10**17)).scaleb(-rng.randint(0, 8)),
    "float": lambda rng: rng.choice([rng.uniform(-1e9, 1e9), 0.1, -0.0, float("inf"), 1e-300]),
    "bool": lambda rng: rng.random() < 0.5,
    "text": _text,
    "toast": _toast,
    "bytea": lambda rng: rng.randbytes(rng.randint(0, 30)),
    "uuid": lambda rng: uuid.UUID(int=rng.getrandbits(128)),
    "date": lambda rng: datetime.date(2000, 1, 1) + datetime.timedelta(days=rng.randint(0, 20000)),
    "timestamptz": lambda rng: datetime.datetime.fromtimestamp(
        rng.randint(0, 2 * 10**9), datetime.timezone.utc) + datetime.timedelta(
            microseconds=rng.randint(0, 999_999)),
    "jsonb": lambda rng: Jsonb({"a": rng.randint(0, 99), "b": [None, _text(rng)]}),
    "array": lambda rng: [rng.randint(0, 9) for _ in range(rng.randint(0, 4))],
}


class Column:
    """A column that a load writes, parsed from "kind" or "kind not null"; kinds are KINDS' keys."""

    def __init__(self, name, kind):
        self.name = name
        self.not_null = kind.endswith(" not null")
        self.kind = kind.removesuffix(" not null")
        assert self.kind in KINDS, f"unknown kind of column: {kind}"

    def value(self, rng):
        if not self.not_null and rng.random() < 0.15:
            return None
        return KINDS[self.kind](rng)


def _columns(columns):
    return [Column(name, kind) for name, kind in columns.items()]


def table_name(name):
    """A table's name as SQL: "t" or ("schema", "t")."""
    return sql.Identifier(*((name,) if isinstance(name, str) else name))


# -- the twin load ------------------------------------------------------------------------------

class TwinClient(Client):
    """Writes both tables alike in every transaction.

    Without sharing, `live` is exactly the set of this client's keys, so every statement's row count
    is known beforehand.  With sharing, the twin is written where the table's statement found a row,
    whose lock keeps the others from the twin's row as well.
    """

    ACTIONS = {"update": 40, "insert": 20, "delete": 12, "key": 8, "hot": 15, "range": 5}

    def prepare(self):
        load = self.load
        # Keys of a shared range are anybody's; those beyond it belong to who made them.
        span = (load.keys[1] - load.keys[0] + 1) // load.clients
        first = load.keys[0] + self.number * span
        self.range = load.keys if load.shared else (first, first + span - 1)
        self.fresh_range = (load.keys[1] + 1 + self.number * 10**7,
                            load.keys[1] + (self.number + 1) * 10**7)
        self.live = set()
        rows = []
        if not load.shared:
            rows += self._keys_within(self.range)
        rows += self._keys_within(self.fresh_range)
        self.live.update(rows)
        # Committed or not, a key once taken is not taken again.
        self.next_fresh = max(getattr(self, "next_fresh", self.fresh_range[0]),
                              max(rows, default=0) + 1)

    def _keys_within(self, bounds):
        load = self.load
        query = sql.SQL("select {key} from {twin} where {key} between %s and %s").format(
            key=sql.Identifier(load.key), twin=table_name(load.twin))
        return [key for (key,) in self.conn.execute(query, bounds).fetchall()]

    def transaction(self):
        rng = self.random
        before = set(self.live)
        try:
            self._steps(rng.choice([1, 1, 1, 2, 3, 8]))
            if rng.random() < 0.15:
                self._undone_savepoint()
            if rng.random() < 0.07:
                raise RollBack
        except BaseException:
            self.live = before
            raise

    def _undone_savepoint(self):
        before = set(self.live)
        self.conn.execute("savepoint s")
        self._steps(2, self.highest)
        self.conn.execute("rollback to savepoint s")
        self.live = before
        if self.random.random() < 0.5:
            self._steps(1, self.highest)

    def _steps(self, count, above=None):
        """Run actions in the order of their keys, the rule that keeps clients from deadlocks."""
        self.highest = above if above is not None else self.load.keys[0] - 1
        for action, key in sorted((self._choose() for _ in range(count)), key=lambda step: step[1]):
            if self.load.shared and key < self.highest:
                continue
            self.highest = max(self.highest, key)
            getattr(self, f"_{action}")(key)

    def _choose(self):
        rng = self.random
        action = rng.choices(list(self.load.actions), list(self.load.actions.values()))[0]
        if action == "hot":
            return "update", self.range[0] + rng.randint(0, 3)
        if action != "insert" and self.live and (not self.load.shared or rng.random() < 0.2):
            return action, rng.choice(tuple(self.live))
        return action, rng.randint(*self.range)

    # -- one action each ----------------------------------------------------------------------

    def _insert(self, key):
        load = self.load
        if not load.shared and key in self.live:
            self._update(key)
            return
        names = [load.key] + [column.name for column in load.columns]
        values = [key] + [column.value(self.random) for column in load.columns]
        template = "insert into {table} ({names}) overriding system value values ({marks})" + (
            " on conflict do nothing" if load.shared else "")
        self._both(key, template, values, names=_list(names, sql.Identifier),
                   marks=sql.SQL(", ").join(sql.Placeholder() * len(names)))
        if not load.shared:
            self.live.add(key)

    def _update(self, key):
        """Sets some columns; the others, TOASTed ones among them, stay as they are."""
        load = self.load
        if not load.columns:
            return
        chosen = self.random.sample(load.columns, self.random.randint(1, len(load.columns)))
        values = [column.value(self.random) for column in chosen] + [key]
        self._both(key, "update {table} set {pairs} where {key} = %s", values,
                   pairs=_list([column.name for column in chosen], _assignment))

    def _delete(self, key):
        self._both(key, "delete from {table} where {key} = %s", [key])
        self.live.discard(key)

    def _key(self, key):
        """Moves the row to a key nobody ever had; only this client can know of it."""
        fresh = self.next_fresh
        self.next_fresh += 1
        if self._both(key, "update {table} set {key} = %s where {key} = %s", [fresh, key]):
            self.live.discard(key)
            self.live.add(fresh)

    def _range(self, key):
        """One statement for several rows, and not all of them by a new value."""
        load = self.load
        number = next((column for column in load.columns if column.kind == "int"), None)
        if load.shared or number is None:
            self._update(key)
            return
        last = min(key + 9, self.range[1]) if key <= self.range[1] else key
        expected = sum(1 for one in range(key, last + 1) if one in self.live)
        self._both(key, "update {table} set {number} = -{number} where {key} between %s and %s",
                   [key, last], expected, number=sql.Identifier(number.name))

    def _both(self, key, template, values, expected=None, **parts):
        """Run a statement on the table and, alike, on its twin; return the row count.

        `expected`: rows that it must touch; None is one row if the key is ours and lives.
        """
        load = self.load
        parts["key"] = sql.Identifier(load.key)
        count = self._execute(load.table, template, values, parts)
        if load.shared and key not in self.live and count == 0:
            return 0
        twin_count = self._execute(load.twin, template, values, parts)
        if count != twin_count:
            self.report(f"{count} rows in the table, {twin_count} in its twin: {template} {key}")
        if not load.shared:
            known = int(key in self.live or template.startswith("insert"))
            wanted = known if expected is None else expected
            if twin_count != wanted:
                self.report(f"{twin_count} rows in the twin, {wanted} expected: {template} {key}")
        return count

    def _execute(self, table, template, values, parts):
        statement = sql.SQL(template).format(table=table_name(table), **parts)
        return self.conn.execute(statement, values).rowcount


def _list(names, form):
    return sql.SQL(", ").join(form(name) for name in names)


def _assignment(name):
    return sql.SQL("{} = %s").format(sql.Identifier(name))


class TwinLoad(Load):
    """Random writes to a table and, alike, to a twin that nobody alters."""

    client_class = TwinClient

    def __init__(self, db, table, twin, columns, key="id", keys=(1, 10000), shared=False,
                 actions=None, **options):
        """`table`, `twin`: names ("t" or ("schema", "t")) of tables with equal rows.

        `columns`: {name: kind} of what is written beside the key, see KINDS.  Leave out the columns
        that the ALTER drops or renames.  `keys`: the range that the clients divide among themselves
        or, with `shared`, fight over.  Key changes use keys above it.  `actions`: weights that
        replace some of TwinClient.ACTIONS: {"key": 0} for a key that is GENERATED ALWAYS AS
        IDENTITY, {"range": 0} where an "int" column's new type has no unary minus.
        """
        super().__init__(db, **options)
        self.table = table
        self.twin = twin
        self.columns = _columns(columns)
        self.key = key
        self.keys = keys
        self.shared = shared
        self.actions = {**TwinClient.ACTIONS, **(actions or {})}


def compare(db, select_a, select_b, limit=10):
    """Compare what two queries return, both in one snapshot.

    Returns (rows, differences): the row count of the first, and up to `limit` rows that only one
    of them has (doubles count) as ("only in first" or "only in second", row).
    """
    statement = f"""
        with a as materialized ({select_a}), b as materialized ({select_b}),
             first_only as (select 'only in first', q::text from (table a except all table b) q
                             limit {limit}),
             second_only as (select 'only in second', q::text from (table b except all table a) q
                              limit {limit})
        select '', count(*)::text from a
        union all table first_only union all table second_only"""
    rows = db.query(statement)
    differences = [row for row in rows if row[0]]
    (count,) = [int(row[1]) for row in rows if not row[0]]
    return count, differences[:limit]


def assert_same(db, select_a, select_b, min_rows=1):
    """Fail unless both queries return the same rows, and at least `min_rows` of them."""
    rows, differences = compare(db, select_a, select_b)
    text = "\n".join(f"{side}: {row[:300]}" for side, row in differences)
    assert not differences, f"rows differ:\n{text}"
    assert rows >= min_rows, f"only {rows} rows were compared"


# -- the counter load ---------------------------------------------------------------------------

INSERTED, DELETED, MAYBE = range(FIRST_OWN, FIRST_OWN + 3)


class CounterClient(Client):
    """Inserts rows, deletes some of its own, and counts what was acknowledged."""

    def prepare(self):
        if not hasattr(self, "own"):
            self.own = []
            self.next_key = self.load.first_key + self.number * 10**7

    def transaction(self):
        rng = self.random
        removed = rng.choice(self.own) if self.own and rng.random() < 0.3 else None
        added = [self._insert() for _ in range(rng.choice([1, 1, 2, 5]))]
        if removed is not None:
            self._delete(removed)
        if rng.random() < 0.05:
            raise RollBack
        return added, removed

    def _insert(self):
        load = self.load
        names = [column.name for column in load.columns]
        values = [column.value(self.random) for column in load.columns]
        if not load.generated_key:
            self.next_key += 1
            names, values = [load.key] + names, [self.next_key] + values
        statement = sql.SQL("insert into {} ({}) values ({}) returning {}").format(
            table_name(load.table), _list(names, sql.Identifier),
            sql.SQL(", ").join(sql.Placeholder() * len(names)), sql.Identifier(load.key))
        return self.conn.execute(statement, values).fetchone()[0]

    def _delete(self, key):
        statement = sql.SQL("delete from {} where {} = %s").format(
            table_name(self.load.table), sql.Identifier(self.load.key))
        count = self.conn.execute(statement, [key]).rowcount
        if count != 1:
            self.report(f"deleting the own row {key} found {count} rows")

    def committed(self, outcome):
        added, removed = outcome
        self.own += added
        self.counters[INSERTED] += len(added)
        if removed is not None:
            self.own.remove(removed)
            self.counters[DELETED] += 1

    def unknown(self, outcome):
        added, removed = outcome
        self.counters[MAYBE] += len(added) + (removed is not None)
        if removed is not None:
            self.own.remove(removed)


class CounterLoad(Load):
    """Inserts and deletes; the table must gain exactly `gained` rows.

    After a lost connection `maybe` rows more or fewer are possible.
    """

    client_class = CounterClient

    def __init__(self, db, table, columns, key="id", first_key=10_000_000, generated_key=False,
                 **options):
        """`generated_key`: let the table's own default or identity make the keys.

        It needs at least one column in `columns`.
        """
        super().__init__(db, **options)
        self.table = table
        self.columns = _columns(columns)
        self.key = key
        self.first_key = first_key
        self.generated_key = generated_key

    @property
    def inserted(self):
        return self.total(INSERTED)

    @property
    def deleted(self):
        return self.total(DELETED)

    @property
    def gained(self):
        return self.inserted - self.deleted

    @property
    def maybe(self):
        return self.total(MAYBE)
