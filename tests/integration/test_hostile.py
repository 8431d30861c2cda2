"""Clients that mean harm. During each attack a client that behaves is served, and memory is bounded.

Nothing here measures time: that the honest client goes on is seen from its rounds, which must grow
while the attack is on.
"""

import contextlib
import os
import random
import re
import resource as rlimits
import select
import socket
import ssl
import threading
import urllib.request
from pathlib import Path

import pytest

from conftest import Daemon, need_tool
from lines import SECONDS, Lines, eventually, wait_for_queue
from pki import Pki, TlsLines, context_for
from test_metrics import scrape
from test_process import sanitized

pytestmark = pytest.mark.xdist_group("hostile")

ROUNDS = 40
MIB = 1 << 20
# What an attack of one of these tests may cost beyond its connections: two input and output buffers.
GROWTH = 8 * MIB
# docs/security.md and docs/operations.md state these.
IDLE_BYTES = 2048
TLS_BYTES = 64 << 10


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(need_tool("openssl"), tmp_path_factory.mktemp("hostile-pki"))


class Victim(Daemon):
    def memory(self):
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def count(self, name, **labels):
        return scrape(self)[name, tuple(sorted(labels.items()))]

    def closed(self, reason):
        return self.count("pglockd_connections_closed_total", reason=reason)


@pytest.fixture(scope="module")
def victim(directory, pki):
    cert, key = pki.issue("victim")
    one = Victim(directory / "hostile")
    one.start("--tls-cert", str(cert), "--tls-key", str(key), "--listen", "tls://127.0.0.1:0",
              "--auth-timeout", "5s", "--log-level", "debug")
    yield one
    assert one.is_running()
    assert one.stop() == 0, one.log()


@pytest.fixture(scope="module")
def tls_line(victim):
    """HOST:PORT of its TLS listener, which the log says."""
    found = eventually(lambda: re.findall(r"event=listening address=tls://(\S+)",
                                          victim.log_path.read_text()), what="listening")
    return found[-1]


class Honest:
    """A client that takes and gives back a lock, again and again, until it is told to stop."""

    def __init__(self, client, resource):
        self.client, self.resource = client, resource
        self.rounds, self.stopping, self.problem = 0, False, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopping:
                token = self.client.lock(self.resource)
                self.client.ask_ok(f"UNLOCK {self.resource} token={token}")
                self.rounds += 1
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = problem

    def go_on(self):
        """Returns when it has done its rounds from now on."""
        wanted = self.rounds + ROUNDS
        eventually(lambda: self.rounds >= wanted or self.problem, what="the honest client goes on")
        assert self.problem is None, self.problem


@pytest.fixture
def honest(victim, resource):
    """Serves as the measure of every attack: afterwards it must have gone on, and memory be bounded."""
    before = victim.memory()
    with Lines(victim.line) as client:
        one = Honest(client, resource)
        one.thread.start()
        one.go_on()
        one.allowed = before + GROWTH
        yield one
        one.go_on()
        one.stopping = True
        one.thread.join(SECONDS)
    if not sanitized():
        assert victim.memory() <= one.allowed, f"{before} grew to {victim.memory()} bytes"


@pytest.fixture
def open_sockets():
    """A function that opens so many connections to HOST:PORT."""
    with contextlib.ExitStack() as stack:
        def open_many(address, n):
            host, port = address.rsplit(":", 1)
            return [stack.enter_context(contextlib.closing(
                socket.create_connection((host, int(port)), SECONDS))) for _ in range(n)]
        yield open_many


def may_open(wanted):
    """So many descriptors as wanted and the hard limit allow."""
    _, hard = rlimits.getrlimit(rlimits.RLIMIT_NOFILE)
    rlimits.setrlimit(rlimits.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, hard - 500)


def write(sock, data):
    """As much as goes; the other end may have closed."""
    with contextlib.suppress(OSError):
        sock.sendall(data)


def is_closed(sock):
    """The other end has closed it, whatever it sent before."""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while select.select([sock], [], [], 0)[0]:
            if not sock.recv(1 << 16):
                return True
        return False
    return True


# ---- slow ----

