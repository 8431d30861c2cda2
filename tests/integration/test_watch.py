"""WATCH: what happens beneath a prefix, told across daemons, in order, and without a silent loss."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import PGLOCKCTL, ctl
from lines import Lines, eventually

SHAPE = ["event", "resource", "owner", "mode", "reason", "seq"]


def event(client):
    reply = client.reply()
    assert (reply.tag, reply.status) == ("*", "EVENT"), reply
    assert list(reply.body)[:6] == SHAPE
    assert "token" not in reply.body, "nobody may force over the line protocol"
    return reply


def told(client, count):
    """(event, resource) of the next events; their numbers grow."""
    events = [event(client) for _ in range(count)]
    numbers = [e["seq"] for e in events]
    assert numbers == sorted(set(numbers))
    return [(e["event"], e["resource"]) for e in events]


def lock_and_unlock(client, resource, keys=""):
    client.ask_ok(f"UNLOCK {resource} token={client.lock(resource, keys)}")


def watch(client, prefix, keys=""):
    """Begins to watch; returns where."""
    return client.ask_ok(f"WATCH {prefix} {keys}")["seq"]


# ---- what is told ----

@pytest.mark.parametrize("where", ["here", "there"])
def test_what_an_event_says(connect, daemon, other, resource, where):
    watcher = connect()
    start = watch(watcher, resource)
    holder = connect(daemon if where == "here" else other, "agent-7")
    token = holder.lock(resource + "/a", "mode=shared note=secret")
    granted = event(watcher)
    assert granted.body == {
        "event": "granted", "resource": resource + "/a", "owner": "agent-7", "mode": "shared", "reason": None,
        "seq": granted["seq"], "prefix": resource, "scope": "node", "ago_ms": granted["ago_ms"]}
    assert granted["seq"] > start and granted["ago_ms"] >= 0
    holder.ask_ok(f"UNLOCK {resource}/a token={token}")
    released = event(watcher)
    assert (released["event"], released["reason"]) == ("released", "released")
    watcher.nothing_comes()


def test_ends_of_every_kind(connect, other, sql, resource):
    watcher = connect()
    watch(watcher, resource)
    holder = connect(other)
    holder.lock(resource + "/forced")
    sql(user="postgres").cursor().execute("select * from pglockd.force(%s, null, 'stuck')", (resource + "/forced",))
    assert told(watcher, 1) == [("granted", resource + "/forced")]
    forced = event(watcher)
    assert (forced["event"], forced["reason"]) == ("forced", "forced") and forced["detail"].endswith(": stuck")
    holder.lock(resource + "/expired", "ttl=100ms")
    told(watcher, 1)
    assert event(watcher)["event"] == "expired"
    holder.lock(resource + "/closed", "bind=connection")
    told(watcher, 1)
    holder.close()
    closed = event(watcher)
    assert (closed["event"], closed["reason"]) == ("released", "connection_closed")
    cursor = sql().cursor()
    cursor.execute("select token from pglockd.lock(%s)", (resource + "/sql",))
    (token,), = cursor.fetchall()
    cursor.execute("select status from pglockd.unlock(%s, %s)", (resource + "/sql", token))
    assert told(watcher, 2) == [("granted", resource + "/sql"), ("released", resource + "/sql")]


def test_a_hand_over_to_a_waiter_elsewhere(connect, other, resource):
    watcher = connect()
    watch(watcher, resource)
    first, second = connect(name="first"), connect(other, "second")
    token = first.lock(resource)
    second.send(f"LOCK {resource} wait=inf")
    first.ask_ok(f"UNLOCK {resource} token={token}")
    second.ask_ok(f"UNLOCK {resource} token={second.reply()['token']}")
    seen = [event(watcher) for _ in range(4)]
    assert [(e["event"], e["owner"]) for e in seen] == [
        ("granted", "first"), ("released", "first"), ("granted", "second"), ("released", "second")]


def test_prefixes_of_one_connection(connect, client, resource):
    """Each is told of its own, with its name; what two cover is told twice."""
    watcher = connect()
    watch(watcher, resource)
    watch(watcher, resource + "/a")
    lock_and_unlock(client, resource + "/a/x")
    lock_and_unlock(client, resource + "/ab")
    seen = [event(watcher) for _ in range(6)]
    assert [e["resource"] for e in seen if e["prefix"] == resource] == [resource + "/a/x"] * 2 + [resource + "/ab"] * 2
    assert [e["resource"] for e in seen if e["prefix"] == resource + "/a"] == [resource + "/a/x"] * 2
    watcher.nothing_comes()


def test_everything(make_daemon):
    daemon = make_daemon()
    with Lines(daemon.line) as watcher, Lines(daemon.line) as client:
        watch(watcher, "/")
        lock_and_unlock(client, "a/b")
        client.lock("/", "scope=tree")
        assert told(watcher, 3) == [("granted", "a/b"), ("released", "a/b"), ("granted", "/")]


def test_beside_the_events_of_a_holder(connect, client, resource):
    """One shape for both: the holder's have no number."""
    one = connect()
    one.ask_ok("HELLO events=on name=me")
    watch(one, resource)
    one.send(f"LOCK {resource}")
    # A reply comes when its transaction is committed, and so do the events, on their own way.
    lines = {line.status: line for line in (one.reply(), one.reply())}
    token = lines["OK"]["token"]
    assert lines["EVENT"]["event"] == "granted"
    client.send(f"LOCK {resource} wait=inf")
    wanted = one.reply()
    assert list(wanted.body)[:6] == SHAPE and (wanted["event"], wanted["seq"]) == ("wanted", None)
    one.send(f"UNLOCK {resource} token={token}")
    lines = [one.reply() for _ in range(3)]
    assert sorted(line.status for line in lines) == ["EVENT", "EVENT", "OK"]
    assert [line["event"] for line in lines if line.tag == "*"] == ["released", "granted"]


