"""Events of holders: wanted, expiring, lost; over two daemons, from SQL, and for slow readers."""

import itertools
import signal
import subprocess
import time

import pytest

from conftest import PGLOCKCTL, ctl
from lines import SECONDS, Lines, eventually, wait_for_queue

SHAPE = ["event", "resource", "owner", "mode", "reason", "seq"]
AT_ONCE = 3  # seconds: brought about by a notification, not by the look that every lease gets in 5 s
TTLS = (1, 4, 16)  # seconds: a machine that stands still for the first of them may have time for the next
AHEAD = 0.75  # seconds: by how much more of lease time than of real time may pass between two readings of it


@pytest.fixture
def holder(connect):
    """A connection that asked for events."""
    one = connect()
    one.ask_ok("HELLO name=holder events=on")
    return one


def event(client, kind):
    """The next event, which must be of this kind and of the one shape."""
    reply = client.reply()
    assert (reply.tag, reply.status) == ("*", "EVENT"), reply
    assert list(reply.body)[:6] == SHAPE
    assert reply["event"] == kind, reply
    return reply


@pytest.fixture
def registered(sql):
    """A function that waits until the database knows that somebody wants to hear of a resource."""
    cursor = sql().cursor()

    def wait_for(resource):
        eventually(lambda: cursor.execute("select from pglockd.listener where resource = %s", (resource,))
                   or cursor.rowcount)
    return wait_for


# ---- wanted ----

@pytest.fixture
def at_once(holder, registered, resource):
    """A function that has an event about a lease brought about, and waits for it. It comes at once.

    Without a notification it never does: the daemon looks 300 ms after its first look, and then in 5 s. A machine
    that stands still may delay it as long, but not each time.
    """
    def comes(bring_about, kind, name):
        holder.lock(name, "ttl=10m")
        registered(name)
        time.sleep(0.5)  # for the second look: where it comes later the test is weaker, and not wrong
        since = time.monotonic()
        bring_about(name)
        assert event(holder, kind)["resource"] == name
        return time.monotonic() - since < AT_ONCE

    def wait_for(bring_about, kind):
        names = (f"{resource}/{n}" for n in itertools.count())
        eventually(lambda: comes(bring_about, kind, next(names)), what="an event comes at once")
    return wait_for


@pytest.mark.parametrize("where", ["here", "there"])
def test_wanted(holder, connect, daemon, other, resource, where):
    token = holder.lock(resource, "ttl=1m")
    waiter = connect(daemon if where == "here" else other, "w1")
    waiter.send(f"LOCK {resource} wait=inf")
    wanted = event(holder, "wanted")
    assert (wanted["resource"], wanted["token"], wanted["owner"]) == (resource, token, "holder")
    assert (wanted["mode"], wanted["reason"], wanted["seq"]) == ("exclusive", None, None)
    assert (wanted["waiting"], wanted["by_owner"], wanted["by_mode"]) == (1, "w1", "exclusive")
    assert wanted["waiting_ms"] >= 0
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert waiter.reply()["token"] > token
    holder.nothing_comes()


@pytest.mark.parametrize("where", ["here", "there"])
def test_wanted_by_notification(at_once, connect, daemon, other, where):
    waiter = connect(daemon if where == "here" else other)
    at_once(lambda name: waiter.send(f"@{name.rsplit('/')[-1]} LOCK {name} wait=inf"), "wanted")


def test_wanted_tells_of_everybody_in_the_end(holder, connect, other, resource):
    """Who comes while another was just told of is told, too: together, a little later."""
    holder.lock(resource, "ttl=1m")
    for _ in range(5):
        connect(other).send(f"LOCK {resource} wait=inf owner=o")
    seen = [event(holder, "wanted")]
    while seen[-1]["waiting"] < 5:
        seen.append(event(holder, "wanted"))
    assert [e["waiting"] for e in seen] == sorted({e["waiting"] for e in seen}), "each is news"
    holder.nothing_comes()


def test_wanted_by_who_came_before_the_connection_asked(connect, daemon, other, resource):
    holder = connect()
    token = holder.lock(resource, "ttl=1m")
    connect(other).send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    polite = connect(other)  # adopts the lease by renewing it, at the other daemon
    polite.ask_ok("HELLO events=on")
    polite.ask_ok(f"RENEW {resource} token={token}")
    assert event(polite, "wanted")["waiting"] == 1
    holder.nothing_comes()


