"""The whole service at a glance: /api/status and STATUS, which say the same."""

import contextlib
import http.client
import json
import re
import signal
import threading
from urllib.parse import quote

import pytest

from lines import Lines, eventually


def get(daemon, path, method="GET", key=None):
    """(status, headers, body) of a request of its own."""
    connection = http.client.HTTPConnection(daemon.http, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read().decode()


def api(daemon, prefix=None):
    status, headers, body = get(daemon, "/api/status" + (f"?prefix={quote(prefix)}" if prefix else ""))
    assert status == 200, body
    assert headers["Content-Type"] == "application/json" and headers["Cache-Control"] == "no-store"
    return json.loads(body)


def verb(daemon, prefix=None):
    with Lines(daemon.line) as client:
        return client.ask_ok("STATUS" + (f" prefix={json.dumps(prefix)}" if prefix else "")).body


@pytest.fixture(params=[api, verb])
def look(request):
    return request.param


def by(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


# ---- what it shows ----

def test_locks(daemon, client, resource, look):
    client.ask_ok(f'LOCK {resource}/a owner=ann note="<b>\\"it\\"</b>" ttl=1m')
    client.ask_ok(f"LOCK {resource}/b mode=shared owner=ben ttl=1m")
    client.ask_ok(f"LOCK {resource}/c scope=tree owner=cyd ttl=1m")
    client.ask_ok(f"LOCK {resource}/d limit=4 weight=3 owner=dan ttl=1m")
    shown = look(daemon, resource)
    assert by(shown["locks"], "resource", "owner", "mode", "scope", "note", "limit", "weight") == [
        (f"{resource}/a", "ann", "exclusive", "node", '<b>"it"</b>', None, None),
        (f"{resource}/b", "ben", "shared", "node", None, None, None),
        (f"{resource}/c", "cyd", "exclusive", "tree", None, None, None),
        (f"{resource}/d", "dan", "shared", "node", None, 4, 3)]
    for lock in shown["locks"]:
        assert 0 <= lock["held_ms"] <= 60000 and 0 < lock["ttl_ms"] <= 60000
        assert lock["instance"] in [i["name"] for i in shown["instances"]]
    assert shown["totals"]["locks"] >= 4 and shown["prefix"] == resource
    assert not shown["locks_more"]


def test_who_waits_for_whom(daemon, client, connect, resource, look):
    client.ask_ok(f"LOCK {resource} owner=ann ttl=10m")
    client.ask_ok(f"LOCK {resource}/tree scope=tree owner=tess ttl=10m")
    client.ask_ok(f"LOCK {resource}/slots limit=2 weight=2 owner=sam ttl=10m")
    waiters = []
    for number, (what, owner) in enumerate([
            (resource, "ben"), (resource, "cyd"), (f"{resource}/tree/leaf", "leo"),
            (f"{resource}/slots limit=2", "sue")], 1):
        waiters.append(connect())
        waiters[-1].send(f"LOCK {what} wait=inf owner={owner}")
        eventually(lambda n=number: len(look(daemon, resource)["queue"]) == n)
    queue = {row["owner"]: row for row in look(daemon, resource)["queue"]}
    assert list(queue) == ["ben", "cyd", "leo", "sue"]
    behind = {owner: by(row["behind"], "holds", "owner", "resource") for owner, row in queue.items()}
    assert behind == {
        "ben": [(True, "ann", resource)],
        "cyd": [(True, "ann", resource), (False, "ben", resource)],
        "leo": [(True, "tess", f"{resource}/tree")],
        "sue": [(True, "sam", f"{resource}/slots")]}
    assert (queue["ben"]["place"], queue["cyd"]["place"]) == (1, 2)
    eventually(lambda: look(daemon)["totals"]["waiting"] >= 4)  # an answer may serve for a while


def test_sessions_and_rate_limits(daemon, client, policy, resource, look):
    opened = client.ask_ok("SESSION OPEN owner=ann note=work ttl=1m")
    for name in "abc":
        client.ask_ok(f"LOCK {resource}/{name} session={opened['session']}")
    policy("glance", pattern=resource, quota=10, per="1 h")
    client.ask_ok(f"RATE {resource}/key cost=4 policy=glance")
    shown = eventually(lambda: (s := look(daemon, resource))["rate_limits"] and s)
    (session,) = [s for s in shown["sessions"] if s["session"] == int(opened["session"])]
    assert (session["owner"], session["note"], session["locks"]) == ("ann", "work", 3)
    assert 0 < session["ttl_ms"] <= 60000
    (limit,) = shown["rate_limits"]
    assert (limit["key"], limit["policy"], limit["limit"], limit["per_ms"], limit["mode"]) == (
        f"{resource}/key", "glance", 10, 3600000, "enforce")
    assert 6 <= limit["remaining"] < 10
    assert opened["secret"] not in json.dumps(shown)


def test_no_token_is_shown(daemon, client, look, resource):
    token = client.lock(resource)
    (lock,) = look(daemon, resource)["locks"]
    assert set(lock) == {"resource", "owner", "identity", "mode", "scope", "held_ms", "ttl_ms", "note", "limit",
                         "weight", "session", "instance"}
    assert token not in (lock["limit"], lock["weight"], lock["session"])


def test_daemons_and_the_janitor(daemon, peer, look):
    other = peer()
    numbers = {daemon.instance(), other.instance()}
    shown = {d: eventually(lambda d=d: (s := look(d)) and numbers <= {i["instance"] for i in s["instances"]} and s)
             for d in (daemon, other)}
    for d, answer in shown.items():
        assert answer["daemon"]["instance"] == d.instance() and answer["daemon"]["ready"]
        rows = {row["instance"]: row for row in answer["instances"]}
        assert all(rows[n]["connected"] for n in numbers)
    for d in shown:  # another one of the tests' daemons may be the janitor, or become it
        def agrees(d=d):
            with Lines(d.line) as client:
                return look(d)["daemon"]["janitor"] == client.ask_ok("STATS")["janitor"]
        eventually(agrees)
    assert shown[other]["totals"]["tick_ms"] < 60000 and shown[other]["totals"]["quiet_ms"] == 0


def test_the_janitor_among_the_others(make_daemon):
    """What a daemon wrote with its metrics tells the others that it is the janitor."""
    one = make_daemon("--metrics-flush", "100ms")
    eventually(lambda: [row["janitor"] for row in api(one)["instances"]] == [True])


@pytest.mark.parametrize("prefix, found", [("a", ["a", "a/b"]), ("a/b", ["a/b"]), ("ab", ["ab"]), ("b", [])])
def test_a_prefix_is_whole_segments(daemon, client, resource, look, prefix, found):
    for name in "a", "a/b", "ab", "a-c":
        client.ask_ok(f"LOCK {resource}/{name}")
    shown = look(daemon, f"{resource}/{prefix}")
    assert by(shown["locks"], "resource") == [(f"{resource}/{name}",) for name in found]


def test_a_prefix_that_is_none(daemon, client):
    for prefix in "a//b", "a/", "\n", "\udcff".encode(errors="surrogateescape"):
        status, _, body = get(daemon, "/api/status?prefix=" + quote(prefix))
        assert (status, json.loads(body)["code"]) == (400, "bad_resource"), body
    assert client.ask("STATUS prefix=a/").code == "bad_resource"
    assert client.ask("STATUS owner=a").code == "unknown_key"
    assert client.ask("STATUS a").code == "bad_request"


def test_rows_are_bounded(daemon, client, resource, look):
    for first in range(0, 210, 30):
        names = " ".join(f"{resource}/{n:03}" for n in range(first, first + 30))
        client.ask_ok(f"LOCK {names}")
    shown = look(daemon, resource)
    assert by(shown["locks"], "resource") == [(f"{resource}/{n:03}",) for n in range(200)]
    assert shown["locks_more"] and not shown["queue_more"]
    assert shown["totals"]["locks"] >= 210


def test_many_locks_are_estimated(still):
    """Above what is counted: never less than that, and about right once the statistics are."""
    cursor = still(user="postgres").cursor()
    cursor.execute("""
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, mode, scope,
                                   delivered, resource, owner, identity)
        select nextval('pglockd.token_seq'), 1e15, 1e15, 1000, 0, now(), 'exclusive', 'node', true, 'many/' || g, '', ''
          from generate_series(1, 12000) g""")
    try:
        def count():
            cursor.execute("select locks from pglockd.status_totals()")
            return cursor.fetchone()[0]
        assert count() > 10000
        cursor.execute("analyze pglockd.lease_exclusive")
        eventually(lambda: 11500 <= count() <= 12500)
    finally:
        cursor.execute("delete from pglockd.lease where resource like 'many/%'")


def test_the_trend_counts(make_daemon):
    one = make_daemon()
    with Lines(one.line) as client:
        for n in range(5):
            client.lock(f"trend/{n}", "ttl=10m")
        trend = eventually(lambda: (t := api(one)["trend"])["held"][-1:] == [5] and t)
    assert sum(trend["grants"]) == 5 and sum(trend["requests"]) >= 5
    assert trend["step_ms"] == 5000 and trend["waiting"][-1] == 0
    assert len({len(trend[name]) for name in ("requests", "grants", "held", "waiting")}) == 1


def test_replies_keep_their_order(client, resource):
    client.send(f"LOCK {resource}", f"STATUS prefix={resource}", f"LOCK {resource}", "PING")
    replies = [client.reply() for _ in range(4)]
    assert [r.status for r in replies] == ["OK", "OK", "BUSY", "OK"]
    assert len(replies[1]["locks"]) == 1


# ---- who may see it ----

def test_without_the_right_to_all_of_it(daemon, secure, login, client, connect, resource):
    """Who may read something sees that, and nothing of others that touches it."""
    reader = login("some-reader", f"read:{resource}/*")
    for what in (f"{resource} scope=tree mode=shared owner=above", f"{resource}/a mode=shared owner=ann"):
        client.ask_ok(f"LOCK {what} ttl=10m")
    client.ask_ok("SESSION OPEN owner=hidden ttl=10m")
    connect().send(f"LOCK {resource}/a wait=inf owner=ben")
    eventually(lambda: api(daemon, f"{resource}/a")["queue"])

    def look(path):
        """Asked again when it is neither yes nor no: a busy daemon may be late to confirm the rights that it knows."""
        return eventually(lambda: (reply := get(secure, path, key=reader.key))[0] != 503 and reply)

    def seen_by_http():
        status, _, body = look(f"/api/status?prefix={resource}/a")
        assert status == 200, body
        return json.loads(body)
    for shown in reader.ask_ok(f"STATUS prefix={resource}/a").body, seen_by_http():
        assert by(shown["locks"], "owner") == [("ann",)] and shown["sessions"] == []
        (waiter,) = shown["queue"]
        assert waiter["owner"] == "ben" and by(waiter["behind"], "owner") == [("ann",)]
    for prefix in None, resource, "elsewhere":
        reply = reader.ask("STATUS" + (f" prefix={prefix}" if prefix else ""))
        assert (reply.status, reply.code) == ("DENIED", "no_right")
        status, _, body = look("/api/status" + (f"?prefix={prefix}" if prefix else ""))
        assert (status, json.loads(body)["code"]) == (403, "no_right")
    everything = login("all-reader", "read:*").ask_ok(f"STATUS prefix={resource}/a")
    assert {who for who, in by(everything["queue"][0]["behind"], "owner")} == {"above", "ann"}
    assert "hidden" in [owner for owner, in by(everything["sessions"], "owner")]
    assert look("/")[0] == 200


# ---- what it costs, and what it waits for ----

@contextlib.contextmanager
def blocked(daemon):
    """The questions that STATUS asks the database are not answered; locks are."""
    with contextlib.closing(daemon.sql()) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("lock table pglockd.rate_counter in access exclusive mode")
        yield  # closing rolls back


def asking(daemon):
    """How many questions of STATUS the database works on."""
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()
        cursor.execute("select count(*) from pg_stat_activity where query like '%pglockd.status(%' "
                       "and state = 'active' and pid <> pg_backend_pid()")
        return cursor.fetchone()[0]


def test_many_who_look_cost_one_question(make_daemon):
    one = make_daemon()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(api(one))) for _ in range(12)]
    with blocked(one):
        for thread in threads:
            thread.start()
        eventually(lambda: asking(one) == 1)
        with Lines(one.line) as client:  # the daemon does all else meanwhile
            client.lock("meanwhile")
            assert client.ask("PING").status == "OK"
        assert get(one, "/metrics")[0] == 200
        eventually(lambda: len(waiting_for_http(one)) == 12)
        assert asking(one) == 1 and answers == []
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    asked = {answer["daemon"]["uptime_ms"] - answer["database"]["age_ms"] for answer in answers}
    assert max(asked) - min(asked) <= 2  # all of one answer, but for rounding


