"""Two daemons on one database are one lock service: exclusion, order, hand-over, failure of either.

And SQL is a third way in: lock(), unlock(), renew() and force() in the same lock space, and views
that show it.
"""

import contextlib
import os
import re
import signal

import pytest

from lines import eventually, wait_for_queue


@pytest.fixture
def both(connect, daemon, other):
    """A connection to each."""
    return connect(daemon), connect(other)


def rows(cursor, query, *values):
    cursor.execute(query, values)
    return cursor.fetchall()


# ---- exclusion and order ----

def test_they_exclude_each_other(both, resource):
    a, b = both
    token = a.lock(resource, "owner=a")
    assert b.ask(f"LOCK {resource}")["holders"][0]["owner"] == "a"
    assert b.ask_ok(f"CHECK {resource} token={token}")["ttl_ms"] > 0
    assert b.ask_ok(f"RENEW {resource} token={token} ttl=1m")["ttl_ms"] == 60000
    b.ask_ok(f"UNLOCK {resource} token={token}")
    assert b.lock(resource) > token
    assert a.ask(f"LOCK {resource}").status == "BUSY"


def test_shared_on_both(both, resource):
    a, b = both
    a.lock(resource, "mode=shared")
    b.lock(resource, "mode=shared")
    assert a.ask(f"LOCK {resource}")["holders_total"] == 2


def test_self_means_this_connection_of_this_daemon(both, resource):
    a, b = both
    a.lock(resource)
    assert a.ask_ok(f"INFO {resource}")["holders"][0]["self"] is True
    assert b.ask_ok(f"INFO {resource}")["holders"][0]["self"] is False


def test_one_queue_over_both(never_silent, connect, daemon, other, resource):
    holder = connect()
    token = holder.lock(resource)
    waiters = [connect(to) for to in (daemon, other, other, daemon, other, daemon)]
    for i, waiter in enumerate(waiters):
        waiter.send(f"LOCK {resource} wait=inf owner=o{i}")
        wait_for_queue(holder, resource, i + 1)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    for waiter in waiters:
        reply = waiter.reply()
        assert reply["token"] > token
        token = reply["token"]
        for later in waiters[waiters.index(waiter) + 1:]:
            later.nothing_comes()
        waiter.ask_ok(f"UNLOCK {resource} token={token}")


def test_readers_of_one_do_not_starve_a_writer_of_the_other(never_silent, connect, daemon, other, resource):
    readers = [connect(other) for _ in range(3)]
    tokens = [r.lock(resource, "mode=shared") for r in readers]
    writer, late = connect(daemon), connect(other)
    writer.send(f"LOCK {resource} wait=inf")
    wait_for_queue(late, resource, 1)
    assert late.ask(f"LOCK {resource} mode=shared").status == "BUSY"
    late.send(f"LOCK {resource} mode=shared wait=inf")
    wait_for_queue(readers[0], resource, 2)
    for reader, token in zip(readers, tokens):
        reader.ask_ok(f"UNLOCK {resource} token={token}")
    token = writer.reply()["token"]
    late.nothing_comes()
    writer.ask_ok(f"UNLOCK {resource} token={token}")
    assert late.reply()["token"] > token


def test_a_grant_by_the_other_daemon_has_its_full_ttl(both, resource):
    a, b = both
    token = a.lock(resource)
    b.send(f"LOCK {resource} wait=inf ttl=9m")
    wait_for_queue(a, resource, 1)
    a.ask_ok(f"UNLOCK {resource} token={token}")
    reply = b.reply()
    assert reply["ttl_ms"] == 540000
    # 5 s until it is accepted, then all of it.
    assert a.ask_ok(f"CHECK {resource} token={reply['token']}")["ttl_ms"] > 500000


def test_ping_pong(both, resource):
    """Many hand-overs from one to the other: each by a notification, none by a timeout."""
    a, b = both
    token = a.lock(resource)
    for _ in range(30):
        b.send(f"LOCK {resource} wait=1m")
        wait_for_queue(a, resource, 1)
        a.ask_ok(f"UNLOCK {resource} token={token}")
        reply = b.reply()
        assert reply.status == "OK" and reply["token"] > token
        token = reply["token"]
        a, b = b, a


