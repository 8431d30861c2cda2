"""What faults get: PostgreSQL killed, frozen, cut off; a daemon killed or stopped; clients that misbehave.

Every request is answered truthfully: OK means committed, ERR unavailable means surely not done, and
ERR outcome_unknown that it may have been. Nothing is granted twice, nothing leaks, and service comes
back by itself.
"""

import contextlib
import http.client
import os
import resource as limits
import select
import signal
import socket

import psycopg2
import pytest

from conftest import Daemon
from history import Swarm, check
from lines import SECONDS, Lines, eventually, wait_for_queue
from proxy import Proxy
from schema import lane_waits_for, one, rows


# For what nobody can answer: soon enough for a test, not so soon that what can be answered is not.
IMPATIENT = ("--request-timeout", "1s")


@pytest.fixture(scope="module")
def cluster(directory):
    one = Daemon(directory / "victim")
    yield one.start()
    assert one.stop() == 0, one.log()


@pytest.fixture
def victim(cluster):
    """A daemon on a cluster of its own, to be broken; it serves when a test begins."""
    eventually(lambda: can_lock(cluster))
    return cluster


@pytest.fixture
def impatient(victim, directory):
    """A daemon on the victim's database that soon gives up. What must succeed is not asked of it."""
    one = Daemon(directory / "impatient", *IMPATIENT, dsn=victim.dsn)
    yield one.start()
    assert one.stop() == 0, one.log()


@pytest.fixture
def swarm(victim):
    """A function that makes a swarm on the victim."""
    made = []

    def make(seed, clients=12, addresses=None, resources=3):
        made.append(Swarm(addresses or [victim.line], [f"fault{seed}/{i}" for i in range(resources)],
                          clients, seed))
        made[-1].faulty = True
        return made[-1]
    yield make
    for one in made:
        one.close()


