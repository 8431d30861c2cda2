"""Random clients, a record of all they saw, and the checks of what a lock service promises.

A Swarm drives many connections to any number of daemons from one thread: each step is one random
operation; replies are read as they come. Times are taken before a request is sent and after its
reply was read, so that what the record says of the order of two events is certain.

The checks are pure functions of the record. test_property.py tests them against forged records.
"""

import bisect
import random
import select
import time
from dataclasses import dataclass
from typing import Optional

from lines import Lines, parse

TTL = 120  # seconds: longer than any test


@dataclass
class Request:
    """A LOCK and what became of it."""
    resource: str
    mode: str
    start: float                          # before it was sent
    end: Optional[float] = None           # after its reply was read; None: there was none
    status: str = ""                      # of the reply
    code: str = ""
    token: int = 0                        # of the grant
    seen_waiting: Optional[float] = None  # when INFO had shown it in the queue
    given_up: Optional[float] = None      # before the wait was cancelled or ran out
    left: bool = False                    # its client was away for a time: it may be passed over
    released: Optional[float] = None      # before the first UNLOCK was sent
    release_status: str = ""
    renewals: int = 0
    ttl: int = TTL
    deadline: Optional[float] = None      # until when it was renewed; None: ttl after start
    lost: Optional[float] = None          # after the first reply that said so
    lost_reason: str = ""
    disturbed: bool = False               # a fault may have taken its place in the queue

    @property
    def granted(self):
        return self.status == "OK"


def conflict(a, b):
    return a.resource == b.resource and "exclusive" in (a.mode, b.mode)


def held(r):
    """From when to when the client could be sure of its lock."""
    until = r.start + r.ttl if r.deadline is None else r.deadline
    return r.end, until if r.released is None else min(until, r.released)


def by_resource(record):
    """The requests of each resource."""
    found = {}
    for r in record:
        found.setdefault(r.resource, []).append(r)
    return found.values()


def check_exclusion(record):
    """No two conflicting locks are held at one time. Returns what is wrong, as sentences."""
    wrong = []
    for requests in by_resource(record):
        holding = []
        for b in sorted((r for r in requests if r.granted), key=lambda r: r.end):
            holding = [a for a in holding if b.end < held(a)[1]]
            if held(b)[0] < held(b)[1]:
                wrong += [f"{a.resource}: {b} granted while {a} was held" for a in holding if conflict(a, b)]
                holding.append(b)
    return wrong


def check_tokens(record):
    """No token is given twice; those of a resource grow in the order of its grants."""
    wrong = []
    grants = [r for r in record if r.granted]
    if len({r.token for r in grants}) < len(grants):
        wrong.append("a token was given twice")
    for requests in by_resource(grants):
        ended = sorted(requests, key=lambda r: r.end)
        highest, n = 0, 0  # of the first n to have ended
        for b in sorted(requests, key=lambda r: r.start):
            while ended[n].end < b.start:
                highest, n = max(highest, ended[n].token), n + 1
            if highest > b.token:
                wrong.append(f"{b.resource}: token {b.token} was granted after {highest}")
    return wrong


def check_order(record):
    """Who began to wait before a conflicting request was sent is granted before it."""
    wrong = []
    for requests in by_resource(record):
        grants = sorted((r for r in requests if r.granted), key=lambda r: r.start)
        starts = [r.start for r in grants]
        for a in requests:
            # The victim of a deadlock is out of the queue some time before it hears of it.
            if a.seen_waiting is None or a.left or a.disturbed or a.status == "DEADLOCK":
                continue
            until = (a.end if a.granted else a.given_up or a.end) or 0
            for b in grants[bisect.bisect_right(starts, a.seen_waiting):]:
                if b.start > until:
                    break
                if conflict(a, b) and a.granted and b.token < a.token:
                    wrong.append(f"{a.resource}: {b} overtook {a}")
                if conflict(a, b) and not a.granted and b.end < until:
                    wrong.append(f"{a.resource}: {b} was granted while {a} waited")
    return wrong


def check(record):
    return check_exclusion(record) + check_tokens(record) + check_order(record)


class Client:
    """A connection of the swarm: at most one LOCK without an answer, any number of leases."""

    def __init__(self, address, name):
        self.address, self.name = address, name
        self.lines = Lines(address)
        self.waiting = None  # the Request in flight
        self.cancelled = False
        self.expected = {}   # tag: function of the reply
        self.held = []
        self.unlocking = []  # Requests whose UNLOCK is not answered
        self.tags = 0

    def send(self, line, then):
        self.tags += 1
        tag = f"t{self.tags}"
        self.expected[tag] = then
        self.lines.send(f"@{tag} {line}")
        return tag


