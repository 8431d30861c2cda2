"""Sessions: one TTL for any number of locks, renewed by one row, taken up from anywhere, ended at once."""

import signal

import pytest

from conftest import Daemon, ctl
from lines import eventually, wait_for_queue
from schema import Instance, call, in_order, one, rows

TTL = "ttl=1m"


@pytest.fixture
def both(connect, daemon, other):
    return connect(daemon), connect(other)


@pytest.fixture
def cursor(daemon):
    connection = daemon.sql()
    yield connection.cursor()
    connection.close()


def opened(client, words=TTL):
    """Opens a session; returns (id, secret)."""
    reply = client.ask_ok(f"SESSION OPEN {words}")
    return reply["session"], reply["secret"]


def bound(client, resource, session, words=""):
    return client.ask_ok(f"LOCK {resource} session={session} {words}")


def run_out(cursor, session, seconds=1):
    """Leaves a session so much time, however much has passed since it was opened; returns when it is over."""
    return one(cursor, "update pglockd.session set expires_us = pglockd.lease_now() + %s * 1000000, check_us = 0 "
               "where session_id = %s returning expires_us", seconds, session)


def is_bound(cursor, resource, session):
    """Takes a lock in the session; False where the janitor has the session's row locked, and nothing was done."""
    done = call(cursor, "acquire_batch", None, [resource], ["/"], [True], [9000000000000], [False], [], [],
                [], [], [], [], [int(session)], [], [])
    ((status, _),) = in_order(done, 1)
    assert status in "gr"
    return status == "g"


# ---- the verb ----

def test_a_session_from_open_to_close(both, resource, cursor):
    a, b = both
    session, secret = opened(a, "ttl=2m owner=builder note=nightly")
    locks = [bound(a, f"{resource}/{i}", session) for i in range(3)]
    assert all(lock["session"] == session and 0 < lock["ttl_ms"] <= 120000 for lock in locks)
    assert a.ask_ok(f"SESSION KEEPALIVE {session}").body == {"ttl_ms": 120000, "locks": 3}
    assert rows(cursor, "select owner, note, locks from pglockd.sessions where session = %s", session) \
        == [("builder", "nightly", 3)]
    listed = a.ask_ok(f"LIST session={session}")["locks"]
    assert [lock["resource"] for lock in listed] == [f"{resource}/{i}" for i in range(3)]
    assert all(lock["self"] and lock["ttl_ms"] <= 120000 for lock in listed)
    assert b.ask_ok(f"CHECK {resource}/0 token={locks[0]['token']}")["ttl_ms"] <= 120000
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 3}
    lost = b.ask(f"RENEW {resource}/0 token={locks[0]['token']}")
    assert lost.status == "LOST" and lost["reason"] == "session_closed"
    again = b.ask(f"SESSION KEEPALIVE {session} secret={secret}")
    assert again.status == "LOST" and again["reason"] == "session_closed"
    assert b.ask_ok(f"LOCK {resource}/0")


def test_resume_from_another_daemon_tells_what_is_held_and_lost(both, resource, cursor):
    a, b = both
    session, secret = opened(a)
    kept = bound(a, f"{resource}/kept", session, "mode=shared")
    taken = bound(a, f"{resource}/taken", session)
    rows(cursor, "select * from pglockd.force(%s, %s, 'test')", f"{resource}/taken", taken["token"])
    cursor.execute("update pglockd.session set expires_us = pglockd.lease_now() + 30000000 where session_id = %s",
                   (session,))
    a.close()
    reply = b.ask_ok(f"SESSION RESUME {session} secret={secret}")
    left_ms = reply["locks"][0].pop("ttl_ms")
    assert 40000 < left_ms <= 60000, "what is left of its TTL, which has begun anew"
    assert reply.body == {
        "ttl_ms": 60000,
        "locks": [{"resource": f"{resource}/kept", "token": kept["token"], "mode": "shared",
                   "scope": "node"}],
        "lost": [{"resource": f"{resource}/taken", "token": taken["token"], "reason": "forced"}]}
    assert b.ask(f"LOCK {resource}/kept")["holders"][0]["self"], "resumed: the session's locks are its own"
    bound(b, f"{resource}/more", session)
    assert b.ask_ok(f"SESSION CLOSE {session}").body == {"released": 2}


def test_the_secret_is_needed_and_stored_hashed(both, connect, other, resource, cursor):
    a, b = both
    session, secret = opened(a)
    requests = (f"SESSION KEEPALIVE {session}", f"SESSION CLOSE {session}", f"SESSION RESUME {session}",
                f"LOCK {resource} session={session}")
    for request in requests:
        assert b.ask(request).status == "DENIED", request
        with_wrong = connect(other).ask(f"{request} secret=wrong")
        assert (with_wrong.status, with_wrong.code) == ("DENIED", "denied"), request
    assert b.ask_ok(f"LOCK {resource} session={session} secret={secret}")["session"] == session
    busy = b.ask(f"LOCK {resource} session={session} secret={secret}")
    assert busy.status == "BUSY" and busy["resource"] == resource and secret not in str(busy.body)
    assert one(cursor, "select secret_sha256 = sha256(convert_to(%s, 'UTF8')) and "
               "position(%s in s::text) = 0 from pglockd.session s where session_id = %s",
               secret, secret, session)