# ---- waiters that leave ----

def test_a_waiter_that_disconnects_leaves_the_queue(connect, daemon, other, resource):
    holder, gone, stays = connect(daemon), connect(other), connect(other)
    token = holder.lock(resource)
    gone.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    stays.send(f"LOCK {resource} wait=inf owner=stays")
    wait_for_queue(holder, resource, 2)
    gone.close()
    assert wait_for_queue(holder, resource, 1)["queue"][0]["owner"] == "stays"
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert stays.reply()["token"] > token


def test_a_shared_waiter_behind_a_writer_that_leaves_is_granted(connect, daemon, other, resource):
    holder, writer, reader = connect(daemon), connect(daemon), connect(other)
    holder.lock(resource, "mode=shared")
    writer.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    reader.send(f"LOCK {resource} wait=inf mode=shared")
    wait_for_queue(holder, resource, 2)
    writer.close()
    assert reader.reply().status == "OK"


def test_an_id_comes_back_through_the_other_daemon(never_silent, connect, sql, daemon, other, resource):
    holder, first, second = connect(daemon), connect(daemon), connect(daemon)
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf id={resource} owner=o")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 2)
    first.close()
    again, cursor = connect(other), sql().cursor()
    again.send(f"LOCK {resource} wait=inf id={resource} owner=o")
    number = other.instance()
    eventually(lambda: rows(cursor, "select from pglockd.waiter where resource = %s and "
                            "instance_id = %s and absent_until_us is null", resource, number))
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    token = again.reply()["token"]
    second.nothing_comes()
    again.close()
    back = connect(daemon).ask_ok(f"LOCK {resource} id={resource} owner=o")
    assert back["repeated"] is True and back["token"] == token


# ---- a daemon that dies ----

@pytest.mark.parametrize("same", [True, False], ids=["of the holder", "of another"])
@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_a_bound_lease_ends_with_the_connection_that_changed_its_mode(connect, daemon, other, resource, same, mode):
    """It is bound to whoever changes it, and to nobody else; what was not bound before is not bound then."""
    holder = connect(daemon)
    first = "shared" if mode == "exclusive" else "exclusive"
    token = holder.lock(resource, f"mode={first} bind=connection")
    unbound = holder.lock(resource + "/unbound", f"mode={first}")
    changer = holder if same else connect(other)
    changer.ask_ok(f"LOCK {resource} token={token} mode={mode}")
    kept = changer.ask_ok(f"LOCK {resource}/unbound token={unbound} mode={mode}")["token"]
    watcher = connect(daemon)
    if not same:
        holder.close()
        assert watcher.ask(f"LOCK {resource}").status == "BUSY"
    changer.close()
    watcher.ask_ok(f"LOCK {resource} wait=inf")
    watcher.ask_ok(f"CHECK {resource}/unbound token={kept}")


def test_a_killed_daemon_s_waiters_vanish_and_others_are_served(connect, peer, sql, resource):
    doomed = peer()
    number = doomed.instance()
    holder, late = connect(), connect()
    token = holder.lock(resource)
    dead = [connect(doomed) for _ in range(3)]
    for i, one in enumerate(dead):
        one.send(f"LOCK {resource} wait=inf")
        wait_for_queue(holder, resource, i + 1)
    kept = connect(doomed).lock(f"{resource}/kept", "ttl=10m")
    late.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 4)
    doomed.kill()
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert late.reply()["token"] > token
    cursor = sql().cursor()
    eventually(lambda: not rows(cursor, "select from pglockd.instances where instance_id = %s", number),
               what="the dead daemon is retired")
    assert wait_for_queue(holder, resource, 0)
    # Its leases stand until their TTL, and anybody who has the token may go on with them.
    holder.ask_ok(f"RENEW {resource}/kept token={kept}")
    holder.ask_ok(f"UNLOCK {resource}/kept token={kept}")


JANITOR = ("select pid from pg_locks join pglockd.clock on objid = janitor_term where granted and "
           "locktype = 'advisory' and classid = 1346849797")


def is_janitor(cursor, daemon):
    """Is the janitor's session one of this daemon? Only its log knows which is its newest, if there is one yet."""
    mine, janitor = re.findall(r'link="janitor" backend=(\d+)', daemon.log_path.read_text()), rows(cursor, JANITOR)
    return bool(mine) and janitor == [(int(mine[-1]),)]


