"""Force for many leases at once: what an owner, a session or a prefix has, by SQL and by pglockctl."""

import json

import pytest
from psycopg2 import errors

from conftest import ctl
from lines import eventually, wait_for_queue
from schema import one, rows


@pytest.fixture
def cursor(sql):
    return sql().cursor()


def waits(client, resource, words=""):
    """Leaves a request waiting as the first one."""
    client.send(f"@w LOCK {resource} wait=inf {words}")
    wait_for_queue(client, resource, 1)


# ---- by SQL ----

def test_force_an_owner(connect, cursor, resource):
    client, other = connect(), connect()
    tokens = {r: client.lock(r, f"owner={resource} ttl=1m") for r in (f"{resource}/{i}" for i in range(5))}
    kept = other.lock(f"{resource}/other", f"owner={resource}.2")
    waits(other, f"{resource}/3", "owner=next")
    got = rows(cursor, "select status, resource, token from pglockd.force_owner(%s, 'host is gone', 3)", resource)
    assert got == [("OK", r, t) for r, t in list(tokens.items())[:3]]
    assert [s for s, in rows(cursor, "select status from pglockd.force_owner(%s, 'host is gone', 3)", resource)] == [
        "OK", "OK"]
    assert rows(cursor, "select * from pglockd.force_owner(%s, 'host is gone', 3)", resource) == []
    assert other.reply().status == "OK"  # the next in line has it
    lost = client.ask(f"RENEW {resource}/0 token={tokens[f'{resource}/0']}")
    assert lost.status == "LOST" and lost["reason"] == "forced"
    assert lost["detail"].endswith(": host is gone")
    assert other.ask_ok(f"CHECK {resource}/other token={kept}")
    assert len(rows(cursor, "select from pglockd.lost_locks where owner = %s and detail like '%%: host is gone'",
                    resource)) == 5


def test_force_a_prefix(client, cursor, resource):
    names = [resource, f"{resource}/a", f"{resource}/a/b", f"{resource}.beside", f"{resource}0"]
    for name in names:
        client.lock(name, "ttl=1m")
    client.lock(f"{resource}/tree", "scope=tree mode=shared ttl=1m")
    got = rows(cursor, "select status, resource from pglockd.force_prefix(%s, 'moved')", resource)
    assert got == [("OK", r) for r in names[:3]] + [("OK", f"{resource}/tree")]
    left = rows(cursor, "select resource from pglockd.locks where resource like %s order by resource", resource + "%")
    assert left == [(f"{resource}.beside",), (f"{resource}0",)]


def test_force_a_session(connect, cursor, resource):
    client, other, third = connect(), connect(), connect()
    opened = client.ask_ok("SESSION OPEN ttl=1m")
    session = opened["session"]
    tokens = [client.ask_ok(f"LOCK {resource}/{i} session={session}")["token"] for i in range(3)]
    third.lock(f"{resource}/x")
    waits(client, f"{resource}/x", f"session={session}")
    waits(other, f"{resource}/1")
    assert rows(cursor, "select status, locks from pglockd.force_session(%s, 'hangs')", int(session)) == [("OK", 3)]
    assert other.reply().status == "OK"
    refused = client.reply()  # the request that waited
    assert refused.tag == "w" and refused.status == "LOST"
    lost = client.ask(f"RENEW {resource}/0 token={tokens[0]}")
    assert (lost.status, lost["reason"]) == ("LOST", "forced") and lost["detail"].endswith(": hangs")
    assert client.ask(f"SESSION KEEPALIVE {session} secret={opened['secret']}")["reason"] == "forced"
    again = rows(cursor, "select status, locks from pglockd.force_session(%s, 'hangs')", int(session))
    assert again == [("LOST", None)]
    eventually(lambda: not rows(cursor, "select from pglockd.queue where session = %s", int(session)))