def test_open_with_an_id_is_repeatable(both, resource):
    a, b = both
    session, first = opened(a, f"{TTL} id={resource} owner=x")
    bound(a, resource, session)
    again = b.ask_ok(f"SESSION OPEN {TTL} id={resource} owner=x")
    assert again["session"] == session and again["repeated"] and again["secret"] != first
    assert b.ask_ok(f"SESSION KEEPALIVE {session}")["locks"] == 1
    assert opened(b, f"{TTL} id={resource} owner=y")[0] != session
    assert b.ask_ok(f"SESSION CLOSE {session}")["released"] == 1
    assert opened(a, f"{TTL} id={resource} owner=x")[0] != session, "a session that has ended is not found"


@pytest.mark.parametrize("words, code", [
    ("SESSION", "bad_request"), ("SESSION SHUT 1", "bad_request"), ("SESSION KEEPALIVE", "bad_request"),
    ("SESSION KEEPALIVE x secret=s", "bad_request"), ("SESSION OPEN ttl=1ms", "ttl_out_of_range"),
    ("SESSION OPEN secret=s", "unknown_key"), ("SESSION CLOSE 1 ttl=5s", "unknown_key"),
    ("LOCK a session=x", "bad_request"), ("LOCK a secret=x", "bad_request"),
    ("LOCK a session=1 secret=x ttl=5s", "bad_request"), ("LIST session=x", "bad_request")])
def test_what_is_wrong_is_said(connect, daemon, words, code):
    reply = connect(daemon).ask(words)
    assert (reply.status, reply["code"]) == ("ERR", code)


def test_a_session_that_never_was(connect, daemon, resource):
    client = connect(daemon)
    for request in ("SESSION RESUME 999999999 secret=x", "SESSION CLOSE 999999999 secret=x",
                    f"LOCK {resource} session=999999999 secret=x"):
        reply = client.ask(request)
        assert (reply.status, reply["reason"]) == ("LOST", "unknown"), request


# ---- its end ----

def test_close_hands_over_at_once_to_waiters_of_both_daemons(both, connect, daemon, other, resource, cursor):
    a, b = both
    session, _ = opened(a)
    for i in range(2):
        bound(a, f"{resource}/{i}", session)
    waiting = [connect(daemon), connect(other)]
    for i, client in enumerate(waiting):
        client.send(f"LOCK {resource}/{i} wait=inf")
        wait_for_queue(b, f"{resource}/{i}", 1)
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 2}
    for client in waiting:
        assert client.reply().status == "OK"


def test_unrenewed_it_ends_with_all_its_locks(both, connect, resource, daemon, cursor):
    a, b = both
    session, secret = opened(a)
    tokens = [bound(a, f"{resource}/{i}", session)["token"] for i in range(3)]
    run_out(cursor, session)
    b.send(f"LOCK {resource}/0 wait=inf")
    assert b.reply().status == "OK"
    c = connect(daemon)
    for i in range(3):
        lost = c.ask(f"CHECK {resource}/{i} token={tokens[i]}")
        assert (lost.status, lost["reason"]) == ("LOST", "expired")
    lost = c.ask(f"SESSION RESUME {session} secret={secret}")
    assert (lost.status, lost["reason"]) == ("LOST", "expired")


def test_keepalive_keeps_locks_past_many_ttls(still, resource):
    """On a database that no daemon serves, so that no time is lost between two of them."""
    me = Instance(still())
    session = call(me.cursor, "session_open", 10000, "", "", None, None, "secret")["o_session"]
    assert me.claim(resource, session=session, ttl=9000000000000)[0] == "g"

    def is_held_after(seconds):
        one(me.cursor, "select pglockd.tick(%s * interval '1 s')", seconds)
        call(me.cursor, "sweep", 100000, 30000, True, None)
        return bool(rows(me.cursor, "select from pglockd.lease where resource = %s", resource))
    for _ in range(5):
        assert is_held_after(8)
        assert call(me.cursor, "session_renew", session, "secret")["o_status"] == "g"
    assert is_held_after(8) and not is_held_after(8)


def test_renew_of_a_bound_lock_does_not_part_it_from_its_session(both, resource):
    a, b = both
    session, _ = opened(a)
    token = bound(a, resource, session)["token"]
    assert a.ask_ok(f"RENEW {resource} token={token} ttl=5m")["ttl_ms"] <= 60000
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 1}
    assert b.ask_ok(f"LOCK {resource}")


