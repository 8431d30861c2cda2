"""RATE, its policies, and the limits of LOCK, as clients and administrators see them."""

import contextlib
import json
import re
import signal
import time
import urllib.request

import pytest

from conftest import ctl
from lines import Lines, eventually, wait_for_queue


@pytest.fixture
def key(request):
    return "k/" + re.sub(r"[^A-Za-z0-9_.-]", "-", request.node.name)


def in_force(client, condition):
    """A change of the policies is in force within a second: what is asked later is not answered by the old ones,
    however late the answer comes."""
    changed = asked = time.monotonic()
    while not condition(client):
        assert asked - changed < 1, "not in force after a second"
        asked = time.monotonic()


# ---- what is asked ----

@pytest.mark.parametrize("words,code", [
    ("limit=0 per=1s", "bad_request"), ("limit=-1 per=1s", "bad_request"), ("limit=1", "bad_request"),
    ("limit=1000000001 per=1s", "bad_request"), ("limit=9223372036854775808 per=1s", "bad_request"),
    ("limit=1.5 per=1s", "bad_request"), ("per=1s", "bad_request"), ("burst=1", "bad_request"),
    ("limit=1 per=0s", "bad_request"), ("limit=1 per=367d", "bad_request"), ("limit=1 per=10", "bad_duration"),
    ("limit=1 per=-1s", "bad_duration"), ("limit=1 per=inf", "bad_duration"),
    ("limit=1 per=1s burst=0", "bad_request"), ("limit=1 per=366d burst=11", "bad_request"),
    ("limit=1 per=1s cost=0", "bad_request"), ("limit=1 per=1s cost=-1", "bad_request"),
    ("limit=5 per=1s cost=6", "cost_above_burst"), ("limit=5 per=1s policy=a", "bad_request"),
    ("policy=none", "no_policy"), ("", "no_policy"), ("limit=1 per=1s peek=maybe", "bad_request"),
    ('limit=1 per=1s id=""', "bad_request"), ("limit=1 per=1s nonsense=1", "unknown_key")])
def test_bad_requests(client, key, words, code):
    reply = client.ask(f"RATE {key} {words}")
    assert (reply.status, reply.code) == ("ERR", code), reply


@pytest.mark.parametrize("text", [
    "x'; drop table pglockd.rate_counter; --", "a b", "\\", "%s%n$(reboot)", "\U0001f512\u202e", "=1/2/3", "x" * 512])
def test_any_text_is_a_key(client, text):
    quoted = json.dumps(text, ensure_ascii=False)
    assert client.ask(f"RATE {quoted} limit=1 per=1h").status == "OK"
    assert client.ask(f"RATE {quoted} limit=1 per=1h").status == "LIMITED"


@pytest.mark.parametrize("text", ['""', '"a\\nb"', '"a\\u0000b"', '"' + "x" * 513 + '"'])
def test_bad_keys(client, text):
    assert client.ask(f"RATE {text} limit=1 per=1h").code in ("bad_key", "bad_request")


def test_the_largest_numbers(client, key):
    assert client.ask_ok(f"RATE {key} limit=1000000000 per=1ms cost=1000000000")["limit"] == 10**9
    assert client.ask_ok(f"RATE {key} limit=1 per=366d")["reset_ms"] == pytest.approx(366 * 86400000, rel=1e-6)


def test_a_repeated_id_is_charged_once_by_any_daemon(client, connect, peer, key):
    other = connect(peer())
    line = f"RATE {key} limit=9 per=1h cost=4 id=job"
    assert client.ask_ok(line).body.get("repeated") is None
    assert client.ask_ok(line)["repeated"] and other.ask_ok(line)["repeated"]
    assert client.ask_ok(f"RATE {key} limit=9 per=1h peek=true")["remaining"] == 5


def test_replies_keep_their_order(client, key):
    client.send(f"RATE {key} limit=3 per=1h", "PING", f"@t RATE {key}2 limit=3 per=1h", f"RATE {key} limit=4 per=1h")
    replies = [client.reply() for _ in range(4)]
    assert [r.body.get("limit") for r in replies if not r.tag] == [3, None, 4]
    assert [r.body["limit"] for r in replies if r.tag] == [3]


