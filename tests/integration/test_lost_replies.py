"""Answers that never arrive: the connection to PostgreSQL breaks after the commit, the first server of
a conninfo is away, the client goes before its answer, the daemon stops while requests come in.

What was done is found again and given to whoever asked, or given back where nobody is left.
"""

import contextlib
import signal
import socket
import threading

import pytest

from conftest import Daemon
from lines import SECONDS, Lines, eventually, wait_for_queue
from proxy import Proxy
from schema import holders, lane_waits_for, rows, waiters


@pytest.fixture
def behind(daemon, directory):
    """A daemon that reaches the shared one's database through a proxy: (daemon, proxy)."""
    with Proxy(f"{daemon.directory}/run/.s.PGSQL.5432") as proxy:
        one = Daemon(directory / "behind",
                     dsn=f"host=127.0.0.1 port={proxy.port} dbname=pglockd user=pglockd")
        one.start()
        yield one, proxy
        assert one.stop() == 0, one.log()


@pytest.fixture
def lost_place(never_silent, client, connect, behind, sql, resource):
    """A LOCK that queued behind the client's lease and whose answer is being lost.

    The token of the lease, the connection that sent the LOCK, and a cursor.
    """
    one, proxy = behind
    cursor = sql().cursor()
    token = client.lock(resource, "ttl=5m")
    waiter = connect(one)
    proxy.cut_after("acquire_batch")
    waiter.send(f"LOCK {resource} wait=inf ttl=5m")
    assert proxy.caught.wait(SECONDS)
    eventually(lambda: len(waiters(cursor, resource)) == 1)
    return token, waiter, cursor


def test_a_place_whose_answer_was_lost_is_served_once(client, connect, behind, lost_place, resource):
    """Race: the batch that queued a request is committed, its answer is lost. Only leases were looked
    for afterwards, so the request was sent again: two rows for one client, the second grant to nobody.

    Fix: after a lost connection waiters are found again by their request number, too. The holder is on
    another daemon and goes on as if nothing had happened.
    """
    token, waiter, cursor = lost_place
    ticket = waiters(cursor, resource)
    behind[1].cut()
    connect(behind[0]).lock(f"{resource}/back")  # its patience is longer than the outage
    waiter.nothing_comes()
    client.ask_ok(f"RENEW {resource} token={token}")
    assert waiters(cursor, resource) == ticket
    client.ask_ok(f"UNLOCK {resource} token={token}")
    granted = waiter.reply()["token"]
    assert holders(cursor, resource) == [(granted, "exclusive")] and waiters(cursor, resource) == []
    waiter.ask_ok(f"UNLOCK {resource} token={granted}")
    assert holders(cursor, resource) == []


def test_a_place_whose_answer_was_lost_is_granted_meanwhile(client, behind, lost_place, resource):
    """Race: the same, and another daemon grants to the waiter before its own one has found it. That finds
    the lease, tells its client, and then is told of the grant, for which nobody waits any more: it was
    released under its holder's feet. Until then it ended after the 5 s that an unaccepted grant has.

    Fix: what is found after the loss is accepted and remembered: its news are no second grant.
    """
    token, waiter, cursor = lost_place
    client.ask_ok(f"UNLOCK {resource} token={token}")
    ((granted, _),) = holders(cursor, resource)
    behind[1].cut()
    assert waiter.reply()["token"] == granted
    assert rows(cursor, "select delivered, expires_us > pglockd.lease_now() + 60000000 "
                "from pglockd.lease where resource = %s", resource) == [(True, True)]
    with Lines(behind[0].line) as other:  # two hand-overs later whatever was on its way is there
        for _ in range(2):
            token = client.lock(f"{resource}/after")
            other.send(f"LOCK {resource}/after wait=inf")
            wait_for_queue(client, f"{resource}/after", 1)
            client.ask_ok(f"UNLOCK {resource}/after token={token}")
            other.ask_ok(f"UNLOCK {resource}/after token={other.reply()['token']}")
    waiter.nothing_comes()
    assert holders(cursor, resource) == [(granted, "exclusive")] and waiters(cursor, resource) == []
    waiter.ask_ok(f"UNLOCK {resource} token={granted}")


def test_what_was_not_done_still_goes_before_later_requests(connect, behind, resource):
    """Race: a LOCK is lost on its way to PostgreSQL while the next one of its connection waits for the
    batch behind. Found not done, it was sent again at the end of the lane's queue: the later one got the
    resource, or took the place that both had the id of.

    Fix: it goes back ahead of the later operations of its connection.
    """
    one, proxy = behind
    two = connect(one)
    proxy.cut_before("acquire_batch")
    two.send(f"@first LOCK {resource}")
    assert proxy.caught.wait(SECONDS)
    two.send(f"@second LOCK {resource}")
    two.send("@read PING")
    assert two.reply().tag == "read"
    proxy.cut()
    replies = {r.tag: r.status for r in (two.reply(), two.reply())}
    assert replies == {"first": "OK", "second": "BUSY"}