def test_readers_are_not_wanted_by_readers(holder, connect, resource):
    token = holder.lock(resource, "mode=shared ttl=1m")
    connect().lock(resource, "mode=shared ttl=1m")
    writer = connect(name="writer")
    writer.send(f"LOCK {resource} wait=inf")
    assert event(holder, "wanted")["by_owner"] == "writer"
    connect().send(f"LOCK {resource} mode=shared wait=inf")
    wait_for_queue(connect(), resource, 2)
    holder.ask_ok(f"CHECK {resource} token={token}")
    holder.nothing_comes()


def test_nothing_for_who_did_not_ask(connect, resource):
    holder, waiter = connect(), connect()
    token = holder.lock(resource)
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert waiter.reply().status == "OK"
    holder.nothing_comes()


def test_events_off(holder, connect, resource):
    holder.lock(resource)
    holder.ask_ok("HELLO events=off")
    connect().send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    holder.nothing_comes()
    assert holder.ask("HELLO events=maybe").code == "bad_request"


def test_a_lost_notification_is_made_up_for(holder, sql, resource):
    """A waiter that nobody was told of (its daemon died in between) is found by the next look."""
    holder.lock(resource, "ttl=1m")
    cursor = sql().cursor()
    eventually(lambda: cursor.execute("select 1 from pglockd.listener where resource = %s", (resource,))
               or cursor.fetchone())
    cursor.execute("insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, instance_id, mode, "
                   "scope, resource, owner, identity) values (nextval('pglockd.token_seq'), 1, 1, 1000, now(), 0, "
                   "'exclusive', 'node', %s, 'ghost', '')", (resource,))
    assert event(holder, "wanted")["by_owner"] == "ghost"
    cursor.execute("delete from pglockd.waiter where resource = %s", (resource,))


# ---- expiring ----

class TooLate(Exception):
    """The TTL was over before the test had done what it wanted to do in it."""


def with_a_ttl_that_suffices(test, connect, resource):
    """Runs test(holder, resource, ttl) with longer and longer TTLs, until the machine is quick enough for one."""
    for ttl in TTLS:
        holder = connect()
        holder.ask_ok("HELLO name=holder events=on")
        try:
            return test(holder, f"{resource}/{ttl}", ttl)
        except TooLate:
            assert ttl != TTLS[-1]


def in_time(reply, since, ttl):
    """What who has renewed a lease since then is answered or told: that it is lost only when the TTL is over."""
    if reply.status == "LOST" or reply.body.get("event") == "lost":
        assert time.monotonic() - since >= ttl, reply
        raise TooLate
    return reply


def expiring(holder, since, ttl):
    """The next event."""
    told = in_time(holder.reply(), since, ttl)
    assert told["event"] == "expiring" and list(told.body)[:6] == SHAPE, told
    assert 0 <= told["ttl_ms"] <= 250 * ttl
    return told


def test_expiring_of_a_session(connect, other, resource):
    """Its locks have its TTL; who renews the session, wherever, renews them."""
    second = connect(other)

    def renewed_once(holder, name, ttl):
        since = time.monotonic()
        opened = holder.ask_ok(f"SESSION OPEN ttl={ttl}s")
        session = opened["session"]
        token = in_time(holder.ask(f"LOCK {name} session={session}"), since, ttl)["token"]
        assert expiring(holder, since, ttl)["token"] == token
        renewing = time.monotonic()
        in_time(second.ask(f"SESSION RESUME {session} secret={opened['secret']}"), since, ttl)
        assert expiring(holder, renewing, ttl)["token"] == token
        assert event(holder, "lost")["reason"] == "expired"
    with_a_ttl_that_suffices(renewed_once, connect, resource)


def test_expiring_then_lost(connect, resource):
    def left_alone(holder, name, ttl):
        since = time.monotonic()
        token = holder.lock(name, f"ttl={ttl}s note=n")
        told = expiring(holder, since, ttl)
        assert (told["resource"], told["token"]) == (name, token)
        lost = event(holder, "lost")
        assert (lost["token"], lost["reason"], lost["mode"]) == (token, "expired", "exclusive")
        assert "held_by" not in lost.body
        assert holder.ask(f"CHECK {name} token={token}").status == "LOST"
    with_a_ttl_that_suffices(left_alone, connect, resource)