def test_all_is_answered_at_the_end_of_input(connect, key):
    client = connect()
    client.send(*[f"RATE {key} limit=5 per=1h"] * 8)
    client.end_input()
    assert [r.status for r in client.rest()] == ["OK"] * 5 + ["LIMITED"] * 3 + ["BYE"]


def test_a_client_that_goes_away_harms_nobody(connect, key):
    for _ in range(20):
        gone = connect()
        gone.send(*[f"RATE {key}/{i} limit=5 per=1h" for i in range(50)])
        gone.reset()
    assert connect().ask_ok(f"RATE {key} limit=5 per=1h")


def test_costs_are_charged_in_full(client, key):
    """Of mixed costs no more than the burst passes at once, and what is left is used."""
    client.send(*[f"RATE {key} limit=20 per=1h cost={c}" for c in (7, 5, 9, 7, 2, 3, 1)])
    passed = sum(c for c in (7, 5, 9, 7, 2, 3, 1) if client.reply().status == "OK")
    assert 15 <= passed <= 20
    assert client.ask_ok(f"RATE {key} limit=20 per=1h peek=true")["remaining"] == 20 - passed if passed < 20 else True


# ---- policies ----

def test_a_change_is_in_force_within_a_second(client, connect, peer, policy, key):
    policy("change", pattern=key, quota=2, per="1 h")
    clients = [client, connect(peer())]
    assert client.ask(f"RATE {key} cost=2").status == "OK"
    for c in clients:
        assert c.ask(f"RATE {key}").status == "LIMITED"
        eventually(lambda c=c: c.ask(f"RATE {key}")["source"] == "local")
    policy("change", quota=3)
    in_force(clients[1], lambda c: c.ask(f"RATE {key}").status == "OK")  # what was raised is free at once
    policy("change", quota=1000, burst=1000)
    for c in clients:
        in_force(c, lambda c: c.ask(f"RATE {key}").status == "OK")
    policy("change", quota=1, burst=1)
    for c in clients:
        in_force(c, lambda c: c.ask(f"RATE {key}").status == "LIMITED")


def test_a_change_is_found_without_a_notification(client, sql, policy, key):
    policy("poll", pattern=key, quota=1, per="1 h")
    client.ask_ok(f"RATE {key}")
    assert client.ask(f"RATE {key}").status == "LIMITED"
    cursor = sql(user="postgres").cursor()
    cursor.execute("set session_replication_role = replica")  # no trigger, so no notification
    cursor.execute("update pglockd.rate_policy set quota = 50, burst = 50 where name = 'poll'")
    cursor.execute("update pglockd.rate_epoch set epoch = epoch + 1")
    in_force(client, lambda c: c.ask(f"RATE {key}").status == "OK")


def test_a_reset_is_in_force_within_a_second(client, sql, key):
    client.ask_ok(f"RATE {key} limit=1 per=1h")
    assert client.ask(f"RATE {key} limit=1 per=1h").status == "LIMITED"
    sql().cursor().execute("select pglockd.rate_reset(%s)", (key,))
    in_force(client, lambda c: c.ask(f"RATE {key} limit=1 per=1h").status == "OK")


def test_shadow_counts_what_it_would_have_denied(daemon, client, policy, key):
    policy("shade", pattern=key, quota=2, per="1 h", mode="shadow")
    replies = [client.ask_ok(f"RATE {key}") for _ in range(5)]
    assert [r.body.get("shadow_denied", False) for r in replies] == [False, False, True, True, True]
    text = urllib.request.urlopen(f"http://{daemon.http}/metrics").read().decode()
    counted = dict.fromkeys(("allowed", "denied", "shadow_denied"), 0)  # by the database or from memory
    for result, count in re.findall(r'rate_decisions_total{policy="shade",result="(\w+)",source="\w+"} (\d+)', text):
        counted[result] += int(count)
    assert counted == {"allowed": 2, "denied": 0, "shadow_denied": 3}