@pytest.mark.parametrize("end", ["close", "expiry"])
def test_a_lock_that_waits_is_told_that_its_session_ended(both, connect, other, resource, cursor, end):
    a, b = both
    token = b.lock(resource)
    session, secret = opened(a)
    waiting = connect(other)
    waiting.send(f"LOCK {resource} session={session} secret={secret} wait=inf")
    wait_for_queue(b, resource, 1)
    if end == "close":
        assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 0}
    else:
        run_out(cursor, session)
    assert waiting.reply().status == "LOST"
    b.ask_ok(f"UNLOCK {resource} token={token}")
    assert a.ask_ok(f"LOCK {resource}")


def test_a_lock_that_waits_is_told_so_too_by_a_daemon_that_has_lost_touch(both, connect, peer, resource, sql):
    """It then asks what has become of those who wait, and is told that this one has no place, before it has heard why.
    The client heard that another request had its place, and would have asked no more."""
    a, b = both
    cursor = sql(user="postgres").cursor()

    def backends():
        return {pid for pid, in rows(cursor, "select pid from pg_stat_activity where application_name = 'pglockd'")}
    others = backends()
    token = b.lock(resource)
    session, secret = opened(a)
    daemon = peer()
    waiting = connect(daemon)
    waiting.send(f"LOCK {resource} session={session} secret={secret} wait=inf")
    wait_for_queue(b, resource, 1)
    daemon.signal(signal.SIGSTOP)
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 0}
    cursor.execute("select pg_terminate_backend(pid) from unnest(%s) pid", ([*backends() - others],))
    daemon.signal(signal.SIGCONT)
    assert waiting.reply().status == "LOST"
    b.ask_ok(f"UNLOCK {resource} token={token}")


def test_a_lock_granted_after_a_wait_is_bound(both, connect, daemon, resource):
    a, b = both
    token = b.lock(resource)
    session, _ = opened(a)
    a.send(f"LOCK {resource} session={session} wait=inf")
    wait_for_queue(b, resource, 1)
    b.ask_ok(f"UNLOCK {resource} token={token}")
    assert a.reply()["session"] == session
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 1}
    assert b.ask_ok(f"LOCK {resource}")


def test_a_killed_daemon_loses_no_session(directory, connect, daemon, resource):
    doomed = Daemon(directory / "sessions-doomed", dsn=daemon.dsn).start()
    client = connect(doomed)
    session, secret = opened(client)
    token = bound(client, resource, session)["token"]
    assert doomed.kill() == -signal.SIGKILL
    resumed = connect(daemon).ask_ok(f"SESSION RESUME {session} secret={secret}")
    assert [lock["token"] for lock in resumed["locks"]] == [token]


# ---- the command line ----

def test_pglockctl_session(daemon, connect, resource):
    done = ctl(daemon.line, "session", "open", "ttl=1m", "owner=ci")
    assert done.returncode == 0, done.stderr
    session, secret = done.stdout.split()
    assert ctl(daemon.line, "lock", resource, f"session={session}", f"secret={secret}").returncode == 0
    done = ctl(daemon.line, "session", "keepalive", session, f"secret={secret}")
    assert (done.returncode, done.stdout) == (0, "")
    done = ctl(daemon.line, "session", "resume", session, f"secret={secret}")
    assert done.returncode == 0 and resource in done.stdout
    assert ctl(daemon.line, "session", "close", session, "secret=no").returncode == 77
    assert ctl(daemon.line, "session", "close", session, f"secret={secret}").returncode == 0
    assert ctl(daemon.line, "session", "keepalive", session, f"secret={secret}").returncode == 76
    assert connect(daemon).ask_ok(f"LOCK {resource}")


# ---- cost ----

def test_a_renewal_is_one_hot_update_whatever_the_number_of_locks(still, resource):
    """On a database that no daemon serves, so that only this touches the tables."""
    cursor = still().cursor()
    number = Instance(still()).number
    # Sessions of other tests tell what they did when they end, which may be later than their client thinks.
    eventually(lambda: one(cursor, "select count(*) from pg_stat_activity where datname = current_database() "
                           "and backend_type = 'client backend'") == 2)
    sessions = [call(cursor, "session_open", 60000, "", "", None, None, "secret")["o_session"]
                for _ in range(20)]
    for session in sessions:
        names = [f"{resource}/{session}/{i}" for i in range(10)]
        done = call(cursor, "acquire_batch", number, names, ["/"], [True] * 10, [9000000000000] * 10,
                    [False] * 10, [1] * 10, list(range(10)), [], [], [], [], [session] * 10, [], [])
        assert len(done["o_number"]) == 10
    def updates():
        cursor.execute("select pg_stat_force_next_flush()")
        cursor.execute("select pg_stat_clear_snapshot()")
        return rows(cursor, "select relname, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables "
                    "where schemaname = 'pglockd' and relname in ('session', 'lease_exclusive') order by 1")
    before = updates()
    for session in sessions:
        assert call(cursor, "session_renew", session, "secret")["o_locks"] == 10
    leases, renewed = [(after[1] - was[1], after[2] - was[2]) for after, was in zip(updates(), before)]
    assert leases == (0, 0) and renewed == (20, 20)


