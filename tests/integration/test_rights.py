"""What a name may do: every verb by every right, inside and outside of its pattern.

Through the line protocol, HTTP and SQL. What a request does is tested elsewhere; here it counts
whether it is let through or refused for want of a right.
"""

import base64
import contextlib
import hashlib
import json
from http.client import HTTPConnection

import pytest
from psycopg2 import errors

from conftest import in_force
from lines import Lines, eventually, wait_for_queue
from schema import one, rows

RIGHTS = ["lock", "rate", "read", "watch", "force", "admin"]
INSIDE, OUTSIDE = "in/x", "out/x"

# Each verb: a request about a name, and the right that it takes. None: any name will do; "": not
# even that.
VERBS = [
    ("HELLO", "HELLO name=n", ""), ("PING", "PING", ""), ("HELP", "HELP", ""),
    ("STATS", "STATS", None), ("CANCEL", "CANCEL tag=t", None),
    ("LOCK", "LOCK {} mode=shared ttl=1s", "lock"), ("TREE", "LOCK {} scope=tree mode=shared ttl=1s", "lock"),
    ("SET", "LOCK in/y {} mode=shared ttl=1s", "lock"),
    *[(f"{kind}=", f"LOCK in/y mode=shared ttl=1s {kind}={{}}", "lock")
      for kind in ("shared", "exclusive", "shared-tree", "exclusive-tree")],
    ("SLOT", "LOCK {} limit=3 ttl=1s", "lock"), ("CHANGE", "LOCK {} token=9000000000 mode=shared", "lock"),
    ("UNLOCK", "UNLOCK {} token=9000000000", "lock"), ("TRANSFER", "TRANSFER {} token=9000000000 to=other", "lock"),
    ("UNLOCK-ID", "UNLOCK id=x", "lock"), ("RENEW-ID", "RENEW id=x", "lock"),
    ("RENEW", "RENEW {} token=9000000000", "lock"), ("CHECK", "CHECK {} token=9000000000", "lock"),
    ("INFO", "INFO {}", "read"), ("INFO2", "INFO in/y {}", "read"),
    ("STATUS", "STATUS prefix={}", "read"),
    ("RATE", "RATE {} limit=1000 per=1s", "rate"), ("PEEK", "RATE {} limit=1000 per=1s peek=true", "rate"),
    ("FORCE", "FORCE {} token=9000000000", "force"),
]


def is_allowed(reply):
    if reply.status == "DENIED":
        assert reply.code in ("no_right", "auth_required"), reply
        return False
    return True


@pytest.fixture(scope="module")
def each(daemon, secure):
    """A connection for each right, held on in/*; and one of a name without any."""
    with contextlib.ExitStack() as stack:
        cursor = stack.enter_context(contextlib.closing(daemon.sql())).cursor()
        for right in RIGHTS + ["none"]:
            allow = [] if right == "none" else [f"{right}:in/*"]
            cursor.execute("select pglockd.key_create(%s, %s, %s)",
                           (f"may-{right}", hashlib.sha256(f"key-{right}".encode()).digest(), allow))
        in_force(secure, cursor)
        clients = {}
        for right in RIGHTS + ["none"]:
            clients[right] = stack.enter_context(Lines(secure.line))
            clients[right].ask_ok(f"HELLO key=key-{right}")
        yield clients
        cursor.execute("delete from pglockd.identity where name like 'may-%'")


@pytest.mark.parametrize("held", RIGHTS + ["none"])
@pytest.mark.parametrize("verb,line,needed", VERBS, ids=[v[0] for v in VERBS])
def test_line(each, held, verb, line, needed):
    fits = needed in ("", None) or held in (needed, "admin")
    assert is_allowed(each[held].ask(line.format(INSIDE))) == fits
    if "{}" in line:
        assert not is_allowed(each[held].ask(line.format(OUTSIDE)))
        assert not is_allowed(each[held].ask(line.format("in"))), "it is not beneath itself"
        assert not is_allowed(each[held].ask(line.format("inside/x")))


@pytest.mark.parametrize("verb,line,needed", VERBS, ids=[v[0] for v in VERBS])
def test_line_without_a_name(secure, verb, line, needed):
    with Lines(secure.line) as nobody:
        reply = nobody.ask(line.format(INSIDE))
        assert (reply.code == "auth_required") == (needed != "")
    for more in "SESSION OPEN", "LIST", "HELLO events=on":
        with Lines(secure.line) as nobody:
            assert nobody.ask(more).code == "auth_required"


