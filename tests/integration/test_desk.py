"""The DBA's desk: what the views show of every kind of lock and wait."""

import pytest
from psycopg2 import errors

from lines import wait_for_queue
from schema import Instance, one, rows


@pytest.fixture
def cursor(sql):
    return sql().cursor()


def blockers(cursor, resource):
    return rows(cursor, "select owner, blocked_by, blocking_owner, blocking_resource, blocking_mode, blocking_scope "
                "from pglockd.blockers where resource = %s order by ticket, blocked_by, blocking_since", resource)


def waits(client, resource, words="", line=1):
    """Leaves a request waiting as the one at that place of the line."""
    client.send(f"@w{line} LOCK {resource} wait=inf {words}")
    wait_for_queue(client, resource, line)


# ---- locks ----

def locks(cursor, resource, columns):
    return rows(cursor, f"select {columns} from pglockd.locks where pglockd.is_beneath(resource, %s) "
                "order by resource, token", resource)


def test_trees_sets_and_semaphores_among_the_locks(client, cursor, resource):
    client.ask_ok(f"LOCK {resource}/a shared={resource}/b shared-tree={resource}/c owner=set")
    client.ask_ok(f"LOCK {resource}/d limit=5 weight=2 owner=slot grace=3s")
    columns = "resource, mode, scope, owner, slots, weight, grace = '3 s', bound, undelivered, expired"
    assert locks(cursor, resource, columns) == [
            (f"{resource}/a", "exclusive", "node", "set", None, None, None, False, False, False),
            (f"{resource}/b", "shared", "node", "set", None, None, None, False, False, False),
            (f"{resource}/c", "shared", "tree", "set", None, None, None, False, False, False),
            (f"{resource}/d", "shared", "node", "slot", 5, 2, True, False, False, False)]


def test_a_session_s_ttl_is_that_of_its_locks(client, cursor, resource):
    session = client.ask_ok("SESSION OPEN ttl=7m")["session"]
    client.ask_ok(f"LOCK {resource} session={session}")
    ((ttl, left),) = locks(cursor, resource, "ttl = '7 min', ttl_left between '1 min' and '7 min'")
    assert ttl and left


def test_a_grace_is_not_an_end(still, resource):
    """In its grace a lease has no TTL left and blocks others: expired says when that is over."""
    cursor = still().cursor()
    one(cursor, "select status from pglockd.lock(%s)", resource)
    one(cursor, "update pglockd.lease set grace_ms = 60000, expires_us = pglockd.lease_now() - 1 "
        "where resource = %s returning 1", resource)
    assert rows(cursor, "select ttl_left = '0', expired from pglockd.locks where resource = %s", resource) == [
        (True, False)]
    one(cursor, "update pglockd.lease set grace_ms = 0 where resource = %s returning 1", resource)
    assert one(cursor, "select expired from pglockd.locks where resource = %s", resource) is True


def test_beneath_is_by_segments(cursor):
    for resource, prefix, answer in (
            ("a/b", "a/b", True), ("a/b/c", "a/b", True), ("a/bc", "a/b", False), ("a/b.c", "a/b", False),
            ("a", "a/b", False), ("/", "/", True), ("a", "/", True), ("-", "/", True), ("\U0010ffff", "/", True)):
        assert one(cursor, 'select pglockd.is_beneath(%s collate "C", %s)', resource, prefix) is answer, resource


# ---- queue and blockers ----

