"""Limits: each is off or wide by default, refuses with a clear word, is counted, and hurts nobody else."""

import contextlib
import signal
import socket

import pytest

from conftest import ctl
from lines import Lines, eventually, parse, wait_for_queue
from test_metrics import scrape


def limits_met(daemon, limit):
    return scrape(daemon)["pglockd_limits_met_total", (("limit", limit),)]


def refused(daemon, reason):
    return scrape(daemon)["pglockd_connections_refused_total", (("reason", reason),)]


def closed(daemon, reason):
    return scrape(daemon)["pglockd_connections_closed_total", (("reason", reason),)]


# ---- connections ----

def test_connections_of_one_address(peer, daemon):
    limited = peer("--max-connections-per-address", "2")
    with Lines(limited.line) as first, Lines(limited.line) as second:
        first.ask_ok("PING")
        second.ask_ok("PING")
        with Lines(limited.line) as third:
            bye = parse(third.read_line())
            assert (bye.status, bye.code) == ("BYE", "too_many_connections")
            assert "this address" in bye["message"]
            assert third.read_line() is None
        with socket.create_connection(limited.line.rsplit(":", 1), source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"PING\n")
            assert other.recv(100).startswith(b"OK")
    assert refused(limited, "too_many_of_address") == 1

    def again():
        with contextlib.suppress(ConnectionError), Lines(limited.line) as client:
            client.send("PING")
            line = client.read_line()  # None where what was said is lost since the PING was not read
            return line is not None and parse(line).status == "OK"
    assert eventually(again)  # the places of the closed ones are free


def test_a_unix_socket_is_no_address(make_daemon):
    limited = make_daemon("--max-connections-per-address", "1")
    with Lines(limited.line), Lines(limited.unix_address) as a, Lines(limited.unix_address) as b:
        a.ask_ok("PING")
        b.ask_ok("PING")


# ---- silence ----

def test_a_silent_connection_is_closed_with_a_word(peer):
    limited = peer("--idle-timeout", "200ms")
    with Lines(limited.line) as client:
        bye = parse(client.read_line())
        assert (bye.status, bye.code) == ("BYE", "idle_timeout")
        assert client.read_line() is None
    assert closed(limited, "idle_timeout") == 1


def test_who_waits_for_an_answer_is_not_silent(peer, resource, connect):
    limited = peer("--idle-timeout", "2s")
    holder = connect()
    token = holder.lock(resource, "ttl=10m")
    with Lines(limited.line) as waiting, Lines(limited.line) as silent:
        waiting.send(f"LOCK {resource} wait=inf")
        wait_for_queue(holder, resource, 1)
        assert parse(silent.read_line()).code == "idle_timeout"
        holder.ask_ok(f"UNLOCK {resource} token={token}")
        assert waiting.reply().status == "OK"


def test_the_time_of_silence_is_reloadable(make_daemon, tmp_path):
    conf = tmp_path / "pglockd.ini"
    conf.write_text("[pglockd]\n")
    limited = make_daemon("--config", str(conf))
    with Lines(limited.line) as client:
        client.ask_ok("PING")
        conf.write_text("[pglockd]\nidle_timeout = 100ms\n")
        limited.signal(signal.SIGHUP)
        assert parse(client.read_line()).code == "idle_timeout"


# ---- rates ----

def test_requests_of_one_connection(peer, resource):
    limited = peer("--max-request-rate", "10")
    with Lines(limited.line) as client, Lines(limited.line) as other:
        token = client.lock(resource)
        client.send(*["PING"] * 200)
        replies = [client.reply() for _ in range(200)]
        late = [reply for reply in replies if reply.status != "OK"]
        assert replies[0].status == "OK" and late
        assert {(reply.status, reply.code) for reply in late} == {("LIMITED", "request_rate")}
        assert all(1 <= reply["retry_after_ms"] <= 1000 for reply in late)
        client.ask_ok(f"RENEW {resource} token={token}")  # what was locked is not lost by it
        client.ask_ok(f"UNLOCK {resource} token={token}")
        other.ask_ok("PING")  # nor does another connection suffer
        assert limits_met(limited, "max_request_rate") >= len(late)