@pytest.mark.parametrize("held", RIGHTS + ["none"])
def test_line_sessions(each, secure, held):
    """A session may hold many resources: it takes the right lock to any."""
    reply = each[held].ask("SESSION OPEN ttl=1s")
    assert is_allowed(reply) == (held in ("lock", "admin"))
    # On connections of their own: wrong secrets end them.
    for action in "KEEPALIVE", "RESUME", "CLOSE":
        with Lines(secure.line) as client:
            client.ask_ok(f"HELLO key=key-{held}")
            other = client.ask(f"SESSION {action} 1 secret=x")
        assert (other.code != "no_right") == (held in ("lock", "admin"))


@pytest.mark.parametrize("held", RIGHTS + ["none"])
def test_line_list(each, login, held):
    all_of_it = login("all-of-it", "lock:*")
    for name in "in/l", "out/l", "in", "inside/l":
        all_of_it.lock(name, "mode=shared ttl=10m")
    reply = each[held].ask("LIST limit=1000")
    if held not in ("read", "admin"):
        assert reply.code == "no_right"
        return
    listed = {l["resource"] for l in reply["locks"]}
    assert "in/l" in listed and all(name.startswith("in/") for name in listed)
    for prefix, want in ("in", True), ("in/l", True), ("out", False), ("out/l", False), ("inside", False):
        locks = each[held].ask_ok(f"LIST prefix={prefix}")["locks"]
        assert ("in/l" in {l["resource"] for l in locks}) == want
        assert all(l["resource"].startswith("in/") for l in locks)


@pytest.mark.parametrize("rights,tree,allowed", [
    (["lock:in/*"], "in/a", True), (["lock:in/*"], "in", False), (["lock:in"], "in", False),
    (["lock:in", "lock:in/*"], "in", True), (["lock:in/a/*"], "in", False), (["lock:*"], "in", True),
    (["lock:*"], "/", True), (["lock:in/*"], "/", False), (["read:*", "lock:in/a"], "in/a", False),
])
def test_a_tree_needs_a_right_on_all_of_it(login, sql, rights, tree, allowed):
    """Whatever else becomes of it: this is about the right."""
    gardener = login("gardener", *rights)

    def give_back(status, token):
        """So that it is in nobody's way in the tests that follow."""
        if status == "OK":
            sql(user="postgres").cursor().execute("select pglockd.force(%s, %s)", (tree, token))
    for line in (f"LOCK {tree} scope=tree ttl=1s", f"LOCK exclusive-tree={tree} ttl=1s",
                 f"LOCK {tree} scope=tree mode=shared wait=1ms ttl=1s"):
        reply = gardener.ask(line)
        assert is_allowed(reply) == allowed, line
        give_back(reply.status, reply.body.get("token"))
    postgres = sql(user="postgres").cursor()
    postgres.execute("drop role if exists gardener; create role gardener login in role pglockd_client")
    try:
        cursor = sql(user="gardener").cursor()
        asked = "select status, token from pglockd.lock(%s, scope => 'tree', ttl => '1 s')"
        if allowed:
            give_back(*rows(cursor, asked, tree)[0])
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(asked, (tree,))
    finally:
        postgres.execute("drop role gardener")


@pytest.mark.parametrize("rights,prefix,allowed", [
    (["watch:in/*"], "in/a", True), (["watch:in/*"], "in", False), (["watch:in"], "in", False),
    (["watch:in", "watch:in/*"], "in", True), (["watch:*"], "/", True), (["watch:in/*"], "/", False),
    (["read:*", "lock:*"], "in/a", False), (["admin:*"], "in/a", True)])
def test_a_watch_needs_a_right_to_all_of_it(login, rights, prefix, allowed):
    assert is_allowed(login("watcher", *rights).ask(f"WATCH {prefix}")) == allowed


