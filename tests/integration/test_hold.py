"""pglockd.hold(): a lock that lives exactly as long as the SQL session that took it."""

import contextlib
import os
import signal
import urllib.request

import psycopg2
import pytest

from conftest import ctl
from lines import Lines, eventually, wait_for_queue
from schema import call, one, rows


@pytest.fixture
def session(sql):
    """A function that opens an SQL session; it may be closed earlier."""
    return lambda **options: sql(**options)


@pytest.fixture
def cursor(sql):
    return sql().cursor()


def hold(connection, resource, words=""):
    """Takes a hold that must be granted; returns its token."""
    ((status, token, ttl_ms, holders),) = rows(connection.cursor(), f"select * from pglockd.hold(%s{words})", resource)
    assert (status, ttl_ms, holders) == ("OK", None, None), holders
    return token


def status_of(connection, call, *values):
    return one(connection.cursor(), f"select status from pglockd.{call}", *values)


def held(cursor, resource):
    return [t for t, in rows(cursor, "select token from pglockd.locks where resource = %s", resource)]


# ---- while its session lives ----

def test_clients_of_daemons_are_refused_while_it_lives(session, client, connect, cursor, resource):
    holder = session()
    token = hold(holder, resource, ", note => 'migration 17'")
    busy = client.ask(f"LOCK {resource}")
    assert busy.status == "BUSY"
    (shown,) = busy["holders"]
    assert (shown["ttl_ms"], shown["note"], shown["mode"], shown["self"]) == (None, "migration 17", "exclusive", False)
    assert client.ask_ok(f"INFO {resource}")["holders"][0]["ttl_ms"] is None
    assert client.ask_ok(f"LIST prefix={resource}")["locks"][0]["ttl_ms"] is None
    waiter = connect()
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    # Long enough for the janitor to have looked, with its session idle and in a transaction.
    start = one(cursor, "select pglockd.lease_now()")
    eventually(lambda: one(cursor, "select pglockd.lease_now()") > start + 2000000)
    waiter.nothing_comes()
    assert rows(cursor, "select token, ttl_left, expired, held_by_pid from pglockd.locks where resource = %s",
                resource) == [(token, None, False, holder.info.backend_pid)]
    holder.close()
    assert waiter.reply()["token"] > token


@pytest.mark.parametrize("end", ["close", "terminate", "discard all", "unlock", "pg_advisory_unlock_all"])
def test_a_waiter_has_it_after_its_end(session, client, connect, sql, resource, end):
    holder = session()
    token = hold(holder, resource)
    waiter = connect()
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    if end == "close":
        holder.close()
    elif end == "terminate":
        one(sql(user="postgres").cursor(), "select pg_terminate_backend(%s)", holder.info.backend_pid)
    elif end == "unlock":
        assert status_of(holder, "unlock(%s, %s)", resource, token) == "OK"
    else:
        holder.cursor().execute(end if end.startswith("discard") else f"select {end}()")
    assert waiter.reply()["token"] > token
    if end != "unlock":
        assert client.ask(f"CHECK {resource} token={token}")["reason"] == "connection_closed"


def test_every_sweep_removes_what_dead_sessions_held(still, resource):
    """Four a second: so whoever waits has it within a second."""
    cursor = still().cursor()
    dead, alive = still(), still()
    for i in range(3):
        hold(dead, f"{resource}/{i}")
    kept = hold(alive, f"{resource}/kept")
    number = one(cursor, "select hold_id from pglockd.lease where resource = %s", f"{resource}/0")
    dead.close()
    eventually(lambda: not one(cursor, "select count(*) from pg_locks where classid = 1346849799 and objid = %s", number))
    done = call(cursor, "sweep", 2, 30000, False, "")
    assert done["o_more"], "no more than it may in one round"
    done = call(cursor, "sweep", 100000, 30000, False, "")
    assert rows(cursor, "select token from pglockd.lease where resource like %s", resource + "/%") == [(kept,)]


def test_a_newcomer_has_it_at_once_after_its_end(still, resource):
    """No janitor is needed for that."""
    holder = still()
    token = hold(holder, resource)
    other = still()
    assert status_of(other, "lock(%s)", resource) == "BUSY"
    holder.close()
    eventually(lambda: status_of(other, "lock(%s)", resource) == "OK")
    assert rows(other.cursor(), "select reason::text from pglockd.tombstone where resource = %s and token = %s",
                resource, token) == [("connection_closed",)]


@pytest.mark.parametrize("words, other, granted", [
    ("", "mode=shared", False), (", 'shared'", "mode=shared", True), (", 'shared'", "", False),
    (", scope => 'tree'", "", False)])
