"""A client of the line protocol that sends exactly what it is told and shows exactly what came.

Tests use it instead of libpglockd where the bytes matter: bad input, tags, order, half-closed
sockets. Every read is bounded in time, and a test never sleeps: it waits for a line or a condition.
"""

import contextlib
import json
import socket
import struct
import time
from typing import NamedTuple

SECONDS = 60  # for what should come at once, also under a sanitizer on a busy machine


class Reply(NamedTuple):
    tag: str  # "" where it has none; "*" for EVENT and BYE
    status: str
    body: dict

    def __getitem__(self, key):
        return self.body[key] if isinstance(key, str) else tuple.__getitem__(self, key)

    @property
    def code(self):
        return self.body.get("code")


def parse(line):
    """A reply line; fails where it breaks the grammar of replies."""
    tag = ""
    words = line
    if line.startswith("@"):
        tag, words = line[1:].split(" ", 1)
    elif line.startswith("* "):
        tag, words = "*", line[2:]
    status, body = words.split(" ", 1)
    return Reply(tag, status, json.loads(body))


def eventually(condition, seconds=SECONDS, what=""):
    """Waits until condition() is true and returns its value."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what or condition.__doc__ or condition}")
        time.sleep(0.01)


class Lines:
    """One connection, to HOST:PORT or unix:PATH."""

    def __init__(self, address, name=None):
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(SECONDS)
            self.socket.connect(address[5:])
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        if name:
            assert self.ask(f"HELLO name={name}").status == "OK"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, *lines):
        self.send_bytes("".join(line + "\n" for line in lines).encode())

    def read_line(self, seconds=SECONDS):
        """The next line without its end; None when the daemon has closed."""
        until = time.monotonic() + seconds
        while b"\n" not in self.received:
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                raise AssertionError(f"no line within {seconds} s, only {self.received!r}") from None
            if not data:
                assert not self.received, f"half a line at the end: {self.received!r}"
                return None
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise AssertionError(f"not UTF-8: {line!r}") from None

    def reply(self, seconds=SECONDS):
        line = self.read_line(seconds)
        assert line is not None, "the daemon has closed the connection"
        return parse(line)

    def ask(self, line, seconds=SECONDS):
        self.send(line)
        return self.reply(seconds)

    def ask_ok(self, line):
        reply = self.ask(line)
        assert reply.status == "OK", (line, reply)
        return reply

    def lock(self, resource, keys=""):
        """Takes a lock that must be granted; returns its token."""
        return self.ask_ok(f"LOCK {resource} {keys}")["token"]

    def nothing_comes(self):
        """Nothing is on its way: a PING that is sent now is answered first."""
        assert self.ask("@quiet PING").tag == "quiet"

    def end_input(self):
        """What nc -N does when its input ends: no more from us, but we still read."""
        with contextlib.suppress(OSError):  # the server may have closed already
            self.socket.shutdown(socket.SHUT_WR)

    def rest(self):
        """All replies until the daemon closes."""
        replies = []
        while (line := self.read_line()) is not None:
            replies.append(parse(line))
        return replies

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes as a client that dies does: with unread data thrown away and a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def wait_for_queue(client, resource, waiting):
    """Until so many requests wait for a resource; returns INFO's reply."""
    def look():
        info = client.ask_ok(f"INFO {resource}")
        return info["waiting"] == waiting and info
    return eventually(look, what=f"{waiting} waiting for {resource}")