def test_holders_and_the_last_exclusive_waiter_block(connect, cursor, resource):
    first, *others = [connect() for _ in range(5)]
    first.lock(resource, "owner=h")
    for line, (client, words) in enumerate(zip(others, (
            "owner=w1", "owner=w2 mode=shared", "owner=w3 mode=shared", "owner=w4")), 1):
        waits(client, resource, words, line)
    holder = ("holder", "h", resource, "exclusive", "node")
    w1 = ("waiter", "w1", resource, "exclusive", "node")
    assert blockers(cursor, resource) == [
        ("w1", *holder), ("w2", *holder), ("w2", *w1), ("w3", *holder), ("w3", *w1), ("w4", *holder), ("w4", *w1),
        ("w4", "waiter", "w2", resource, "shared", "node"), ("w4", "waiter", "w3", resource, "shared", "node")]
    assert rows(cursor, "select position, owner, blocked_by_holders, blocked_by_waiters from pglockd.queue "
                "where resource = %s order by position", resource) == [
        (1, "w1", ["h"], None), (2, "w2", ["h"], ["w1"]), (3, "w3", ["h"], ["w1"]),
        (4, "w4", ["h"], ["w1", "w2", "w3"])]


def test_who_shares_is_not_in_the_way_of_who_shares(connect, cursor, resource):
    first, second, third = connect(), connect(), connect()
    first.lock(resource, "mode=shared owner=h")
    waits(second, resource, "owner=w1")
    waits(third, resource, "owner=w2 mode=shared", 2)
    assert blockers(cursor, resource) == [
        ("w1", "holder", "h", resource, "shared", "node"), ("w2", "waiter", "w1", resource, "exclusive", "node")]


def test_trees_block_what_lies_beneath_and_wait_for_it(connect, cursor, resource):
    holder, tree, node = connect(), connect(), connect()
    holder.lock(f"{resource}/a/b", "owner=h")
    holder.lock(f"{resource}/s", "owner=s mode=shared")
    holder.lock(f"{resource}.beside", "owner=beside")
    waits(tree, resource, "owner=t scope=tree")
    waits(node, f"{resource}/c", "owner=n")
    assert sorted(blockers(cursor, resource)) == [
        ("t", "holder", "h", f"{resource}/a/b", "exclusive", "node"),
        ("t", "holder", "s", f"{resource}/s", "shared", "node")]
    assert blockers(cursor, f"{resource}/c") == [("n", "waiter", "t", resource, "exclusive", "tree")]
    ((scope, holders),) = rows(cursor, "select scope, blocked_by_holders from pglockd.queue where resource = %s",
                               resource)
    assert scope == "tree" and sorted(holders) == ["h", "s"]


def test_a_tree_above_is_in_the_way(connect, cursor, resource):
    holder, node = connect(), connect()
    holder.lock(resource, "owner=t scope=tree mode=shared")
    waits(node, f"{resource}/a/b", "owner=n")
    assert blockers(cursor, f"{resource}/a/b") == [("n", "holder", "t", resource, "shared", "tree")]


def test_a_set_has_a_row_for_each_of_its_resources(connect, cursor, resource):
    holder, other = connect(), connect()
    holder.lock(f"{resource}/b", "owner=h")
    other.send(f"@set LOCK {resource}/a {resource}/b wait=inf owner=set")
    wait_for_queue(holder, f"{resource}/b", 1)
    got = rows(cursor, "select resource, members, blocked_by_holders, ticket from pglockd.queue "
               "where owner = 'set' and pglockd.is_beneath(resource, %s) order by resource", resource)
    assert [r[:3] for r in got] == [(f"{resource}/a", 2, None), (f"{resource}/b", 2, ["h"])]
    assert got[0][3] == got[1][3]


def test_slots_block_where_too_few_are_free(connect, cursor, resource):
    holder, big, small = connect(), connect(), connect()
    holder.lock(resource, "limit=3 weight=2 owner=h")
    waits(big, resource, "limit=3 weight=2 owner=big")
    waits(small, resource, "limit=3 owner=small", 2)
    assert rows(cursor, "select owner, slots, weight, blocked_by_holders, blocked_by_waiters from pglockd.queue "
                "where resource = %s order by position", resource) == [
        ("big", 3, 2, ["h"], None), ("small", 3, 1, None, ["big"])]