# ---- order ----

class Contender(threading.Thread):
    """Takes and gives back some resources, for a number of rounds."""

    def __init__(self, line, resources, rounds, seed):
        super().__init__()
        self.line, self.resources, self.rounds = line, resources, rounds
        self.random = random.Random(seed)
        self.name = f"c{seed}"
        self.error = None

    def run(self):
        try:
            with Lines(self.line, self.name) as client:
                for _ in range(self.rounds):
                    resource = self.random.choice(self.resources)
                    reply = client.ask_ok(f"LOCK {resource} wait=inf ttl=5m")
                    client.ask_ok(f"UNLOCK {resource} token={reply['token']}")
        except AssertionError as error:
            self.error = error


def test_order_across_daemons(connect, daemon, other, resource):
    """Many at two daemons want few resources: each watcher is told of every grant and of its end, in turn."""
    resources = [f"{resource}/{n}" for n in range(3)]
    watchers = [connect(daemon), connect(other)]
    for one in watchers:
        watch(one, resource)
    contenders = [Contender((daemon if n % 2 else other).line, resources, 40, n) for n in range(8)]
    for one in contenders:
        one.start()
    seen = [[event(one) for _ in range(2 * 8 * 40)] for one in watchers]
    for one in contenders:
        one.join()
        assert one.error is None
    assert [e["seq"] for e in seen[0]] == [e["seq"] for e in seen[1]], "both are told the same"
    for name in resources:
        steps = [(e["event"], e["owner"]) for e in seen[0] if e["resource"] == name]
        for (granted, owner), (released, owner_too) in zip(steps[::2], steps[1::2]):
            assert (granted, released, owner) == ("granted", "released", owner_too)


# ---- resuming ----