def test_modes_and_scopes(session, client, resource, words, other, granted):
    holder = session()
    hold(holder, resource, words)
    beneath = "/x" if "tree" in words else ""
    assert (client.ask(f"LOCK {resource}{beneath} {other}").status == "OK") == granted
    holder.close()
    eventually(lambda: client.ask(f"LOCK {resource}/y").status == "OK")


def test_it_is_refused_where_others_hold_or_wait(session, client, connect, resource):
    token = client.lock(resource)
    holder = session()
    ((status, no_token, holders),) = rows(holder.cursor(), "select status, token, holders from pglockd.hold(%s)", resource)
    assert (status, no_token) == ("BUSY", None) and holders[0]["resource"] == resource
    client.ask_ok(f"UNLOCK {resource} token={token}")
    hold(holder, resource)


def test_one_session_holds_any_number_and_none_twice(session, cursor, sql, resource):
    """They share one entry of PostgreSQL's lock table."""
    holder = session()
    tokens = [hold(holder, f"{resource}/{i}") for i in range(30)]
    assert tokens == sorted(set(tokens))
    assert one(cursor, "select count(*) from pg_locks where locktype = 'advisory' and classid = 1346849799 and pid = %s",
               holder.info.backend_pid) == 1
    for call in "hold(%s)", "lock(%s)", "lock(%s, 'shared')":
        assert status_of(holder, call, f"{resource}/0") == "BUSY", "it does not take its own for a dead one's"
    assert status_of(holder, "unlock(%s, %s)", f"{resource}/0", tokens[0]) == "OK"
    assert hold(holder, f"{resource}/0") > tokens[-1]
    assert status_of(holder, "unlock(%s, %s)", f"{resource}/1", tokens[0]) == "LOST"
    holder.close()
    eventually(lambda: not rows(cursor, "select from pglockd.lease where resource like %s", resource + "/%"))


def test_sessions_do_not_share(session, cursor, resource):
    first, second = session(), session()
    a, b = hold(first, f"{resource}/a"), hold(second, f"{resource}/b")
    first.close()
    eventually(lambda: held(cursor, f"{resource}/a") == [])
    assert held(cursor, f"{resource}/b") == [b] and b > a
    assert status_of(second, "lock(%s)", f"{resource}/b") == "BUSY"


def test_the_token_fences(session, sql, resource):
    holder = session()
    token = hold(holder, resource)
    sql().cursor().execute("select pglockd.assert_fence(%s, %s)", (resource, token))
    with pytest.raises(psycopg2.Error) as error:
        sql().cursor().execute("select pglockd.assert_fence(%s, %s)", (resource, token - 1))
    assert error.value.pgcode == "PL001"


# ---- transactions ----

def test_a_transaction_that_fails_leaves_nothing(session, client, cursor, resource):
    holder = session()
    holder.autocommit = False
    hold(holder, resource)
    holder.rollback()
    assert held(cursor, resource) == []
    client.ask_ok(f"UNLOCK {resource} token={client.lock(resource)}")
    inside = holder.cursor()
    inside.execute("savepoint s")
    hold(holder, f"{resource}/s")
    inside.execute("rollback to s")
    kept = hold(holder, f"{resource}/kept")
    holder.commit()
    assert held(cursor, f"{resource}/s") == [] and held(cursor, f"{resource}/kept") == [kept]
    assert client.ask(f"LOCK {resource}/kept").status == "BUSY"


def test_it_is_there_when_its_transaction_commits(session, client, cursor, resource):
    holder = session()
    holder.autocommit = False
    token = hold(holder, resource)
    assert held(cursor, resource) == []
    assert client.ask(f"LOCK {resource}").code == "guarded"
    holder.commit()
    assert held(cursor, resource) == [token]
    assert client.ask(f"LOCK {resource}").code == "busy"


def test_race_a_session_that_dies_right_after_its_commit(session, sql, client, resource):
    """Race: the lease is committed, its session is gone before anybody looked. Fix: the session's lock is taken
    before the commit, so that a free one always means that the session has ended."""
    for i in range(5):
        holder = session()
        holder.autocommit = False
        hold(holder, f"{resource}/{i}")
        holder.commit()
        holder.close()
        eventually(lambda: client.ask(f"LOCK {resource}/{i}").status == "OK")


def test_a_dead_session_s_lock_in_the_same_transaction_is_not_taken_for_ones_own(still, resource):
    """Race: who removes a dead session's hold has tried, and so taken, its lock until the transaction ends. A hold
    in that transaction must not count on it."""
    dead = still()
    hold(dead, f"{resource}/dead")
    dead.close()
    one_of = still()
    one_of.autocommit = False
    eventually(lambda: status_of(one_of, "lock(%s)", f"{resource}/dead") == "OK" or one_of.rollback())
    token = hold(one_of, f"{resource}/mine")
    one_of.commit()
    other = still()
    assert status_of(other, "lock(%s)", f"{resource}/mine") == "BUSY"
    assert held(other.cursor(), f"{resource}/mine") == [token]