def test_a_change_of_mode_waits_for_the_others_who_share(connect, cursor, resource):
    a, b = connect(), connect()
    token = a.lock(resource, "mode=shared owner=a")
    b.lock(resource, "mode=shared owner=b")
    waits(a, resource, f"token={token} mode=exclusive")
    assert rows(cursor, "select changes_mode, mode, ticket < 0, blocked_by_holders from pglockd.queue "
                "where resource = %s", resource) == [(True, "exclusive", True, ["b"])]


def test_parties_are_followed_through_a_chain(connect, cursor, resource):
    a, b, c = connect(), connect(), connect()
    session = a.ask_ok("SESSION OPEN ttl=1m")["session"]
    a.ask_ok(f"LOCK {resource}/1 session={session}")
    b.lock(f"{resource}/2", "owner=same")
    c.lock(f"{resource}/3", "owner=same")
    waits(b, f"{resource}/1", "owner=same")
    waits(c, f"{resource}/2", "owner=same")
    got = dict(rows(cursor, "select party, blocking_party from pglockd.blockers "
                    "where pglockd.is_beneath(resource, %s)", resource))
    start = next(iter(set(got) - set(got.values())))
    assert got[got[start]] == f"session {session}"


# ---- secrets ----

def test_tokens_are_for_those_who_may_force(still, resource):
    cursor = still(user="postgres").cursor()
    token = one(cursor, "select token from pglockd.lock(%s)", resource)
    seen = {}
    for role in "pglockd_reader", "pglockd_admin":
        cursor.execute(f"create role desk_{role} login in role {role}")
        mine = still(user=f"desk_{role}")
        seen[role] = one(mine.cursor(), "select token from pglockd.locks where resource = %s", resource)
        mine.close()
        cursor.execute(f"drop role desk_{role}")
    assert seen == {"pglockd_reader": None, "pglockd_admin": token}


def test_a_name_sees_what_it_may_read(still, resource):
    """What it waits behind elsewhere is there, but not whose it is."""
    owner, cursor = still(user="postgres").cursor(), still().cursor()
    other = Instance(still())
    other.lock(f"{resource}/secret", owner="them")
    other.lock(f"{resource}/mine/a", owner="us")
    cursor.execute("insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, instance_id, mode, "
                   "scope, resource, owner, identity) values (nextval('pglockd.token_seq'), 1, 1, 1, "
                   "clock_timestamp(), %s, 'exclusive', 'node', %s, 'w', '')", (other.number, f"{resource}/mine/b"))
    cursor.execute("insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, mode, scope, "
                   "delivered, resource, owner, identity) values (nextval('pglockd.token_seq'), 1e15, 1e15, 1, 0, "
                   "clock_timestamp(), 'exclusive', 'tree', true, %s, 'them', '')", (resource,))
    owner.execute("create role desk_named login in role pglockd_reader, pglockd_admin")
    try:
        owner.execute("insert into pglockd.identity (name) values ('desk_named')")
        owner.execute("insert into pglockd.identity_right (name, verb, pattern) values ('desk_named', 'read', %s)",
                      (f"{resource}/mine/*",))
        named = still(user="desk_named")
        assert rows(named.cursor(), "select resource, owner, token from pglockd.locks "
                    "where pglockd.is_beneath(resource, %s)", resource) == [(f"{resource}/mine/a", "us", None)]
        assert rows(named.cursor(), "select owner, blocking_resource, blocking_owner from pglockd.blockers "
                    "where resource = %s", f"{resource}/mine/b") == [("w", resource, None)]
        with pytest.raises(errors.InsufficientPrivilege):
            named.cursor().execute("select * from pglockd.force_prefix(%s)", (resource,))
        named.close()
    finally:
        owner.execute("delete from pglockd.identity where name = 'desk_named'; drop role desk_named")
    assert one(cursor, "select count(*) from pglockd.locks where pglockd.is_beneath(resource, %s)", resource) == 3
    cursor.execute("delete from pglockd.waiter where resource = %s", (f"{resource}/mine/b",))
    cursor.execute("delete from pglockd.lease where resource = %s", (resource,))
