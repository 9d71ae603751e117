"""A TCP proxy between walter and the server, for losing connections at a chosen moment."""
import socket
import struct
import threading


class Proxy:
    """Forwards connections to a server; `watch` sees each message that a client sends.

    watch(session, kind, payload) returns None to forward it, "cut" to close the connection before
    the message is sent on, or "cut after" to send it on and close before the answer is.
    `session` is the application_name.  close() stops it, refuse() makes it refuse new connections.
    """

    def __init__(self, server, watch=None, backend_pid=None):
        self.server = server
        self.watch = watch or (lambda session, kind, payload: None)
        self.backend_pid = backend_pid   # what BackendKeyData is made to say
        self.refusing = False
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def env(self):
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGGSSENCMODE": "disable",
                "PGSSLMODE": "disable"}

    def refuse(self):
        self.refusing = True

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
        state = {"answering": True}
        back = threading.Thread(target=self._answers, args=(client, server, state), daemon=True)
        back.start()
        try:
            self._requests(client, server, state)
        except OSError:
            pass
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


def _shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