def test_nothing_is_told_without_the_right_any_more(login, secure, sql, resource):
    client, other = login("watcher", f"watch:{resource}/a", f"watch:{resource}/a/*", "watch:quiet/*"), login("other", "lock:*")
    start = client.ask_ok(f"WATCH {resource}/a")["seq"]
    cursor = sql().cursor()
    cursor.execute("select pglockd.identity_deny('watcher', %s)", ([f"watch:{resource}/a/*"],))
    in_force(secure, cursor)
    other.lock(f"{resource}/a/b", "ttl=1m")
    other.lock(f"{resource}/a", "ttl=1m")
    event = client.reply()
    assert (event["event"], event["resource"]) == ("granted", f"{resource}/a")
    assert client.ask(f"WATCH {resource}/a after={start}").code == "no_right"


@pytest.mark.parametrize("right,shown", [("force", True), ("read", False)])
def test_who_may_force_is_told_tokens(login, resource, right, shown):
    client = login("watcher", "watch:*", f"{right}:*")
    client.ask_ok(f"WATCH {resource}")
    token = login("holder", "lock:*").lock(resource)
    event = client.reply()
    assert event.body.get("token") == (token if shown else None)


def test_nothing_of_a_set_is_locked_without_a_right_to_all(login, resource):
    client = login("half", f"lock:{resource}/a/*", "read:*")
    assert client.ask(f"LOCK {resource}/a/1 {resource}/b/1").code == "no_right"
    assert client.ask_ok(f"LIST prefix={resource}")["locks"] == []


def test_nothing_of_an_id_is_done_without_a_right_to_all(login, secure, sql, resource):
    """A right was taken away between the LOCK and the UNLOCK."""
    client = login("half", f"lock:{resource}/*", "read:*")
    client.ask_ok(f"LOCK {resource}/a {resource}/b id=both ttl=1m")
    cursor = sql().cursor()
    cursor.execute("select pglockd.identity_allow('half', %s)", ([f"lock:{resource}/a"],))
    cursor.execute("select pglockd.identity_deny('half', %s)", ([f"lock:{resource}/*"],))
    in_force(secure, cursor)
    for verb in "RENEW", "UNLOCK":
        assert client.ask(f"{verb} id=both").code == "no_right"
    assert len(client.ask_ok(f"LIST prefix={resource}")["locks"]) == 2
    cursor.execute("select pglockd.identity_allow('half', %s)", ([f"lock:{resource}/b"],))
    in_force(secure, cursor)
    assert client.ask_ok("UNLOCK id=both")["locks"] == 2


@pytest.mark.parametrize("member", ["{0}/a {0}/b", "{0}/b {0}/a", "{0}/a shared-tree={0}/b", "exclusive-tree={0}/b"])
def test_who_waits_for_what_it_may_not_lock_any_more_waits_no_longer(login, secure, sql, resource, member):
    holder = login("holder", "lock:*", "read:*")
    holder.lock(f"{resource}/a")
    holder.lock(f"{resource}/b")
    client = login("half", f"lock:{resource}/a", f"lock:{resource}/b", f"lock:{resource}/b/*")
    client.send(f"@w LOCK {member.format(resource)} wait=inf")
    wait_for_queue(holder, f"{resource}/b", 1)
    cursor = sql().cursor()
    # With one right too few for a tree, or for a set.
    gone = f"lock:{resource}/b/*" if "tree" in member else f"lock:{resource}/b"
    cursor.execute("select pglockd.identity_deny('half', %s)", ([gone],))
    reply = client.reply()
    assert (reply.tag, reply.status, reply.code) == ("w", "DENIED", "no_right")


# ---- what is shown ----

def test_pages_of_a_list_hold_what_may_be_read(login, resource):
    writer = login("writer", "lock:*")
    for n in range(30):
        writer.lock(f"{resource}/{'abc'[n % 3]}/{n:02}", "ttl=10m")
    reader = login("pages", f"read:{resource}/a/*", f"read:{resource}/c/29", f"read:{resource}/b/0")
    seen, after = [], ""
    for _ in range(30):
        page = reader.ask_ok(f"LIST limit=3 {after}")
        seen += [l["resource"] for l in page["locks"]]
        if page["next"] is None:
            break
        assert len(page["locks"]) == 3, "a page is whole though much lies between"
        after = f"after={json.dumps(page['next'])}"
    assert seen == [f"{resource}/a/{n:02}" for n in range(0, 30, 3)] + [f"{resource}/c/29"]
    assert [l["resource"] for l in reader.ask_ok(f"LIST prefix={resource}/c")["locks"]] == [f"{resource}/c/29"]
    assert reader.ask_ok(f"LIST prefix={resource}/b owner=writer")["locks"] == []


