"""History through daemons: the level reaches every connection that ends leases; partitions, retention, violations."""

import contextlib

import pytest

from lines import Lines, eventually, wait_for_queue
from test_metrics import FAST, key, scrape


def rows(daemon, query, *values):
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else None


def is_free(client, resource):
    return not client.ask_ok(f"INFO {resource}")["holders"]


def lock_in_a_session_that_expires(client, resource):
    """As soon as this machine can."""
    def is_locked(ttl):
        session = client.ask_ok(f"SESSION OPEN ttl={ttl}")["session"]
        return client.ask(f"LOCK {resource} session={session}").status == "OK"
    assert any(map(is_locked, ("100ms", "5s", "30s")))


def known_work(daemon):
    """Leases end in every connection of the daemon: of the lane, the janitor, the sessions; and by SQL."""
    with Lines(daemon.line, "a") as one, Lines(daemon.line, "b") as two, Lines(daemon.line, "c") as closing:
        for n in range(3):
            one.ask_ok(f"UNLOCK quiet/{n} token={one.lock(f'quiet/{n}')}")
        token = one.lock("wanted/1")
        two.send("LOCK wanted/1 wait=inf")
        wait_for_queue(one, "wanted/1", 1)
        one.ask_ok(f"UNLOCK wanted/1 token={token}")
        two.ask_ok(f"UNLOCK wanted/1 token={two.reply()['token']}")
        token = one.lock("given/up")
        assert two.ask("LOCK given/up wait=1ms").status == "TIMEOUT"
        one.ask_ok(f"UNLOCK given/up token={token}")
        one.lock("expired/1", "ttl=100ms")
        eventually(lambda: is_free(one, "expired/1"))
        closing.lock("closed/1", "bind=connection")
        closing.close()
        eventually(lambda: is_free(one, "closed/1"))
        session = one.ask_ok("SESSION OPEN")["session"]
        one.lock("session/1", f"session={session}")
        one.ask_ok(f"SESSION CLOSE {session}")
        lock_in_a_session_that_expires(one, "session/2")
        eventually(lambda: is_free(one, "session/2"))
        token = one.lock("mode/1")
        one.ask_ok(f"LOCK mode/1 token={token} mode=shared")
        one.ask_ok(f"UNLOCK mode/1 token={token}")
        one.lock("forced/1")
        rows(daemon, "select * from pglockd.force('forced/1', null, 'test')")


CONTENDED = [("closed/1", "connection_closed"), ("expired/1", "expired"), ("forced/1", "forced"), ("given/up", "released"),
             ("session/2", "expired"), ("wanted/1", "released"), ("wanted/1", "released")]
QUIET = [("mode/1", "released"), ("mode/1", "superseded"), ("quiet/0", "released"), ("quiet/1", "released"),
         ("quiet/2", "released"), ("session/1", "session_closed")]


@pytest.mark.parametrize("arguments, noted", [
    ((), CONTENDED), (("--history", "contended"), CONTENDED), (("--history", "all"), sorted(CONTENDED + QUIET)),
    # SQL callers have the level of the database.
    (("--history", "off"), [("forced/1", "forced")])])
def test_known_work(make_daemon, arguments, noted):
    daemon = make_daemon(*arguments)
    known_work(daemon)
    assert rows(daemon, "select resource, reason from pglockd.history order by 1, 2") == noted
    assert rows(daemon, "select count(*) from pglockd.violation") == [(0,)]
    if noted is CONTENDED:
        assert rows(daemon, "select name, leases, waits, wanted, gave_up from pglockd.contention "
                    "where of = 'resource' order by name") == [("given/up", 1, 0, 1, 1), ("wanted/1", 2, 1, 1, 0)]
        assert rows(daemon, "select name, leases, waits, wanted, gave_up from pglockd.contention "
                    "where of = 'owner' order by name") == [("a", 5, 0, 2, 1), ("b", 1, 1, 0, 0)]


# ---- partitions ----

def partitions(daemon):
    return [n for n, in rows(daemon, "select relname from pg_class where relname ~ '^lease_history_[0-9]{8}$' "
                             "and relkind = 'r' order by 1")]


def test_partitions_are_made_and_dropped(within_a_day, make_daemon):
    daemon = make_daemon()
    eventually(lambda: len(partitions(daemon)) == 3)
    rows(daemon, "select pglockd.day_partition('lease_history', current_date - 8), "
         "pglockd.day_partition('lease_history', current_date - 5)")
    assert daemon.stop() == 0
    daemon.start()
    eventually(lambda: len(partitions(daemon)) == 4)
    assert daemon.stop() == 0
    daemon.start("--history-retention", "1d")
    eventually(lambda: len(partitions(daemon)) == 3)


# ---- the proof ----

FORGE = """
    insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, granted_us, mode, scope,
                               delivered, resource, owner, identity)
    select nextval('pglockd.token_seq'), l.expires_us, l.check_us, l.ttl_ms, l.queue_floor, clock_timestamp(),
           pglockd.lease_now(), l.mode, l.scope, true, l.resource, 'forged', ''
      from pglockd.lease l where l.resource = %s
    returning token"""


def some_lease_time(daemon):
    """The lease clock stands still while no daemon is the janitor."""
    (before,), = rows(daemon, "select pglockd.lease_now()")
    eventually(lambda: rows(daemon, "select pglockd.lease_now()")[0][0] > before)


def violations(daemon):
    return scrape(daemon).get(key("pglockd_violations"))


def test_a_forged_overlap_is_a_metric_and_an_error_in_the_log(make_daemon):
    daemon = make_daemon("--history", "all", *FAST)
    eventually(lambda: violations(daemon) == 0)
    with Lines(daemon.line) as client:
        honest = client.lock("forged/1", "ttl=5m")
        some_lease_time(daemon)
        (forged,), = rows(daemon, FORGE, "forged/1")
        some_lease_time(daemon)
        client.ask_ok(f"UNLOCK forged/1 token={honest}")
        some_lease_time(daemon)
        client.ask_ok(f"UNLOCK forged/1 token={forged}")
        client.ask_ok(f"UNLOCK other/1 token={client.lock('other/1')}")
    eventually(lambda: violations(daemon) == 1)
    assert rows(daemon, "select resource, other_owner, owner from pglockd.violation") == [("forged/1", "", "forged")]
    eventually(lambda: "event=violation" in daemon.log_path.read_text())
    rows(daemon, "delete from pglockd.violation")
    eventually(lambda: violations(daemon) == 0)


def test_history_without_the_extension_says_so(make_daemon):
    daemon = make_daemon("--history", "contended")
    eventually(lambda: partitions(daemon))
    rows(daemon, "drop extension btree_gist cascade")
    assert daemon.stop() == 0
    daemon.start("--history", "all")
    eventually(lambda: "event=history_without_proof" in daemon.log_path.read_text())
    known_work(daemon)
    assert rows(daemon, "select resource, reason from pglockd.history order by 1, 2") == sorted(CONTENDED + QUIET)