@pytest.mark.parametrize("lose, done", [("cut_after", True), ("cut_before", False)], ids=["answer", "request"])
def test_a_renewal_is_sent_again(connect, behind, sql, resource, lose, done):
    """Lost on its way there or back: it sets, so it is done once more, and the client has its answer."""
    one, proxy = behind
    cursor = sql().cursor()
    client = connect(one)
    token = client.lock(resource, "ttl=5m")
    expires = rows(cursor, "select expires_us from pglockd.lease where resource = %s", resource)

    def renewals():
        return rows(cursor, "select ttl_ms, expires_us > %s from pglockd.lease where resource = %s",
                    expires[0][0], resource)
    getattr(proxy, lose)("renew_batch")
    client.send(f"RENEW {resource} token={token} ttl=10m")
    assert proxy.caught.wait(SECONDS)
    if done:
        eventually(lambda: renewals() == [(600000, True)])
    proxy.cut()
    reply = client.reply()
    assert (reply.status, reply["ttl_ms"]) == ("OK", 600000)
    assert renewals() == [(600000, True)]
    client.ask_ok(f"UNLOCK {resource} token={token}")


def test_a_renewal_whose_answer_was_lost_and_whose_lease_has_ended_since(
        client, connect, behind, sql, resource):
    """It was done, and the lease is gone before it is sent again: LOST is true then, and says why."""
    one, proxy = behind
    cursor = sql().cursor()
    holder = connect(one)
    token = holder.lock(resource, "ttl=5m")
    proxy.cut_after("renew_batch")
    holder.send(f"RENEW {resource} token={token} ttl=10m")
    assert proxy.caught.wait(SECONDS)
    eventually(lambda: rows(cursor, "select from pglockd.lease where resource = %s and ttl_ms = 600000",
                            resource))
    assert rows(cursor, "select status from pglockd.force(%s, reason => 'why')", resource) == [("OK",)]
    proxy.cut()
    reply = holder.reply()
    assert (reply.status, reply["reason"]) == ("LOST", "forced")
    client.ask_ok(f"UNLOCK {resource} token={client.lock(resource)}")


@pytest.mark.parametrize("granted", [False, True], ids=["waiting", "granted"])
def test_a_place_whose_client_went_before_the_answer(client, behind, lost_place, resource, granted):
    """Race: the client, too, is gone before its place, or the grant made of it, is found again.

    Fix: the place is withdrawn; a grant that nobody here waits for is released, not left to its TTL.
    """
    token, waiter, cursor = lost_place
    waiter.reset()
    if granted:
        client.ask_ok(f"UNLOCK {resource} token={token}")
    behind[1].cut()
    eventually(lambda: waiters(cursor, resource) == [])
    if not granted:
        client.ask_ok(f"UNLOCK {resource} token={token}")
    eventually(lambda: holders(cursor, resource) == [])


def test_a_change_of_mode_is_no_loss_while_its_answer_is_on_the_way(connect, behind, sql, resource):
    """Race: a holder becomes exclusive, and its daemon looks how its leases stand before it has read the answer: the
    old lease was gone, and the holder was told that it had lost the lock which it had just been granted.

    Fix: while it asks for another mode it is no news that the old lease has gone without a reason.
    """
    one, proxy = behind
    cursor = sql().cursor()
    holder = connect(one)
    holder.ask_ok("HELLO events=on")
    token = holder.lock(resource, "mode=shared ttl=5m")

    def followed():
        return [t for t, in rows(cursor, "select token from pglockd.listener where resource = %s", resource)]
    eventually(lambda: followed() == [token])
    proxy.cut_after("change_batch")
    holder.send(f"@up LOCK {resource} token={token} mode=exclusive")
    assert proxy.caught.wait(SECONDS)
    eventually(lambda: holders(cursor, resource)[0][1] == "exclusive")
    connect().send(f"LOCK {resource} wait=inf")  # for which the daemon is told to look
    eventually(lambda: followed() == [], what="it has seen that the lease is gone")
    proxy.release()
    # Of the new lease an event may come before the answer, for which the time that is left is asked for first.
    told = {reply.tag: reply.body.get("event", reply.status) for reply in (holder.reply(), holder.reply())}
    assert told == {"up": "OK", "*": "wanted"}
    holder.nothing_comes()