def waiting_for_http(daemon):
    text = get(daemon, "/metrics")[2]
    count = int(re.search(r"^pglockd_http_connections (\d+)", text, re.M).group(1))
    return range(count - 1)  # but the one that asks


def test_who_goes_away_is_forgotten(make_daemon):
    one = make_daemon()
    with blocked(one):
        with Lines(one.http) as browser, Lines(one.line) as client:
            browser.send_bytes(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.send("STATUS prefix=other")
            eventually(lambda: asking(one) == 1)
    assert api(one)["daemon"]["ready"]
    eventually(lambda: len(waiting_for_http(one)) == 0)


def test_a_stop_does_not_wait_for_answers(make_daemon):
    one = make_daemon()
    with blocked(one), Lines(one.http) as browser:
        browser.send_bytes(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: asking(one) == 1)
        one.signal(signal.SIGTERM)
        assert one.wait() == 0, one.log()


def test_without_the_database(make_daemon):
    one = make_daemon("--request-timeout", "300ms")
    with Lines(one.line) as client:
        eventually(lambda: get(one, "/api/status")[0] == 200)
        one.signal_postgres(signal.SIGSTOP)
        try:
            status, _, body = get(one, "/api/status?prefix=b")
            answer = json.loads(body)
            assert (status, answer["code"]) == (503, "unavailable") and "PostgreSQL" in answer["message"]
            assert answer["daemon"]["instance"] == 1 and "requests" in answer["trend"]
            assert answer["database"] == {"answers": False} and "locks" not in answer
            reply = client.ask("STATUS prefix=c")
            assert reply.code == "unavailable" and "PostgreSQL" in reply["message"]
            assert get(one, "/")[0] == 200
        finally:
            one.signal_postgres(signal.SIGCONT)
        eventually(lambda: get(one, "/api/status")[0] == 200)


# ---- the page, as far as a browser is not needed ----

def test_the_page_allows_nothing_but_itself(daemon):
    nonces = set()
    for _ in range(2):
        status, headers, body = get(daemon, "/")
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        policy = headers["Content-Security-Policy"]
        (nonce,) = set(re.findall(r"'nonce-([0-9a-f]{32})'", policy))
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert set(re.findall(r'<(?:script|style) nonce="(.*?)">', body)) == {nonce}
        assert len(re.findall(r"<(?:script|style)\b", body)) == 2
        assert not re.search(r"""\b(?:src|href)=["']?(?:https?:)?//""", body)
        assert "innerHTML" not in body and "NONCE" not in body
        nonces.add(nonce)
    assert len(nonces) == 2


def test_only_looking_is_allowed(daemon):
    for path in "/", "/api/status":
        assert get(daemon, path, "HEAD")[::2] == (200, "")
        assert get(daemon, path, "POST")[0] == 405
    assert get(daemon, "/api/statuses")[0] == 404
