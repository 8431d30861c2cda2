"""What the functions for failover and restore do, on a database that no daemon serves.

Each test undoes what it did: a quiet period would stop all others.
"""

import time

import pytest

from schema import Background, Instance, call, one, rows

LAST = "select last_value from pglockd.token_seq"


@pytest.fixture
def cursor(still):
    """In a transaction that is rolled back; sequences are not."""
    connection = still()
    one(connection.cursor(), "select pglockd.tick('0')")
    connection.autocommit = False
    yield connection.cursor()
    connection.rollback()


def last_server(cursor):
    return rows(cursor, "select reason, quiet_ms, tokens_from, tokens_to from pglockd.server "
                "order by server_id desc limit 1")[0]


def test_a_token_that_was_not_drawn_here(cursor):
    last = one(cursor, LAST)
    assert not one(cursor, "select pglockd.tokens_were_lost(0)")
    assert not one(cursor, "select pglockd.tokens_were_lost(%s)", last)
    assert one(cursor, "select pglockd.tokens_were_lost(%s)", last + 1)
    before = last_server(cursor)
    cursor.execute("select pglockd.notice_server(%s)", (last,))
    assert last_server(cursor) == before
    cursor.execute("select pglockd.notice_server(%s, 5000)", (last + 5,))
    reason, quiet_ms, _, tokens_to = last_server(cursor)
    assert reason == "lost" and quiet_ms >= 5750 and tokens_to > last + 5
    assert one(cursor, LAST) == tokens_to
    # It is accounted for, and so is whatever else was drawn by then.
    assert not one(cursor, "select pglockd.tokens_were_lost(%s)", last + 5)
    after = last_server(cursor)
    cursor.execute("select pglockd.notice_server(%s, 5000)", (last + 5,))
    assert last_server(cursor) == after


def test_who_waits_for_the_record_reports_its_longest_ttl(still):
    """Race: a lane that knows of a long TTL comes while another, which does not, records the server. Its
    report was made before, when there was nothing to report to; and where the tokens had leapt for a lost
    one, it took nothing for lost and did not wait at all. Fix: it waits first, and reports last."""
    first, second = still(), still()
    cursor = still().cursor()
    one(cursor, "select pglockd.tick('0')")
    lost = one(cursor, LAST) + 5
    longer_ms = one(cursor, "select pglockd.longest_ttl_ms()") + 1000
    patience = "alter function pglockd.notice_server(bigint, bigint) set lock_timeout = %s"
    cursor.execute(patience, ("1min",))
    first.autocommit = False
    first.cursor().execute("select pglockd.notice_server(%s)", (lost,))
    waiting = Background(second, cursor.connection, lambda: one(
        second.cursor(), "select pglockd.notice_server(%s, %s)", lost, longer_ms))
    try:
        first.commit()
        waiting.join()
        assert last_server(cursor)[:2] == ("lost", longer_ms + 750)
    finally:
        cursor.execute(patience, ("1s",))
        cursor.execute("update pglockd.clock set quiet_left_us = 0, quiet_until_us = 0")


def test_a_token_that_a_leap_passed_over(cursor):
    """The sequence is far above it, as somebody else came first."""
    cursor.execute("insert into pglockd.server (system_identifier, timeline, database_oid, clock_oid, started_at, "
                   "tokens_from, tokens_to, quiet_ms, reason) select i.*, 1000, 2000, 0, 'restart' "
                   "from pglockd.server_identity() i")
    # Of the first server's row, too, which leapt from 1.
    cursor.execute("delete from pglockd.server where tokens_from < 1000")
    assert not one(cursor, "select pglockd.tokens_were_lost(1000)")
    assert one(cursor, "select pglockd.tokens_were_lost(1001)")
    assert one(cursor, "select pglockd.tokens_were_lost(1999)")
    assert not one(cursor, "select pglockd.tokens_were_lost(2000)")
    cursor.execute("update pglockd.server set quiet_ms = 1 where tokens_from = 1000")
    assert not one(cursor, "select pglockd.tokens_were_lost(1500)")


def test_a_leap_is_to_the_time_of_day(cursor):
    now = time.time()
    leap = one(cursor, "select pglockd.token_leap(1)")
    assert abs(leap / 2**21 - now) < 60 and leap < 2**53
    assert one(cursor, "select pglockd.token_leap(%s)", leap) > leap
    ahead = leap + 2**40
    assert one(cursor, "select pglockd.token_leap(%s)", ahead) == ahead + 2**32