def test_no_expiring_for_who_renews(connect, other, resource):
    """Here, over another connection, and at another daemon."""
    def renewed(holder, name, ttl):
        begin = since = time.monotonic()
        token = holder.lock(name, f"ttl={ttl}s")
        longest = 0

        def answer(client, line):
            nonlocal longest, since
            sent = time.monotonic()
            reply = client.ask(line)
            longest = max(longest, time.monotonic() - since)
            since = sent
            if reply.status != "OK":
                assert longest >= 0.75 * ttl - AHEAD, reply
                raise TooLate
        while time.monotonic() < begin + ttl:  # who does not renew is told after three quarters
            for renewer in holder, second, third:
                answer(renewer, f"RENEW {name} token={token} ttl={ttl}s")
                time.sleep(ttl / 30)
        answer(holder, f"UNLOCK {name} token={token}")
        holder.nothing_comes()
    second, third = connect(), connect(other)
    with_a_ttl_that_suffices(renewed, connect, resource)


def test_expiring_again_after_a_renewal(connect, resource):
    def renewed(holder, name, ttl):
        since = time.monotonic()
        token = holder.lock(name, f"ttl={ttl}s")
        expiring(holder, since, ttl)
        renewing = time.monotonic()
        in_time(holder.ask(f"RENEW {name} token={token} ttl={ttl}s"), since, ttl)
        expiring(holder, renewing, ttl)
        in_time(holder.ask(f"UNLOCK {name} token={token}"), renewing, ttl)
        holder.nothing_comes()
    with_a_ttl_that_suffices(renewed, connect, resource)


@pytest.mark.parametrize("held, asked, lock", [
    ("", "/a/b", "scope=tree"), ("/a/b", "", "scope=tree"), ("", "", "limit=1"), ("/a", "/b /a /c", ""),
    ("/a/b", "/a", "scope=tree mode=shared")])
def test_wanted_by_trees_sets_and_slots(holder, connect, other, registered, resource, held, asked, lock):
    """Whatever the lease stands in the way of: at once, not when the daemon looks by itself."""
    names = " ".join(resource + a for a in (asked.split() or [asked]))
    holder_keys, waiter_keys = (lock, lock) if "limit" in lock else ((lock, "") if held == "" else ("", lock))
    token = holder.lock(resource + held, f"ttl=10m {holder_keys}")
    waiter = connect(other, "w1")
    registered(resource + held)
    waiter.send(f"LOCK {names} wait=inf {waiter_keys}")
    wanted = event(holder, "wanted")
    assert (wanted["resource"], wanted["token"], wanted["waiting"], wanted["by_owner"]) == \
        (resource + held, token, 1, "w1")
    holder.ask_ok(f"UNLOCK {resource}{held} token={token}")
    assert waiter.reply().status == "OK"


def test_a_change_of_its_own_mode_is_not_wanted(holder, connect, resource):
    """The other reader is told that it is in the way; who wants to change is not told of itself."""
    reader = connect(name="reader")
    reader.ask_ok("HELLO events=on")
    theirs = reader.lock(resource, "mode=shared ttl=10m")
    mine = holder.lock(resource, "mode=shared ttl=10m")
    holder.send(f"@up LOCK {resource} token={mine} mode=exclusive wait=inf")
    wanted = event(reader, "wanted")
    assert (wanted["token"], wanted["by_owner"], wanted["by_mode"]) == (theirs, "holder", "exclusive")
    reader.ask_ok(f"UNLOCK {resource} token={theirs}")
    changed = holder.reply()
    assert (changed.tag, changed.status) == ("up", "OK")
    holder.nothing_comes()


# ---- lost ----

def test_forced_by_sql(holder, connect, other, sql, resource):
    token = holder.lock(resource, "ttl=1m")
    next_one = connect(other, "next")
    next_one.send(f"LOCK {resource} wait=inf")
    event(holder, "wanted")
    sql(user="postgres").cursor().execute("select pglockd.force(%s, null, 'maintenance')", (resource,))
    lost = event(holder, "lost")
    assert (lost["token"], lost["reason"], lost["held_by"]) == (token, "forced", "next")
    assert lost["detail"] == "by postgres: maintenance"
    assert lost["lost_ms"] >= 0
    assert next_one.reply()["token"] > token


