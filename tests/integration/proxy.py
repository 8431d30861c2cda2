"""A TCP proxy in front of PostgreSQL that can lose a connection at the worst moment.

cut_after(word) lets the next message with that word (the name of a prepared statement) through to the
server and swallows everything that comes back on that connection; cut() then breaks it. So the server
has done what was asked and the daemon cannot know. cut_before(word) swallows the message itself: the
server has done nothing, which the daemon cannot know either. release() instead of cut() lets through
what came back: then the answer is late.
"""

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Use as a context manager; listens on 127.0.0.1:port, forwards to a Unix socket."""

    def __init__(self, path):
        self.path = path
        self.word = None
        self.lets_through = True
        self.caught = threading.Event()
        self.muted = {}  # server sockets whose answers are swallowed, and those answers
        self.lock = threading.Lock()
        self.pairs = {}
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(10)
        for one in list(self.pairs):
            one.close()
        self.listener.close()

    def cut_after(self, word, lets_through=True):
        self.caught.clear()
        self.lets_through = lets_through
        self.word = word.encode() + b"\0"

    def cut_before(self, word):
        self.cut_after(word, lets_through=False)

    def cut(self):
        """Breaks the connection that was caught; both ends see it closed."""
        with self.lock:
            for server in list(self.muted):
                self.drop(server)
            self.muted.clear()

    def cut_all(self):
        """Breaks all connections."""
        with self.blocked():
            pass

    @contextlib.contextmanager
    def blocked(self):
        """Breaks all connections, and lets none be made meanwhile."""
        with self.lock:
            for one in list(self.pairs):
                self.drop(one)
            self.muted.clear()
            yield

    def mute_all(self):
        """Nothing comes through any more in either direction, until cut_all()."""
        with self.lock:
            self.muted.update({one: b"" for one in self.pairs})

    def release(self):
        """Lets through what came back on the connection that was caught, and all that follows."""
        with self.lock:
            for server, answers in self.muted.items():
                self.pairs[server].sendall(answers)
            self.muted.clear()

    def drop(self, one):
        for end in one, self.pairs.get(one):
            if end in self.pairs:
                del self.pairs[end]
                self.selector.unregister(end)
                end.close()

    def accept(self):
        client, _ = self.listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.path)
        for one, peer in (client, server), (server, client):
            self.pairs[one] = peer
            self.selector.register(one, selectors.EVENT_READ)

    def forward(self, one):
        data = one.recv(1 << 16)
        if not data:
            self.drop(one)
        elif one in self.muted:
            self.muted[one] += data
        else:
            if self.word and self.word in data and one.family == socket.AF_INET:
                self.word = None
                self.muted[self.pairs[one]] = b""
                if not self.lets_through:
                    self.muted[one] = b""
                self.caught.set()
                if not self.lets_through:
                    return
            self.pairs[one].sendall(data)

    def run(self):
        while not self.stopping:
            for key, _ in self.selector.select(0.05):
                with self.lock:
                    try:
                        if key.fileobj is self.listener:
                            self.accept()
                        elif key.fileobj in self.pairs:
                            self.forward(key.fileobj)
                    except OSError:
                        self.drop(key.fileobj)
