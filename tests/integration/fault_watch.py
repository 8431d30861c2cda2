"""What the fault harness sees from outside while clients work: is the service there, who waits, which daemon is
silent. Each looks all the time, in a thread of its own, and only notes what it saw and when.
"""

import contextlib
import threading
import time

import psycopg2

from lines import Lines

BROKEN = (OSError, AssertionError)  # of Lines: the connection is gone

# The waiters of a daemon that is silent for 3 s of lease time are passed over. Lease time never runs faster than
# real time, and readings of it differ by 250 ms: so none are before.
SILENT_SECONDS = 2.5


class Watcher(threading.Thread):
    """Looks again and again, and begins anew where its connection breaks."""

    STEP = 0.02  # seconds between two looks

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = False

    def session(self):
        """A context with what look() needs."""
        raise NotImplementedError

    def look(self, session):
        raise NotImplementedError

    def run(self):
        while not self.stopping:
            with contextlib.suppress(*BROKEN, psycopg2.Error), self.session() as session:
                while not self.stopping:
                    self.look(session)
                    time.sleep(self.STEP)
            time.sleep(self.STEP)

    def stop(self):
        self.stopping = True
        self.join()


class Probe(Watcher):
    """Locks, renews and unlocks at one daemon: when that worked, the service was there."""

    def __init__(self, name, address):
        super().__init__()
        self.resource, self.address = f"probe/{name}", address
        self.served = []  # when

    def session(self):
        return Lines(self.address)

    def look(self, session):
        resource = f"{self.resource}/{len(self.served)}"
        reply = session.ask(f"LOCK {resource} ttl=1s")
        if reply.status != "OK":
            return
        token = reply["token"]
        if all(session.ask(f"{verb} {resource} token={token}").status == "OK" for verb in ("RENEW", "UNLOCK")):
            self.served.append(time.monotonic())

    def has_served(self, since):
        return any(at > since for at in self.served[-1:])


class Queues(Watcher):
    """Looks who stands in the queues: who was seen there waits for certain, and came before who comes later."""

    def __init__(self, addresses, resources):
        super().__init__()
        self.addresses, self.resources = addresses, resources
        self.seen = {}  # number of a request: when
        self.at = 0

    def session(self):
        self.at += 1
        return Lines(self.addresses[self.at % len(self.addresses)])

    def look(self, session):
        for resource in self.resources:
            reply = session.ask(f"INFO {resource}")
            now = time.monotonic()
            for waiter in reply["queue"] if reply.status == "OK" else []:
                self.seen.setdefault(waiter["owner"], now)


class Beats(Watcher):
    """Looks for the heartbeats of the daemons: the waiters of one that gives none for long may be passed over.

    That one is late may be a fault's doing, or that of a slow machine.
    """

    STEP = 0.1

    def __init__(self, cursor):
        super().__init__()
        self.cursor = cursor
        self.daemons = {}   # instance: which daemon that is
        self.beats = {}     # instance: (its last heartbeat, a time that was before it)
        self.seen = {}      # daemon: when a new heartbeat of it was seen
        self.silences = []  # (daemon, from, to)
        self.looked = time.monotonic()

    def follow(self, daemon, instance):
        """From now on that is the instance of a daemon; the one before counts no more."""
        self.daemons = {**{i: d for i, d in self.daemons.items() if d != daemon}, instance: daemon}

    def session(self):
        cursor = self.cursor()
        return contextlib.closing(cursor.connection)

    def look(self, session):
        before = time.monotonic()
        cursor = session.cursor()
        cursor.execute("select instance_id, heartbeat_us from pglockd.instance")
        rows, daemons = dict(cursor.fetchall()), self.daemons
        for instance in daemons:
            self.note(instance, daemons[instance], rows.get(instance))
        self.looked = before

    def note(self, instance, daemon, beat):
        last, since = self.beats.get(instance, (None, self.looked))
        if beat in (None, last):  # none: it was taken for dead, and comes back
            return
        now = time.monotonic()
        self.seen.setdefault(daemon, []).append(now)
        if now - since > SILENT_SECONDS:
            self.silences.append((daemon, since, now))
        self.beats[instance] = beat, self.looked

    def settled(self, since):
        """When each daemon had given two heartbeats since then: so it had counted its waiters' rows twice."""
        found = [[at for at in self.seen.get(daemon, []) if at > since][1:2] for daemon in (0, 1)]
        return max((at for (at,) in found), default=None) if all(found) else float("inf")