def test_a_token_of_the_time_that_was_lost_says_failover(cursor, resource):
    cursor.execute("insert into pglockd.server (system_identifier, timeline, database_oid, clock_oid, started_at, "
                   "tokens_from, tokens_to, quiet_ms, reason) select i.*, 1000, 2000, 750, 'failover' "
                   "from pglockd.server_identity() i")
    def reason(token):
        return one(cursor, "select reason from pglockd.explain_lost(%s, %s)", resource, token)
    assert [reason(t) for t in (1, 968, 969, 1500, 1999, 2000)] == [
        "unknown", "unknown", "failover", "failover", "failover", "unknown"]


def test_the_longest_ttl_and_grace(cursor):
    cursor.execute("delete from pglockd.longest_ttl")
    def longest():
        return one(cursor, "select pglockd.longest_ttl_ms()")
    def note(ttl, grace=()):
        cursor.execute("select pglockd.note_ttl(%s::int8[], %s::int8[])", (list(ttl), list(grace)))
        return longest()
    assert longest() == 0
    assert note([5000, None, 3000]) == 5000
    assert note([1000], [2000]) == 7000
    assert note([9000000000000], [None, 500]) == 7000, "one that never runs out is not a TTL"
    assert note([6000, 9000000000000]) == 8000
    assert note([], []) == 8000
    assert one(cursor, "select count(*) from pglockd.longest_ttl") == 1


@pytest.mark.parametrize("ask", [
    lambda me, name, ttl: me.lock(name, ttl=ttl),
    lambda me, name, ttl: (me.lock(name, ttl=1000), me.wait(name, ttl=ttl)),
    lambda me, name, ttl: me.renew((name, me.lock(name, ttl=1000)), ttl=[ttl]),
    lambda me, name, ttl: me.resync((name, 1, 1), ttl=ttl),
    lambda me, name, ttl: call(me.cursor, "session_open", ttl, "", "", None, None, "secret"),
    lambda me, name, ttl: rows(me.cursor, "select pglockd.lock(%s, ttl => %s * interval '1 ms')", name, ttl),
], ids=["LOCK", "a waiter", "RENEW", "a waiter that is put back", "SESSION OPEN", "SQL"])
def test_whoever_asks_for_a_longer_ttl_records_it(still, resource, ask):
    """Nothing but that is known of a grant that a promoted standby missed."""
    me = Instance(still())
    me.connection.autocommit = False
    me.cursor.execute("delete from pglockd.longest_ttl")
    ask(me, resource, 432100)
    assert one(me.cursor, "select pglockd.longest_ttl_ms()") == 432100
    me.connection.rollback()


def test_nobody_waits_for_the_record_of_the_longest_ttl(cursor, still):
    """It may be a user's transaction, and open for long."""
    other = still()
    other.autocommit = False
    waiting = other.cursor()
    waiting.execute("set local lock_timeout = '5s'")
    ((ttl, grace),) = rows(cursor, "select coalesce(max(ttl_ms), 0), coalesce(max(grace_ms), 0) from pglockd.longest_ttl")
    for one_of_them, more in (cursor, 1000), (waiting, 1000), (waiting, 2000), (cursor, 3000):
        one_of_them.execute("select pglockd.note_ttl(array[%s::int8])", (ttl + more,))
    assert one(waiting, "select pglockd.longest_ttl_ms()") == ttl + 2000 + grace
    other.rollback()


def test_only_the_newest_servers_are_remembered(cursor):
    for _ in range(110):
        cursor.execute("select pglockd.record_server('restart', null, false, 0, 0)")
    assert one(cursor, "select count(*) from pglockd.server") <= 100
    tokens = rows(cursor, "select tokens_from, tokens_to from pglockd.server order by server_id")
    assert all(a < b for a, b in tokens) and all(a[1] <= b[0] for a, b in zip(tokens, tokens[1:]))


@pytest.mark.parametrize("names, enough", [
    ("", False), ("a", True), ("*", True), ("a, b", False), ("2 (a, b)", True), ("FIRST 1 (a, b)", False),
    ("first 2 (a,b)", True), ("ANY 2 (a, b)", True), ("any 2 (a, b, c)", False), ('ANY 1 ("a, b")', False)])
def test_whether_every_standby_confirms(still, names, enough):
    """As it is written; how many are connected is tested with servers."""
    connection = still(user="postgres")
    cursor = connection.cursor()
    # What can be set here is only another name for it.
    body = one(cursor, "select prosrc from pg_proc where oid = 'pglockd.is_synchronous'::regproc")
    cursor.execute("select set_config('test.names', %s, false)", (names,))
    assert one(cursor, body.replace("synchronous_standby_names", "test.names")) is enough
