"""Asks daemons for permits as fast as they answer, records every decision, and checks the bound.

A decision lies somewhere between the moment its request was sent and the moment its answer was read.
So the bound is checked for what lies wholly inside a window: whatever the order inside was, more than
burst + rate * window there is more than the limit.
"""

import gc
import selectors
import socket
import time
from typing import NamedTuple

from lines import SECONDS, parse
from pace import Clock


class Record(NamedTuple):
    sent: float
    received: float
    daemon: int
    line: str
    cost: int
    status: str
    source: str


class Client:
    """One connection that keeps a pipeline of requests full."""

    def __init__(self, daemon, address, lines, depth):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self.socket.setblocking(False)
        self.daemon, self.lines, self.depth = daemon, lines, depth
        self.flying = []  # (sent, line), oldest first
        self.received = b""
        self.turn = 0

    def fill(self):
        now = time.monotonic()
        lines = [self.lines[(self.turn + i) % len(self.lines)] for i in range(self.depth)]
        self.turn += self.depth
        self.flying = [(now, line) for line in lines]
        self.socket.sendall("".join(line + "\n" for line in lines).encode())

    def read(self):
        """Records of what was answered; None when the connection is gone."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            return None
        if not data:
            return None
        now = time.monotonic()
        *lines, self.received = (self.received + data).split(b"\n")
        records = []
        for line in lines:
            reply = parse(line.decode())
            sent, request = self.flying.pop(0)
            cost = int(request.split("cost=")[1].split()[0]) if "cost=" in request else 1
            records.append(Record(sent, now, self.daemon, request, cost, reply.status,
                                  reply.body.get("source", reply.code)))
        return records


def load(addresses, lines, seconds, connections=2, depth=32, at=()):
    """Keeps all daemons busy for so long; at: (second, function) to be called meanwhile.

    Time in which the machine stood still does not count.
    lines: what each connection asks for in turn, or a function of the daemon's number that tells.
    """
    gc.disable()  # its pauses grow with the records, and are no demand
    lines_of = lines if callable(lines) else lambda _: lines
    selector = selectors.DefaultSelector()
    records, actions = [], sorted(at, key=lambda a: a[0])
    for number, address in enumerate(addresses):
        for _ in range(connections):
            client = Client(number, address, lines_of(number), depth)
            selector.register(client.socket, selectors.EVENT_READ, client)
    for key in list(selector.get_map().values()):
        key.data.fill()
    clock = Clock()
    while (now := clock.seconds()) < seconds:
        if actions and now >= actions[0][0]:
            actions.pop(0)[1]()
        for key, _ in selector.select(0.01):
            client = key.data
            answered = client.read()
            if answered is None:
                selector.unregister(client.socket)
                client.socket.close()
                continue
            records += answered
            if not client.flying:
                client.fill()
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    gc.enable()
    return records


def admitted(records):
    return [r for r in records if r.status == "OK"]


class Windows:
    """The highest of (admitted up to b) - rate * b over the ends b seen, while admissions are added.

    A segment tree over the ends in their order: best is of all beneath, add is for all beneath.
    """

    NEVER = 1e9  # small enough for a float to keep what is added to it

    def __init__(self, ends, rate):
        self.size = 1
        while self.size < len(ends):
            self.size *= 2
        self.index = {b: i for i, b in enumerate(ends)}
        self.unseen = set(ends)
        self.rate = rate
        self.best = [-self.NEVER] * (2 * self.size)
        self.add = [0.0] * (2 * self.size)

    def put(self, left, right, value):
        """Adds value to the ends from left on, before right."""
        low, high = left + self.size, right + self.size - 1
        left, right = low, high + 1
        while left < right:
            if left & 1:
                self.best[left] += value
                self.add[left] += value
                left += 1
            if right & 1:
                right -= 1
                self.best[right] += value
                self.add[right] += value
            left //= 2
            right //= 2
        for i in (low, high):
            while i > 1:
                i //= 2
                self.best[i] = self.add[i] + max(self.best[2 * i], self.best[2 * i + 1])

    def admit(self, end, cost):
        at = self.index[end]
        if end in self.unseen:
            self.unseen.remove(end)
            self.put(at, at + 1, self.NEVER - self.rate * end)
        self.put(at, self.size, cost)

    def highest(self):
        return self.best[1]


def worst_excess(records, rate, burst):
    """By how much the worst window exceeds burst + rate * length; at most 0 where the limit holds."""
    chosen = admitted(records)
    if not chosen:
        return -burst
    windows = Windows(sorted({r.received for r in chosen}), rate)
    worst = float("-inf")
    for r in sorted(chosen, key=lambda r: -r.sent):
        windows.admit(r.received, r.cost)
        worst = max(worst, windows.highest() + rate * r.sent - burst)
    return worst