def test_resuming_at_another_daemon(connect, daemon, other, client, resource):
    watcher = connect(daemon)
    watch(watcher, resource)
    lock_and_unlock(client, resource + "/1")
    first = [event(watcher) for _ in range(2)]
    watcher.close()
    lock_and_unlock(client, resource + "/2")
    again = connect(other)
    assert watch(again, resource, f"after={first[0]['seq']}") == first[0]["seq"]
    lock_and_unlock(client, resource + "/3")
    assert told(again, 5) == [("released", resource + "/1"), ("granted", resource + "/2"), ("released", resource + "/2"),
                              ("granted", resource + "/3"), ("released", resource + "/3")]
    again.nothing_comes()


def test_resuming_a_prefix_beneath_what_was_watched(connect, other, client, resource):
    watcher = connect()
    start = watch(watcher, resource)
    lock_and_unlock(client, resource + "/a/x")
    lock_and_unlock(client, resource + "/b/x")
    told(watcher, 4)
    closer = connect(other)
    watch(closer, resource + "/b", f"after={start}")
    assert told(closer, 2) == [("granted", resource + "/b/x"), ("released", resource + "/b/x")]


def gap(client, code, prefix):
    reply = event(client)
    assert (reply["event"], reply["code"], reply["prefix"]) == ("gap", code, prefix)
    assert (reply["resource"], reply["owner"], reply["mode"], reply["reason"]) == (None,) * 4
    return reply["seq"]


@pytest.mark.parametrize("after, code", [(1, None), (2**53 - 1, "unknown_seq")])
def test_resuming_where_something_is_missing(connect, client, resource, after, code):
    """It is said, before all that follows."""
    watcher = connect()
    start = watch(watcher, resource, f"after={after}")
    reply = event(watcher)
    assert reply["event"] == "gap" and reply["seq"] == start and reply["code"] in (code, "not_watched", "events_removed")
    lock_and_unlock(client, resource)
    assert told(watcher, 2) == [("granted", resource), ("released", resource)]


def test_resuming_behind_what_is_kept_no_longer(connect, sql, client, resource):
    watcher = connect()
    start = watch(watcher, resource)
    lock_and_unlock(client, resource + "/1")
    last = [event(watcher) for _ in range(2)][1]["seq"]
    sql().cursor().execute("update pglockd.event set published_at = published_at - interval '1 day' where seq <= %s", (last,))
    cursor = sql().cursor()

    def is_gone():
        cursor.execute("select from pglockd.event_floor where seq >= %s", (last,))
        return cursor.rowcount
    eventually(is_gone, what="the janitor forgets old events")
    again = connect()
    watch(again, resource, f"after={start}")
    gap(again, "events_removed", resource)
    assert watch(again, resource, f"after={last}") == last, "nothing was missed since then"
    again.nothing_comes()


def test_a_crash_of_postgres(make_daemon):
    """What was noted is lost with it, and those who watch are told so; then they are told what happens."""
    daemon = make_daemon()
    with Lines(daemon.line) as watcher, Lines(daemon.line) as client:
        watch(watcher, "crash")
        lock_and_unlock(client, "crash/before")
        last = [event(watcher) for _ in range(2)][1]["seq"]
        os.kill(daemon.postmaster(), signal.SIGKILL)
        assert gap(watcher, "events_removed", "crash") > last
        token = eventually(lambda: client.ask("LOCK crash/after").body.get("token"))
        client.ask_ok(f"UNLOCK crash/after token={token}")
        assert told(watcher, 2) == [("granted", "crash/after"), ("released", "crash/after")]


def test_a_lost_connection_to_postgres_loses_nothing(connect, sql, peer, client, resource):
    daemon = peer()
    watcher = connect(daemon)
    watch(watcher, resource)
    cursor = sql(user="postgres").cursor()
    # Twice: what happens while it is away, too.
    for n in range(2):
        cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ~ 'read_events|watch_prefixes|"
                       "settle_watches|lease_writers|resume_watch|pglockd_events' and pid <> pg_backend_pid()")
        lock_and_unlock(client, f"{resource}/{n}")
        assert told(watcher, 2) == [("granted", f"{resource}/{n}"), ("released", f"{resource}/{n}")]