# ---- races ----

@pytest.fixture
def begin(daemon):
    """Opens a session inside a transaction."""
    connections = []
    def open_one():
        connections.append(daemon.sql())
        connections[-1].autocommit = False
        return connections[-1]
    yield open_one
    for connection in connections:
        connection.close()


def test_race_keepalive_before_expiry(both, begin, resource, cursor):
    """A renewal that has the row first wins: the janitor passes the locked row over, and finds it renewed."""
    a, _ = both
    session, secret = opened(a)
    renewing = begin()
    inside = renewing.cursor()
    inside.execute("select")
    due = run_out(cursor, session, 3)
    inside.execute("update pglockd.session set ttl_ms = 60000 where session_id = %s", (session,))
    assert call(inside, "session_renew", int(session), secret)["o_status"] == "g"
    eventually(lambda: one(cursor, "select pglockd.lease_now()") > due + 1000000)
    renewing.commit()
    assert a.ask_ok(f"SESSION KEEPALIVE {session}")["ttl_ms"] == 60000


def test_race_expiry_before_keepalive(both, begin, cursor):
    """A renewal that comes while the session is being ended waits for that, and is told."""
    a, _ = both
    session, _ = opened(a)
    ending = begin()
    ending.cursor().execute("update pglockd.session set ended_us = 1, ended_reason = 'expired', "
                            "ended_at = clock_timestamp() where session_id = %s", (session,))
    a.send(f"SESSION KEEPALIVE {session}")
    eventually(lambda: one(cursor, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                           "and query like '%%session_renew%%'"))
    ending.commit()
    reply = a.reply()
    assert (reply.status, reply["reason"]) == ("LOST", "expired")


def test_race_resume_against_expiry(both, connect, other, begin, cursor, resource):
    """RESUME elsewhere decides under the same row lock: it never shows locks that are going."""
    a, b = both
    session, secret = opened(a)
    bound(a, resource, session)
    ending = begin()
    ending.cursor().execute("update pglockd.session set ended_us = 1, ended_reason = 'expired', "
                            "check_us = 0, ended_at = clock_timestamp() where session_id = %s", (session,))
    b.send(f"SESSION RESUME {session} secret={secret}")
    eventually(lambda: one(cursor, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                           "and query like '%%session_resume%%'"))
    ending.commit()
    assert b.reply().status == "LOST"
    b.send(f"LOCK {resource} wait=inf")
    assert b.reply().status == "OK", "the janitor removes what the dead session had"


def test_race_lock_in_session_against_its_end(both, begin, resource, cursor):
    """What binds a lock keeps the session from ending until it commits: an end finds the lock."""
    a, _ = both
    session, secret = opened(a)
    binding = begin()
    inside = binding.cursor()
    inside.execute("select")
    due = run_out(cursor, session, 3)
    eventually(lambda: is_bound(inside, resource, session))
    eventually(lambda: one(cursor, "select pglockd.lease_now()") > due + 1000000)
    assert one(cursor, "select ended_us is null from pglockd.session where session_id = %s", session)
    binding.commit()
    eventually(lambda: one(cursor, "select ended_us is not null from pglockd.session where session_id = %s",
                           session))
    assert one(cursor, "select count(*) from pglockd.lease where resource = %s", resource) == 0


def test_race_a_session_that_is_being_ended_gets_no_lock(both, begin, resource):
    a, _ = both
    session, _ = opened(a)
    ending = begin()
    ending.cursor().execute("select ended_us from pglockd.session where session_id = %s for update", (session,))
    assert a.ask(f"LOCK {resource} session={session}")["code"] == "guarded"
    ending.rollback()
    assert a.ask_ok(f"LOCK {resource} session={session}")


def test_a_fenced_lease_keeps_close_from_doing_anything(both, begin, resource):
    a, _ = both
    session, _ = opened(a)
    bound(a, f"{resource}/0", session)
    bound(a, f"{resource}/1", session)
    fence = begin()
    fence.cursor().execute("select from pglockd.lease where resource = %s for key share", (f"{resource}/1",))
    assert a.ask(f"SESSION CLOSE {session}")["code"] == "fenced"
    assert a.ask_ok(f"SESSION KEEPALIVE {session}")["locks"] == 2
    fence.rollback()
    assert a.ask_ok(f"SESSION CLOSE {session}").body == {"released": 2}
