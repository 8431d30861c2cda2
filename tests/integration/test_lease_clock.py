"""The lease clock, whatever happens to the service and to wall clocks.

Who comes back within its TTL of service time has its lease still; and nobody is granted before the
deadline of the holder before, which is real time. What sleeps here lets time pass: that is what is tested.
"""

import contextlib
import itertools
import os
import signal
import time

import pytest

from cluster import FakeTime
from lines import Lines, eventually
from test_failover import answered, base, connect, last_server, multi_host, serve, server  # noqa: F401

TTL = 8  # seconds: what a test does between two requests takes less, also on a busy machine
LONGER_THAN_THE_TTL = TTL + 0.5


@pytest.fixture
def wall(base):
    if not FakeTime.library():
        message = "libfaketime is not installed"
        if os.environ.get("PGLOCKD_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return FakeTime(base)


@pytest.fixture
def primary(server, wall):
    return server("p", wall.environment).init().start().install()


@pytest.fixture
def plain(server):
    return server("p").init().start().install()


def offset(one):
    """By how many seconds the wall clock of a server is ahead."""
    return float(one.ask("select extract(epoch from clock_timestamp())")) - time.time()


class Holder:
    """A lease that is renewed, or not, and somebody who waits for it."""

    def __init__(self, client, waiter, name, ttl=TTL):
        self.client, self.waiter, self.name, self.ttl = client, waiter, name, ttl
        self.sent = time.monotonic()
        reply = client.ask_ok(f"LOCK {name} ttl={ttl}s")
        self.token, self.deadline = reply["token"], self.sent + (reply["waited_ms"] + reply["ttl_ms"]) / 1000
        waiter.send(f"LOCK {name} wait=inf ttl={ttl}s")
        # Or it has the lock already, where the machine stood still for the TTL.
        eventually(lambda: client.ask_ok(f"INFO {name}")["waiting"] == 1 or time.monotonic() > self.deadline)

    def renew(self):
        sent = time.monotonic()
        reply = answered(self.client, f"RENEW {self.name} token={self.token}")
        assert reply.status == "OK", reply
        self.deadline = sent + reply["ttl_ms"] / 1000

    def keep(self, seconds):
        """Renews four times a TTL for so long: it is never lost."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.renew()
            time.sleep(self.ttl / 4)

    def is_followed_in_time(self):
        """Who waits gets the lock when it is not renewed any more: not before the deadline."""
        grant = self.waiter.reply(120)
        assert grant.status == "OK" and grant["token"] > self.token
        assert time.monotonic() >= self.deadline
        return grant


# ---- the service is away for longer than the TTL ----

@pytest.fixture
def away(plain, serve, connect):
    """A daemon, and a lease through it that somebody waits for."""
    daemon = serve(plain.conninfo())
    return daemon, Holder(connect(daemon), connect(daemon), "away/1")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_is_down(plain, away, how):
    _, holder = away
    getattr(plain, how)()
    time.sleep(LONGER_THAN_THE_TTL)
    plain.start()
    holder.renew()
    holder.is_followed_in_time()


def test_postgres_is_paused(plain, away):
    _, holder = away
    plain.signal(signal.SIGSTOP)
    time.sleep(LONGER_THAN_THE_TTL)
    plain.signal(signal.SIGCONT)
    holder.renew()
    holder.is_followed_in_time()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_all_daemons_are_down(plain, serve, connect, how):
    daemons = [serve(plain.conninfo()) for _ in range(2)]
    token = connect(daemons[0]).lock("down/1", f"ttl={TTL}s")
    for one in daemons:
        getattr(one, how)()
    time.sleep(LONGER_THAN_THE_TTL)
    other = connect(daemons[1].start())
    assert answered(other, "LOCK down/1").status == "BUSY"
    assert answered(other, f"RENEW down/1 token={token} ttl=1m").status == "OK"
    assert connect(daemons[0].start()).ask(f"UNLOCK down/1 token={token}").status == "OK"


def test_the_only_daemon_is_paused(away):
    daemon, holder = away
    daemon.signal(signal.SIGSTOP)
    time.sleep(LONGER_THAN_THE_TTL)
    daemon.signal(signal.SIGCONT)
    holder.renew()
    holder.is_followed_in_time()


def test_a_paused_janitor_s_tick_credits_little(plain, serve, connect):
    """The other daemon ticks meanwhile; what the paused one brings when it goes on is of a term that is over."""
    first = serve(plain.conninfo())
    eventually(lambda: connect(first).ask_ok("STATS")["janitor"])
    second = serve(plain.conninfo())
    holder = Holder(connect(second), connect(second), "paused/1")
    first.signal(signal.SIGSTOP)
    eventually(lambda: connect(second).ask_ok("STATS")["janitor"])
    holder.renew()
    first.signal(signal.SIGCONT)
    holder.is_followed_in_time()


# ---- wall clocks ----

STEPS = [["+86400"], ["-86400"], ["+0 x2"], ["+0 x0.5"], ["+5", "+0", "+5", "+0", "-5", "+0"],
         ["+3600 x2", "-3600"]]


@pytest.mark.parametrize("steps", STEPS, ids=" ".join)
def test_the_wall_clock_of_the_database_steps(primary, wall, serve, connect, steps):
    a, b = serve(primary.conninfo()), serve(primary.conninfo())
    kept = Holder(connect(a), connect(b), "wall/kept", ttl=2 * TTL)
    left = Holder(connect(a), connect(b), "wall/left", ttl=2)
    for spec in steps:
        wall.set(spec)
        kept.renew()
        time.sleep(0.3)
    if "x" not in steps[-1]:
        assert abs(offset(primary) - float(steps[-1])) < 100
    left.is_followed_in_time()
    kept.renew()


def test_a_frozen_janitor_is_replaced_though_the_wall_clock_went_back(primary, wall, serve, connect):
    """Its silence is counted on the clock of the one who waits."""
    first = serve(primary.conninfo())
    eventually(lambda: connect(first).ask_ok("STATS")["janitor"])
    second = serve(primary.conninfo())
    first.signal(signal.SIGSTOP)
    try:
        wall.set("-86400")
        eventually(lambda: connect(second).ask_ok("STATS")["janitor"])
    finally:
        first.signal(signal.SIGCONT)


class Ticks:
    """Those of the janitor, seen from here: how many there were, and its term."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.number = None
        self.looked = self.since = time.monotonic()  # the last tick was not before since
        self.silence = 0  # for so long there may have been none
        self.look()

    def look(self):
        before, self.looked = self.looked, time.monotonic()
        self.cursor.execute("select ticks_total, janitor_term from pglockd.clock")
        ((number, self.term),) = self.cursor.fetchall()
        self.silence = max(self.silence, time.monotonic() - self.since)
        if number != self.number:
            self.number, self.since = number, before
        return number

    def follow(self, count):
        """Until so many more have been made; returns the longest silence since the last one that it followed."""
        until = self.look() + count
        eventually(lambda: self.look() >= until)
        silence, self.silence = self.silence, 0
        return silence


def test_a_janitor_is_not_taken_for_frozen_when_the_wall_clock_goes_forward(primary, wall, serve, connect):
    """Where it has stood still indeed for the 3 s that are real, another one is right: then the clock leaps again."""
    first = serve(primary.conninfo())
    eventually(lambda: connect(first).ask_ok("STATS")["janitor"])
    hours = itertools.count(1)

    def leaps_unnoticed(ticks):
        term = ticks.term
        wall.set(f"+{next(hours) * 3600}")
        silence = ticks.follow(6)  # longer than between two elections
        assert ticks.term == term or silence > 2.5, "an election beside a janitor that ticks"
        return ticks.term == term
    with contextlib.closing(primary.sql().connection) as connection:
        ticks = Ticks(connection.cursor())
        serve(primary.conninfo())
        for _ in range(3):
            eventually(lambda: leaps_unnoticed(ticks))


@pytest.mark.parametrize("spec", ["+3600", "-3600"])
def test_a_promoted_standby_has_another_time_of_day(primary, server, base, serve, connect, spec):
    """Neither leases nor tokens take notice."""
    (base / "other").mkdir()
    other = FakeTime(base / "other")
    other.set(spec)
    standby = server("s", other.environment).copy_from(primary, "s").start()
    primary.alter(synchronous_standby_names="s")
    eventually(lambda: primary.ask("select count(*) = 1 from pg_stat_replication where sync_state = 'sync'"))
    daemon = serve(multi_host(primary, standby))
    eventually(lambda: primary.ask("select synchronous from pglockd.clock"))
    holder = Holder(connect(daemon), connect(daemon), "other/1")
    standby.alter(synchronous_standby_names="")
    primary.kill()
    standby.promote()
    assert abs(offset(standby) - float(spec)) < 100
    holder.renew()
    assert last_server(standby) == ("failover", 0)
    holder.keep(2)
    holder.is_followed_in_time()


def test_a_restored_snapshot_is_a_day_old(primary, wall, serve, connect):
    """What it holds is held still: its holders may come back for their TTL."""
    daemon = serve(primary.conninfo())
    holder = Holder(connect(daemon), connect(daemon), "snap/1")
    daemon.kill()
    primary.stop()
    primary.save()
    wall.set("+86400")
    primary.start()
    daemon.start()
    answered(connect(daemon), f"UNLOCK snap/1 token={holder.token}", "OK")
    daemon.kill()
    primary.stop()
    primary.restore()
    primary.start()
    primary.sql().execute("select pglockd.after_restore('test')")
    daemon.start()
    holder.client, holder.waiter = connect(daemon), connect(daemon)
    assert answered(holder.waiter, "LOCK snap/2").code == "quiet"
    holder.renew()
    holder.waiter.send("LOCK snap/1 wait=inf")
    holder.is_followed_in_time()
    with contextlib.closing(Lines(daemon.line)) as witness:
        assert witness.lock("snap/2") > holder.token