# ---- transactions that were at work before ----

def test_a_long_transaction_does_not_stop_a_watch(connect, sql, client, resource):
    """Its events may be missing, since it began before: said when it ends. Where somebody watched a prefix above
    already (other tests do) they are there all the same, before or after the word of the gap."""
    long = sql()
    long.autocommit = False
    long.cursor().execute("select * from pglockd.lock(%s)", (resource + "/long",))
    watcher = connect()
    start = watch(watcher, resource)
    lock_and_unlock(client, resource + "/short")
    assert told(watcher, 2) == [("granted", resource + "/short"), ("released", resource + "/short")]
    long.commit()
    events = [event(watcher)]
    if events[0]["event"] == "granted":
        events.append(event(watcher))
    gaps = [one for one in events if one["event"] == "gap"]
    assert [(one["code"], one["prefix"]) for one in gaps] == [("older_transactions", resource)]
    assert gaps[0]["seq"] >= start
    lock_and_unlock(client, resource + "/later")
    seen = [(one["event"], one["resource"]) for one in events if one not in gaps]
    while ("released", resource + "/later") not in seen:
        seen += told(watcher, 1)
    assert [one for one in seen if one != ("granted", resource + "/long")] == [
        ("granted", resource + "/later"), ("released", resource + "/later")]
    assert seen.count(("granted", resource + "/long")) <= 1


def test_a_daemon_that_stood_still_takes_no_short_transaction_for_a_long_one(peer, connect, sql, resource):
    """Race: the daemon that waits for who is at work stands still, and more than a second is over when it goes on: it
    told of a gap, though the transaction had ended long before.

    Fix: it looks again first.
    """
    daemon, cursor = peer(), sql().cursor()

    def watch_and_stand_still():
        """Within that second; on a busy machine, another time."""
        begin, watch_and_stand_still.count = time.monotonic(), watch_and_stand_still.count + 1
        prefix = f"{resource}/{watch_and_stand_still.count}"
        watcher = connect(daemon)
        with contextlib.closing(sql()) as short:
            short.autocommit = False
            short.cursor().execute("select * from pglockd.lock(%s)", (resource + "/short",))
            watcher.send(f"WATCH {prefix}")

            def is_registered():
                cursor.execute("select from pglockd.watch where prefix = %s", (prefix,))
                return cursor.rowcount
            eventually(is_registered)
            daemon.signal(signal.SIGSTOP)
            in_time = time.monotonic() - begin < 0.9
            short.rollback()
        time.sleep(1.2)
        daemon.signal(signal.SIGCONT)
        return in_time and (watcher, prefix)
    watch_and_stand_still.count = 0
    watcher, prefix = eventually(watch_and_stand_still)
    assert watcher.reply().status == "OK"
    lock_and_unlock(connect(), prefix)
    assert told(watcher, 2) == [("granted", prefix), ("released", prefix)]
    watcher.nothing_comes()


def test_a_transaction_that_is_undone(connect, sql, client, resource):
    watcher = connect()
    watch(watcher, resource)
    undone = sql()
    undone.autocommit = False
    undone.cursor().execute("select * from pglockd.lock(%s)", (resource + "/undone",))
    lock_and_unlock(client, resource + "/done")
    assert told(watcher, 2) == [("granted", resource + "/done"), ("released", resource + "/done")]
    undone.rollback()
    watcher.nothing_comes()


# ---- slow readers ----