def test_what_is_kept_locked_stands(still, resource):
    """A transaction keeps one of the leases: the others of the owner end, a session of it does not."""
    cursor, keeper = still().cursor(), still()
    keeper.autocommit = False
    for i in range(3):
        one(cursor, "select status from pglockd.lock(%s, owner => %s)", f"{resource}/{i}", resource)
    keeper.cursor().execute("select from pglockd.lease where resource = %s for key share", (f"{resource}/1",))
    ask = "select status, resource from pglockd.force_owner(%s, leases_max => 2)"
    assert rows(cursor, ask, resource) == [("OK", f"{resource}/0"), ("OK", f"{resource}/2"),
                                           ("FENCED", f"{resource}/1")]
    assert rows(cursor, ask, resource) == [("FENCED", f"{resource}/1")]
    session = one(cursor, "insert into pglockd.session (expires_us, check_us, ttl_ms, secret_sha256, owner, identity) "
                  "values (1e15, 1e15, 1, '', '', '') returning session_id")
    keeper.rollback()
    cursor.execute("update pglockd.lease set session_id = %s where resource = %s", (session, f"{resource}/1"))
    keeper.cursor().execute("select from pglockd.lease where resource = %s for key share", (f"{resource}/1",))
    assert rows(cursor, "select * from pglockd.force_session(%s)", session) == [("FENCED", None)]
    assert one(cursor, "select locks from pglockd.sessions where session = %s", session) == 1
    keeper.rollback()
    assert rows(cursor, "select * from pglockd.force_session(%s)", session) == [("OK", 1)]


@pytest.mark.parametrize("call", [
    "force_owner('')", "force_owner(null)", "force_prefix('')", "force_prefix(null)", "force_prefix('a/')",
    "force_owner('a', leases_max => 0)", "force_owner('a', leases_max => 501)", "force_owner('a', leases_max => null)"])
def test_force_refuses(cursor, call):
    with pytest.raises(errors.InvalidParameterValue):
        cursor.execute(f"select * from pglockd.{call}")


# ---- pglockctl force ----

def force(daemon, *words, user=None):
    """pglockctl on the database, as its owner or as another user."""
    dsn = daemon.dsn if user is None else daemon.dsn.replace("user=pglockd", f"user={user}")
    return ctl("", "force", *words, "--dsn", dsn)


def test_pglockctl_forces_in_as_many_transactions_as_it_takes(client, daemon, cursor, resource):
    count = 1201
    client.send(*(f"LOCK {resource}/{i} owner={resource} ttl=5m" for i in range(count)))
    assert {client.reply().status for _ in range(count)} == {"OK"}
    done = force(daemon, f"owner={resource}", "reason=host is gone")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{count} locks ended\n", "")
    assert one(cursor, "select count(distinct ended_at) >= 3 from pglockd.lost_locks where owner = %s", resource)
    again = force(daemon, f"owner={resource}")
    assert (again.returncode, again.stdout) == (76, "0 locks ended\n")


def test_pglockctl_forces_a_prefix_and_a_session(client, daemon, resource):
    session = client.ask_ok("SESSION OPEN ttl=1m")["session"]
    client.ask_ok(f"LOCK {resource}/a session={session}")
    client.lock(f"{resource}/b", "ttl=1m")
    done = force(daemon, f"prefix={resource}/b", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ended": 1, "fenced": []})
    done = force(daemon, f"session={session}", "reason=hangs")
    assert (done.returncode, done.stdout) == (0, "1 lock ended\n")
    assert force(daemon, f"session={session}").returncode == 76


def test_pglockctl_says_what_stands(client, daemon, sql, resource):
    for i in range(2):
        client.lock(f"{resource}/{i}", "ttl=1m")
    keeper = sql()
    keeper.autocommit = False
    keeper.cursor().execute("select from pglockd.lease where resource = %s for key share",
                            (f"{resource}/1",))
    done = force(daemon, f"prefix={resource}", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (75, {"ended": 1, "fenced": [f"{resource}/1"]})
    assert f"{resource}/1 stands" in done.stderr
    keeper.rollback()


@pytest.mark.parametrize("words", [
    ("owner=a", "prefix=b"), ("owner=a", "owner=b"), ("owner=a", "b"), ("owner=a", "limit=3"), ("owner=",),
    ("prefix=a//b",), ("session=x",)])
def test_pglockctl_force_refuses(daemon, words):
    done = force(daemon, *words)
    assert done.returncode == 64 and done.stderr.startswith("pglockctl: "), done


def test_pglockctl_force_needs_the_right(daemon, sql, resource):
    cursor = sql(user="postgres").cursor()
    cursor.execute("create role desk_looker login in role pglockd_reader")
    try:
        done = force(daemon, f"owner={resource}", user="desk_looker")
        assert done.returncode == 77 and "pglockd_admin" in done.stderr
    finally:
        cursor.execute("drop role desk_looker")
