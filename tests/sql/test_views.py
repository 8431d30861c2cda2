"""Views find their way by an index: no filter of an operator's reads all leases (tests/bench/views.py has
the times). And pglockd.blockers, which writes the rule out, says what the rule says.
"""

import contextlib
import random
import subprocess

import psycopg2
import pytest

import desk
from conftest import PGLOCKCTL
from schema import one, rows

CASES = [(view, name) for view, filters in desk.FILTERS.items() for name in filters]


@pytest.fixture(scope="module")
def full(daemon):
    """A cursor of who may look at a database of its own with many leases."""
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        connection.cursor().execute("create database full_of_leases owner pglockd")
    dsn = daemon.dsn.replace("dbname=pglockd", "dbname=full_of_leases")
    subprocess.run([PGLOCKCTL, "migrate", "up", "--dsn", dsn], check=True, capture_output=True, timeout=60)
    with contextlib.closing(psycopg2.connect(dsn, user="postgres")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        desk.load(cursor, leases=50000, waiters=2000)
        cursor.execute("set role pglockd_reader")
        yield cursor


@pytest.mark.xdist_group("full_of_leases")
@pytest.mark.parametrize("view,name", CASES)
def test_no_filter_reads_all_leases(full, view, name):
    query = desk.query(view, desk.FILTERS[view][name])
    full.execute(query)
    assert full.fetchall(), "the filter should find something"
    full.execute("explain (format json) " + query)
    ((plan,),) = full.fetchall()
    found = list(desk.scans(plan[0]["Plan"]))
    assert [s for s in found if s[0] == "Seq Scan" and s[1].startswith("lease")] == []


@pytest.mark.xdist_group("full_of_leases")
def test_what_is_filtered_is_what_is_there(full):
    assert one(full, "select count(*) from pglockd.locks") == 50000
    assert one(full, "select count(*) from pglockd.locks where pglockd.is_beneath(resource, '/')") == 50000
    assert one(full, "select count(*) from pglockd.locks where pglockd.is_beneath(resource, 'repo/3')") == 500


# ---- the rule that is written twice ----

def put_random_rows(cursor, top, seed):
    """Leases and waiters of a small tree in any state, also one that no history leads to."""
    rng = random.Random(seed)
    names = [top] + [f"{top}/{a}" for a in "ab"] + [f"{top}/{a}/{b}" for a in "ab" for b in "cd"] + [f"{top}.x"]

    def claim():
        scope = rng.choice(["node", "node", "tree"])
        return rng.choice(names), rng.choice(["shared", "exclusive"]), scope
    shared = {}
    for n in range(12):
        resource, mode, scope = claim()
        if mode == "shared":
            shared[resource, scope] = 10 + n
        cursor.execute("insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, "
                       "conn_id, instance_id, mode, scope, delivered, resource, owner, identity) values (%s, 0, 0, 0, 0, "
                       "clock_timestamp(), %s, 1, %s, %s, true, %s, '', '')", (10 + n, n, mode, scope, resource))
    for n in range(12):
        resource, mode, scope = claim()
        upgrade = shared.pop((resource, scope), None) if mode == "exclusive" else None
        cursor.execute("insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, instance_id, "
                       "mode, scope, resource, owner, identity, absent_until_us, upgrade_token) values (%s, 0, %s, 0, "
                       "clock_timestamp(), 1, %s, %s, %s, '', '', %s, %s)",
                       (100 + n, 100 + n, mode, scope, resource, rng.choice([None, None, 1]), upgrade))


@pytest.mark.parametrize("seed", range(20))
def test_blockers_are_those_of_the_rule(still, resource, seed):
    connection = still()
    connection.autocommit = False
    cursor = connection.cursor()
    put_random_rows(cursor, resource, seed)
    shown = {}
    for key, party in rows(cursor, "select array[ticket::text, blocked_by], blocking_party from pglockd.blockers "
                           "where pglockd.is_beneath(resource, '/')"):
        shown.setdefault(tuple(key), set()).add(party)
    for ticket, name, exclusive, tree, own in rows(
            cursor, "select ticket, resource, mode = 'exclusive', scope = 'tree', upgrade_token from pglockd.waiter "
            "where starts_with(resource, %s)", resource):
        holders = {p for p, in rows(
            cursor, "select pglockd.party(l.session_id, l.instance_id, l.conn_id) from "
            "pglockd.lease_conflicts(%s, %s, %s) l where l.token is distinct from %s", name, exclusive, tree, own)}
        before = {p for p, in rows(
            cursor, "select pglockd.party(w.session_id, w.instance_id, w.conn_id) from "
            "pglockd.waiter_conflicts(%s, %s, %s, null) w where w.ticket < %s", name, exclusive, tree, ticket)}
        assert shown.get((str(ticket), "holder"), set()) == holders, name
        direct = shown.get((str(ticket), "waiter"), set())
        assert direct <= before and bool(direct) == bool(before), name
    connection.rollback()