def test_policies_from_the_command_line(daemon, client, key):
    def run(*words):
        return ctl(daemon.address, "rate", *words)
    dsn = ("--dsn", daemon.dsn)
    try:
        assert run("policy", "set", "cli", f"key={key}", "limit=2", "per=1h", *dsn).returncode == 0
        assert run(key).returncode == 0
        assert run(key, "cost=2").returncode == 75
        assert run(key, "cost=3").returncode == 64
        assert run("policy", "set", "cli", "burst=9", "note=more", *dsn).returncode == 0
        in_force(client, lambda c: c.ask(f"RATE {key} cost=3").status == "OK")
        (row,) = [p for p in json.loads(run("policy", "ls", "--json", *dsn).stdout) if p["name"] == "cli"]
        assert (row["limit"], row["burst"], row["per_ms"], row["note"]) == (2, 9, 3600000, "more")
        assert "1 counters reset" in run("reset", key, *dsn).stdout
        for wrong in (("policy", "set", "cli", "limit=0"), ("policy", "set", "new", "limit=1"),
                      ("policy", "set", "cli", "nonsense=1"), ("policy", "rm", "new"), ("policy", "turn")):
            assert run(*wrong, *dsn).returncode == 64, wrong
    finally:
        assert run("policy", "rm", "cli", *dsn).returncode == 0


# ---- others, and the time without a database ----

def test_an_open_transaction_stops_only_its_own_key(daemon, client, sql, key, peer, connect):
    hasty = peer("--request-timeout", "1s")
    impatient, other = connect(hasty), connect()
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select pglockd.rate(%s, quota => 5, per => '1 h')", (key,))
    assert other.ask(f"RATE {key}/other limit=5 per=1h").status == "OK"
    reply = impatient.ask(f"RATE {key} limit=5 per=1h")
    assert (reply.status, reply["source"], reply.code) == ("LIMITED", "fallback", "postgres_away")
    assert hasty.stop() == 0  # its last try may be on its way, and would be charged where it came after the commit
    client.send(f"RATE {key} limit=5 per=1h")
    connection.commit()
    assert client.reply()["remaining"] == 3


def test_what_policies_say_while_postgres_is_away(daemon, connect, peer, policy, key):
    policy("away-deny", pattern=f"{key}/deny", quota=1000, per="1 h")
    policy("away-allow", pattern=f"{key}/allow", quota=1, per="1 h", away="allow")
    policy("away-local", pattern=f"{key}/local", quota=20, per="1 h", away="local", away_percent=25)
    client = connect(peer("--request-timeout", "200ms"))
    eventually(lambda: client.ask(f"RATE {key}/deny").body.get("source") in ("database", "local"))
    daemon.signal_postgres(signal.SIGSTOP)
    try:
        # What it has in advance, it gives for a moment.
        reply = eventually(lambda: (r := client.ask(f"RATE {key}/deny")).body["source"] == "fallback" and r)
        assert (reply.status, reply.code) == ("LIMITED", "postgres_away")
        answers = [client.ask(f"RATE {key}/allow") for _ in range(10)]
        assert {(r.status, r["source"]) for r in answers} == {("OK", "fallback")}
        answers = [client.ask(f"RATE {key}/local") for _ in range(10)]
        assert [r.status for r in answers] == ["OK"] * 5 + ["LIMITED"] * 5
        assert client.ask(f"RATE {key}/named limit=5 per=1h").status == "LIMITED"
    finally:
        daemon.signal_postgres(signal.SIGCONT)
    eventually(lambda: client.ask(f"RATE {key}/deny").body["source"] != "fallback")


def test_many_keys_take_bounded_memory(peer, connect, sql):
    """Smaller than a million here; docs/performance.md has the million."""
    one = peer("--rate-keys-max", "500")
    client = connect(one)
    for block in range(20):
        client.send(*[f"RATE many/{block}/{i} limit=5 per=1m" for i in range(200)])
        assert {client.reply().status for _ in range(200)} == {"OK"}
    text = urllib.request.urlopen(f"http://{one.http}/metrics").read().decode()
    (remembered,) = [int(line.split()[1]) for line in text.splitlines() if line.startswith("pglockd_rate_keys ")]
    assert remembered <= 1000
    cursor = sql().cursor()
    cursor.execute("select count(*) from pglockd.rate_counter where key like 'many/%'")
    assert cursor.fetchone()[0] == 4000