def test_a_refusal_shows_the_holder_to_who_may_read(login, resource):
    holder = login("holder", "lock:*")
    holder.lock(resource, "note=secret-note owner=label")
    blind = login("blind", f"lock:{resource}")
    reply = blind.ask(f"LOCK {resource}")
    assert (reply.status, reply["holders"], reply["hidden"]) == ("BUSY", [], True)
    text = json.dumps(reply.body)
    for hidden in "label", "holder\"", "secret-note", "waiting\"", "holders_total":
        assert hidden not in text, text
    reply = blind.ask(f"LOCK {resource} wait=10ms")
    assert (reply.status, reply["holders"]) == ("TIMEOUT", []) and "label" not in json.dumps(reply.body)
    seeing = login("seeing", f"lock:{resource}", f"read:{resource}")
    reply = seeing.ask(f"LOCK {resource}")
    ((shown),) = reply["holders"]
    assert (shown["owner"], shown["identity"], shown["note"]) == ("label", "holder", "secret-note")
    assert "token" not in shown and "hidden" not in reply.body


def test_of_a_refusal_by_many_the_readable_are_shown(login, resource):
    """A tree above, and what lies beneath, may be in the way: each is a resource of its own."""
    holder = login("holder", "lock:*")
    for name in "a", "b", "c":
        holder.lock(f"{resource}/{name}", f"owner=of-{name} note=of-{name}")
    half = login("half", "lock:*", f"read:{resource}/b")
    reply = half.ask(f"LOCK {resource} scope=tree")
    assert reply.status == "BUSY" and [h["owner"] for h in reply["holders"]] == ["of-b"]
    assert reply["hidden"] and reply["resource"] == f"{resource}/b" and "and others" in reply["message"]
    reply = half.ask(f"LOCK {resource}/a {resource}/c")
    assert (reply.status, reply["holders"], reply["hidden"]) == ("BUSY", [], True)
    for text in "of-a", "of-c", "waiting\"", "holders_total":
        assert text not in json.dumps(reply.body)
    seeing = login("seeing", "lock:*", "read:*").ask(f"LOCK {resource} scope=tree")
    assert seeing["holders_total"] == 3 and "hidden" not in seeing.body


def test_a_tree_above_is_shown_to_who_may_read_it(login, resource):
    holder = login("holder", "lock:*")
    holder.lock(resource, "scope=tree owner=label note=secret-note")
    for name, rights, shown in (("blind", [f"read:{resource}/*"], False), ("seeing", ["read:*"], True)):
        client = login(name, "lock:*", *rights)
        info = client.ask_ok(f"INFO {resource}/x")
        assert (len(info["holders"]), info["holders_total"], info.body.get("hidden")) == (
            (1, 1, None) if shown else (0, 0, True))
        busy = client.ask(f"LOCK {resource}/x")
        assert (busy.status, len(busy["holders"]), busy["resource"]) == (
            "BUSY", shown, resource if shown else f"{resource}/x")
        for reply in info, busy:
            assert ("label" in json.dumps(reply.body)) == ("secret-note" in json.dumps(reply.body)) == shown
        two = client.ask_ok(f"INFO {resource}/x {resource}/x")["resources"]
        assert [r.get("hidden") for r in two] == ([None, None] if shown else [True, True])


def test_of_a_ring_of_waiters_the_readable_are_shown(login, resource):
    a, b = f"{resource}/a", f"{resource}/b"
    ann = login("ann", "lock:*", f"read:{b}")
    ben = login("ben", "lock:*", f"read:{b}")
    for client, name in (ann, a), (ben, b):
        client.lock(name, f"owner=at-{name[-1]} ttl=1m")
    ann.send(f"@w LOCK {b} wait=inf owner=ann-label")
    wait_for_queue(ann, b, 1)
    reply = ben.ask(f"LOCK {a} wait=inf owner=ben-label")
    assert reply.status == "DEADLOCK"
    assert [(m["resource"], m["owner"]) for m in reply["cycle"]] == [(b, "ann-label")] and reply["hidden"]
    assert "ben-label" not in json.dumps(reply.body)