def test_what_frees_is_limited_in_the_end(peer, resource):
    limited = peer("--max-request-rate", "10")
    with Lines(limited.line) as client:
        client.send(*[f"UNLOCK {resource} token=1"] * 300)
        assert "LIMITED" in {client.reply().status for _ in range(300)}


def test_requests_of_one_name(peer):
    limited = peer("--max-request-rate-per-name", "20")
    with Lines(limited.line, "build") as one, Lines(limited.line, "build") as two, \
            Lines(limited.line, "deploy") as other:
        one.send(*["PING"] * 300)
        assert "LIMITED" in {one.reply().status for _ in range(300)}
        two.send(*["PING"] * 300)
        replies = [two.reply() for _ in range(300)]
        assert any(reply.code == "request_rate" and "name" in reply["message"] for reply in replies)
        other.ask_ok("PING")
        assert limits_met(limited, "max_request_rate_per_name") > 0


def test_limited_is_busy_for_the_shell(peer):
    limited = peer("--max-request-rate", "1")
    # HELLO is the first request of the connection, so the command's own is one too many, if it comes in that second.
    eventually(lambda: ctl(limited.line, "stats").returncode == 75)


# ---- what a request asks for ----

@pytest.mark.parametrize("limit,option,line,code", [
    ("line_max", "2000", "PING " + "x" * 2000, "too_long"),
    ("ttl_min", "2s", "LOCK limits/ttl ttl=1s", "ttl_out_of_range"),
    ("ttl_max", "40s", "SESSION OPEN ttl=1m", "ttl_out_of_range"),
    ("set_max", "2", "LOCK limits/a limits/b limits/c", "too_many_resources"),
    ("list_max", "5", "LIST limit=6", "bad_request"),
    ("max_watches", "1", "WATCH limits/b", "too_many_watches"),
])
def test_what_a_request_asks_for_is_limited_and_counted(peer, limit, option, line, code):
    limited = peer(f"--{limit}", option)
    with Lines(limited.line) as client:
        client.ask_ok("WATCH limits/a")
        reply = client.ask(line)
        assert (reply.status, reply.code) == ("ERR", code)
        assert limits_met(limited, limit) == 1
        client.ask_ok("PING")


@pytest.mark.parametrize("limit,option,line", [
    ("max_inflight", "2", "LOCK {} wait=inf"), ("max_input", "2000", "LOCK {} wait=inf note=" + "x" * 600),
], ids=["max_inflight", "max_input"])
def test_reading_pauses_past_what_is_in_flight(peer, connect, resource, limit, option, line):
    """Nothing is refused or lost, it is only taken later."""
    limited = peer(f"--{limit}", option, "--line-max", "1500", "--max-inflight", "2")
    holder = connect()
    token = holder.lock(resource)
    with Lines(limited.line) as client:
        client.send(*[line.format(resource)] * 8)
        eventually(lambda: limits_met(limited, limit) >= 1)
        holder.ask_ok(f"UNLOCK {resource} token={token}")
        for _ in range(8):
            granted = client.reply()
            assert granted.status == "OK"
            holder.ask_ok(f"UNLOCK {resource} token={granted['token']}")


# ---- waiters ----

def test_waiters_of_one_resource(peer, resource, connect):
    limited = peer("--max-waiters-per-resource", "2")
    holder = connect()
    holder.lock(resource)
    holder.lock(f"{resource}/other")
    with Lines(limited.line) as client:
        client.send(*[f"@{tag} LOCK {resource} wait=inf" for tag in "abc"])
        reply = client.reply()
        assert (reply.tag, reply.status, reply.code) == ("c", "ERR", "too_many_waiters")
        assert "this resource" in reply["message"]
        client.send(f"@d LOCK {resource}/other wait=inf")
        wait_for_queue(holder, f"{resource}/other", 1)
        assert client.ask("CANCEL tag=a").status in ("OK", "ERR")
        assert client.reply().status in ("OK", "ERR")
        client.send(f"@e LOCK {resource} wait=inf")
        wait_for_queue(holder, resource, 2)
        assert limits_met(limited, "max_waiters_per_resource") == 1