def test_counters_that_nobody_uses_are_pruned(make_daemon):
    daemon = make_daemon("--rate-idle", "1ms")
    with Lines(daemon.line) as client, contextlib.closing(daemon.sql()) as connection:
        for i in range(50):
            client.ask_ok(f"RATE short/{i} limit=1000 per=1ms")
        client.ask_ok("RATE long limit=1 per=1h")
        cursor = connection.cursor()

        def left():
            cursor.execute("select array_agg(key) from pglockd.rate_counter")
            return cursor.fetchone()[0]
        eventually(lambda: left() == ["long"])


# ---- LOCK ----

def test_attempts_are_limited_before_a_lock_is_touched(client, sql, policy, resource):
    policy("attempts", applies_to="lock", pattern=resource, counter="owner", quota=3, per="1 h")
    eventually(lambda: client.ask(f"LOCK {resource}/warm owner=warm").status == "LIMITED")
    assert client.ask(f"LOCK {resource}/a owner=o").status == "OK"
    assert client.ask(f"LOCK {resource}/a owner=o").status == "BUSY"  # an attempt all the same
    assert client.ask(f"LOCK {resource}/b owner=o").status == "OK"
    reply = client.ask(f"LOCK {resource}/c owner=o wait=10s")
    assert (reply.status, reply["policy"], reply["resource"]) == ("LIMITED", "attempts", f"{resource}/c")
    assert reply["retry_after_ms"] > 0
    assert client.ask_ok(f"INFO {resource}/c")["holders"] == []
    assert client.ask(f"LOCK {resource}/c owner=p").status == "OK"


def test_a_grant_costs_where_it_is_given(client, connect, sql, policy, resource):
    policy("grants", applies_to="lock", pattern=resource, counter="pattern", quota=4, per="1 h", charge="grant")
    cursor = sql().cursor()

    def used():
        cursor.execute("select coalesce(sum(used), 0)::int from pglockd.rate_limits where policy = 'grants'")
        return cursor.fetchone()[0]
    eventually(lambda: client.ask_ok("PING"))
    token = None
    while used() == 0:  # until the policy is known
        if token:
            client.ask_ok(f"UNLOCK {resource}/a token={token}")
        token = client.lock(f"{resource}/a", "ttl=10m")
    assert client.ask(f"LOCK {resource}/a").status == "BUSY"
    assert client.ask(f"LOCK {resource}/a wait=100ms").status == "TIMEOUT"
    eventually(lambda: used() == 1)  # what was not granted is given back
    gone = connect()
    gone.send(f"LOCK {resource}/a wait=inf")
    eventually(lambda: used() == 2)
    gone.reset()
    eventually(lambda: used() == 1)
    assert client.ask_ok(f"LOCK {resource}/b id=i")["token"] == client.ask_ok(f"LOCK {resource}/b id=i")["token"]
    eventually(lambda: used() == 2)
    client.lock(f"{resource}/c")
    client.lock(f"{resource}/d")
    assert client.ask(f"LOCK {resource}/e").status == "LIMITED"
    assert client.ask_ok(f"INFO {resource}/e")["holders"] == []
    assert used() == 4


def test_a_cancelled_lock_gives_its_permit_back(client, connect, sql, policy, resource):
    client.lock(resource, "ttl=10m")
    other = connect()
    policy("cancels", applies_to="lock", pattern=resource, quota=5, per="1 h", charge="grant")
    cursor = sql().cursor()

    def used():
        cursor.execute("select coalesce(sum(used), 0)::int from pglockd.rate_limits where policy = 'cancels'")
        return cursor.fetchone()[0]

    def takes_a_permit():
        client.send(f"@w LOCK {resource} wait=inf")
        wait_for_queue(other, resource, 1)
        taken = used() == 1
        client.send("CANCEL tag=w")
        replies = {client.reply().tag for _ in range(2)}
        assert replies == {"", "w"}
        return taken
    eventually(takes_a_permit)
    eventually(lambda: used() == 0)