def test_prepared_transactions_are_refused_or_end_with_the_session(session, resource):
    """A hold cannot outlive its session by two-phase commit."""
    holder = session()
    holder.autocommit = False
    hold(holder, resource)
    with pytest.raises(psycopg2.Error):
        holder.cursor().execute("prepare transaction 'hold'")


# ---- through the daemon ----

def test_its_token_through_a_daemon(session, client, cursor, resource):
    """RENEW and CHECK say that it holds, without a TTL, and never give it one."""
    holder = session()
    token = hold(holder, resource)
    assert client.ask_ok(f"CHECK {resource} token={token}").body == {"ttl_ms": None}
    assert client.ask_ok(f"RENEW {resource} token={token} ttl=100ms").body == {"ttl_ms": None}
    assert status_of(holder, "renew(%s, %s, '100 ms')", resource, token) == "OK"
    start = one(cursor, "select pglockd.lease_now()")
    eventually(lambda: one(cursor, "select pglockd.lease_now()") > start + 2500000)
    assert held(cursor, resource) == [token]
    client.ask_ok(f"UNLOCK {resource} token={token}")
    assert held(cursor, resource) == []
    holder.close()


def test_a_change_of_mode_stays_bound_to_the_session(session, client, connect, cursor, resource):
    holder, reader = session(), connect()
    token = hold(holder, resource)
    assert client.ask_ok(f"LOCK {resource} token={token} mode=shared ttl=100ms")["ttl_ms"] is None
    reading = reader.lock(resource, "mode=shared")
    client.send(f"LOCK {resource} token={token} mode=exclusive wait=inf")
    wait_for_queue(reader, resource, 1)
    reader.ask_ok(f"UNLOCK {resource} token={reading}")
    upgraded = client.reply()
    assert upgraded["token"] > token and upgraded["ttl_ms"] is None
    again = client.ask_ok(f"LOCK {resource} token={upgraded['token']} mode=shared")
    third = client.ask_ok(f"LOCK {resource} token={again['token']} mode=exclusive")["token"]
    start = one(cursor, "select pglockd.lease_now()")
    eventually(lambda: one(cursor, "select pglockd.lease_now()") > start + 2000000)
    assert held(cursor, resource) == [third]
    holder.close()
    eventually(lambda: held(cursor, resource) == [])


def test_given_away_it_is_a_lease_like_others(session, client, cursor, resource):
    holder = session()
    token = hold(holder, resource)
    new = client.ask_ok(f"TRANSFER {resource} token={token} to=agent")["token"]
    assert 0 < client.ask_ok(f"CHECK {resource} token={new}")["ttl_ms"] <= 30000
    holder.close()
    client.ask_ok(f"UNLOCK {resource} token={new}")


def test_force_ends_it(session, sql, client, cursor, resource):
    holder = session()
    token = hold(holder, resource)
    assert one(sql(user="postgres").cursor(), "select status from pglockd.force(%s)", resource) == "OK"
    assert client.ask(f"CHECK {resource} token={token}")["reason"] == "forced"
    client.lock(resource)


def test_pglockctl_shows_it(session, daemon, resource):
    token = hold(session(), resource)
    for command in ["info", resource], ["ls", f"prefix={resource}"]:
        done = ctl(daemon.line, *command)
        assert done.returncode == 0, done.stderr
        *_, head, row = done.stdout.rstrip().splitlines()
        assert row.split()[head.split().index("TTL")] == "-", done.stdout
    done = ctl(daemon.line, "check", resource, f"token={token}")
    assert (done.returncode, done.stdout) == (0, "held, without a TTL\n")


# ---- the server ----

def test_its_end_is_counted(make_daemon, resource):
    daemon = make_daemon()
    holder = daemon.sql()
    for i in range(3):
        hold(holder, f"{resource}/{i}")
    holder.close()
    eventually(lambda: 'pglockd_leases_ended_total{reason="connection_closed"} 3' in metrics(daemon))


def metrics(daemon):
    with urllib.request.urlopen(f"http://{daemon.http}/metrics", timeout=20) as reply:
        return reply.read().decode()


def test_it_is_gone_after_a_crash_of_the_server(make_daemon, resource):
    daemon = make_daemon()
    holder = daemon.sql()
    token = hold(holder, resource)
    with Lines(daemon.line) as client:
        os.kill(daemon.postmaster(), signal.SIGQUIT)
        with contextlib.suppress(psycopg2.Error):
            holder.close()
        reply = eventually(lambda: (r := client.ask(f"LOCK {resource}")).status == "OK" and r, seconds=60)
        assert reply["token"] > token