def test_waiters_of_one_owner(peer, resource, connect):
    limited = peer("--max-waiters-per-owner", "2")
    holder = connect()
    for n in range(3):
        holder.lock(f"{resource}/{n}")
    with Lines(limited.line, "build") as client:
        client.send(*[f"@{n} LOCK {resource}/{n} wait=inf" for n in range(3)])
        reply = client.reply()
        assert (reply.tag, reply.code) == ("2", "too_many_waiters")
        assert "owner" in reply["message"]
        client.send(f"@x LOCK {resource}/2 wait=inf owner=deploy")
        wait_for_queue(holder, f"{resource}/2", 1)
        assert limits_met(limited, "max_waiters_per_owner") == 1


def test_a_set_takes_a_place_at_each_of_its_resources(peer, resource, connect):
    limited = peer("--max-waiters-per-resource", "1")
    holder = connect()
    holder.lock(f"{resource}/a")
    with Lines(limited.line) as client:
        client.send(f"@set LOCK {resource}/a {resource}/b wait=inf")
        wait_for_queue(holder, f"{resource}/a", 1)
        assert client.ask(f"@one LOCK {resource}/a wait=inf").code == "too_many_waiters"


def test_who_need_not_wait_is_not_limited(peer, resource):
    limited = peer("--max-waiters-per-resource", "1", "--max-waiters-per-owner", "1")
    with Lines(limited.line) as client:
        for _ in range(5):
            token = client.lock(resource, "wait=5s")
            client.ask_ok(f"UNLOCK {resource} token={token}")


# ---- what one owner has ----

def test_leases_of_one_owner(peer, resource):
    """The database counts: a second daemon gives no second helping."""
    one = peer("--max-leases-per-owner", "2")
    two = peer("--max-leases-per-owner", "2")
    owner = f"owner={resource.replace('/', '-')}"
    with Lines(one.line) as client, Lines(two.line) as other:
        token = client.lock(f"{resource}/a", owner)
        other.lock(f"{resource}/b", owner)
        for more in f"{resource}/c", f"{resource}/c scope=tree", f"{resource}/c {resource}/d", f"{resource}/a wait=inf":
            reply = other.ask(f"LOCK {more} {owner}")
            assert (reply.status, reply.code) == ("ERR", "too_many_leases"), more
            assert "max_leases_per_owner" in reply["message"]
        other.lock(f"{resource}/c", owner + "-other")
        client.ask_ok(f"UNLOCK {resource}/a token={token}")
        other.lock(f"{resource}/a", owner)
    assert (limits_met(one, "max_leases_per_owner"), limits_met(two, "max_leases_per_owner")) == (0, 4)


def test_what_an_owner_waits_for_counts_as_held(peer, resource, connect):
    limited = peer("--max-leases-per-owner", "2")
    holder = connect()
    token = holder.lock(f"{resource}/a")
    with Lines(limited.line, resource.replace("/", "-")) as client:
        client.send(f"@a LOCK {resource}/a wait=inf")
        wait_for_queue(holder, f"{resource}/a", 1)
        client.lock(f"{resource}/b")
        assert client.ask(f"LOCK {resource}/c").code == "too_many_leases"
        holder.ask_ok(f"UNLOCK {resource}/a token={token}")
        granted = client.reply()
        assert (granted.tag, granted.status) == ("a", "OK")
        assert client.ask(f"LOCK {resource}/c").code == "too_many_leases"
        client.ask_ok(f"UNLOCK {resource}/a token={granted['token']}")
        client.lock(f"{resource}/c")