def test_lost_names_the_holder_to_who_may_read(login, resource):
    holder = login("holder", "lock:*")
    for name, rights, shown in (("blind", [f"lock:{resource}"], False),
                                ("seeing", [f"lock:{resource}", f"read:{resource}"], True)):
        client = login(name, *rights)
        token = client.lock(resource)
        client.ask_ok(f"UNLOCK {resource} token={token}")
        held = holder.lock(resource, "owner=label")
        reply = client.ask(f"RENEW {resource} token={token}")
        assert reply.status == "LOST" and (reply.body.get("held_by") == "label") == shown
        assert ("label" in json.dumps(reply.body)) == shown
        holder.ask_ok(f"UNLOCK {resource} token={held}")


def test_events_tell_of_others_to_who_may_read(login, secure, resource):
    other = login("other", "lock:*")
    for name, rights, shown in (("blind", [f"lock:{resource}"], False),
                                ("seeing", [f"lock:{resource}", f"read:{resource}"], True)):
        client = login(name, *rights)
        client.ask_ok("HELLO events=on")
        token = client.lock(resource)
        other.send(f"@w LOCK {resource} wait=inf owner=label")
        event = client.reply()
        assert (event["event"], event["waiting"]) == ("wanted", 1)
        assert (event.body.get("by_owner") == "label") == shown
        client.ask_ok(f"UNLOCK {resource} token={token}")
        granted = other.reply()
        other.ask_ok(f"UNLOCK {resource} token={granted['token']}")
        client.close()


def test_tokens_are_shown_to_who_may_force(login, resource):
    holder = login("holder", "lock:*", "read:*")
    token = holder.lock(resource)
    rights = ["lock:*", "read:*"]
    for name, more, shown in ("reader", [], False), ("elsewhere", ["force:other/*"], False), (
            "forcer", [f"force:{resource}"], True):
        client = login(name, *rights, *more)
        replies = [client.ask(f"LOCK {resource}"), client.ask_ok(f"INFO {resource}"),
                   client.ask_ok(f"LIST prefix={resource}")]
        for reply in replies:
            ((entry),) = reply.body.get("holders") or reply["locks"]
            assert entry.get("token") == (token if shown else None)
    assert '"token"' not in json.dumps(holder.ask_ok(f"INFO {resource}").body), "not its own either"


def test_a_guessed_token_tells_nothing(login, resource):
    """Tokens are numbers: who may lock the same resource can try them all."""
    holder = login("holder", "lock:*")
    token = holder.lock(resource, "note=mine ttl=1m")
    thief = login("thief", f"lock:{resource}")
    thief.ask_ok("HELLO events=on")
    for verb in "UNLOCK", "RENEW", "CHECK":
        reply = thief.ask(f"{verb} {resource} token={token}")
        assert (reply.status, reply.code) == ("DENIED", "denied"), verb
        assert reply.body.keys() == {"code", "message"}
    holder.ask_ok("HELLO events=on")
    holder.ask_ok(f"RENEW {resource} token={token}")
    other = login("other", "lock:*")
    for waiting in 1, 2, 3:  # who holds is told of each; the second time whoever follows it was told once
        other.send(f"@w{waiting} LOCK {resource} wait=inf")
        assert holder.reply()["waiting"] == waiting
    thief.nothing_comes()
    assert holder.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] > 0


def test_why_a_lease_ended_is_told_to_its_holder_alone(login, resource):
    holder, admin = login("holder", "lock:*"), login("boss", "admin:*")
    token = holder.lock(resource)
    admin.ask_ok(f"FORCE {resource} token={token} reason=private")
    reply = login("thief", f"lock:{resource}").ask(f"CHECK {resource} token={token}")
    assert (reply.status, reply["reason"]) == ("LOST", "unknown") and "private" not in json.dumps(reply.body)
    assert holder.ask(f"CHECK {resource} token={token}")["detail"] == "by boss: private"


# ---- identities are apart ----

def test_the_same_token_and_right_of_another_name(login, resource):
    ann, ben = login("ann", "lock:*"), login("ben", "lock:*")
    token = ann.lock(resource, "owner=ben")  # a label decides nothing
    for line in "UNLOCK {}", "RENEW {}", "CHECK {}", "TRANSFER {} to=ben", "LOCK {} mode=shared":
        assert ben.ask(f"{line.format(resource)} token={token}").status == "DENIED", line
    assert ann.ask_ok(f"RENEW {resource} token={token}") and ann.ask_ok(f"UNLOCK {resource} token={token}")