def test_lost_by_notification(at_once, sql):
    cursor = sql(user="postgres").cursor()
    at_once(lambda name: cursor.execute("select pglockd.force(%s)", (name,)), "lost")


def test_in_its_grace_it_is_lost(holder, resource):
    """Told when the holder has to stop, not when the resource opens."""
    token = holder.lock(resource, "ttl=500ms grace=1h")
    lost = holder.reply()
    if lost["event"] == "expiring":  # unless the daemon did not get to it before
        lost = holder.reply()
    assert (lost["event"], lost["token"], lost["reason"], lost.body.get("held_by")) == ("lost", token, "expired", None)
    assert holder.ask(f"LOCK {resource}").status == "BUSY"


def test_given_away(holder, connect, other, registered, resource):
    token = holder.lock(resource, "ttl=10m")
    registered(resource)
    connect(other).ask_ok(f"TRANSFER {resource} token={token} to=next")
    lost = event(holder, "lost")
    assert (lost["token"], lost["reason"], lost["held_by"]) == (token, "superseded", "next")


def test_its_session_was_closed_elsewhere(holder, connect, other, registered, resource):
    opened = holder.ask_ok("SESSION OPEN ttl=10m")
    token = holder.lock(resource, f"session={opened['session']}")
    registered(resource)
    connect(other).ask_ok(f"SESSION CLOSE {opened['session']} secret={opened['secret']}")
    lost = event(holder, "lost")
    assert (lost["token"], lost["reason"]) == (token, "session_closed")


def test_its_own_close_is_no_news(holder, connect, registered, resource):
    session = holder.ask_ok("SESSION OPEN ttl=10m")["session"]
    holder.lock(resource, f"session={session}")
    registered(resource)
    assert holder.ask_ok(f"SESSION CLOSE {session}")["released"] == 1
    holder.lock(f"{resource}/next", "ttl=10m")
    connect().send(f"LOCK {resource}/next wait=inf")
    assert event(holder, "wanted")["resource"] == f"{resource}/next"


def test_a_close_that_was_refused_leaves_a_holder(holder, sql, connect, other, resource):
    opened = holder.ask_ok("SESSION OPEN ttl=10m")
    token = holder.lock(resource, f"session={opened['session']}")
    fence = sql()
    fence.autocommit = False
    fence.cursor().execute("select pglockd.assert_fence(%s, %s)", (resource, token))
    assert holder.ask(f"SESSION CLOSE {opened['session']}").code == "fenced"
    fence.rollback()
    connect(other).ask_ok(f"SESSION CLOSE {opened['session']} secret={opened['secret']}")
    assert event(holder, "lost")["reason"] == "session_closed"


def test_who_resumes_a_session_is_told_of_its_locks(holder, connect, other, sql, resource):
    first = connect(other)
    opened = first.ask_ok("SESSION OPEN ttl=10m")
    token = first.lock(resource, f"session={opened['session']}")
    holder.ask_ok(f"SESSION RESUME {opened['session']} secret={opened['secret']}")
    waiter = connect(other, "w1")
    waiter.send(f"LOCK {resource} wait=inf")
    assert event(holder, "wanted")["token"] == token
    sql(user="postgres").cursor().execute("select pglockd.force(%s)", (resource,))
    assert event(holder, "lost")["reason"] == "forced"


def test_released_by_another_connection(holder, connect, other, resource):
    token = holder.lock(resource, "ttl=1m")
    connect(other).ask_ok(f"UNLOCK {resource} token={token}")
    assert event(holder, "lost")["reason"] == "unknown"


def test_a_refused_unlock_does_not_end_the_events(peer, connect, sql, resource):
    """An UNLOCK that could not be carried out leaves a holder."""
    holder = connect(peer("--request-timeout", "3s"))
    holder.ask_ok("HELLO events=on")
    token = eventually(lambda: holder.ask(f"LOCK {resource} ttl=1m").body.get("token"))
    locker = sql()
    locker.autocommit = False
    locker.cursor().execute("select from pglockd.lease where resource = %s for update", (resource,))
    assert holder.ask(f"UNLOCK {resource} token={token}").code == "unavailable"
    locker.rollback()
    connect().send(f"LOCK {resource} wait=inf")
    event(holder, "wanted")


# ---- who must not be disturbed by whom ----