def test_a_slow_reader_falls_behind_and_misses_nothing(peer, connect, resource):
    """Far more than its output may hold: the daemon keeps nothing for it and goes on where it is."""
    daemon = peer("--max-output", "65536")
    slow, quick, busy = connect(daemon), connect(daemon), connect(daemon)
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    note = "x" * 200
    for one in slow, quick:
        watch(one, resource)
    count = 1500
    names = [f"{resource}/{n:04}-{note}" for n in range(count)]
    for first in range(0, count, 100):  # whose replies are few enough for a client that reads late
        busy.send(*(f"LOCK {name} ttl=10m" for name in names[first:first + 100]))
        assert {busy.reply().status for _ in range(100)} == {"OK"}
    wanted = [("granted", name) for name in names]
    assert sorted(told(quick, count)) == wanted
    slow.send("@ping PING")
    seen = []
    while len(seen) < count:
        reply = slow.reply()
        if reply.tag == "*":
            seen.append(reply)
    assert sorted((e["event"], e["resource"]) for e in seen) == wanted
    assert [e["seq"] for e in seen] == sorted({e["seq"] for e in seen})


# ---- UNWATCH, and what is not a prefix ----

def test_unwatch(connect, client, resource):
    watcher = connect()
    watch(watcher, resource)
    lock_and_unlock(client, resource + "/1")
    last = [event(watcher) for _ in range(2)][1]["seq"]
    reply = watcher.ask_ok(f"UNWATCH {resource}")
    assert reply["seq"] >= last
    lock_and_unlock(client, resource + "/2")
    watcher.nothing_comes()
    assert watcher.ask(f"UNWATCH {resource}").code == "not_watched"
    watch(watcher, resource, f"after={reply['seq']}")
    assert told(watcher, 2) == [("granted", resource + "/2"), ("released", resource + "/2")]


def test_watching_anew_begins_where_it_says(connect, client, resource):
    watcher = connect()
    start = watch(watcher, resource)
    lock_and_unlock(client, resource)
    told(watcher, 2)
    assert watch(watcher, resource, f"after={start}") == start
    assert told(watcher, 2) == [("granted", resource), ("released", resource)]
    watcher.nothing_comes()


@pytest.mark.parametrize("line, code", [
    ("WATCH", "bad_request"), ("WATCH a b", "bad_request"), ("WATCH a after=-1", "bad_request"),
    ("WATCH a after=x", "bad_request"), ("WATCH a after=9007199254740992", "bad_request"),
    ("WATCH a limit=1", "unknown_key"), ("WATCH a//b", "bad_resource"), ("WATCH ..", "bad_resource"),
    ("WATCH a/", "bad_resource"), ("WATCH /a", "bad_resource"), ("WATCH " + "a" * 513, "bad_resource"),
    ("UNWATCH", "bad_request"), ("UNWATCH a//b", "bad_resource"), ("UNWATCH never/watched", "not_watched")])
def test_what_is_refused(client, line, code):
    reply = client.ask(line)
    assert (reply.status, reply.code) == ("ERR", code), reply


@pytest.mark.parametrize("name", ["%", "_", "a'; drop table pglockd.watch", '"', "\\", "ü", "[a]*", "{a,b}"])
def test_names_that_mean_something_elsewhere(connect, client, resource, name):
    watcher = connect()
    prefix = json.dumps(f"{resource}/{name}", ensure_ascii=False)
    watcher.ask_ok(f"WATCH {prefix}")
    lock_and_unlock(client, f"{resource}/abc")
    lock_and_unlock(client, json.dumps(f"{resource}/{name}/x", ensure_ascii=False))
    assert told(watcher, 2) == [("granted", f"{resource}/{name}/x"), ("released", f"{resource}/{name}/x")]


def test_bounds(peer, connect, resource):
    daemon = peer("--max-watches", "102")
    one, two = connect(daemon), connect(daemon)
    for n in range(100):
        one.send(f"WATCH {resource}/{n}")
    assert [one.reply().status for _ in range(100)] == ["OK"] * 100
    assert one.ask(f"WATCH {resource}/100").code == "too_many_watches"
    watch(two, resource)
    watch(two, resource + "/0")
    assert two.ask(f"WATCH {resource}/1").code == "too_many_watches"
    two.ask_ok(f"UNWATCH {resource}")
    watch(two, resource + "/1")
    lock_and_unlock(connect(daemon), resource + "/0")
    assert told(one, 2) == told(two, 2) == [("granted", resource + "/0"), ("released", resource + "/0")]


