"""grace=: a lease that has expired keeps its resource closed for a while; one that was released does not."""

import pytest

from lines import eventually, wait_for_queue
from schema import one


@pytest.fixture
def cursor(sql):
    return sql().cursor()


def expires(cursor, resource):
    """When the resource opens if nobody renews: after its lease's end, and after its grace."""
    cursor.execute("select coalesce(s.expires_us, l.expires_us), 1000 * l.grace_ms from pglockd.lease l "
                   "left join pglockd.session s on s.session_id = l.session_id where l.resource = %s", (resource,))
    ((end, grace),) = cursor.fetchall()
    return end, end + grace


def now(cursor):
    return one(cursor, "select pglockd.lease_now()")


def at(cursor, reading):
    eventually(lambda: now(cursor) >= reading)


def shorten(cursor, resource, ttl_ms):
    """Ends a lease, or its session, so soon from now."""
    cursor.execute("with soon as (select pglockd.lease_end(pglockd.lease_now(), %s) as us), s as ("
                   "update pglockd.session s set ttl_ms = %s, expires_us = us, check_us = us from soon, pglockd.lease l "
                   "where l.resource = %s and s.session_id = l.session_id) "
                   "update pglockd.lease l set ttl_ms = %s, expires_us = us, check_us = us from soon "
                   "where l.resource = %s and l.session_id is null", (ttl_ms, ttl_ms, resource, ttl_ms, resource))


@pytest.mark.parametrize("keys", ["", "mode=shared", "scope=tree", "limit=1", "session"])
def test_it_stays_closed_after_its_end(client, connect, cursor, resource, keys):
    """The holder is told that it has lost it; nobody else gets it before the grace is over."""
    lock = "limit=1" if "limit" in keys else ""
    for grace in 3, 12, 60:  # seconds, in which a busy machine has to ask all of the questions
        name = f"{resource}/{grace}"
        if keys == "session":
            how = f"session={client.ask_ok('SESSION OPEN ttl=10m')['session']}"
        else:
            how = f"{keys} ttl=10m"
        token = client.lock(name, f"{how} grace={grace}s")
        waiter = connect()
        waiter.send(f"LOCK {name} {lock} wait=inf ttl=10m")
        wait_for_queue(client, name, 1)
        shorten(cursor, name, 300)
        end, opens = expires(cursor, name)
        at(cursor, end)
        # A session is ended by the next sweep.
        eventually(lambda: client.ask(f"CHECK {name} token={token}").status == "LOST" or now(cursor) >= opens)
        lost = [client.ask(f"{request} {name} token={token}") for request in ("CHECK", "RENEW")]
        newcomer = connect().ask(f"LOCK {name} {lock}")
        if now(cursor) < opens:
            break
    assert [(r.status, r["reason"], r.body.get("held_by")) for r in lost] == [("LOST", "expired", None)] * 2
    assert newcomer.status == "BUSY"
    assert waiter.reply()["token"] > token
    assert now(cursor) >= opens


def test_renewed_it_goes_on(client, cursor, resource):
    token = client.lock(resource, "ttl=3s grace=1m")
    first, _ = expires(cursor, resource)

    def past_its_first_end():
        client.ask_ok(f"RENEW {resource} token={token} ttl=1m")
        return now(cursor) > first + 500000
    eventually(past_its_first_end)
    client.ask_ok(f"UNLOCK {resource} token={token}")


@pytest.mark.parametrize("how", ["UNLOCK", "CLOSE", "connection", "FORCE"])
def test_a_clean_end_is_not_delayed(connect, cursor, sql, resource, how):
    client, waiter = connect(), connect()
    keys = "grace=1h ttl=5m" + (" bind=connection" if how == "connection" else "")
    if how == "CLOSE":
        session = client.ask_ok("SESSION OPEN ttl=5m")["session"]
        keys = f"grace=1h session={session}"
    token = client.lock(resource, keys)
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    if how == "UNLOCK":
        client.ask_ok(f"UNLOCK {resource} token={token}")
    elif how == "CLOSE":
        client.ask_ok(f"SESSION CLOSE {session}")
    elif how == "FORCE":
        sql(user="postgres").cursor().execute("select pglockd.force(%s)", (resource,))
    else:
        client.close()
    assert waiter.reply()["token"] > token


def test_an_unlock_in_its_grace_opens_it(client, connect, cursor, resource):
    """The holder says that it has stopped: it has lost the lock, but nobody has to wait for it any more."""
    token = client.lock(resource, "ttl=100ms grace=1h")
    end, _ = expires(cursor, resource)
    at(cursor, end)
    assert connect().ask(f"LOCK {resource}").status == "BUSY"
    assert client.ask(f"UNLOCK {resource} token={token}").status == "LOST"
    assert connect().lock(resource) > token


def test_a_default_by_prefix(peer, connect, cursor, resource):
    """The longest prefix counts, and what the request says counts more."""
    daemon = peer("--grace", f"{resource}=1h,{resource}/quick=0s")
    client = connect(daemon)
    for name, keys, grace_ms in [("a", "", 3600000), ("a/b", "", 3600000), ("quick/a", "", None),
                                 ("a/c", "grace=5s", 5000), ("quick/b", "grace=5s", 5000), ("a/d", "grace=0s", None)]:
        client.lock(f"{resource}/{name}", keys)
        assert one(cursor, "select grace_ms from pglockd.lease where resource = %s", f"{resource}/{name}") == grace_ms
    client.lock(f"{resource}b")
    assert one(cursor, "select grace_ms from pglockd.lease where resource = %s", f"{resource}b") is None


def test_it_is_bounded(client, resource):
    assert client.ask(f"LOCK {resource} grace=61m").code == "bad_duration"
    assert client.ask(f"LOCK {resource} grace=inf").code == "bad_duration"