def test_a_transferred_lease_is_of_the_session_and_who_opened_it(login, resource):
    ann, ben = login("ann", "lock:*"), login("ben", "lock:*")
    token = ann.lock(resource, "ttl=1m")
    session = ben.ask_ok("SESSION OPEN ttl=1m")["session"]
    new = ann.ask_ok(f"TRANSFER {resource} token={token} to=session={session}")["token"]
    assert ann.ask(f"CHECK {resource} token={new}").status == "DENIED"
    assert ben.ask_ok(f"UNLOCK {resource} token={new}")
    token = ann.lock(resource)
    new = ann.ask_ok(f"TRANSFER {resource} token={token} to=ben")["token"]
    assert ben.ask(f"CHECK {resource} token={new}").status == "DENIED", "an owner is a label"
    assert ann.ask_ok(f"UNLOCK {resource} token={new}")


def test_another_connection_of_the_same_name(login, secure, resource):
    ann = login("ann", "lock:*")
    token = ann.lock(resource)
    with Lines(secure.line) as again:
        again.ask_ok(f"HELLO key={ann.key}")
        assert again.ask_ok(f"RENEW {resource} token={token}")
        assert again.ask_ok(f"UNLOCK {resource} token={token}")


def test_ids_of_other_names_are_others(login, resource):
    ann, ben = login("ann", "lock:*", "rate:*"), login("ben", "lock:*", "rate:*")
    token = ann.lock(resource, "id=job owner=same")
    assert ben.ask(f"LOCK {resource} id=job owner=same").status == "BUSY"
    assert ann.ask_ok(f"LOCK {resource} id=job owner=same")["token"] == token
    for verb in "UNLOCK", "RENEW":
        assert ben.ask(f"{verb} id=job owner=same").status == "LOST"
    assert ann.ask_ok("RENEW id=job owner=same")["locks"] == 1
    line = f"RATE {resource} limit=5 per=1h id=job"
    ann.ask_ok(line)
    assert "repeated" not in ben.ask_ok(line).body and ann.ask_ok(line)["repeated"]
    session = ann.ask_ok("SESSION OPEN id=job owner=same")["session"]
    assert ben.ask_ok("SESSION OPEN id=job owner=same")["session"] != session


def test_a_session_takes_the_secret_and_the_name(login, identity, secure, resource):
    ann, key = login("ann", "lock:*"), identity("ben", "lock:*")
    opened = ann.ask_ok("SESSION OPEN ttl=1m")
    session, secret = opened["session"], opened["secret"]
    for line in (f"SESSION KEEPALIVE {session} secret={secret}", f"SESSION RESUME {session} secret={secret}",
                 f"SESSION CLOSE {session} secret={secret}",
                 f"LOCK {resource} session={session} secret={secret}"):
        with Lines(secure.line) as ben:
            ben.ask_ok(f"HELLO key={key}")
            assert ben.ask(line).status == "DENIED", line
    assert ann.ask_ok(f"SESSION KEEPALIVE {session}")["locks"] == 0
    with Lines(secure.line) as again:
        again.ask_ok(f"HELLO key={ann.key}")
        assert again.ask(f"SESSION RESUME {session} secret=wrong").status == "DENIED"
        again.ask_ok(f"SESSION RESUME {session} secret={secret}")
        assert again.lock(resource, f"session={session}")
    assert ann.ask_ok(f"SESSION CLOSE {session}")["released"] == 1


def test_leases_of_sql_users_are_theirs(login, sql, resource):
    """A database user and a name that are called the same are the same."""
    sql(user="postgres").cursor().execute("drop role if exists dora; create role dora login in role pglockd_client")
    try:
        cursor = sql(user="dora").cursor()
        token = one(cursor, "select token from pglockd.lock(%s)", resource)
        assert login("other", "lock:*").ask(f"UNLOCK {resource} token={token}").status == "DENIED"
        assert login("dora", "lock:*").ask_ok(f"RENEW {resource} token={token}")
    finally:
        sql(user="postgres").cursor().execute("drop role dora")


# ---- HTTP ----