def test_a_daemon_that_dies_leaves_no_listener(holder, peer, sql, resource):
    dying = peer()
    cursor = sql().cursor()
    with Lines(dying.line) as client:
        instance = int(client.ask_ok("HELLO events=on")["instance"])
        client.lock(resource, "ttl=1m")

        def listeners():
            cursor.execute("select count(*) from pglockd.listener where instance_id = %s", (instance,))
            return cursor.fetchone()[0]
        eventually(lambda: listeners() == 1)
        dying.kill()
    eventually(lambda: listeners() == 0)


def test_the_database_crashes(make_daemon):
    """The table of listeners is emptied: the daemon puts its rows back."""
    one = make_daemon()
    with Lines(one.line) as holder, Lines(one.line) as waiter:
        holder.ask_ok("HELLO events=on")
        holder.lock("a", "ttl=10m")
        one.signal_postgres(signal.SIGKILL)
        eventually(lambda: waiter.ask("INFO a").status == "OK")
        waiter.send("LOCK a wait=inf")
        assert event(holder, "wanted")["waiting"] == 1


def test_a_slow_reader_gets_a_gap(peer, directory, sql, resource):
    """It loses events, never its connection, and the daemon keeps no more than max_output for it."""
    # Of a Unix socket the kernel keeps little, so that most of what nobody reads is the daemon's.
    address = f"unix:{directory}/slow-reader.sock"
    small = peer("--max-output", "65536", "--listen", address)
    cursor = sql(user="postgres").cursor()
    count, step = 2000, 100

    def rows(table):
        cursor.execute(f"select count(*) from pglockd.{table} where resource like %s", (f"{resource}/%",))
        return cursor.fetchone()[0]

    with Lines(address) as slow, Lines(small.line) as other:
        slow.ask_ok("HELLO events=on")
        for first in range(0, count, step):
            slow.send(*(f"LOCK {resource}/{'x' * 200}{i} ttl=10m" for i in range(first, first + step)))
            assert {slow.reply().status for _ in range(step)} == {"OK"}
        eventually(lambda: rows("listener") == count, what="the daemon listens for all of them")
        while rows("lease"):
            cursor.execute("select pglockd.force(l.resource) from (select resource from pglockd.lease "
                           "where resource like %s limit %s) l", (f"{resource}/%", step))
        # Every event but those of one more answer has been told, and nobody reads.
        eventually(lambda: rows("listener") == 0, what="the daemon has looked at all of them")
        slow.send("@end PING")
        events = list(iter(slow.reply, ("end", "OK", {})))
        names = [e["event"] for e in events]
        assert names.count("gap") >= 1 and 10 < len(names) < count
        gap = next(e for e in events if e["event"] == "gap")
        assert list(gap.body) == [*SHAPE, "code"] and gap["code"] == "slow_reader"
        assert small.is_running() and other.ask_ok("PING")


# ---- pglockctl run --yield ----

POLITE = "trap 'echo yields; exit 0' USR1; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def run_yield(resource):
    """Runs the polite command under the lock of an address; it is up when this returns."""
    started = []

    def start(address):
        process = subprocess.Popen([PGLOCKCTL, "--connect", address, "run", "--yield=USR1", resource, "--",
                                    "sh", "-c", POLITE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "up\n"
        return process
    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("where", ["here", "there"])
def test_run_yields(run_yield, daemon, other, resource, where):
    holder = run_yield(daemon.line)
    late = ctl((daemon if where == "here" else other).line, "run", "-w", "40s", resource, "--", "echo", "mine")
    assert (late.returncode, late.stdout) == (0, "mine\n"), late.stderr
    assert holder.communicate(timeout=SECONDS) == ("yields\n", None)
    assert holder.returncode == 0


def test_run_yields_after_its_daemon_died(run_yield, peer, daemon, resource):
    """Another daemon renews, and tells."""
    dying = peer()
    holder = run_yield(f"{dying.line},{daemon.line}")
    dying.kill()
    late = ctl(daemon.line, "run", "-w", "40s", resource, "--", "echo", "mine")
    assert (late.returncode, late.stdout) == (0, "mine\n"), late.stderr
    assert holder.communicate(timeout=SECONDS) == ("yields\n", None)


def test_run_yield_needs_a_signal(daemon):
    done = ctl(daemon.line, "run", "--yield=NOSUCH", "a", "--", "true")
    assert done.returncode == 64 and "NOSUCH" in done.stderr