@contextlib.contextmanager
def frozen_postgres(daemon):
    daemon.signal_postgres(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal_postgres(signal.SIGCONT)


def can_lock(daemon, name="probe/1"):
    with contextlib.suppress(OSError, AssertionError), Lines(daemon.line) as probe:
        reply = probe.ask(f"LOCK {name}")
        return reply.status == "OK" and probe.ask(f"UNLOCK {name} token={reply['token']}").status == "OK"


def leases(daemon, prefix):
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()
        cursor.execute("select token, resource, mode::text from pglockd.lease where resource like %s",
                       (prefix + "/%",))
        return {token: (resource, mode) for token, resource, mode in cursor.fetchall()}


def check_truth(daemon, swarm):
    """The record against the database: while leases are still held, and after all are released."""
    prefix = swarm.resources[0].split("/")[0]
    assert check(swarm.record) == []
    assert swarm.surprises == []
    there = leases(daemon, prefix)
    for r in swarm.record:
        if r.granted and r.released is None:
            assert there.get(r.token) == (r.resource, r.mode), f"{r} is not in the database"
    swarm.finish()
    assert check(swarm.record) == []
    assert swarm.surprises == []
    eventually(lambda: not leases(daemon, prefix), what="no lease without an owner is left")


# ---- PostgreSQL ----

def test_postgres_killed_under_load(victim, swarm):
    many = swarm(1)
    many.run(300)
    old = victim.postmaster()
    victim.signal_postgres(signal.SIGKILL)
    many.run(300)
    eventually(lambda: victim.postmaster() not in (None, old))
    eventually(lambda: many.run(20) or can_lock(victim))
    many.run(300)
    check_truth(victim, many)


def test_a_backend_killed_under_load_restarts_all_of_them(victim, swarm):
    """One process killed -9: PostgreSQL throws all sessions out and recovers."""
    many = swarm(2)
    many.run(300)
    with contextlib.closing(victim.sql()) as connection:
        os.kill(one(connection.cursor(), "select min(pid) from pg_stat_activity where application_name = 'pglockd'"),
                signal.SIGKILL)
    many.run(300)
    eventually(lambda: many.run(20) or can_lock(victim))
    check_truth(victim, many)


def test_waiting_locks_survive_a_crash_of_postgres_in_their_order(victim):
    """The queue is unlogged: its daemon puts it back, before newcomers are granted anything."""
    with contextlib.ExitStack() as stack:
        holder, *waiters = (stack.enter_context(Lines(victim.line)) for _ in range(7))
        token = holder.lock("crash/queue", "ttl=5m")
        for i, waiter in enumerate(waiters):
            waiter.send(f"LOCK crash/queue wait=inf owner=o{i}")
            wait_for_queue(holder, "crash/queue", i + 1)
        os.kill(victim.postmaster(), signal.SIGKILL)
        queue = eventually(lambda: (r := holder.ask("INFO crash/queue")).status == "OK"
                           and r["waiting"] == 6 and r["queue"])
        assert [w["owner"] for w in queue] == [f"o{i}" for i in range(6)]
        eventually(lambda: holder.ask(f"UNLOCK crash/queue token={token}").status in ("OK", "LOST"))
        late = stack.enter_context(Lines(victim.line))
        assert late.ask("LOCK crash/queue").status == "BUSY"
        for waiter in waiters:
            reply = waiter.reply(40)
            assert reply["token"] > token, "tokens grow over the crash"
            token = reply["token"]
            waiter.ask_ok(f"UNLOCK crash/queue token={token}")


def test_postgres_frozen(victim, impatient):
    """Nobody hangs: requests are answered within their time, and what was done late is given back."""
    with Lines(victim.line) as holder, Lines(impatient.line) as client, Lines(impatient.line) as other:
        token = holder.lock("frozen/held", "ttl=5m")
        eventually(lambda: can_lock(impatient))
        with frozen_postgres(victim):
            client.send("@a LOCK frozen/a", "@w LOCK frozen/held wait=inf", "@i INFO frozen/held",
                        "@l LIST", f"@c CHECK frozen/held token={token}",
                        f"@r RENEW frozen/held token={token}")
            # The first batch is with the server: unknown. What comes now is not even sent.
            eventually(lambda: other.ask("LOCK frozen/b").code == "unavailable")
            assert other.ask("PING").status == "OK", "what needs no database is served"
            replies = {r.tag: r.code for r in (client.reply() for _ in range(6))}
        assert {replies["i"], replies["l"], replies["c"]} == {"unavailable"}
        assert {replies["a"], replies["w"], replies["r"]} <= {"unavailable", "outcome_unknown"}
        eventually(lambda: can_lock(victim))
        eventually(lambda: set(leases(victim, "frozen")) == {token})
        wait_for_queue(holder, "frozen/held", 0)
        holder.ask_ok(f"UNLOCK frozen/held token={token}")


def test_a_lane_terminated_under_load(victim, swarm):
    many = swarm(3)
    with contextlib.closing(victim.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        for _ in range(8):
            many.run(100)
            cursor.execute("select pg_terminate_backend(pid) from pg_locks where granted and "
                           "locktype = 'advisory' and classid = 1346849796")
        many.run(200)
    check_truth(victim, many)


def test_every_session_of_the_daemon_terminated(victim, swarm):
    many = swarm(4)
    with contextlib.closing(victim.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        for _ in range(4):
            many.run(100)
            cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                           "where application_name = 'pglockd'")
        many.run(200)
    eventually(lambda: can_lock(victim))
    check_truth(victim, many)


def terminate_all(cursor):
    """Ends all sessions of daemons; none of them does anything any more."""
    old = [pid for pid, _ in rows(cursor, "select pid, pg_terminate_backend(pid) from pg_stat_activity "
                                  "where application_name = 'pglockd'")]
    eventually(lambda: not one(cursor, "select count(*) from pg_stat_activity where pid = any(%s)", old))


def test_read_only_postgres_is_unavailable_not_broken(victim, impatient):
    """A standby, or a server set read-only: surely not done; back in service without a restart."""
    with contextlib.closing(victim.sql(user="postgres")) as connection, Lines(impatient.line) as client:
        cursor = connection.cursor()
        cursor.execute("alter database pglockd set default_transaction_read_only = on")
        try:
            terminate_all(cursor)
            eventually(lambda: client.ask("LOCK readonly/1").code == "unavailable")
        finally:
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute("alter database pglockd reset default_transaction_read_only")
            terminate_all(cursor)
        eventually(lambda: can_lock(impatient))
        assert leases(victim, "readonly") == {}


# ---- the connection breaks between the commit and its answer ----

@pytest.fixture
def cut_off(victim, directory):
    """A daemon that reaches the victim's database through a proxy; yields (daemon, proxy)."""
    with Proxy(str(victim.directory / "run/.s.PGSQL.5432")) as proxy:
        one = Daemon(directory / "behind-proxy",
                     dsn=f"host=127.0.0.1 port={proxy.port} dbname=pglockd user=pglockd")
        one.start()
        yield one, proxy
        assert one.stop() == 0, one.log()


def lose_answer(proxy, word, ask, arrives=True):
    """Sends a request whose batch is committed, or does not arrive, and whose answer is lost."""
    proxy.cut_after(word, lets_through=arrives)
    ask()
    assert proxy.caught.wait(SECONDS)


def test_a_grant_whose_answer_was_lost_is_found_again(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as client:
        lose_answer(proxy, "acquire_batch", lambda: client.send("LOCK cut/1"))
        eventually(lambda: leases(victim, "cut"))
        proxy.cut()
        reply = client.reply()
        assert reply.status == "OK" and set(leases(victim, "cut")) == {reply["token"]}
        client.ask_ok(f"UNLOCK cut/1 token={reply['token']}")


def test_a_place_in_the_queue_whose_answer_was_lost_is_not_taken_twice(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as holder, Lines(daemon.line) as client:
        token = holder.lock("cut/2")
        lose_answer(proxy, "acquire_batch", lambda: client.send("LOCK cut/2 wait=inf"))
        with Lines(victim.line) as witness:
            wait_for_queue(witness, "cut/2", 1)
            proxy.cut()
            eventually(lambda: holder.ask(f"RENEW cut/2 token={token}").status == "OK")
            assert witness.ask_ok("INFO cut/2")["waiting"] == 1
        holder.ask_ok(f"UNLOCK cut/2 token={token}")
        reply = client.reply()
        assert reply["token"] > token
        client.ask_ok(f"UNLOCK cut/2 token={reply['token']}")
        assert leases(victim, "cut") == {}


def test_a_release_whose_answer_was_lost_is_unknown_not_lost(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as client:
        token = client.lock("cut/3")
        lose_answer(proxy, "release_batch", lambda: client.send(f"UNLOCK cut/3 token={token}"))
        eventually(lambda: not leases(victim, "cut"))
        proxy.cut()
        reply = client.reply()
        assert (reply.status, reply.code) == ("ERR", "outcome_unknown")
        assert client.ask(f"UNLOCK cut/3 token={token}").status == "LOST"


def test_a_hand_over_whose_answer_was_lost_reaches_its_waiter(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as holder, Lines(daemon.line) as client:
        token = holder.lock("cut/4")
        client.send("LOCK cut/4 wait=inf")
        wait_for_queue(holder, "cut/4", 1)
        lose_answer(proxy, "release_batch", lambda: holder.send(f"UNLOCK cut/4 token={token}"))
        eventually(lambda: set(leases(victim, "cut")) - {token})
        proxy.cut()
        reply = client.reply()
        assert {reply["token"]} == set(leases(victim, "cut"))
        client.ask_ok(f"UNLOCK cut/4 token={reply['token']}")


def test_a_withdrawal_whose_answer_was_lost(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as holder, Lines(daemon.line) as client:
        token = holder.lock("cut/5")
        client.send("@w LOCK cut/5 wait=inf")
        wait_for_queue(holder, "cut/5", 1)
        lose_answer(proxy, "withdraw_batch", lambda: client.send("@c CANCEL tag=w"))
        with Lines(victim.line) as witness:
            wait_for_queue(witness, "cut/5", 0)
        proxy.cut()
        replies = {r.tag: r for r in (client.reply(), client.reply())}
        assert replies["w"].code in ("cancelled", "outcome_unknown")
        eventually(lambda: holder.ask(f"UNLOCK cut/5 token={token}").status == "OK")
        assert leases(victim, "cut") == {}


@pytest.mark.parametrize("claim", ["cut/9", "cut/9 mode=shared", "cut/9 cut/10"])
def test_a_cancelled_lock_does_not_take_the_lease_from_the_one_that_repeats_it(cut_off, victim, claim):
    """The first is granted and cancelled; before its daemon gives the lease back, the id finds it there."""
    daemon, proxy = cut_off
    line = f"LOCK {claim} id=twice ttl=5m"
    with Lines(daemon.line) as first, Lines(victim.line) as second:
        lose_answer(proxy, "acquire_batch" if "10" not in claim else "acquire_claims", lambda: first.send(f"@l {line}"))
        first.send("CANCEL tag=l")
        assert first.reply().status == "OK"
        eventually(lambda: leases(victim, "cut"))
        second.ask_ok(line)
        there = leases(victim, "cut")
        proxy.release()
        assert first.reply().code == "cancelled"
        eventually(lambda: can_lock(daemon))
        assert leases(victim, "cut") == there
        for token, (resource, _) in there.items():
            second.ask_ok(f"UNLOCK {resource} token={token}")


# ---- the connection breaks before the batch arrives ----

def lose_request(proxy, word, ask):
    """Sends a request whose batch never reaches the server."""
    lose_answer(proxy, word, ask, arrives=False)


def wait_until_seen(daemon):
    """The daemon has read all that was sent to it."""
    with Lines(daemon.line) as other:
        other.ask_ok("PING")


def leave(client, daemon, how):
    """The client goes, and its daemon has seen that."""
    getattr(client, how)()
    wait_until_seen(daemon)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lost_lock_is_not_sent_again_for_a_client_that_is_gone(cut_off, victim, how):
    """It has asked another daemon, with its id, and has released what it got there."""
    daemon, proxy = cut_off
    client = Lines(daemon.line)
    lose_request(proxy, "acquire_batch", lambda: client.send("LOCK cut/6 id=again"))
    leave(client, daemon, how)
    with Lines(victim.line) as client:
        token = client.lock("cut/6", "id=again")
        client.ask_ok(f"UNLOCK cut/6 token={token}")
    proxy.cut()
    eventually(lambda: can_lock(daemon))
    assert leases(victim, "cut") == {}


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lock_is_not_sent_late_for_a_client_that_is_gone(cut_off, victim, how):
    """The same where the daemon has no connection: the LOCK waits for one, its client goes to another daemon."""
    daemon, proxy = cut_off
    client = Lines(daemon.line)
    with proxy.blocked():
        client.send("LOCK cut/12 id=again")
        leave(client, daemon, how)
        with Lines(victim.line) as client:
            token = client.lock("cut/12", "id=again")
            client.ask_ok(f"UNLOCK cut/12 token={token}")
    eventually(lambda: can_lock(daemon))
    assert leases(victim, "cut") == {}


def test_a_client_that_ends_its_input_is_told_that_its_lock_was_not_done(cut_off, victim):
    daemon, proxy = cut_off
    with Lines(daemon.line) as client:
        lose_request(proxy, "acquire_batch", lambda: client.send("LOCK cut/7"))
        client.socket.shutdown(socket.SHUT_WR)
        wait_until_seen(daemon)
        proxy.cut()
        assert client.reply().code == "unavailable"
    assert leases(victim, "cut") == {}


def test_locks_that_are_sent_again_come_before_later_ones(cut_off, victim):
    """Else a LOCK repeated over another connection is done, and its lease ended, before the first one."""
    daemon, proxy = cut_off
    with Lines(daemon.line) as first, Lines(daemon.line) as second:
        lose_request(proxy, "acquire_batch", lambda: first.send("LOCK cut/8"))
        second.send("LOCK cut/8", "@p PING")
        assert second.reply().tag == "p"
        proxy.cut()
        assert second.reply().status == "BUSY"
        first.ask_ok(f"UNLOCK cut/8 token={first.reply()['token']}")


def test_what_comes_back_keeps_the_order_of_its_connection(cut_off):
    """Race: an UNLOCK and the LOCK behind it are lost with another's UNLOCK, which came after them and was sent before:
    the LOCK went ahead of that one, and so of its own."""
    daemon, proxy = cut_off
    with Lines(daemon.line) as first, Lines(daemon.line) as second:
        mine, other = first.lock("cut/z"), second.lock("cut/a")

        def send_at_once():
            daemon.signal(signal.SIGSTOP)
            second.send(f"UNLOCK cut/a token={other}")
            first.send(f"@u UNLOCK cut/z token={mine}", "@l LOCK cut/z")  # libev serves the last one first
            daemon.signal(signal.SIGCONT)
        lose_request(proxy, "release_batch", send_at_once)
        proxy.cut()
        replies = {r.tag: r for r in (first.reply(), first.reply())}
        assert replies["l"].status == "OK"
        assert replies["u"].status == "OK" or replies["u"].code == "outcome_unknown"
        first.ask_ok(f"UNLOCK cut/z token={replies['l']['token']}")


def test_a_lost_renewal_is_not_sent_again_for_a_client_that_is_gone(cut_off, victim):
    """Race: its lease is bound to the connection. It renews over another one, at another daemon: late, the first would
    bind it again to the connection that has closed, which then ends it."""
    daemon, proxy = cut_off
    client = Lines(daemon.line)
    token = client.lock("cut/11", "bind=connection ttl=5m")
    lose_request(proxy, "renew_batch", lambda: client.send(f"RENEW cut/11 token={token}"))
    leave(client, daemon, "reset")
    with Lines(victim.line) as client:
        client.ask_ok(f"RENEW cut/11 token={token}")
        proxy.cut()
        eventually(lambda: can_lock(daemon))
        client.ask_ok(f"UNLOCK cut/11 token={token}")


def test_a_session_is_not_opened_late_for_a_client_that_is_gone(cut_off, victim):
    """It has opened it at another daemon, with its id: late, the first would replace the secret."""
    daemon, proxy = cut_off
    client = Lines(daemon.line)
    with proxy.blocked():
        client.send("SESSION OPEN id=late owner=x ttl=5m")
        leave(client, daemon, "reset")
        with Lines(victim.line) as other:
            session = other.ask_ok("SESSION OPEN id=late owner=x ttl=5m")
    eventually(lambda: can_lock(daemon))
    with Lines(daemon.line) as other, Lines(victim.line) as client:
        other.ask_ok("SESSION OPEN ttl=5m")  # over the same connection, later
        client.ask_ok(f"SESSION RESUME {session['session']} secret={session['secret']}")
        client.ask_ok(f"SESSION CLOSE {session['session']}")


def test_a_lock_that_ends_its_input_is_tried_again_where_another_met_a_locked_row(victim):
    """The first refusal of a batch is of the row that one of its operations met; the others are done at once."""
    with Lines(victim.line) as holder, Lines(victim.line) as client, \
            contextlib.closing(victim.sql(user="postgres")) as connection:
        token = holder.lock("end/1", "ttl=5m")
        connection.autocommit = False
        connection.cursor().execute("select pglockd.assert_fence('end/1', %s)", (token,))
        victim.signal(signal.SIGSTOP)
        holder.send(f"UNLOCK end/1 token={token}")
        client.send("LOCK end/2")
        client.socket.shutdown(socket.SHUT_WR)
        victim.signal(signal.SIGCONT)
        reply = client.reply()
        connection.rollback()
        assert reply.status == "OK"
        holder.reply()
        holder.ask_ok(f"UNLOCK end/2 token={reply['token']}")


@pytest.fixture
def patient(victim, directory):
    """A daemon on the victim's database that never gives up."""
    one = Daemon(directory / "patient", "--request-timeout", "1h", dsn=victim.dsn)
    yield one.start()
    assert one.stop() == 0, one.log()


def test_a_refused_lock_is_not_sent_again_for_a_client_that_is_gone(victim, patient):
    """The server refuses batches for as long as a table is locked; one that ended its input meanwhile hears so."""
    with contextlib.closing(victim.sql(user="postgres")) as connection, Lines(patient.line) as client:
        instance = patient.instance()
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("lock table pglockd.tombstone, pglockd.lease_exclusive in access exclusive mode")
        client.send("LOCK refused/1 id=again")
        eventually(lambda: lane_waits_for(cursor, instance, "pglockd.lease_exclusive"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().code == "unavailable"
        connection.rollback()
    eventually(lambda: can_lock(patient))
    assert leases(victim, "refused") == {}


# ---- guards that others hold ----

def test_a_guard_that_a_transaction_holds(client, connect, sql, resource):
    connection = sql()
    connection.autocommit = False
    cursor = connection.cursor()
    cursor.execute("select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))", (resource,))
    reply = client.ask(f"LOCK {resource}")
    assert (reply.status, reply.code, reply["holders"]) == ("BUSY", "guarded", [])
    waiter, second = connect(), connect()
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    second.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 2)
    assert client.ask(f"LOCK {resource} wait=50ms").status == "TIMEOUT"
    connection.rollback()
    token = waiter.reply()["token"]
    second.nothing_comes()
    waiter.ask_ok(f"UNLOCK {resource} token={token}")
    assert second.reply()["token"] > token


def test_others_are_served_while_a_guard_is_held(client, sql, resource):
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))",
                                (resource,))
    client.send(*[f"@t{i} LOCK {resource}{i or ''}" for i in range(20)])
    replies = {r.tag: r for r in (client.reply() for _ in range(20))}
    assert replies.pop("t0").code == "guarded"
    assert all(r.status == "OK" for r in replies.values())


def test_a_release_while_the_guard_is_held_hands_over_later(client, connect, sql, resource):
    token = client.lock(resource)
    waiter = connect()
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))",
                                (resource,))
    client.ask_ok(f"UNLOCK {resource} token={token}")
    waiter.nothing_comes()
    connection.rollback()
    assert waiter.reply()["token"] > token


def test_a_lease_row_that_a_transaction_holds_does_not_stop_the_service(client, connect, peer, sql, resource):
    """A DBA's forgotten transaction: its lease waits, nobody else does for long."""
    token = client.lock(resource, "ttl=5m")
    impatient, other = connect(peer(*IMPATIENT)), connect()
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select from pglockd.lease where resource = %s for update", (resource,))
    client.send(f"@r RENEW {resource} token={token}", f"@l LOCK {resource}/other")
    assert client.reply()[:2] == ("l", "OK")
    assert impatient.ask(f"RENEW {resource} token={token}").code in ("unavailable", "outcome_unknown")
    assert other.ask_ok(f"LOCK {resource}/another")
    connection.rollback()
    assert client.reply()[:2] == ("r", "OK")
    client.ask_ok(f"UNLOCK {resource} token={token}")


# ---- the daemon ----

def test_daemon_killed_and_started_again_finds_its_leases(make_daemon):
    daemon = make_daemon()
    with Lines(daemon.line) as client:
        token = client.lock("kept/1", "ttl=5m owner=me note=n")
        client.send("LOCK kept/1 wait=inf")
        with Lines(daemon.line) as other:
            wait_for_queue(other, "kept/1", 1)
    daemon.kill()
    daemon.start()
    with Lines(daemon.line) as client:
        info = client.ask_ok("INFO kept/1")
        assert info["holders"][0]["owner"] == "me" and info["holders"][0]["self"] is False
        eventually(lambda: client.ask_ok("INFO kept/1")["waiting"] == 0)
        client.ask_ok(f"RENEW kept/1 token={token}")
        assert client.ask("LOCK kept/1").status == "BUSY"
    assert daemon.stop() == 0
    daemon.start()
    with Lines(daemon.line) as client:
        client.ask_ok(f"UNLOCK kept/1 token={token}")
        assert client.lock("kept/1") > token


def ready(daemon):
    """The status of /readyz; None when nobody answers."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        host, port = daemon.http.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    return None


def test_drain(peer, connect, sql, resource):
    daemon = peer()
    holder, waiter, idle, busy = (connect(daemon) for _ in range(4))
    token = holder.lock(resource, "ttl=5m")
    waiter.send(f"@w LOCK {resource} wait=inf", "@p PING")
    assert waiter.reply().tag == "p"
    wait_for_queue(holder, resource, 1)
    assert ready(daemon) == 200
    # A transaction that keeps a row locked keeps the daemon's last request in flight.
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select from pglockd.lease where resource = %s for update", (resource,))
    busy.send(f"UNLOCK {resource} token={token}")
    assert idle.ask("PING").status == "OK"
    daemon.signal(signal.SIGTERM)
    assert [r.code for r in idle.rest()] == ["shutting_down"]
    assert ready(daemon) == 503
    with pytest.raises(ConnectionRefusedError):
        connect(daemon)
    connection.rollback()
    assert [(r.tag, r.code) for r in waiter.rest()] == [("w", "unavailable"), ("*", "shutting_down")]
    unlock, bye = busy.rest()
    assert unlock.status == "OK" or unlock.code == "outcome_unknown"
    assert bye.code == "shutting_down"
    assert daemon.wait() == 0
    cursor = sql().cursor()
    cursor.execute("select from pglockd.instances where name like %s", (f"%/{daemon.process.pid}",))
    assert cursor.rowcount == 0, "it has signed off"


def test_drain_withdraws_a_lock_that_was_still_on_its_way(peer, connect, sql, resource):
    """A LOCK that finds itself in the queue only after SIGTERM must not wait until drain_timeout."""
    daemon = peer("--drain-timeout", "1h")
    holder, waiter = connect(), connect(daemon)
    instance = daemon.instance()
    holder.lock(resource, "ttl=5m")
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("lock table pglockd.waiter in access exclusive mode")
    waiter.send(f"LOCK {resource} wait=inf")
    cursor = sql().cursor()
    eventually(lambda: lane_waits_for(cursor, instance, "pglockd.waiter"))
    daemon.signal(signal.SIGTERM)
    eventually(lambda: ready(daemon) == 503)
    connection.rollback()
    assert [r.code for r in waiter.rest()] == ["unavailable", "shutting_down"]
    assert daemon.wait() == 0
    wait_for_queue(holder, resource, 0)


def test_a_second_sigterm_is_immediate(peer, connect, sql, resource):
    daemon = peer("--drain-timeout", "1h", "--request-timeout", "1h")
    client = connect(daemon)
    token = client.lock(resource, "ttl=5m")
    connection = sql()
    connection.autocommit = False
    connection.cursor().execute("select from pglockd.lease where resource = %s for update", (resource,))
    client.send(f"RENEW {resource} token={token}", f"LOCK {resource} wait=inf")
    client.nothing_comes()
    daemon.signal(signal.SIGTERM)
    eventually(lambda: ready(daemon) == 503)
    daemon.signal(signal.SIGTERM)
    daemon.wait()


def test_drain_timeout_bounds_a_client_that_never_reads(peer, connect):
    daemon = peer("--drain-timeout", "500ms")
    client = connect(daemon)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send_bytes(b"HELP\n" * 200)
    eventually(lambda: daemon.instance())
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


# ---- clients ----

def memory(daemon):
    """Resident bytes of the daemon."""
    with open(f"/proc/{daemon.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_client_that_never_reads(daemon, connect, resource):
    """It is cut off when its unread replies pass the bound, and nobody else notices."""
    rude, good = connect(), connect()
    rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    rude.socket.setblocking(False)
    before = memory(daemon)

    def cut_off():
        try:
            rude.socket.send(b"HELP\n" * 1000)
        except BlockingIOError:
            good.ask_ok("PING")
        except ConnectionError:
            return True
        return False
    eventually(cut_off)
    good.ask_ok(f"UNLOCK {resource} token={good.lock(resource)}")
    assert memory(daemon) - before < 200 << 20


def test_a_huge_pipeline_is_served_in_bounded_memory(daemon, connect, resource):
    """Thousands of requests sent as fast as they are taken: reading pauses instead of queueing them."""
    client, good = connect(), connect()
    client.socket.setblocking(False)
    line = f"CHECK {resource} token=1\n".encode()
    data, sent, replies = line * 6000, 0, 0
    while replies < 6000:
        more = [client.socket] if sent < len(data) else []
        readable, writable, _ = select.select([client.socket], more, [], SECONDS)
        assert readable or writable, f"only {replies} replies"
        if writable:
            sent += client.socket.send(data[sent:sent + 65536])
        if readable:
            replies += client.socket.recv(1 << 16).count(b"\n")
        good.ask_ok("PING")
    assert memory(daemon) < 400 << 20


def test_ten_thousand_connections(daemon, connect):
    """As many as the limit of this process allows, up to 10,000; all are served, then all leave."""
    _, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    soft = limits.getrlimit(limits.RLIMIT_NOFILE)[0]
    limits.setrlimit(limits.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 500)
    clients = []
    try:
        for i in range(count):
            clients.append(socket.create_connection(daemon.line.rsplit(":", 1), SECONDS))
        for one in clients:
            one.sendall(b"PING\n")
        for one in clients:
            assert one.recv(100) == b"OK {}\n"
        assert connect().ask_ok("STATS")["connections"] > count
    finally:
        for one in clients:
            one.close()
        limits.setrlimit(limits.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: connect().ask_ok("STATS")["connections"] < 100)


def test_too_many_connections(peer, connect):
    daemon = peer("--max-connections", "3")
    clients = [connect(daemon) for _ in range(3)]
    for one in clients:
        one.ask_ok("PING")
    (bye,) = connect(daemon).rest()
    assert (bye.status, bye.code) in (("BYE", "too_many_connections"), ("ERR", "too_many_connections"))
    clients.pop().close()
    eventually(lambda: [r.status for r in asked(daemon)] == ["OK"])


def asked(daemon):
    """PING over a new connection, and what comes."""
    with Lines(daemon.line) as client:
        with contextlib.suppress(ConnectionError):
            client.send("PING")
            client.end_input()
        return [r for r in client.rest() if r.code != "end_of_input"]


def test_too_many_waiters(peer, connect, resource):
    daemon = peer("--max-waiters", "2")
    holder, client = connect(daemon), connect(daemon)
    holder.lock(resource)
    for i in range(2):
        client.send(f"@w{i} LOCK {resource} wait=inf")
        wait_for_queue(holder, resource, i + 1)
    reply = client.ask(f"@w2 LOCK {resource} wait=inf")
    assert (reply.status, reply.code) == ("ERR", "too_many_waiters")
    client.send("@c CANCEL tag=w0")
    assert {client.reply().tag, client.reply().tag} == {"c", "w0"}
    client.send(f"@w3 LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 2)


def test_postgres_is_missing_at_the_start(directory):
    """A DSN nobody answers at: a clear error, not a loop."""
    one = Daemon(directory / "nowhere", dsn="host=127.0.0.1 port=1 dbname=x user=x")
    with pytest.raises(AssertionError):
        one.start()
    assert one.process.wait(SECONDS) == 69
    with pytest.raises(psycopg2.OperationalError):
        one.sql()