def http(secure, path, key=None, scheme="Bearer", source="127.0.0.1"):
    headers = {}
    if key is not None:
        text = key if scheme == "Bearer" else base64.b64encode(f"anybody:{key}".encode()).decode()
        headers["Authorization"] = f"{scheme} {text}"

    def answer():
        connection = HTTPConnection(secure.http, timeout=60, source_address=(source, 0))
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        # Neither yes nor no: on a busy machine the daemon may be late to confirm the rights that it knows.
        return response if response.status != 503 else None
    return eventually(answer)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_http_pages_that_are_open(secure, path):
    assert http(secure, path).status == 200
    assert http(secure, path, "wrong").status == 200, "a header that is not needed is not looked at"


@pytest.mark.parametrize("path", ["/", "/api/status", "/nothing", "/metrics/", "//metrics"])
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_http_all_else_needs_a_key(secure, identity, path, scheme):
    key = identity("web", "read:*")
    # Wrong keys slow their address down: each test has one of its own.
    source = f"127.0.1.{len(path)}" if scheme == "Basic" else f"127.0.2.{len(path)}"
    refused = http(secure, path)
    assert refused.status == 401
    assert {h.split()[0] for h in refused.headers.get_all("WWW-Authenticate")} == {"Bearer", "Basic"}
    assert http(secure, path, key, scheme).status != 401
    assert http(secure, path, key[:-1], scheme, source).status == 401


@pytest.mark.parametrize("held", RIGHTS + ["none"])
def test_http_by_every_right(each, secure, held):
    """What a page shows to who may read something is the page's matter."""
    answer = http(secure, "/", f"key-{held}")
    assert answer.status != 401 and (answer.status == 403) == (held not in ("read", "admin"))


def test_http_without_auth_is_open(daemon):
    assert http(daemon, "/").status != 401


# ---- SQL ----

@pytest.fixture(scope="module")
def users(daemon):
    """Database users who are in every role, and have one right in pglockd.identity; and a free one."""
    names = [f"sql_{right}" for right in RIGHTS + ["none"]]
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        for name in names + ["sql_free"]:
            cursor.execute(f"drop role if exists {name}; create role {name} login in role "
                           "pglockd_client, pglockd_reader, pglockd_admin")
        for right in RIGHTS + ["none"]:
            allow = [] if right == "none" else [f"{right}:in/*"]
            cursor.execute("select pglockd.key_create(%s, null, %s)", (f"sql_{right}", allow))
        with contextlib.ExitStack() as stack:
            yield {right: stack.enter_context(contextlib.closing(daemon.sql(user=f"sql_{right}")))
                   for right in RIGHTS + ["none", "free"]}
        for name in names + ["sql_free"]:
            cursor.execute(f"drop role {name}")
        cursor.execute("delete from pglockd.identity where name like 'sql\\_%'")


STATEMENTS = [
    ("lock", "select pglockd.lock(%s, mode => 'shared', ttl => '1 s')", "lock"),
    ("unlock", "select pglockd.unlock(%s, 1)", "lock"),
    ("renew", "select pglockd.renew(%s, 1)", "lock"),
    ("rate", "select pglockd.rate(%s, quota => 1000, per => '1 s')", "rate"),
    ("force", "select pglockd.force(%s, 1)", "force"),
]


@pytest.mark.parametrize("held", RIGHTS + ["none", "free"])
@pytest.mark.parametrize("function,statement,needed", STATEMENTS, ids=[s[0] for s in STATEMENTS])
def test_sql(users, held, function, statement, needed):
    cursor = users[held].cursor()
    for name in INSIDE, OUTSIDE, "in", "inside/x":
        allowed = held == "free" or (name == INSIDE and held in (needed, "admin"))
        if allowed:
            cursor.execute(statement, (name,))
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement, (name,))


@pytest.mark.parametrize("held", RIGHTS + ["none", "free"])
def test_sql_administration_takes_admin_of_everything(users, held):
    cursor = users[held].cursor()
    for statement in ("select pglockd.key_revoke('none')", "select pglockd.identity_revoke('none')",
                      "select pglockd.rate_reset('none')"):
        if held == "free":
            cursor.execute(statement)
        else:  # admin:in/* is not all
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement)
    if held != "free":  # which would bring a quiet period about, for all tests
        with pytest.raises(errors.InsufficientPrivilege):
            cursor.execute("select pglockd.after_restore('no')")


