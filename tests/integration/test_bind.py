"""bind=connection: a lease that ends with its client's connection, and with nothing else; and who takes it over."""

import signal

import pytest

from lines import eventually, wait_for_queue
from schema import one

BOUND = "bind=connection ttl=5m"


@pytest.fixture
def cursor(sql):
    return sql().cursor()


def held(cursor, resource):
    return one(cursor, "select count(*) from pglockd.lease where resource = %s or resource like %s", resource,
               resource + "/%")


def is_released(cursor, resource):
    eventually(lambda: held(cursor, resource) == 0)


@pytest.mark.parametrize("end", ["close", "reset", "end of input", "QUIT"])
def test_it_ends_with_the_connection(connect, cursor, resource, end):
    client, waiter = connect(), connect()
    token = client.lock(resource, BOUND)
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    if end == "QUIT":
        client.send("QUIT")
    elif end == "end of input":
        client.end_input()
        client.rest()
    else:
        client.close() if end == "close" else client.reset()
    assert waiter.reply()["token"] > token


@pytest.mark.parametrize("keys", ["mode=shared", "scope=tree", "limit=2", "id=bound", "wait=1m owner=x", "grace=5m"])
def test_of_every_kind(connect, cursor, resource, keys):
    client = connect()
    client.lock(resource, f"{BOUND} {keys}")
    client.close()
    is_released(cursor, resource)


def test_all_of_a_set(connect, cursor, resource):
    client = connect()
    client.ask_ok(f"LOCK {resource}/a {resource}/b shared-tree={resource}/c {BOUND}")
    assert held(cursor, resource) == 3
    client.close()
    is_released(cursor, resource)


def test_others_of_the_connection_stay(connect, cursor, resource):
    client = connect()
    client.lock(f"{resource}/stays", "ttl=5m")
    client.lock(f"{resource}/goes", BOUND)
    client.close()
    is_released(cursor, f"{resource}/goes")
    assert held(cursor, f"{resource}/stays") == 1