def test_the_first_host_of_a_dsn_refuses(daemon, directory, connect, resource):
    """Race: libpq goes on to the next host of a conninfo with a new socket that has the number of the
    old one. A watch kept on the old socket never fires, and the daemon never becomes ready.

    Fix: the link watches anew whenever libpq may have changed sockets.
    """
    with contextlib.ExitStack() as stack:
        closed = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in closed:
            one.bind(("127.0.0.1", 0))  # and no listen(): it refuses, and nobody else gets the port
        proxy = stack.enter_context(Proxy(f"{daemon.directory}/run/.s.PGSQL.5432"))
        ports = ",".join(str(p) for p in [*(c.getsockname()[1] for c in closed), proxy.port])
        late = Daemon(directory / "multi-host",
                      dsn=f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} dbname=pglockd user=pglockd")
        late.start()
        try:
            client = connect(late)
            client.ask_ok(f"UNLOCK {resource} token={client.lock(resource)}")
        finally:
            assert late.stop() == 0, late.log()


def test_locks_that_come_in_while_the_daemon_stops(client, connect, peer, sql, resource):
    """Race: a LOCK that is read, or finds itself in the queue, after SIGTERM has swept the queue:
    nobody withdrew it, and the daemon waited for it until drain_timeout.

    Fix: a request is withdrawn as soon as it is known to wait. Every request that was read is answered;
    those behind the BYE were not read.
    """
    one = peer("--drain-timeout", "1h")  # whoever counts on it fails
    token = client.lock(resource, "ttl=10m")
    stopping = threading.Event()

    def flood(connection):
        with contextlib.suppress(OSError):
            for i in range(1000):
                connection.send(f"@t{i} LOCK {resource} wait=inf")
                if i == 20:
                    stopping.wait(SECONDS)

    clients = [connect(one) for _ in range(8)]
    floods = [threading.Thread(target=flood, args=(c,)) for c in clients]
    for thread in floods:
        thread.start()
    wait_for_queue(client, resource, 8 * 21)
    stopping.set()
    one.signal(signal.SIGTERM)
    for connection in clients:
        *replies, bye = connection.rest()
        assert (bye.tag, bye.status, bye.code) == ("*", "BYE", "shutting_down")
        assert {r.code for r in replies} == {"unavailable"}
        assert sorted(int(r.tag[1:]) for r in replies) == list(range(len(replies)))
        assert len(replies) >= 21
    assert one.wait() == 0
    for thread in floods:
        thread.join(SECONDS)
    cursor = sql().cursor()
    assert waiters(cursor, resource) == []
    assert [t for t, _ in holders(cursor, resource)] == [token]


@pytest.fixture
def repeated_in_flight(client, sql, resource):
    """A lease taken with an id, and asked for again in a batch that the server has and cannot carry out.

    The token, and what lets the batch go on.
    """
    key = "id=" + resource[-50:]
    token = client.lock(resource, f"{key} ttl=5m")
    instance = int(client.ask_ok("HELLO")["instance"])
    blocker = sql()
    blocker.autocommit = False
    blocker.cursor().execute("lock table pglockd.lease in access exclusive mode")
    client.send(f"@again LOCK {resource} {key} wait=inf ttl=5m")
    cursor = sql().cursor()
    eventually(lambda: lane_waits_for(cursor, instance, "pglockd.lease"))
    return token, blocker.rollback


def test_cancel_of_a_repeated_lock_leaves_the_lease(client, repeated_in_flight, resource):
    """Race: a LOCK is repeated with its id and cancelled before the answer, which is the lease that
    was granted long before. It was released with the cancelled request, under its holder's feet.

    Fix: what was there before the request stays when the request is ended.
    """
    token, let_go = repeated_in_flight
    client.send("@c CANCEL tag=again")
    first = client.reply()  # that of the LOCK where its batch, which waits for 50 ms at a time, was between two tries
    let_go()
    replies = {reply.tag: reply for reply in (first, client.reply())}
    assert replies["c"]["cancelled"] is True and replies["again"].code == "cancelled"
    client.ask_ok(f"RENEW {resource} token={token}")


def test_a_client_that_goes_while_it_repeats_a_lock_leaves_the_lease(
        client, connect, repeated_in_flight, resource):
    """The same with a connection that is lost: its client may come back, with its token. Nor is the TTL
    cut to requeue_grace, as that of a grant would be which its client has not seen yet.
    """
    token, let_go = repeated_in_flight
    client.reset()
    let_go()
    other = connect()
    for i in range(3):  # batches later
        other.lock(f"{resource}/{i}")
    assert other.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] > 60000
    other.ask_ok(f"RENEW {resource} token={token}")


def test_cancel_of_a_repeated_lock_that_waits_for_the_guard(client, sql, resource):
    """The same where the request never gets as far as the lease."""
    token = client.lock(resource, "id=cancel-guard ttl=5m")
    blocker = sql()
    blocker.autocommit = False
    blocker.cursor().execute("select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))",
                             (resource,))
    client.send(f"@again LOCK {resource} id=cancel-guard wait=inf", "@p PING")
    assert client.reply().tag == "p"
    client.send("@c CANCEL tag=again")
    assert {client.reply().code, client.reply().code} == {None, "cancelled"}
    blocker.rollback()
    client.ask_ok(f"RENEW {resource} token={token}")