@pytest.mark.parametrize("held", RIGHTS + ["none", "free"])
def test_sql_views(users, sql, held):
    owner = sql(user="postgres").cursor()
    for name in "in/v", "out/v", "in":
        one(owner, "select status from pglockd.lock(%s, mode => 'shared', ttl => '10 min')", name)
        one(owner, "select status from pglockd.rate(%s, quota => 9, per => '1 h')", name)
    cursor = users[held].cursor()
    seen = {r for r, in rows(cursor, "select resource from pglockd.locks where resource in ('in/v', 'out/v', 'in')")}
    keys = {k for k, in rows(cursor, "select key from pglockd.rate_limits where key in ('in/v', 'out/v', 'in')")}
    want = {"in/v", "out/v", "in"} if held == "free" else {"in/v"} if held in ("read", "admin") else set()
    assert seen == keys == want
    tokens = [t for t, in rows(cursor, "select token from pglockd.locks where resource = 'in/v'")]
    if held in ("free", "admin"):
        assert all(tokens) and tokens
    else:
        assert not any(tokens)


def test_sql_busy_shows_the_holder_to_who_may_read(users, sql):
    one(sql().cursor(), "select status from pglockd.lock('in/busy', ttl => '10 min')")
    assert one(users["lock"].cursor(), "select holders from pglockd.lock('in/busy')") == []
    assert one(users["free"].cursor(), "select holders->0->>'owner' from pglockd.lock('in/busy')") == "pglockd"


def test_sql_readers_do_not_see_tokens_of_others(sql, resource):
    postgres = sql(user="postgres").cursor()
    postgres.execute("drop role if exists sql_reader; "
                     "create role sql_reader login in role pglockd_reader, pglockd_client")
    try:
        one(postgres, "select status from pglockd.lock(%s)", resource)
        cursor = sql(user="sql_reader").cursor()
        assert rows(cursor, "select owner, token from pglockd.locks where resource = %s",
                    resource) == [("postgres", None)]
        own = one(cursor, "select token from pglockd.lock(%s)", resource + "/own")
        assert one(cursor, "select token from pglockd.locks where resource = %s", resource + "/own") == own
    finally:
        postgres.execute("drop role sql_reader")


def test_sql_a_revoked_user_may_nothing(sql, resource):
    postgres = sql(user="postgres").cursor()
    postgres.execute("drop role if exists sql_gone; create role sql_gone login in role pglockd_client")
    try:
        cursor = sql(user="sql_gone").cursor()
        assert one(cursor, "select status from pglockd.lock(%s)", resource) == "OK"
        postgres.execute("select pglockd.key_create('sql_gone', null, '{lock:*}')")
        token = one(cursor, "select token from pglockd.lock(%s)", resource + "/2")
        postgres.execute("select pglockd.identity_revoke('sql_gone')")
        for statement in (f"select pglockd.lock('{resource}/3')", f"select pglockd.renew('{resource}/2', {token})"):
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement)
    finally:
        postgres.execute("drop role sql_gone; delete from pglockd.identity where name = 'sql_gone'")


def test_sql_a_view_gives_no_row_away(users, sql):
    """A function in a query that is cheaper than the view's own test must not see what is hidden."""
    owner = sql(user="postgres").cursor()
    one(owner, "select status from pglockd.lock('out/hidden', ttl => '10 min', note => 'hidden note')")
    cursor = users["read"].cursor()
    owner.execute("grant create on schema public to sql_read")
    cursor.execute("create function public.spy(a text) returns boolean language plpgsql cost 0.0001 as "
                   "$$ begin raise notice 'saw %', a; return true; end $$")
    try:
        users["read"].notices.clear()
        cursor.execute("select resource from pglockd.locks where public.spy(note)")
        assert not any("hidden note" in n for n in users["read"].notices), users["read"].notices
    finally:
        cursor.execute("drop function public.spy(text)")
        owner.execute("revoke create on schema public from sql_read")


def test_a_view_finds_one_resource_by_its_index(users):
    cursor = users["read"].cursor()
    # However few leases there are: what counts is that the filter reaches the index.
    cursor.execute("set enable_seqscan = off")
    plan = "\n".join(r for r, in rows(cursor, "explain select * from pglockd.locks where resource = 'in/v'"))
    cursor.execute("reset enable_seqscan")
    assert "lease_exclusive_pkey" in plan and "Seq Scan on lease" not in plan, plan
