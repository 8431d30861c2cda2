"""What can happen to daemons, PostgreSQL, clients, connections and clocks: each does its worst, and repairs it.

A fault says whose places in the queue it may cost: those of the daemon that it befalls, of both, or nobody's.
Silences, which cost them too (fault_watch.Beats), are seen whatever brings them about.
"""

import contextlib
import inspect
import os
import signal
import time
from dataclasses import dataclass
from typing import Callable

import psycopg2

from lines import eventually

SECONDS = 300  # for what has to happen some time, however slow the machine


@dataclass
class Kind:
    name: str
    do: Callable
    disturbs: str  # "daemon": the one that it befalls; "both"; or ""

    @property
    def befalls_one(self):
        """It is called with a daemon."""
        return len(inspect.signature(self.do).parameters) > 1


KINDS = {}


def fault(disturbs=""):
    """Makes a method of Faults a kind of fault."""
    def enter(do):
        KINDS[do.__name__] = Kind(do.__name__.replace("_", " "), do, disturbs)
        return do
    return enter


class Faults:
    """On what a harness has started."""

    def __init__(self, harness):
        self.harness, self.random = harness, harness.random
        self.postgres = harness.postgres

    def pause(self, low, high):
        time.sleep(self.random.uniform(low, high))

    def link_of(self, daemon):
        return self.harness.links[self.harness.daemons.index(daemon)]

    # ---- daemons and their connections ----

    @fault("daemon")
    def daemon_killed(self, daemon):
        daemon.kill()
        self.pause(0, 1)
        self.harness.start_daemon(daemon)

    @fault("daemon")
    def daemon_stopped(self, daemon):
        assert daemon.stop() == 0, daemon.log()
        self.harness.start_daemon(daemon)

    @fault()
    def daemon_paused(self, daemon):
        daemon.signal(signal.SIGSTOP)
        self.pause(0.5, 5)
        daemon.signal(signal.SIGCONT)

    @fault()
    def both_daemons_paused(self):
        """For longer than every TTL: the lease clock stands still, and nobody loses anything."""
        for daemon in self.harness.daemons:
            daemon.signal(signal.SIGSTOP)
        self.pause(3, 5)
        for daemon in self.harness.daemons:
            daemon.signal(signal.SIGCONT)

    @fault()
    def connections_dropped(self, daemon):
        self.link_of(daemon).cut_all()

    @fault()
    def connections_silent(self, daemon):
        self.link_of(daemon).mute_all()
        self.pause(0.5, 2)
        self.link_of(daemon).cut_all()

    @fault()
    def reply_lost(self, daemon):
        """A batch is committed, and its daemon never hears of it."""
        link = self.link_of(daemon)
        link.cut_after(self.random.choice(["acquire_batch", "release_batch", "renew_batch"]))
        assert link.caught.wait(SECONDS), "no batch for long"
        link.cut()

    @fault()
    def janitor_ended(self):
        with self.sql() as cursor:
            cursor.execute("select pg_terminate_backend(pid) from pg_locks "
                           "where locktype = 'advisory' and classid = x'50474C05'::int and granted")

    # ---- PostgreSQL ----

    @contextlib.contextmanager
    def sql(self):
        """A superuser's cursor; as soon as there may be one."""
        def connect():
            with contextlib.suppress(psycopg2.OperationalError):
                return self.postgres.sql()
        cursor = eventually(connect, SECONDS, "PostgreSQL takes connections")
        with contextlib.closing(cursor.connection):
            yield cursor

    @fault("both")
    def postgres_killed(self):
        self.postgres.kill()
        self.pause(0, 1)
        self.postgres.start()

    @fault("both")
    def postgres_backend_killed(self):
        """One of its processes: it ends the others, and recovers."""
        with self.sql() as cursor:
            cursor.execute("select pid from pg_stat_activity where application_name = 'pglockd' and backend_type = "
                           "'client backend' order by random()")
            for pid, in cursor.fetchall():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    break
            with contextlib.suppress(psycopg2.OperationalError):
                cursor.execute("select pg_sleep(%s)", (SECONDS,))  # until it ends this one, too
        eventually(self.postgres.is_up, SECONDS)

    @fault("both")
    def postgres_restarted(self):
        """In an orderly way or, as by a system that has no patience, without a checkpoint."""
        self.postgres.stop(cleanly=self.random.random() < 0.5)
        self.postgres.start()

    @fault()
    def postgres_paused(self):
        self.postgres.signal(signal.SIGSTOP)
        self.pause(0.5, 5)
        self.postgres.signal(signal.SIGCONT)

    # ---- clients ----

    def at_work(self, number, count):
        """Signals clients that are in the middle of an update, up to so many; if there are none, any."""
        until, found = time.monotonic() + 1, []
        while len(found) < count and time.monotonic() < until:
            for worker in self.harness.living():
                if worker not in found and len(found) < count and worker.is_updating():
                    worker.process.send_signal(number)
                    found.append(worker)
        if not found:
            found.append(self.random.choice(self.harness.living()))
            found[0].process.send_signal(number)
        return found

    @fault()
    def client_killed(self):
        for worker in self.at_work(signal.SIGKILL, 1):
            worker.process.wait()
            self.harness.spawn()

    @fault()
    def clients_paused(self):
        """Past their TTLs: what they do when they wake is too late."""
        workers = self.at_work(signal.SIGSTOP, 4)
        self.pause(3, 5)
        for worker in workers:
            worker.process.send_signal(signal.SIGCONT)

    @fault()
    def client_connections_dropped(self):
        for worker in self.random.sample(self.harness.living(), 3):
            worker.process.send_signal(signal.SIGUSR1)

    # ---- clocks ----

    @fault()
    def wall_clock_stepped(self):
        self.harness.wall.set(f"{self.random.choice([-3600, -5, -1, 1, 5, 3600]):+d}")

    @fault()
    def wall_clock_fast(self):
        self.harness.wall.set("+0 x2")
        self.pause(1, 3)
        self.harness.wall.set("+0")

    @fault()
    def lease_clock_stepped(self):
        """The lease clock's own note of the wall clock is off, which is all that it knows of a step."""
        with self.sql() as cursor:
            cursor.execute("update pglockd.clock set wall_at = wall_at + %s * interval '1 s'",
                           (self.random.choice([-3600, -1, 1, 3600]),))

    # ---- others who may ----

    @fault()
    def transaction_fences(self):
        """Somebody's long transaction keeps a lease from ending, past its TTL and its holder's UNLOCK."""
        with self.sql() as cursor:
            cursor.connection.autocommit = False

            def fence():
                try:
                    cursor.execute("select pglockd.assert_fence(l.resource, l.token) from (select resource, token "
                                   "from pglockd.lease where resource like 'fault/%' limit 1) l")
                    return cursor.rowcount
                except psycopg2.Error as error:
                    assert error.pgcode == "PL001", error  # it ended just now
                    cursor.connection.rollback()
                    return 0
            eventually(fence, SECONDS, "somebody holds something")
            self.pause(0.5, 4)

    @fault()
    def leases_forced(self):
        """An administrator takes leases away: their holders are told why, and turned away."""
        with self.sql() as cursor:
            cursor.execute("select f.token from (select distinct resource from pglockd.lease "
                           "where resource like 'fault/%') l, pglockd.force(l.resource, reason => 'fault') f "
                           "where f.status = 'OK'")
