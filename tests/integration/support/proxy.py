"""A TCP proxy between walter and the server, for losing connections at a chosen moment."""
import ctypes
import re
import socket
import struct
import threading

# A packet filter that lets nothing in: not even an acknowledgement reaches the socket or leaves it,
# so to the other end it looks as if the cable were pulled.
SO_ATTACH_FILTER = 26
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)


class Proxy:
    """Forwards connections to a server; `watch` sees each message that a client sends.

    watch(session, kind, payload) returns None to forward it, "cut" to close the connection before
    the message is sent on, "cut after" to send it on and close before the answer is, or "freeze
    after" to send it on and let nothing through from then on.  `session` is the application_name.
    close() stops it, refuse() makes it refuse new connections, cut() and freeze() are for those that
    there are.
    """

    def __init__(self, server, watch=None, backend_pid=None):
        self.server = server
        self.watch = watch or (lambda session, kind, payload: None)
        self.backend_pid = backend_pid   # what BackendKeyData is made to say
        self.refusing = False
        self._sockets = []
        self._links = []   # (session, client, server, state)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def env(self):
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGGSSENCMODE": "disable",
                "PGSSLMODE": "disable"}

    def refuse(self):
        self.refusing = True

    def cut(self, session):
        """Close the connections whose session's name matches; returns how many there were."""
        links = self._matching(session)
        for _, client, server, _ in links:
            _shut(client)
            _shut(server)
        return len(links)

    def freeze(self, session, answers_for_it=False):
        """Let no byte through any more on those that match; returns how many there were.

        `answers_for_it`: as a tunnel that hangs, of which the near end still acknowledges all.
        """
        links = self._matching(session)
        for _, client, server, state in links:
            _freeze(client, server, state, answers_for_it)
        return len(links)

    def _matching(self, session):
        return [link for link in self._links if re.search(session, link[0]) and link[3]["open"]]

    def close(self):
        for one in [self._listener, *self._sockets]:
            _shut(one)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        # Any server listens on this address as well as on its Unix socket.
        try:
            server = socket.create_connection(("127.0.0.1", self.server.port))
        except OSError:
            client.close()
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets += [client, server]
        state = {"answering": True, "frozen": False, "open": True}
        back = threading.Thread(target=self._answers, args=(client, server, state), daemon=True)
        back.start()
        try:
            self._requests(client, server, state)
        except OSError:
            pass
        state["open"] = False
        _shut(server)
        _shut(client)
        client.close()
        back.join()
        server.close()

    def _requests(self, client, server, state):
        (length,) = struct.unpack("!I", _read(client, 4))
        startup = _read(client, length - 4)
        words = startup[4:].split(b"\0")
        names = dict(zip(words[0::2], words[1::2]))
        session = names.get(b"application_name", b"").decode()
        self._links.append((session, client, server, state))
        server.sendall(struct.pack("!I", length) + startup)
        while True:
            head = _read(client, 5)
            kind, length = head[:1].decode(), struct.unpack("!I", head[1:])[0]
            payload = _read(client, length - 4)
            what = self.watch(session, kind, payload)
            if what == "cut":
                return
            if what == "cut after":
                # The server does it and answers to nobody.
                state["answering"] = False
            if what == "freeze after":
                state["frozen"] = True
                server.sendall(head + payload)
                _freeze(client, server, state)
            if not state["frozen"]:
                server.sendall(head + payload)
            if what == "cut after":
                return

    def _answers(self, client, server, state):
        first = True
        try:
            while data := server.recv(65536):
                if first and self.backend_pid is not None:
                    data = self._replace_pid(data)
                first = False
                if state["frozen"]:
                    continue
                if state["answering"]:
                    client.sendall(data)
                else:
                    _shut(client)
        except OSError:
            pass
        _shut(client)

    def _replace_pid(self, data):
        at = data.find(b"K\0\0\0\x0c")
        if at < 0:
            return data
        return data[:at + 5] + struct.pack("!I", self.backend_pid) + data[at + 9:]


def _read(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def _freeze(client, server, state, answers_for_it=False):
    state["frozen"] = True
    if answers_for_it:
        return
    program = struct.pack("HP", 1, ctypes.addressof(DROP_ALL))
    for one in (client, server):
        one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        # an ordinary close would wait for the acknowledgement of what was sent before
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