def test_lines_that_come_byte_by_byte(victim, honest, open_sockets):
    slow = open_sockets(victim.line, 300)
    for byte in b"LOCK slow/loris owner=":
        for sock in slow:
            sock.sendall(bytes([byte]))
    honest.go_on()
    assert not any(map(is_closed, slow))


def test_http_heads_that_never_end(victim, honest, open_sockets):
    """All places of HTTP are taken; they are free again when the time of a request is over."""
    slow = open_sockets(victim.http, 64)
    for sock in slow:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    honest.go_on()
    with urllib.request.urlopen(f"http://{victim.http}/healthz", timeout=SECONDS) as reply:
        assert reply.status == 200
    assert eventually(lambda: all(map(is_closed, slow)))


def test_handshakes_that_never_end(victim, tls_line, pki, honest, open_sockets):
    hello = client_hello(pki)
    slow = open_sockets(tls_line, 100)
    before = victim.closed("auth_timeout")
    for n, sock in enumerate(slow):
        sock.sendall(hello[:n * len(hello) // 100])
    with TlsLines(tls_line, context_for(pki.ca)) as client:
        client.ask_ok("PING")
    assert eventually(lambda: victim.closed("auth_timeout") >= before + 100)
    assert eventually(lambda: all(map(is_closed, slow)))


def client_hello(pki):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context_for(pki.ca).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_a_flood_of_handshakes(tls_line, pki, honest, open_sockets):
    """Each of them makes the daemon compute a signature."""
    hello = client_hello(pki)
    for sock in open_sockets(tls_line, 300):
        sock.sendall(hello)
    honest.go_on()
    with TlsLines(tls_line, context_for(pki.ca)) as client:
        client.ask_ok("PING")


# ---- many ----

def test_ten_thousand_idle_connections(victim, honest, open_sockets):
    """Fewer where the hard limit of open files of this test does not allow as many."""
    wanted = may_open(10000)
    before = victim.memory()
    idle = open_sockets(victim.line, wanted)
    eventually(lambda: victim.count("pglockd_connections") > wanted)
    honest.go_on()
    if not sanitized():
        assert victim.memory() - before <= wanted * IDLE_BYTES + GROWTH
    honest.allowed += wanted * IDLE_BYTES
    idle[-1].sendall(b"PING\n")
    assert idle[-1].recv(100) == b"OK {}\n"


def test_idle_connections_in_tls(victim, tls_line, pki, honest):
    context = context_for(pki.ca)
    before = victim.memory()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(TlsLines(tls_line, context)) for _ in range(200)]
        honest.go_on()
        if not sanitized():
            assert victim.memory() - before <= 200 * TLS_BYTES + GROWTH
        honest.allowed += 200 * TLS_BYTES
        idle[-1].ask_ok("PING")


def test_connections_that_are_reset(victim, honest):
    for _ in range(500):
        client = Lines(victim.line)
        client.send("PING")
        client.reset()
    honest.go_on()
    eventually(lambda: victim.count("pglockd_connections") < 20)


def test_half_closed_connections(victim, honest, resource, connect):
    """What waits for them is withdrawn, and they are closed."""
    with Lines(victim.line) as holder, contextlib.ExitStack() as stack:
        holder.lock(f"{resource}/held")
        waiting = [stack.enter_context(Lines(victim.line)) for _ in range(100)]
        for client in waiting:
            client.send(f"LOCK {resource}/held wait=inf")
        wait_for_queue(holder, f"{resource}/held", 100)
        for client in waiting:
            client.end_input()
        for client in waiting:
            assert [reply.status for reply in client.rest()] == ["ERR", "BYE"]
        wait_for_queue(holder, f"{resource}/held", 0)


# ---- much ----

def test_a_huge_pipeline(victim, honest):
    with Lines(victim.line) as client:
        thread = threading.Thread(target=write, args=(client.socket, b"PING\n" * 200000))
        thread.start()
        for _ in range(200000):
            assert client.read_line() == "OK {}"
        thread.join()


def test_an_endless_line(victim, honest):
    with Lines(victim.line) as client:
        for _ in range(64):
            client.send_bytes(b"x" * MIB)
        honest.go_on()
        client.send("")
        assert client.reply().code == "too_long"
        client.ask_ok("PING")


def test_readers_that_never_read(victim, honest, open_sockets):
    before = victim.closed("slow_reader")
    deaf = open_sockets(victim.line, 20)
    for sock in deaf:
        sock.setblocking(False)

    def all_closed():
        for sock in deaf:
            with contextlib.suppress(OSError):
                sock.send(b"HELP LOCK\n" * 1000)
        return victim.closed("slow_reader") == before + 20
    eventually(all_closed)


def test_replies_that_are_left_in_the_buffers_are_bounded(victim, honest, open_sockets):
    """They do not read, and stop asking before they would be closed."""
    deaf = open_sockets(victim.line, 50)
    for sock in deaf:
        sock.sendall(b"HELP LOCK\n" * 500)
    honest.allowed += 50 * MIB  # max_output of each
    honest.go_on()


# ---- nonsense ----

@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(victim, tls_line, honest, open_sockets, seed):
    noise = random.Random(seed)
    for address in victim.line, tls_line, victim.http:
        for sock in open_sockets(address, 20):
            write(sock, noise.randbytes(noise.randrange(1, 20000)))
    honest.go_on()


@pytest.mark.parametrize("seed", range(3))
def test_lines_that_are_nearly_right(victim, honest, seed):
    """Each gets exactly one reply, whatever was changed in it."""
    noise = random.Random(seed)
    seeds = [b"LOCK near/x ttl=1s wait=0s note=\"a b\"", b"@t UNLOCK near/x token=1", b"LIST limit=2",
             b"RATE near per=1s limit=5", b"INFO near/x near/y", b"HELLO name=\"\\u00e4\""]
    with Lines(victim.line) as client:
        for _ in range(300):
            line = bytearray(noise.choice(seeds))
            for _ in range(noise.randrange(1, 4)):
                line[noise.randrange(len(line))] = noise.choice(b" =\"\\@/\0\xff\x80az09")
            client.send_bytes(bytes(line).replace(b"\n", b" ") + b"\n@sync PING\n")
            replies = [client.reply(), client.reply()]
            assert [reply.tag for reply in replies].count("sync") == 1, (line, replies)
        client.nothing_comes()


def test_a_handshake_that_is_changed_on_its_way(tls_line, pki, honest, open_sockets):
    hello, noise = client_hello(pki), random.Random(7)
    for sock in open_sockets(tls_line, 100):
        changed = bytearray(hello)
        for _ in range(3):
            changed[noise.randrange(len(changed))] = noise.randrange(256)
        write(sock, bytes(changed))
    honest.go_on()


# ---- guesses ----

def test_guessed_tokens(victim, honest, resource):
    with Lines(victim.line) as holder, Lines(victim.line) as guesser:
        token = holder.lock(f"{resource}/held")
        guesses = [t for t in range(max(1, token - 300), token + 300) if t != token]
        before = victim.count("pglockd_requests_total", verb="unlock", status="LOST")
        guesser.send(*[f"UNLOCK {resource}/held token={t}" for t in guesses])
        assert {guesser.reply().status for _ in guesses} == {"LOST"}
        after = victim.count("pglockd_requests_total", verb="unlock", status="LOST")
        assert after >= before + len(guesses)
        holder.ask_ok(f"CHECK {resource}/held token={token}")


def test_guessed_secrets(victim, honest, resource):
    with Lines(victim.line) as holder:
        session = holder.ask_ok("SESSION OPEN ttl=5m")
        secret = session["secret"]
        guesses = [secret[:-1], secret + "0", secret[::-1], secret.swapcase(), "0" * len(secret)]
        guesses += [secret[:n] + ("0" if secret[n] != "0" else "1") + secret[n + 1:]
                    for n in range(0, len(secret), 4)]
        guesses = [guess for guess in dict.fromkeys(guesses) if guess != secret]
        clients = [Lines(victim.line) for _ in guesses]
        for client, guess in zip(clients, guesses):
            client.send(f'SESSION CLOSE {session["session"]} secret="{guess}"')
        for client, guess in zip(clients, guesses):
            assert client.reply().status == "DENIED", guess
            client.close()
        holder.ask_ok(f"SESSION KEEPALIVE {session['session']}")


GUESSES = ["SESSION KEEPALIVE {} secret={:032x}", "SESSION CLOSE {} secret={:032x}", "SESSION RESUME {} secret={:032x}",
           "LOCK {r} session={} secret={:032x} wait=inf"]


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("guess", GUESSES, ids=lambda guess: re.sub(r" \{.*", "", guess))
def test_guessing_secrets_ends_the_connection(victim, honest, resource, guess, tagged):
    """One is looked at at a time, the third is the last; who has the session and the secret is served meanwhile."""
    before = victim.count("pglockd_session_secrets_refused_total")
    with Lines(victim.line) as holder, Lines(victim.line) as heir, Lines(victim.line) as guesser:
        session = holder.ask_ok("SESSION OPEN ttl=5m")
        number, secret = session["session"], session["secret"]
        guesser.send(*[f"@g{n} " * tagged + guess.format(number, n, r=resource) for n in range(50)])
        eventually(lambda: victim.count("pglockd_session_secrets_refused_total") > before)
        holder.ask_ok(f"SESSION KEEPALIVE {number}")
        heir.ask_ok(f"SESSION RESUME {number} secret={secret}")
        heir.ask_ok(f"LOCK {resource}/other session={number}")
        replies = guesser.rest()
        assert [reply.status for reply in replies] == ["DENIED"] * 3 + ["BYE"], replies
        assert replies[-1].code == "secret_refused"
        assert victim.count("pglockd_session_secrets_refused_total") == before + 3
        assert secret not in victim.log_path.read_text()


def test_who_is_doubted_for_a_moment_goes_on(victim, honest, resource):
    """Secrets that are right hold nobody up, however many are shown at once; nor does a session that is gone."""
    with Lines(victim.line) as opener, Lines(victim.line) as client:
        sessions = [opener.ask_ok("SESSION OPEN ttl=5m") for _ in range(20)]
        client.send(*[f"@{n} SESSION KEEPALIVE {s['session']} secret={s['secret']}" for n, s in enumerate(sessions)],
                    *[f"@x{n} SESSION KEEPALIVE 99999999{n} secret=x" for n in range(5)], "@ping PING")
        statuses = {reply.tag: reply.status for reply in (client.reply() for _ in range(26))}
        assert statuses == {**{str(n): "OK" for n in range(20)}, **{f"x{n}": "LOST" for n in range(5)}, "ping": "OK"}


# ---- HTTP that two programs read differently ----

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = [
    GET + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    GET + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    GET + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    GET + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(HIDDEN) + HIDDEN,
    GET + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
    GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    GET + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    GET + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    GET + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    GET + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
]


@pytest.mark.parametrize("request_bytes", SMUGGLED, ids=range(len(SMUGGLED)))
def test_a_request_hidden_in_another(victim, honest, open_sockets, request_bytes):
    """Where the end of the first is in doubt the second is not served, however it is read."""
    (sock,) = open_sockets(victim.http, 1)
    sock.sendall(request_bytes)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(1 << 16):
            received += piece
    assert b"pglockd_build_info" not in received
    assert set(re.findall(rb"HTTP/1\.\d (\d+)", received)) <= {b"400"}


@pytest.mark.parametrize("head", [
    b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",
])
def test_a_host_that_is_not_served(victim, open_sockets, head):
    (sock,) = open_sockets(victim.http, 1)
    sock.sendall(head)
    assert b"pglockd_build_info" not in sock.recv(1 << 16)


def test_http_on_the_line_port(victim, honest, open_sockets):
    """A page in a browser may send what it likes to this port, but for the first line."""
    shapes = [HIDDEN, b"POST / HTTP/1.1\r\n\r\nLOCK web/page\n", b"OPTIONS * HTTP/1.0\r\n\r\n"]
    for shape in shapes:
        (sock,) = open_sockets(victim.line, 1)
        sock.sendall(shape)
        assert eventually(lambda s=sock: is_closed(s))
    with Lines(victim.line) as client:
        assert client.ask_ok("INFO web/page")["holders"] == []