def make_janitor(cursor, *daemons):
    """Ends the session of whoever is the janitor until one of these is, and returns that one."""
    def look():
        found = next((one for one in daemons if is_janitor(cursor, one)), None)
        if not found:
            cursor.execute(f"select pg_terminate_backend(pid) from ({JANITOR}) janitor")
        return found
    return eventually(look)


def test_another_daemon_becomes_the_janitor(connect, peer, sql, resource):
    """Kills the janitor's daemon, whichever it is, until a new daemon has taken over."""
    cursor = sql().cursor()
    first, second = peer(), peer()
    leader = make_janitor(cursor, first, second)
    leader.kill()
    client = connect(second if leader is first else first)
    token = client.lock(resource, "ttl=100ms")
    eventually(lambda: not rows(cursor, "select from pglockd.lease where resource = %s", resource),
               what="the new janitor removes what has expired")
    assert client.ask(f"CHECK {resource} token={token}")["reason"] == "expired"
    eventually(lambda: len(rows(cursor, JANITOR)) == 1)


def test_a_frozen_janitor_is_replaced(connect, peer, sql):
    """It ticks no more: after 3 s another begins the next term, and ends its session."""
    cursor = sql().cursor()
    frozen = peer()
    make_janitor(cursor, frozen)
    frozen.signal(signal.SIGSTOP)
    try:
        eventually(lambda: rows(cursor, JANITOR) and not is_janitor(cursor, frozen), what="a new janitor")
    finally:
        frozen.signal(signal.SIGCONT)
    eventually(lambda: not connect(frozen).ask_ok("STATS")["janitor"])


@contextlib.contextmanager
def frozen_backend(cursor):
    """Stops the janitor's server process, between two ticks: in one, it would keep the clock's row locked."""
    def stop():
        pid = next((pid for pid, in rows(cursor, JANITOR)), None)
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        if rows(cursor, "select from pg_stat_activity where pid = %s and state = 'idle'", pid):
            return pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return None
    pid = eventually(stop)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not rows(cursor, "select from pg_stat_activity where pid = %s", pid),
               what="the old session ends when it goes on")


def test_a_janitor_whose_server_process_is_frozen_is_replaced(peer, sql):
    """It cannot be ended, and keeps its lock: the next term does not wait for that."""
    cursor = sql().cursor()
    peer()
    with frozen_backend(cursor) as old:
        eventually(lambda: [pid for pid, in rows(cursor, JANITOR) if pid != old])
        ticks = "select ticks_total from pglockd.clock"
        ((before,),) = rows(cursor, ticks)
        eventually(lambda: rows(cursor, ticks)[0][0] > before + 2)
    assert rows(cursor, JANITOR) != [(old,)]


def test_the_only_daemon_replaces_its_own_frozen_janitor(make_daemon):
    daemon = make_daemon()
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        with frozen_backend(cursor) as old:
            eventually(lambda: [pid for pid, in rows(cursor, JANITOR) if pid != old])
    assert "no answer: the server's process may be frozen" in daemon.log_path.read_text()


# ---- SQL in the same lock space ----

def test_what_ends_at_once_is_swept_in_small_rounds(client, sql, resource):
    """So that no guard, no row and no processor is kept from others for long."""
    cursor, count = sql().cursor(), 250
    for i in range(count):
        client.lock(f"{resource}/{i}", "ttl=10m")
    beneath = f"{resource}/%"
    cursor.execute("update pglockd.lease set expires_us = pglockd.lease_now(), check_us = pglockd.lease_now() "
                   "where resource like %s", (beneath,))
    rounds = "select count(*) from pglockd.tombstone where resource like %s group by xmin::text"
    eventually(lambda: sum(n for n, in rows(cursor, rounds, beneath)) == count)
    assert max(n for n, in rows(cursor, rounds, beneath)) <= 100