def test_a_client_that_goes_while_it_is_not_answered(peer, connect, sql, resource):
    """Its prefix waits for a transaction when it goes; the daemon lives on, and others watch."""
    daemon = peer()
    long = sql()
    long.autocommit = False
    long.cursor().execute("select * from pglockd.lock(%s)", (resource + "/long",))
    hasty = connect(daemon)
    hasty.send(f"WATCH {resource}", f"UNWATCH {resource}", f"@t WATCH {resource}/t")
    hasty.reset()
    watcher = connect(daemon)
    watch(watcher, resource)
    long.rollback()
    lock_and_unlock(connect(daemon), resource)
    assert sorted((e["event"], e["resource"]) for e in (event(watcher) for _ in range(3)) if e["event"] != "gap") == [
        ("granted", resource), ("released", resource)]


def test_without_postgres_a_watch_is_unavailable(make_daemon):
    daemon = make_daemon("--request-timeout", "1s")
    with Lines(daemon.line) as client:
        daemon.signal_postgres(signal.SIGSTOP)
        try:
            assert client.ask("WATCH a").code == "unavailable"
        finally:
            daemon.signal_postgres(signal.SIGCONT)
        eventually(lambda: client.ask("WATCH a").status == "OK")


def test_how_many_are_watched_is_a_metric(peer, connect, resource):
    daemon = peer()
    one = connect(daemon)
    watch(one, resource)
    watch(one, resource + "/a")

    def watches():
        return connect(daemon).ask_ok("STATS")["metrics"].get("watches", 0)
    assert watches() == 2
    one.close()
    eventually(lambda: not watches())


# ---- pglockctl ----

def test_pglockctl_watch(daemon, connect, client, resource):
    watcher = connect()
    start = watch(watcher, resource)
    lock_and_unlock(client, resource + "/a", "owner=me")
    seen = [event(watcher) for _ in range(2)]
    done = ctl(daemon.line, "watch", "--count", 2, resource, f"after={start}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{seen[0]['seq']} granted {resource}/a me exclusive -",
        f"{seen[1]['seq']} released {resource}/a me exclusive released"]
    done = ctl(daemon.line, "--json", "watch", "--count", 1, resource, f"after={start}")
    assert json.loads(done.stdout)["seq"] == seen[0]["seq"]


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "after=x"], ["a", "until=1"], ["a", "after=1", "after="]])
def test_pglockctl_watch_of_nothing_that_can_be(daemon, words):
    assert ctl(daemon.line, "watch", *words).returncode == 64


def test_pglockctl_watch_refused(daemon):
    done = ctl(daemon.line, "watch", "a//b")
    assert done.returncode == 64 and "a//b" in done.stderr


@contextlib.contextmanager
def running(*command):
    with subprocess.Popen([PGLOCKCTL, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_pglockctl_watch_goes_on_at_another_daemon(peer, connect, resource):
    """The daemon that it watches through dies; nothing is missing."""
    first, second = peer(), peer()
    both = f"tcp://{first.line},tcp://{second.line}"
    client = connect()
    start = watch(connect(), resource)
    with running("--connect", both, "watch", resource, f"after={start}") as process:
        lines = iter(process.stdout)
        lock_and_unlock(client, resource + "/0")
        seen = [next(lines).split()[1:3] for _ in range(2)]
        first.kill()
        for n in range(1, 4):
            lock_and_unlock(client, f"{resource}/{n}")
        seen += [next(lines).split()[1:3] for _ in range(6)]
    assert seen == [[e, f"{resource}/{n}"] for n in range(4) for e in ("granted", "released")]