def test_granted_after_a_wait(connect, cursor, daemon, other, resource):
    holder, client = connect(daemon), connect(other)
    token = holder.lock(resource)
    client.send(f"LOCK {resource} wait=inf {BOUND}")
    wait_for_queue(holder, resource, 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    client.reply()
    client.close()
    is_released(cursor, resource)


def test_a_grant_that_comes_when_the_connection_has_closed(connect, cursor, resource):
    """Also with an id: there is nobody whom it could wait for."""
    holder, client = connect(), connect()
    token = holder.lock(resource)
    client.send(f"LOCK {resource} wait=inf {BOUND} id={resource}")
    wait_for_queue(holder, resource, 1)
    client.reset()
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    is_released(cursor, resource)


def test_a_changed_mode_stays_bound(connect, cursor, resource):
    client = connect()
    token = client.lock(resource, f"{BOUND} mode=shared")
    client.ask_ok(f"LOCK {resource} token={token} mode=exclusive")
    client.close()
    is_released(cursor, resource)


def test_released_it_is_forgotten(connect, cursor, resource):
    """The next lease of that resource is not ended by the end of this connection."""
    client, next_one = connect(), connect()
    client.ask_ok(f"UNLOCK {resource} token={client.lock(resource, BOUND)}")
    next_one.lock(resource, "ttl=5m")
    client.close()
    other_one = connect()
    for i in range(20):
        other_one.ask_ok(f"UNLOCK {resource}/{i} token={other_one.lock(f'{resource}/{i}')}")
    assert held(cursor, resource) == 1


# ---- the daemon goes, not the client ----

@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_daemon_does_not_end_it(peer, connect, cursor, resource, how):
    dying = peer()
    client = connect(dying)
    token = client.lock(resource, BOUND)
    dying.signal(how)
    dying.wait()
    client.rest()
    assert held(cursor, resource) == 1
    adopter = connect()
    adopter.ask_ok(f"RENEW {resource} token={token} ttl=5m")
    adopter.close()
    is_released(cursor, resource)


# ---- who takes it over ----

@pytest.mark.parametrize("by", ["token", "id"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_renew_adopts_it(connect, cursor, daemon, other, resource, by, where):
    """From then on it is the other connection that it ends with."""
    first, second = connect(daemon), connect(daemon if where == "here" else other)
    token = first.lock(resource, f"{BOUND} id={by}-{where}")
    second.ask_ok(f"RENEW {resource} token={token}" if by == "token" else f"RENEW id={by}-{where}")
    first.close()
    settle(connect, resource)
    assert second.ask(f"CHECK {resource} token={token}").status == "OK"
    second.close()
    is_released(cursor, resource)


def settle(connect, resource):
    """Whatever the end of a connection has brought about on the lane is done: its operations keep their order."""
    client = connect()
    for _ in range(10):
        client.ask_ok(f"UNLOCK {resource}/settle token={client.lock(resource + '/settle')}")


def test_a_connection_that_lost_it_to_another_leaves_nothing_to_be_tried_again(connect, peer, resource):
    """Race: a daemon releases what was bound to a connection, and another has adopted it.

    The release was taken for one of a locked row, and tried again for as long as the lease lived; so the daemon
    could not stop before. Fix: it is said that the lease is not the connection's any more.
    """
    daemon = peer()
    first, second = connect(daemon), connect()
    token = first.lock(resource, BOUND)
    second.ask_ok(f"RENEW {resource} token={token}")
    first.close()
    assert daemon.stop() == 0
    assert second.ask_ok(f"UNLOCK {resource} token={token}")


@pytest.mark.parametrize("words", [BOUND, "ttl=5m"])
def test_a_repeated_lock_adopts_it(connect, cursor, other, resource, words):
    """Also one that says nothing of it: the lease stayed until its TTL, since its new daemon did not know."""
    first, second = connect(), connect(other)
    token = first.lock(resource, f"{BOUND} id={resource}")
    assert second.ask_ok(f"LOCK {resource} {words} id={resource}").body["token"] == token
    first.close()
    settle(connect, resource)
    assert held(cursor, resource) == 1
    second.close()
    is_released(cursor, resource)


@pytest.mark.parametrize("before, then", [(BOUND, "ttl=5m"), ("ttl=5m", BOUND)])
def test_a_place_taken_over_is_as_the_last_says(connect, cursor, other, resource, before, then):
    holder, first, second = connect(), connect(), connect(other)
    token = holder.lock(resource)
    first.send(f"LOCK {resource} {before} id=place wait=inf owner={resource}")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} {then} id=place wait=inf owner={resource}")
    eventually(lambda: one(cursor, "select bound from pglockd.waiter where resource = %s", resource) == (then == BOUND))
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert second.reply().status == "OK"
    second.close()
    if then == BOUND:
        is_released(cursor, resource)
    else:
        settle(connect, resource)
        assert held(cursor, resource) == 1


def test_a_repetition_may_bind_it(connect, cursor, resource):
    first, second = connect(), connect()
    token = first.lock(resource, f"ttl=5m id={resource}")
    assert second.ask_ok(f"LOCK {resource} {BOUND} id={resource}").body["token"] == token
    second.close()
    is_released(cursor, resource)


def test_resume_adopts_what_its_session_has_bound(connect, cursor, daemon, other, resource):
    first, second = connect(daemon), connect(other)
    opened = first.ask_ok("SESSION OPEN ttl=5m")
    session = opened["session"]
    bound = first.lock(f"{resource}/bound", f"session={session} bind=connection")
    first.lock(f"{resource}/free", f"session={session}")
    locks = second.ask_ok(f"SESSION RESUME {session} secret={opened['secret']}")["locks"]
    assert [lock["token"] for lock in locks][0] == bound
    first.close()
    settle(connect, resource)
    assert second.ask_ok(f"SESSION KEEPALIVE {session}")["locks"] == 2
    second.close()
    is_released(cursor, f"{resource}/bound")
    assert held(cursor, f"{resource}/free") == 1
    third = connect()
    resumed = third.ask_ok(f"SESSION RESUME {session} secret={opened['secret']}")
    assert [lock["resource"] for lock in resumed["locks"]] == [f"{resource}/free"]
    assert third.ask_ok(f"SESSION CLOSE {session}")["released"] == 1


def test_a_wrong_secret_adopts_nothing(connect, cursor, other, resource):
    first, second = connect(), connect(other)
    session = first.ask_ok("SESSION OPEN ttl=5m")["session"]
    first.lock(resource, f"session={session} bind=connection")
    assert second.ask(f"SESSION RESUME {session} secret=wrong").status == "DENIED"
    second.close()
    settle(connect, resource)
    assert held(cursor, resource) == 1
    first.close()
    is_released(cursor, resource)


def test_what_is_wrong_is_said(client, resource):
    assert client.ask(f"LOCK {resource} bind=process").code == "bad_request"
