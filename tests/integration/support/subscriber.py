"""What a subscriber of a publication is sent, read from a slot with pgoutput."""
import struct

SLOT = "subscriber"


class Subscriber:
    """A logical slot on a publication, and the row changes that it has brought so far."""

    def __init__(self, db, publication):
        self.db = db
        self.publication = publication
        self.changes = []      # (operation, qualified table, {column: text})
        self._tables = {}
        db.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])

    def read(self):
        """Take everything that is committed by now; returns all changes so far."""
        rows = self.db.query(
            "select data from pg_logical_slot_get_binary_changes(%s, null, null, 'proto_version',"
            " '1', 'publication_names', %s)", [SLOT, self.publication])
        for (data,) in rows:
            self._take(Message(bytes(data)))
        return self.changes

    def drop(self):
        self.db.execute("select pg_drop_replication_slot(%s)", [SLOT])

    def _take(self, message):
        kind = message.byte()
        if kind == "R":
            oid, schema, name = message.int4(), message.text(), message.text()
            message.byte()
            columns = []
            for _ in range(message.int2()):
                message.skip(1)
                columns.append(message.text())
                message.skip(8)
            self._tables[oid] = (f"{schema}.{name}", columns)
        elif kind in "IUD":
            table, columns = self._tables[message.int4()]
            row = {}
            while message.left():
                part = message.byte()
                if part in "KON":
                    row = message.tuple(columns)
            self.changes.append((kind, table, row))
        elif kind == "T":
            count = message.int4()
            message.skip(1)
            for _ in range(count):
                self.changes.append((kind, self._tables[message.int4()][0], {}))


class Message:
    """Reads the parts of one message of pgoutput's protocol."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def left(self):
        return len(self.data) - self.at

    def skip(self, count):
        self.at += count

    def _number(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def byte(self):
        return chr(self._number("!B"))

    def int2(self):
        return self._number("!h")

    def int4(self):
        return self._number("!i")

    def text(self):
        end = self.data.index(b"\0", self.at)
        value = self.data[self.at:end].decode()
        self.at = end + 1
        return value

    def tuple(self, columns):
        row = {}
        for column in columns[:self.int2()]:
            kind = self.byte()
            if kind == "t":
                size = self.int4()
                row[column] = self.data[self.at:self.at + size].decode()
                self.skip(size)
            elif kind == "n":
                row[column] = None
        return row