def test_a_pipeline_of_one_owner_gets_what_it_may(peer, resource):
    """However the requests fall into batches: as many as it may have, and each other one is refused for that."""
    limited = peer("--max-leases-per-owner", "10")
    with Lines(limited.line, resource.replace("/", "-")) as client:
        client.send(*[f"LOCK {resource}/{n}" for n in range(300)])
        replies = [client.reply() for _ in range(300)]
    assert [reply.status for reply in replies].count("OK") == 10
    assert {reply.code for reply in replies if reply.status != "OK"} == {"too_many_leases"}
    assert limits_met(limited, "max_leases_per_owner") == 290


def test_what_one_identity_has(peer, identity, resource):
    """Where auth is on the name counts, and owner is a label."""
    limited = peer("--auth", "on", "--log-level", "debug", "--max-leases-per-owner", "1", "--max-sessions-per-owner", "1")
    one, two = resource.replace("/", "-"), resource.replace("/", ".")
    keys = {name: identity(name, "lock:*", daemons=(limited,)) for name in (one, two)}
    with Lines(limited.line) as client, Lines(limited.line) as other:
        client.ask_ok(f"HELLO key={keys[one]}")
        other.ask_ok(f"HELLO key={keys[two]}")
        client.lock(f"{resource}/a", "owner=a")
        client.ask_ok("SESSION OPEN owner=a")
        assert client.ask(f"LOCK {resource}/b owner=b").code == "too_many_leases"
        assert client.ask("SESSION OPEN owner=b").code == "too_many_sessions"
        other.lock(f"{resource}/b", "owner=a")
        other.ask_ok("SESSION OPEN owner=a")


def test_the_number_of_leases_is_reloadable(make_daemon, tmp_path):
    conf = tmp_path / "pglockd.ini"
    conf.write_text("[pglockd]\nmax_leases_per_owner = 1\n")
    limited = make_daemon("--config", str(conf))
    with Lines(limited.line, "build") as client:
        client.lock("a")
        assert client.ask("LOCK b").code == "too_many_leases"
        conf.write_text("[pglockd]\nmax_leases_per_owner = 2\n")
        limited.signal(signal.SIGHUP)
        eventually(lambda: client.ask("LOCK b").status == "OK")
        assert client.ask("LOCK c").code == "too_many_leases"


def test_sessions_of_one_owner(peer, resource):
    one = peer("--max-sessions-per-owner", "2")
    two = peer("--max-sessions-per-owner", "2")
    owner = f"owner={resource.replace('/', '-')}"
    with Lines(one.line) as client, Lines(two.line) as other:
        first = client.ask_ok(f"SESSION OPEN {owner} id=k")
        other.ask_ok(f"SESSION OPEN {owner}")
        for each in client, other:
            reply = each.ask(f"SESSION OPEN {owner}")
            assert (reply.status, reply.code) == ("ERR", "too_many_sessions")
            assert "max_sessions_per_owner" in reply["message"]
        assert client.ask_ok(f"SESSION OPEN {owner} id=k")["session"] == first["session"]  # it is no other one
        other.ask_ok(f"SESSION OPEN {owner}-other")
        client.ask_ok(f"SESSION CLOSE {first['session']}")
        other.ask_ok(f"SESSION OPEN {owner}")
    assert (limits_met(one, "max_sessions_per_owner"), limits_met(two, "max_sessions_per_owner")) == (1, 1)


# ---- rows ----

@pytest.mark.parametrize("asked,status", [(5, "OK"), (6, "ERR")])
def test_rows_of_a_list(peer, resource, asked, status):
    limited = peer("--list-max", "5")
    with Lines(limited.line) as client:
        for n in range(6):
            client.lock(f"{resource}/{n}")
        assert client.ask(f"LIST prefix={resource} limit={asked}").status == status
        page = client.ask_ok(f"LIST prefix={resource}")
        assert len(page["locks"]) == 5 and page["next"]
