"""The line protocol on a real socket: every verb, status and error code, and bad input of all kinds.

What the replies look like in full is in docs/transcripts, which test_transcripts.py replays; here
are the rules behind them.
"""

import json
import re
import socket
import subprocess
import time

import pytest

from lines import SECONDS, eventually, parse, wait_for_queue

LINE_MAX = 65536
MS = {"ttl_ms", "held_ms", "waited_ms", "waiting_ms", "lost_ms"}


def numbers(value):
    """All numbers in a reply's body."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


# ---- words, quotes, lines ----

def test_verbs_and_keys_have_no_case_but_values_do(client, resource):
    token = client.ask_ok(f"lock {resource} TTL=5s Mode=exclusive")["token"]
    assert client.ask(f"Lock {resource}/x mode=EXCLUSIVE").code == "bad_request"
    assert client.ask_ok(f"uNlOcK {resource} ToKeN={token}")
    assert client.ask_ok(f"LOCK {resource.upper()}")["resource"] == resource.upper()


def test_every_argument_and_value_may_be_quoted(client, resource):
    reply = client.ask_ok(f'LOCK "{resource}/a b" mode="shared" ttl="5s" owner="o = \\"q\\"" '
                          f'note="\\u00e4\\ud83d\\ude00\\n"')
    assert reply["resource"] == f"{resource}/a b"
    holder = client.ask_ok(f'INFO "{resource}/a b"')["holders"][0]
    assert (holder["owner"], holder["note"]) == ('o = "q"', "ä😀\n")


def test_a_quoted_word_is_an_argument_even_with_an_equals_sign(client, resource):
    assert client.ask_ok(f'LOCK "{resource}=x"')["resource"] == f"{resource}=x"
    assert client.ask(f"LOCK {resource}=x").code == "bad_request"


@pytest.mark.parametrize("line", [
    'LOCK "a', 'LOCK "a"b', 'LOCK a"b', 'LOCK a note="x', 'LOCK a note=x"y',
    r'LOCK "\q"', r'LOCK "\u12"', r'LOCK "\ud800"', r'LOCK "\u0000"', '"PING"', "a=b PING",
    "LOCK ttl=1s a", "LOCK a 1x=2", "LOCK a =2", "LOCK\ta", "LOCK a note=\x01", "LOCK a\x7f",
    "", " ", "@t", "@ PING", "@a/b PING", "@" + "t" * 33 + " PING", "@a@b PING",
])
def test_a_malformed_line_is_one_error_with_a_sentence(client, line):
    reply = client.ask(line)
    assert (reply.status, reply.code) == ("ERR", "bad_request")
    assert len(reply["message"]) > 20
    client.ask_ok("PING")


@pytest.mark.parametrize("data", [
    b"PING \xff\n", b"PING \xc3\n", b"PING \xc0\x80\n", b"PING \xed\xa0\x80\n",
    b"PING \xf4\x90\x80\x80\n", b"PI\0NG\n", b"LOCK a\0b\n", b"\0\n",
])
def test_bytes_that_are_not_text_are_refused(client, data):
    client.send_bytes(data)
    assert client.reply().code == "bad_request"
    client.ask_ok("PING")


def test_cr_before_lf_belongs_to_the_end_of_the_line(client):
    client.send_bytes(b"PING\r\n@a PING\r\nPING\n\r\n")
    assert [client.reply().status for _ in range(4)] == ["OK", "OK", "OK", "ERR"]


def test_a_line_may_come_in_pieces(client):
    for byte in b"@slow PING\n":
        client.send_bytes(bytes([byte]))
    assert client.reply().tag == "slow"


def test_words_may_be_parted_by_several_spaces(client, resource):
    assert client.ask(f"  @t   LOCK   {resource}   ttl=5s  ").status == "OK"


def test_a_line_of_the_maximal_length_is_read_and_a_longer_one_skipped(client):
    def ping(length):
        return b"PING" + b" " * (length - 4) + b"\n"
    client.send_bytes(ping(LINE_MAX) + ping(LINE_MAX + 1) + ping(3 * LINE_MAX) + b"@after PING\n")
    # Tagged replies overtake, these are in order all the same: all are decided at once.
    assert [client.reply().code for _ in range(3)] == [None, "too_long", "too_long"]
    assert client.reply().tag == "after"


def test_the_rest_of_a_line_that_is_too_long_is_never_taken_for_a_request(client, resource):
    client.send_bytes(b"x" * (LINE_MAX + 2))
    assert client.reply().code == "too_long"
    client.send_bytes(f"LOCK {resource}\n".encode())
    assert client.ask_ok(f"INFO {resource}")["holders"] == []


def test_too_many_words(client):
    assert client.ask("INFO" + " a" * 129).code == "bad_request"
    assert client.ask("LOCK a" + " note=b" * 129).code == "bad_request"


@pytest.mark.parametrize("first", [
    "GET / HTTP/1.1", "POST /lock HTTP/1.1", "PUT /x HTTP/1.1", "DELETE /x HTTP/1.1",
    "OPTIONS * HTTP/1.1", "Host: localhost", "PRI * HTTP/2.0", "post / http/1.0",
    "LOCK /x HTTP/1.1", "UNLOCK / HTTP/1.0", "@a LOCK x HTTP/1.1", "NONSENSE * HTTP/1.1",
])
def test_an_http_request_is_closed_at_once(connect, resource, first):
    web = connect()
    web.send(first, "Host: localhost:7432", "", f"LOCK {resource}")
    assert web.rest() == []
    assert connect().ask_ok(f"INFO {resource}")["holders"] == []


def test_http_words_after_the_first_line_are_no_verbs(client):
    client.ask_ok("PING")
    assert client.ask("GET / HTTP/1.1").code == "unknown_verb"
    client.ask_ok("PING")


# ---- tags and order ----

def test_tags(client):
    for tag in "a", "Z9_.-", "t" * 32:
        assert client.ask(f"@{tag} PING").tag == tag
        assert client.ask(f"@{tag} NONSENSE").tag == tag
        assert client.ask(f'@{tag} LOCK "').tag == tag


def test_untagged_requests_are_answered_in_order_and_tagged_ones_as_they_finish(connect, resource):
    holder, client = connect(), connect()
    token = holder.lock(resource)
    client.send(f"LOCK {resource} wait=inf", "PING", f"INFO {resource}/x", "@t1 PING",
                f"@t2 LOCK {resource}/y", "NONSENSE")
    assert {client.reply().tag, client.reply().tag} == {"t1", "t2"}
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    first, second, third, fourth = (client.reply() for _ in range(4))
    assert first["token"] > token
    assert second.body == {}
    assert third["resources"][0]["resource"] == f"{resource}/x"
    assert fourth.code == "unknown_verb"


def test_untagged_requests_see_what_those_before_them_did(client, resource):
    client.send(f"LOCK {resource} owner=me", f"INFO {resource}", f"LIST prefix={resource}",
                f"LOCK {resource}")
    token = client.reply()["token"]
    assert client.reply()["holders"][0]["owner"] == "me"
    assert len(client.reply()["locks"]) == 1
    assert client.reply().status == "BUSY"
    client.send(f"UNLOCK {resource} token={token}", f"CHECK {resource} token={token}",
                f"LOCK {resource}", f"INFO {resource}")
    assert [client.reply().status for _ in range(3)] == ["OK", "LOST", "OK"]
    assert client.reply()["holders_total"] == 1


def test_one_tag_twice_in_flight(connect, resource):
    holder, client = connect(), connect()
    token = holder.lock(resource)
    client.send(f"@t LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    reply = client.ask("@t PING")
    assert (reply.tag, reply.status, reply.code) == ("t", "ERR", "tag_in_use")
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert client.reply()["token"] > token
    assert client.ask("@t PING").status == "OK"


def test_a_deep_pipeline_is_answered_completely_and_in_order(client, resource):
    count = 3000  # more than max_inflight: reading pauses meanwhile
    client.send(*[f"LOCK {resource}/{i} ttl=10m" for i in range(count)])
    replies = [client.reply() for _ in range(count)]
    assert [r["resource"] for r in replies] == [f"{resource}/{i}" for i in range(count)]
    client.send(*[f"UNLOCK {r['resource']} token={r['token']}" for r in replies])
    assert all(client.reply().status == "OK" for _ in range(count))
    assert client.ask_ok(f"LIST prefix={resource}")["locks"] == []


def test_requests_of_one_batch_for_one_resource_are_decided_in_their_order(client, resource):
    client.send(*[f"@t{i} LOCK {resource} owner=o{i}" for i in range(50)])
    replies = {r.tag: r for r in (client.reply() for _ in range(50))}
    assert [t for t, r in replies.items() if r.status == "OK"] == ["t0"]
    assert all(r["holders"][0]["owner"] == "o0" for t, r in replies.items() if t != "t0")


# ---- ends of a connection ----

def test_quit_answers_what_was_asked_then_says_bye(connect, resource):
    client = connect()
    client.send(f"LOCK {resource}", f"@t LOCK {resource}/t", "QUIT", "PING", f"LOCK {resource}/late")
    *replies, bye = client.rest()
    assert sorted((r.tag, r.status) for r in replies) == [("", "OK"), ("", "OK"), ("t", "OK")]
    assert (bye.tag, bye.status, bye.code) == ("*", "BYE", "quit")
    assert connect().ask_ok(f"INFO {resource}/late")["holders"] == []


def test_quit_withdraws_what_waits_under_a_tag(connect, resource):
    holder, client = connect(), connect()
    holder.lock(resource)
    client.send(f"@w LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    client.send("QUIT")
    assert sorted((r.tag, r.code) for r in client.rest()) == [("", None), ("*", "quit"), ("w", "cancelled")]
    wait_for_queue(holder, resource, 0)


def test_after_the_end_of_input_everything_is_answered_and_waits_are_withdrawn(connect, resource):
    holder, client = connect(), connect()
    holder.lock(resource)
    client.send("PING", f"LOCK {resource}/free", f"@w LOCK {resource} wait=inf",
                f"LOCK {resource} wait=inf", f"INFO {resource}/free")
    client.end_input()
    replies = client.rest()
    assert replies[-1].tag == "*" and replies[-1].code == "end_of_input"
    assert [r.status for r in replies if r.tag == ""] == ["OK", "OK", "ERR", "OK"]
    assert {r.code for r in replies if r.status == "ERR"} == {"cancelled"}
    wait_for_queue(holder, resource, 0)


def test_nc(daemon, resource):
    host, port = daemon.line.rsplit(":", 1)
    done = subprocess.run(["nc", "-N", host, port], input=f"PING\nLOCK {resource}\n", text=True,
                          capture_output=True, timeout=SECONDS, check=True)
    replies = [parse(line) for line in done.stdout.splitlines()]
    assert [r.status for r in replies] == ["OK", "OK", "BYE"]


def test_half_a_line_and_then_nothing(connect, resource):
    client = connect()
    client.send_bytes(b"PING\nLOCK " + resource.encode())
    client.end_input()
    ping, half, bye = client.rest()
    assert ping.status == "OK"
    assert half.code == "bad_request" and bye.code == "end_of_input"
    # It may have been "LOCK a/b" that was cut to "LOCK a": nothing is done.
    assert connect().ask_ok(f"INFO {resource}")["holders"] == []


def test_a_reset_connection_leaves_nothing_behind(connect, resource):
    holder = connect()
    token = holder.lock(resource)
    for _ in range(5):
        waiter = connect()
        waiter.send(f"LOCK {resource} wait=inf", f"LOCK {resource}", f"INFO {resource}", "LOCK")
        wait_for_queue(holder, resource, 1)
        waiter.reset()
        wait_for_queue(holder, resource, 0)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert holder.ask_ok(f"INFO {resource}")["holders"] == []


def test_leases_outlive_their_connection(connect, resource):
    with connect() as first:
        token = first.lock(resource)
    assert connect().ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] > 0
    connect().ask_ok(f"UNLOCK {resource} token={token}")


def test_unix_socket(daemon, connect):
    assert connect(daemon.unix_address).ask_ok("HELLO")["server"] == "pglockd"


# ---- the simple verbs ----

def test_hello(client):
    reply = client.ask_ok("HELLO name=tester protocol=1")
    assert reply["server"] == "pglockd" and reply["protocol"] == 1 and reply["auth"] == "off"
    assert reply["line_max"] == LINE_MAX and reply["ttl_max_ms"] == 600000
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", reply["version"]) and reply["instance"]


def test_the_name_of_hello_is_the_owner_unless_a_lock_says_otherwise(client, resource):
    client.ask_ok('HELLO name="build 7"')
    client.lock(resource, "mode=shared")
    client.lock(resource, "mode=shared owner=other")
    holders = client.ask_ok(f"INFO {resource}")["holders"]
    assert [h["owner"] for h in holders] == ["build 7", "other"]


@pytest.mark.parametrize("keys,code", [
    ("protocol=2", "bad_request"), ("protocol=x", "bad_request"), ('key=""', "bad_request"),
    ("key=" + "k" * 257, "bad_request"),
    ("events=maybe", "bad_request"), ("nonsense=1", "unknown_key"), ('name=""', "bad_request"),
    ("name=" + "n" * 257, "bad_request"), ("name=a name=b", "bad_request"),
])
def test_hello_refuses(client, keys, code):
    assert client.ask(f"HELLO {keys}").code == code


def test_ping(client):
    assert client.ask("PING") == ("", "OK", {})
    assert client.ask("PING x").code == "bad_request"
    assert client.ask("PING x=1").code == "unknown_key"


def test_help_lists_the_verbs_that_work(client):
    verbs = {v["verb"]: v for v in client.ask_ok("HELP")["verbs"]}
    assert set(verbs) == {"HELLO", "PING", "HELP", "STATS", "STATUS", "QUIT", "LOCK", "UNLOCK", "RENEW", "RATE",
                          "SESSION", "CHECK", "CANCEL", "INFO", "LIST", "TRANSFER", "FORCE", "WATCH", "UNWATCH"}
    for verb, entry in verbs.items():
        assert entry["usage"].startswith(verb) and entry["help"]
        assert client.ask_ok(f"HELP {verb.lower()}")["verbs"] == [entry]
    assert client.ask("HELP nonsense").code == "unknown_verb"
    assert client.ask("HELP (unknown)").code == "unknown_verb"


def test_stats(client, resource):
    before = client.ask_ok("STATS")
    client.lock(resource)
    client.ask(f"LOCK {resource}")
    after = client.ask_ok("STATS")
    assert after["metrics"]["requests_total"]["lock"]["BUSY"] >= 1
    assert (after["metrics"]["batch_requests"]["count"]
            >= before["metrics"]["batch_requests"]["count"] + 2)
    assert after["connections"] >= 1 and after["postgres_up"] is True
    assert set(before.body) == set(after.body)
    assert all(isinstance(n, int) and 0 <= n < 2 ** 53 for n in numbers(after.body))


def test_an_unknown_verb_or_key_is_named(client):
    reply = client.ask("FROBNICATE a")
    assert reply.code == "unknown_verb" and "FROBNICATE" in reply["message"]
    reply = client.ask("LOCK a colour=red")
    assert reply.code == "unknown_key" and "colour" in reply["message"]


# ---- arguments ----

@pytest.mark.parametrize("resource", [
    '""', "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", r'"a\u0001"', r'"a\u0085"',
    r'"a\u007f"', "a" * 513, "é" * 257, "/".join("a" * 33),
])
@pytest.mark.parametrize("line", ["LOCK {}", "UNLOCK {} token=1", "CHECK {} token=1", "INFO x {}",
                                  "LIST prefix={}"])
def test_what_is_not_a_resource(client, line, resource):
    reply = client.ask(line.format(resource))
    assert (reply.status, reply.code) == ("ERR", "bad_resource"), reply


@pytest.mark.parametrize("line", ["LOCK /", "LOCK a /", "LOCK a exclusive=/", "LIST prefix=/"])
def test_the_whole_space_is_a_resource_of_trees_only(client, line):
    assert client.ask(line).code == "bad_resource"


@pytest.mark.parametrize("name", ["a" * 508, "/".join("a" * 31), '"é ü"', "...", "a/.b", "~!$%^&*()"])
def test_what_is_a_resource(client, name):
    name = name if name.startswith('"') else f"t/{name}"[:512]
    client.ask_ok(f"UNLOCK {name} token={client.lock(name)}")


@pytest.mark.parametrize("key", ["ttl", "wait"])
@pytest.mark.parametrize("value", ["30", "0", "-1s", "1.5s", "s", '""', "1 s", "5S", "1w", "4000d",
                                   "99999999999999999999s"])
def test_bad_durations(client, key, value):
    value = value if value.startswith('"') else f'"{value}"'
    assert client.ask(f"LOCK a {key}={value}").code == "bad_duration"


def test_a_bare_number_names_the_unit(client):
    assert "30s" in client.ask("LOCK a ttl=30")["message"]
    assert client.ask("LOCK a ttl=inf").code == "bad_duration"


def test_ttl_bounds(client, resource):
    for ttl in "100ms", "10m":
        client.ask_ok(f"UNLOCK {resource} token={client.lock(resource, 'ttl=' + ttl)}")
    token = client.lock(resource)
    for line in f"LOCK {resource}", f"RENEW {resource} token={token}":
        for ttl in "99ms", "0s", "600001ms", "1d":
            reply = client.ask(f"{line} ttl={ttl}")
            assert reply.code == "ttl_out_of_range" and "10m" in reply["message"]


@pytest.mark.parametrize("line", [
    "LOCK", "LOCK a mode=upgrade", "LOCK a scope=x", "LOCK a bind=x", "UNLOCK", "UNLOCK a",
    "UNLOCK a token=0", "UNLOCK a token=-1", "UNLOCK a token=x", "UNLOCK a token=9007199254740992",
    "UNLOCK a b token=1", "RENEW a", "RENEW a token=", "CHECK a", "CHECK token=1", "CANCEL",
    "CANCEL a tag=t", "INFO", "INFO" + " a" * 65, "LIST a", "LIST limit=0", "LIST limit=1001",
    "LIST limit=x", "LIST after=x", "LIST after=1:", "LIST after=x:a", 'LOCK a id=""',
    "LOCK a id=" + "k" * 65, "LOCK a owner=" + "o" * 257, "LOCK a note=" + "n" * 1025,
    "LOCK a ttl=1s ttl=2s", "UNLOCK a token=1 TOKEN=2", "HELP a b", "QUIT x", "STATS x",
])
def test_bad_arguments(client, line):
    reply = client.ask(line)
    assert (reply.status, reply.code) == ("ERR", "bad_request"), reply


# ---- LOCK, UNLOCK, RENEW, CHECK ----

def test_a_lock_from_grant_to_release(client, resource):
    reply = client.ask_ok(f"LOCK {resource} ttl=2m")
    token = reply["token"]
    assert reply["locks"] == [{"resource": resource, "token": token, "mode": "exclusive",
                               "scope": "node"}]
    assert reply["resource"] == resource and reply["ttl_ms"] == 120000 and reply["waited_ms"] >= 0
    assert 0 < client.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] <= 120000
    assert client.ask_ok(f"RENEW {resource} token={token}")["ttl_ms"] == 120000
    assert client.ask_ok(f"RENEW {resource} token={token} ttl=10m")["ttl_ms"] == 600000
    assert client.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] > 120000
    assert client.ask_ok(f"RENEW {resource} token={token} ttl=1m")["ttl_ms"] == 60000
    assert client.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] <= 60000
    assert client.ask_ok(f"UNLOCK {resource} token={token}")["held_ms"] >= 0
    assert client.lock(resource) > token


def test_a_lock_without_a_name_has_the_default_ttl(client, resource):
    assert client.ask_ok(f"LOCK {resource}")["ttl_ms"] == 30000


@pytest.mark.parametrize("held,asked,granted", [
    ("exclusive", "exclusive", False), ("exclusive", "shared", False),
    ("shared", "exclusive", False), ("shared", "shared", True),
])
def test_what_excludes_what(connect, resource, held, asked, granted):
    connect().lock(resource, f"mode={held}")
    assert (connect().ask(f"LOCK {resource} mode={asked}").status == "OK") == granted


def test_locks_are_not_reentrant(client, resource):
    client.lock(resource)
    reply = client.ask(f"LOCK {resource}")
    assert reply.status == "BUSY" and reply["holders"][0]["self"] is True


def test_a_resource_is_locked_alone_not_what_is_beneath_it(client, resource):
    for name in resource, f"{resource}/a", f"{resource}/a/b":
        client.lock(name)


def test_busy_says_who_holds_it(connect, resource):
    holder, waiter, client = connect(name="agent-7"), connect(), connect()
    holder.lock(resource, "note=refactor ttl=5m")
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    reply = client.ask(f"LOCK {resource}")
    assert (reply.status, reply.code, reply["resource"]) == ("BUSY", "busy", resource)
    assert re.fullmatch(re.escape(resource) + r" is held by agent-7 \(refactor\) for \d+ s, 1 waiting",
                        reply["message"])
    (one,) = reply["holders"]
    assert (one["owner"], one["note"], one["mode"], one["scope"], one["self"], one["resource"]) == (
        "agent-7", "refactor", "exclusive", "node", False, resource)
    assert 0 < one["ttl_ms"] <= 300000 and one["held_ms"] >= 0
    assert (reply["holders_total"], reply["waiting"]) == (1, 1)
    assert "token" not in one, "tokens of others are not shown"


def test_busy_with_many_holders(connect, resource):
    holder, client = connect(), connect()
    holder.send(*[f"LOCK {resource} mode=shared owner=o{i:04} ttl=10m" for i in range(1005)])
    assert all(holder.reply().status == "OK" for _ in range(1005))
    reply = client.ask(f"LOCK {resource}")
    assert (len(reply["holders"]), reply["holders_total"], reply["more"]) == (1000, 1005, True)
    assert "o0000 and 1004 more" in reply["message"]
    assert client.ask_ok(f"INFO {resource}")["holders_total"] == 1005


def test_wait_runs_out(connect, resource):
    holder, client = connect(name="holder"), connect()
    holder.lock(resource)
    reply = client.ask(f"LOCK {resource} wait=50ms")
    assert (reply.status, reply.code) == ("TIMEOUT", "timeout")
    assert reply["holders"][0]["owner"] == "holder" and "held by holder" in reply["message"]
    assert reply["waiting"] == 0
    client.nothing_comes()


def test_wait_that_is_granted_says_how_long_it_took(connect, resource):
    holder, client = connect(), connect()
    token = holder.lock(resource)
    client.send(f"LOCK {resource} wait=1h ttl=7m")
    waiting = eventually(lambda: [w["waiting_ms"] for w in
                                  holder.ask_ok(f"INFO {resource}")["queue"] if w["waiting_ms"] >= 100])
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    reply = client.reply()
    assert reply["waited_ms"] >= waiting[0] - 1 and reply["ttl_ms"] == 420000
    assert client.ask_ok(f"CHECK {resource} token={reply['token']}")["ttl_ms"] <= 420000


def test_waiters_are_served_in_the_order_they_came(connect, resource):
    holder = connect()
    token = holder.lock(resource)
    waiters = [connect() for _ in range(6)]
    for i, waiter in enumerate(waiters):
        waiter.send(f"LOCK {resource} wait=inf")
        queue = wait_for_queue(holder, resource, i + 1)["queue"]
        assert [w["position"] for w in queue] == list(range(1, i + 2))
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    for waiter in waiters:
        reply = waiter.reply()
        assert reply["token"] > token
        token = reply["token"]
        waiter.ask_ok(f"UNLOCK {resource} token={token}")


def test_a_new_reader_does_not_overtake_a_waiting_writer(never_silent, connect, resource):
    first, writer, reader, other = (connect() for _ in range(4))
    token = first.lock(resource, "mode=shared")
    writer.send(f"LOCK {resource} wait=inf")
    wait_for_queue(first, resource, 1)
    assert other.ask(f"LOCK {resource} mode=shared").status == "BUSY"
    reader.send(f"LOCK {resource} mode=shared wait=inf")
    wait_for_queue(first, resource, 2)
    first.ask_ok(f"UNLOCK {resource} token={token}")
    token = writer.reply()["token"]
    writer.ask_ok(f"UNLOCK {resource} token={token}")
    assert reader.reply()["token"] > token


def test_readers_are_served_together(connect, resource):
    holder = connect()
    token = holder.lock(resource)
    modes = "shared", "shared", "exclusive", "shared"
    waiters = [connect() for _ in modes]
    for i, (waiter, mode) in enumerate(zip(waiters, modes)):
        waiter.send(f"LOCK {resource} mode={mode} wait=inf")
        wait_for_queue(holder, resource, i + 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    readers = [waiters[0].reply()["token"], waiters[1].reply()["token"]]
    info = wait_for_queue(holder, resource, 2)
    assert [h["mode"] for h in info["holders"]] == ["shared", "shared"]
    for waiter, token in zip(waiters, readers):
        waiter.ask_ok(f"UNLOCK {resource} token={token}")
    assert waiters[2].reply()["token"] > max(readers)


def test_lost_says_why_and_who_holds_it_now(connect, sql, resource):
    client, other = connect(), connect(name="next")
    token = client.lock(resource)
    sql().cursor().execute("select * from pglockd.force(%s, %s, 'wrong branch')", (resource, token))
    other.lock(resource)
    for verb in "UNLOCK", "RENEW", "CHECK":
        reply = client.ask(f"{verb} {resource} token={token}")
        assert (reply.status, reply.code, reply["reason"]) == ("LOST", "lost", "forced")
        assert "wrong branch" in reply["message"] and reply["held_by"] == "next"
        assert reply["lost_ms"] >= 0


def test_lost_for_a_token_that_never_was(client, resource):
    for verb in "UNLOCK", "RENEW", "CHECK":
        reply = client.ask(f"{verb} {resource} token=9007199254740991")
        assert (reply.status, reply.code, reply["reason"]) == ("LOST", "lost", "unknown")
    token = client.lock(resource)
    assert client.ask(f"UNLOCK {resource}/other token={token}").status == "LOST"
    client.ask_ok(f"UNLOCK {resource} token={token}")
    assert client.ask(f"UNLOCK {resource} token={token}").status == "LOST"


@pytest.mark.parametrize("verb", ["UNLOCK", "RENEW ttl=9m"])
def test_lost_of_one_of_an_id(client, sql, resource, verb):
    """A lease that ends after it was found by its id, and before its turn came, is told of as any other. The reply had
    bytes in it that were no text, and the name twice."""
    held = client.ask_ok(f"LOCK {resource}/a {resource}/b id={resource} owner=me ttl=5m")
    ending, cursor = sql(), sql().cursor()
    ending.autocommit = False
    ending.cursor().execute("select status from pglockd.force(%s, null, 'stuck')", (f"{resource}/b",))
    verb, *keys = verb.split()
    client.send(" ".join([f"{verb} id={resource} owner=me", *keys]))

    def the_first_is_done():
        cursor.execute("select from pglockd.lease where resource = %s and ttl_ms = 300000", (f"{resource}/a",))
        return cursor.rowcount == 0
    eventually(the_first_is_done)
    ending.commit()
    reply = client.reply()
    assert (reply.status, reply["reason"]) == ("LOST", "forced")
    assert reply["message"].startswith(f"token {held['locks'][1]['token']} does not hold {resource}/b: an administrator")


def test_the_same_lease_twice_in_a_pipeline(client, resource):
    token = client.lock(resource)
    client.send(*[f"@r{i} RENEW {resource} token={token}" for i in range(3)],
                *[f"@u{i} UNLOCK {resource} token={token}" for i in range(3)])
    replies = {r.tag: r.status for r in (client.reply() for _ in range(6))}
    assert [replies[f"r{i}"] for i in range(3)] == ["OK"] * 3
    assert [replies[f"u{i}"] for i in range(3)] == ["OK", "LOST", "LOST"]


# ---- expiry ----

def test_an_expired_lease_is_removed_and_the_waiter_served(connect, resource):
    client, waiter = connect(), connect()
    asked = time.monotonic()  # the reply may come late: the TTL runs from somewhere between
    token = client.lock(resource, "ttl=100ms")
    reply = waiter.ask(f"LOCK {resource} wait=10m")
    assert reply.status == "OK" and reply["token"] > token
    # Never before the TTL: the lease clock does not run fast.
    assert time.monotonic() - asked >= 0.1
    lost = client.ask(f"RENEW {resource} token={token}")
    assert (lost.status, lost["reason"]) == ("LOST", "expired")


def test_the_janitor_removes_what_nobody_asks_for(client, sql, resource):
    token = client.lock(resource, "ttl=100ms")
    cursor = sql().cursor()

    def gone():
        cursor.execute("select from pglockd.lease where resource = %s", (resource,))
        return cursor.rowcount == 0
    eventually(gone)
    assert client.ask(f"CHECK {resource} token={token}")["reason"] == "expired"


def test_past_its_ttl_a_lease_can_still_be_renewed(client, resource):
    """Until the slack is over, too. Who comes later than that, on a busy machine, begins anew."""
    def renewed_late():
        token = client.lock(resource, "ttl=300ms")
        while (check := client.ask(f"CHECK {resource} token={token}")).body.get("ttl_ms"):
            pass
        if check.status != "OK" or client.ask(f"RENEW {resource} token={token} ttl=10m").status != "OK":
            eventually(lambda: client.ask_ok(f"INFO {resource}")["holders"] == [])
            return None
        return client.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"]
    assert eventually(renewed_late) > 300000


# ---- id= ----

def test_a_repeated_lock_gets_the_same_grant(connect, resource):
    first = connect().ask_ok(f"LOCK {resource} id=key-1 owner=me")
    assert "repeated" not in first.body
    again = connect().ask_ok(f"LOCK {resource} id=key-1 owner=me ttl=1m")
    assert (again["token"], again["repeated"], again["ttl_ms"]) == (first["token"], True, 60000)
    assert connect().ask(f"LOCK {resource} id=key-1 owner=you").status == "BUSY"
    assert connect().ask(f"LOCK {resource} id=key-2 owner=me").status == "BUSY"


def test_a_repeated_lock_in_one_pipeline(client, resource):
    client.send(*[f"LOCK {resource} id=k wait=inf"] * 3)
    replies = [client.reply() for _ in range(3)]
    assert len({r["token"] for r in replies}) == 1
    assert [r.body.get("repeated") for r in replies] == [None, True, True]


def test_an_id_with_other_arguments_is_a_mismatch(client, resource):
    token = client.lock(resource, "id=k2 owner=me")
    for line in f"LOCK {resource} mode=shared id=k2 owner=me", f"LOCK {resource}/x id=k2 owner=me":
        reply = client.ask(line)
        assert (reply.status, reply.code) == ("ERR", "id_mismatch")
    client.ask_ok(f"UNLOCK {resource} token={token}")
    assert client.lock(f"{resource}/x", "id=k2 owner=me") > token


def absent(cursor, resource):
    """How many waiters of a resource are away."""
    cursor.execute("select from pglockd.queue where resource = %s and absent", (resource,))
    return cursor.rowcount


def test_a_waiter_with_an_id_comes_back_to_its_place(connect, sql, resource):
    holder, first, second = connect(), connect(), connect()
    cursor = sql().cursor()
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf id=k3 owner=a")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf owner=b")
    wait_for_queue(holder, resource, 2)
    first.close()
    eventually(lambda: absent(cursor, resource) == 1)
    again = connect()
    again.send(f"LOCK {resource} wait=inf id=k3 owner=a")
    eventually(lambda: absent(cursor, resource) == 0)
    queue = wait_for_queue(holder, resource, 2)["queue"]
    assert [w["owner"] for w in queue] == ["a", "b"]
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    token = again.reply()["token"]
    second.nothing_comes()
    again.ask_ok(f"UNLOCK {resource} token={token}")
    assert second.reply()["token"] > token


def test_an_absent_waiter_is_passed_over_and_keeps_its_place(connect, sql, resource):
    holder, first, second = connect(), connect(), connect()
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf id=k4 owner=a")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf owner=b")
    wait_for_queue(holder, resource, 2)
    first.close()
    cursor = sql().cursor()
    eventually(lambda: absent(cursor, resource) == 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    token = second.reply()["token"]
    again = connect()
    again.send(f"LOCK {resource} wait=inf id=k4 owner=a")
    eventually(lambda: absent(cursor, resource) == 0)
    second.ask_ok(f"UNLOCK {resource} token={token}")
    assert again.reply()["token"] > token


def test_a_place_that_is_not_claimed_is_given_up(peer, connect):
    """requeue_grace over: the absent waiter's row goes, and nothing waits for it."""
    short = peer("--requeue-grace", "100ms")
    holder, waiter = connect(short), connect(short)
    token = holder.lock("t/requeue")
    waiter.send("LOCK t/requeue wait=inf id=requeue")
    wait_for_queue(holder, "t/requeue", 1)
    waiter.close()
    wait_for_queue(holder, "t/requeue", 0)
    holder.ask_ok(f"UNLOCK t/requeue token={token}")