class Swarm:
    def __init__(self, addresses, resources, clients, seed):
        self.random = random.Random(seed)
        self.resources = resources
        self.name = f"{resources[0]}-{seed}".replace("/", "-")
        self.record = []
        self.surprises = []  # replies that no fault explains
        self.clients = [Client(addresses[i % len(addresses)], f"c{i}") for i in range(clients)]
        self.faulty = False  # ERR unavailable and outcome_unknown are no surprise
        self.ttl = TTL
        self.lossy = False  # nor is LOST: commits are lost, or leases run out

    # ---- operations ----

    def lock(self, client, wait=None, resource=None, mode=None):
        client.wait = wait or self.random.choice(["0s", "inf", "inf", "20ms", "1m"])
        client.waiting = Request(resource or self.random.choice(self.resources),
                                 mode or self.random.choice(["exclusive", "exclusive", "shared"]),
                                 time.monotonic(), ttl=self.ttl)
        self.record.append(client.waiting)
        client.number = len(self.record) - 1
        self.ask_lock(client)

    def ask_lock(self, client):
        request, wait = client.waiting, client.wait
        client.cancelled = False

        def answered(reply):
            # By its id a repeated LOCK finds what it got. Its place may have been taken by what the
            # daemon read last of the connection before.
            overtaken = reply.code == "cancelled" and request.left and not client.cancelled
            if overtaken or reply.code == "outcome_unknown" and self.faulty:
                request.left = True
                self.ask_lock(client)
                return
            client.waiting = None
            request.end, request.status, request.code = time.monotonic(), reply.status, reply.code
            if reply.status == "OK":
                request.token = reply["token"]
                client.held.append(request)
            elif reply.status == "ERR":
                self.refused(reply, client.cancelled)
            if wait == "20ms":
                request.given_up = min(request.given_up or request.end, request.start + 0.02)
        client.lock_tag = client.send(
            f"LOCK {request.resource} mode={request.mode} wait={wait} ttl={self.ttl}s "
            f"owner={client.number} id={self.name}-{client.number}", answered)

    def refused(self, reply, may_be_cancelled=False):
        known = ["unavailable", "outcome_unknown"] if self.faulty else []
        if reply.code not in known + (["cancelled"] if may_be_cancelled else []):
            self.surprises.append(reply)

    def unlock(self, client, request=None):
        request = request or self.random.choice(client.held)
        client.held.remove(request)
        request.released = time.monotonic()
        self.ask_unlock(client, request)

    def ask_unlock(self, client, request, again=False):
        client.unlocking.append(request)

        def answered(reply):
            client.unlocking.remove(request)
            request.release_status = reply.status
            if reply.status == "ERR":
                self.refused(reply)
                self.ask_unlock(client, request, again or reply.code == "outcome_unknown")
            elif reply.status != "OK" and not again and not self.lossy:
                self.surprises.append((reply, request))
        client.send(f"UNLOCK {request.resource} token={request.token}", answered)

    def renew(self, client):
        request = self.random.choice(client.held)

        def answered(reply):
            request.renewals += reply.status == "OK"
            if reply.status == "ERR":
                self.refused(reply)
            elif reply.status != "OK" and request.released is None:
                if not self.lossy:
                    self.surprises.append((reply, request))
                    return
                client.held.remove(request)
                request.released = time.monotonic()
        verb = self.random.choice([f"RENEW ttl={self.ttl}s", "CHECK"])
        verb, *keys = verb.split(" ")
        client.send(f"{verb} {request.resource} token={request.token} {' '.join(keys)}", answered)

    def can_cancel(self, client):
        """A LOCK that was repeated may be cancelled before it finds what the first one got: that
        stays until its TTL. So those are waited for."""
        return not client.cancelled and not client.waiting.left

    def cancel(self, client):
        client.cancelled = True
        client.waiting.given_up = client.waiting.given_up or time.monotonic()
        client.send(f"CANCEL tag={client.lock_tag}", lambda reply: None)

    def look(self, client):
        """Notes whom the queue of a resource shows: they wait for certain."""
        resource = self.random.choice(self.resources)
        def answered(reply):
            if reply.status != "OK":
                self.refused(reply)
                return
            now = time.monotonic()
            for entry in reply["queue"]:
                request = self.record[int(entry["owner"])]
                if request.end is None and request.given_up is None:
                    request.seen_waiting = request.seen_waiting or now
        client.send(f"INFO {resource}", answered)

    def reconnect(self, client, address=None):
        """Closes the connection and asks again, over a new one, what was not answered."""
        self.random.choice([client.lines.close, client.lines.reset])()
        client.address = address or client.address
        client.lines = Lines(client.address)
        client.expected = {}
        if client.waiting:
            client.waiting.left = True
            self.ask_lock(client)
        again, client.unlocking = client.unlocking, []
        for request in again:
            self.ask_unlock(client, request, again=True)

    def step(self):
        client = self.random.choice(self.clients)
        choices = [self.look]
        if client.waiting is None:
            choices += [self.lock] * 6
        else:
            choices += [self.cancel] if self.random.random() < 0.1 and self.can_cancel(client) else []
        if client.held:
            choices += [self.unlock] * 6 + [self.renew]
        if self.random.random() < 0.01:
            choices = [self.reconnect]
        self.random.choice(choices)(client)
        # So that most operations meet the answers of those before, and many are in flight still.
        for _ in range(5):
            unanswered = sum(len(c.expected) - (c.waiting is not None) for c in self.clients)
            self.poll(0.002 if unanswered > 4 else 0)

    # ---- replies ----

    def poll(self, seconds):
        """Takes the replies that are here, or come within so long."""
        by_socket = {c.lines.socket: c for c in self.clients}
        ready, _, _ = select.select(list(by_socket), [], [], seconds)
        for one in ready:
            client = by_socket[one]
            data = client.lines.socket.recv(1 << 16)
            assert data, f"{client.name}: the daemon closed the connection"
            *lines, client.lines.received = (client.lines.received + data).split(b"\n")
            for line in lines:
                reply = parse(line.decode())
                client.expected.pop(reply.tag)(reply)
        return bool(ready)

    def run(self, steps, until=None):
        for _ in range(steps):
            self.step()
            if until and until():
                return

    def finish(self, seconds=60):
        """Releases everything and waits until all is answered."""
        until = time.monotonic() + seconds
        while True:
            for client in self.clients:
                for request in list(client.held):
                    self.unlock(client, request)
                if client.waiting and self.can_cancel(client):
                    self.cancel(client)
            if not any(c.expected or c.held for c in self.clients):
                return
            assert time.monotonic() < until, [
                (c.name, c.waiting, list(c.expected)) for c in self.clients if c.expected]
            self.poll(0.1)

    def close(self):
        for client in self.clients:
            client.lines.close()