def test_sql_and_lines_exclude_each_other(client, sql, resource):
    cursor = sql().cursor()
    ((status, token, ttl_ms, holders),) = rows(
        cursor, "select * from pglockd.lock(%s, owner => 'dba', note => 'vacuum')", resource)
    assert (status, ttl_ms, holders) == ("OK", 30000, None)
    busy = client.ask(f"LOCK {resource}")
    assert (busy["holders"][0]["owner"], busy["holders"][0]["note"]) == ("dba", "vacuum")
    assert rows(cursor, "select status, ttl_ms from pglockd.renew(%s, %s, '1 min')", resource,
                token) == [("OK", 60000)]
    assert rows(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == [("OK",)]
    assert rows(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == [("LOST",)]
    later = client.lock(resource, "owner=line")
    assert later > token
    ((status, token, holders),) = rows(
        cursor, "select status, token, holders from pglockd.lock(%s)", resource)
    assert (status, token, holders[0]["owner"]) == ("BUSY", None, "line")


def test_unlock_by_sql_hands_over_to_a_waiter_of_a_daemon(never_silent, both, sql, resource):
    a, b = both
    cursor = sql().cursor()
    for waiter in a, b:
        ((token,),) = rows(cursor, "select token from pglockd.lock(%s)", resource)
        waiter.send(f"LOCK {resource} wait=inf")
        wait_for_queue(a if waiter is b else b, resource, 1)
        assert rows(cursor, "select status from pglockd.lock(%s, 'shared')", resource) == [("BUSY",)]
        assert rows(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == [("OK",)]
        reply = waiter.reply()
        assert reply["token"] > token
        waiter.ask_ok(f"UNLOCK {resource} token={reply['token']}")


def test_force_ends_a_lease_and_hands_over(both, sql, resource):
    a, b = both
    token = a.lock(resource)
    b.send(f"LOCK {resource} wait=inf")
    wait_for_queue(a, resource, 1)
    assert rows(sql().cursor(), "select status, token from pglockd.force(%s, reason => 'stuck')",
                resource) == [("OK", token)]
    assert b.reply()["token"] > token
    lost = a.ask(f"RENEW {resource} token={token}")
    assert (lost.status, lost["reason"]) == ("LOST", "forced") and "stuck" in lost["message"]


def test_an_uncommitted_sql_lock_is_not_there_yet(client, sql, resource):
    """Until its transaction ends it holds the guard: others cannot decide, and are told so."""
    connection = sql()
    connection.autocommit = False
    cursor = connection.cursor()
    cursor.execute("select status from pglockd.lock(%s)", (resource,))
    assert client.ask(f"LOCK {resource}").code == "guarded"
    connection.rollback()
    eventually(lambda: client.ask(f"LOCK {resource}").status == "OK")


def test_view_locks(client, sql, daemon, resource):
    token = client.lock(resource, "owner=me note=why ttl=5m")
    ((*facts, held, left, expired, instance),) = rows(
        sql().cursor(), "select mode, scope, owner, identity, note, token, held, ttl_left, expired, "
        "instance from pglockd.locks where resource = %s", resource)
    assert facts == ["exclusive", "node", "me", "", "why", token]
    assert 0 <= held.total_seconds() < 60 and 200 < left.total_seconds() <= 300 and not expired
    assert instance.endswith(f"/{daemon.process.pid}")


def test_view_queue(connect, daemon, other, sql, resource):
    holder, first, second = connect(daemon), connect(other), connect(daemon)
    holder.lock(resource, "owner=h")
    first.send(f"LOCK {resource} wait=inf owner=w1 note=n")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf owner=w2 mode=shared")
    wait_for_queue(holder, resource, 2)
    got = rows(sql().cursor(), "select position, mode, owner, note, absent, blocked_by_holders, "
               "blocked_by_waiters, instance from pglockd.queue where resource = %s order by position",
               resource)
    assert [r[:-1] for r in got] == [
        (1, "exclusive", "w1", "n", False, ["h"], None), (2, "shared", "w2", None, False, ["h"], ["w1"])]
    assert [int(r[-1].rsplit("/")[-1]) for r in got] == [other.process.pid, daemon.process.pid]


def test_view_instances(daemon, other, sql):
    got = rows(sql().cursor(), "select instance_id, connected, waiters, name from pglockd.instances")
    for one in daemon, other:
        (row,) = [r for r in got if r[0] == one.instance()]
        assert row[1] is True and row[3].endswith(f"/{one.process.pid}")