def test_a_request_whose_place_was_taken_over_is_told(connect, resource):
    holder, first, second = connect(), connect(), connect()
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf id=k5 owner=a")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf id=k5 owner=a")
    assert first.reply().code == "cancelled"
    assert wait_for_queue(holder, resource, 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert second.reply()["token"] > token


# ---- CANCEL ----

def test_cancel_a_waiting_lock(connect, resource):
    holder, client = connect(), connect()
    token = holder.lock(resource)
    client.send(f"@w LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    client.send("@c CANCEL tag=w")
    replies = {r.tag: r for r in (client.reply(), client.reply())}
    assert replies["c"]["cancelled"] is True
    assert (replies["w"].status, replies["w"].code) == ("ERR", "cancelled")
    wait_for_queue(holder, resource, 0)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert holder.ask_ok(f"INFO {resource}")["holders"] == []


def test_cancel_at_once_leaves_nothing_behind(client, resource):
    """Sent with the LOCK: whichever comes first, there is one answer and no lease without owner."""
    for i in range(50):
        client.send(f"@w{i} LOCK {resource}/{i}", f"@c{i} CANCEL tag=w{i}")
    replies = {r.tag: r for r in (client.reply() for _ in range(100))}
    for i in range(50):
        lock, cancel = replies[f"w{i}"], replies[f"c{i}"]
        assert lock.status == "OK" if not cancel["cancelled"] else lock.code == "cancelled"
    granted = sum(replies[f"w{i}"].status == "OK" for i in range(50))
    eventually(lambda: len(client.ask_ok(f"LIST prefix={resource}")["locks"]) == granted)


def test_cancel_what_is_not_there(connect, resource):
    holder, client, stranger = connect(), connect(), connect()
    assert client.ask_ok("CANCEL tag=nothing")["cancelled"] is False
    assert client.ask_ok("@me CANCEL tag=me")["cancelled"] is False
    holder.lock(resource)
    client.send(f"@w LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    assert stranger.ask_ok("CANCEL tag=w")["cancelled"] is False
    wait_for_queue(holder, resource, 1)


# ---- INFO and LIST ----

def test_info_of_several_resources(connect, resource):
    holder, client = connect(name="h"), connect()
    holder.lock(f"{resource}/a", "note=n")
    reply = client.ask_ok(f"INFO {resource}/a {resource}/b {resource}/a")
    assert [r["resource"] for r in reply["resources"]] == [f"{resource}/{n}" for n in "aba"]
    assert [len(r["holders"]) for r in reply["resources"]] == [1, 0, 1]
    assert "holders" not in reply.body and "queue" not in reply.body
    one = client.ask_ok(f"INFO {resource}/a")
    assert one["holders"] == one["resources"][0]["holders"] and one["queue"] == []


def test_info_of_sixty_four_resources(client, resource):
    names = [f"{resource}/{i}" for i in range(64)]
    reply = client.ask_ok("INFO " + " ".join(names))
    assert [r["resource"] for r in reply["resources"]] == names


def test_list_takes_a_prefix_as_a_path(client, resource):
    names = [resource + end for end in ("", "/b", "/b/c", "/b-c", "/bc", "b", "/b/c/d", "-x", "0")]
    client.send(*[f"LOCK {name}" for name in names])
    assert all(client.reply().status == "OK" for _ in names)

    def listed(prefix):
        return [lock["resource"] for lock in client.ask_ok(f"LIST prefix={prefix}")["locks"]]
    assert listed(resource) == sorted(n for n in names if n == resource or n.startswith(resource + "/"))
    assert listed(f"{resource}/b") == [f"{resource}/b", f"{resource}/b/c", f"{resource}/b/c/d"]
    assert listed(f"{resource}/b/c/d") == [f"{resource}/b/c/d"]
    assert listed(f"{resource}/x") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11])
def test_list_in_pages(client, sql, limit):
    prefix = f"t/pages{limit}"
    names = sorted([f"{prefix}/{i}" for i in range(9)] + [prefix])
    client.send(*[f"LOCK {n} mode=shared" for n in names], f"LOCK {names[4]} mode=shared")
    assert all(client.reply().status == "OK" for _ in range(11))
    seen, after, pages = [], "", 0
    while after is not None:
        page = client.ask_ok(f"LIST prefix={prefix} limit={limit} {after}")
        assert len(page["locks"]) <= limit
        seen += [lock["resource"] for lock in page["locks"]]
        after = page["next"] and f'after="{page["next"]}"'
        pages += 1
    assert seen == sorted(names + [names[4]]) and pages == -(-11 // limit)


def test_list_by_owner_and_what_a_row_says(connect, resource):
    me, you = connect(name="me"), connect(name="you")
    me.lock(f"{resource}/1", "ttl=9s note=n")
    you.lock(f"{resource}/2")
    (row,) = me.ask_ok(f"LIST prefix={resource} owner=me")["locks"]
    assert (row["resource"], row["owner"], row["note"], row["self"]) == (f"{resource}/1", "me", "n", True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["granted_at"])
    assert 0 < row["ttl_ms"] <= 9000 and "token" not in row, "tokens are for their holders"


def test_list_of_the_whole_space(client, resource):
    client.lock(resource)
    seen, after = [], ""
    while after is not None:
        page = client.ask_ok(f"LIST limit=1000 {after}")
        seen += [lock["resource"] for lock in page["locks"]]
        after = page["next"] and f"after={json.dumps(page['next'])}"
    assert resource in seen and seen == sorted(seen)


# ---- everybody else ----

def test_a_bad_client_does_not_disturb_others(daemon, connect, resource):
    bad = [connect() for _ in range(20)]
    for one in bad:
        one.send_bytes(b"\xff\xfe\0junk\n" + b"y" * 100000)
    good = connect()
    good.ask_ok(f"UNLOCK {resource} token={good.lock(resource)}")
    for one in bad:
        assert one.reply().code == "bad_request" and one.reply().code == "too_long"


def test_addresses_are_numbers_and_names(daemon):
    port = int(daemon.line.rsplit(":", 1)[1])
    with socket.create_connection(("localhost", port), SECONDS):
        pass
