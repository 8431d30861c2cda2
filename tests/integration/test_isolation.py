"""The races between transactions, each told and shown on the SQL functions themselves.

Several sessions, stepped by hand, on a database that no daemon serves: where a real daemon would
meet the race once in a million batches, here it is met every time. Each test's docstring tells the
race and what the schema does about it.
"""

import psycopg2
import pytest
from psycopg2 import errors

from lines import eventually
from schema import Background, call, holders, one, rows, waiters


def test_acquire_against_acquire(daemons, begin, resource):
    """Race: two transactions see a free resource, and both insert a lease.

    Fix: each tries the guard (a transaction-level advisory lock) first; the second does not get it
    and decides nothing. It must not wait for it either, or a held guard would stall its batch.
    """
    first, second = daemons
    open_one = begin()
    token = first.lock(resource, cursor=open_one.cursor())
    assert second.acquire({"resource": resource}) == [("r", None)]
    open_one.commit()
    assert second.acquire({"resource": resource}) == [("b", None)]
    assert holders(second.cursor, resource) == [(token, "exclusive")]


def test_acquire_reads_after_it_has_the_guard(daemons, begin, resource):
    """Race: a statement whose snapshot was taken before the first transaction committed, but which
    gets the guard after it, does not see the lease.

    Fix: the guard is taken in one statement, the decision is made in a later one; READ COMMITTED
    gives that a new snapshot. Here the second transaction has begun, and read, before the commit.
    """
    first, second = daemons
    early, late = begin(), begin()
    late_cursor = late.cursor()
    assert holders(late_cursor, resource) == []
    first.lock(resource, cursor=early.cursor())
    early.commit()
    assert second.acquire({"resource": resource}, cursor=late_cursor) == [("b", None)]
    late.rollback()


def test_two_batches_of_one_owner(daemons, begin, resource):
    """Race: two daemons count what an owner holds, each sees room for one more, and both grant it.

    Fix: who decides about an owner with a limit holds that owner's guard until the commit. A batch
    waits for it, and counts in a later statement; a claim answers r, and is asked again.
    """
    first, second = daemons
    asked = {"owner": f"{resource} owner", "most": 1}
    early, late = begin(), begin()
    first.lock(f"{resource}/a", cursor=early.cursor(), **asked)
    assert second.claim(f"{resource}/tree*", **asked) == ("r", None)
    batch = Background(late, second.connection, lambda: second.acquire({"resource": f"{resource}/b", **asked},
                                                                       cursor=late.cursor()))
    early.commit()
    assert batch.join() == [("o", None)]
    late.commit()
    assert second.claim(f"{resource}/tree*", **asked) == ("o", None)
    second.lock(f"{resource}/b", owner="another", most=1)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_of_the_whole_transaction_is_refused(daemons, begin, resource, level):
    """Race: under REPEATABLE READ the decision sees the database as it was before the guard; two
    exclusive leases were granted that way.

    Fix: every deciding function refuses to run outside of READ COMMITTED.
    """
    first, _ = daemons
    for query in (
        f"select pglockd.lock('{resource}')", f"select pglockd.unlock('{resource}', 1)",
        f"select pglockd.acquire_batch(null, array['{resource}'], '{{/}}', '{{t}}', '{{1000}}', '{{f}}', "
        "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        f"select pglockd.release_batch(null, array['{resource}'], '{{1}}', '{{}}', '{{}}', '{{}}', false)",
        f"select pglockd.hand_over(null, array['{resource}'])",
    ):
        connection = begin()
        connection.set_session(isolation_level=level)
        with pytest.raises(errors.ActiveSqlTransaction, match="READ COMMITTED"):
            connection.cursor().execute(query)
        connection.rollback()
    assert holders(first.cursor, resource) == []


def test_release_against_enqueue_when_the_release_comes_first(daemons, begin, resource):
    """Race (lost wake-up): a request sees the lease and joins the queue while the release that it
    should wait for has already looked at an empty queue: nobody wakes it.

    Fix: both hold the guard. Here the release holds it: the request cannot decide; it joins the
    queue unguarded, and the resource is reported as pending, so that its daemon promotes it.
    """
    first, second = daemons
    token = first.lock(resource)
    releasing = begin()
    assert first.release((resource, token), cursor=releasing.cursor())[0][0] == "g"
    ticket, request = second.wait(resource)
    assert second.last["o_pending"] == [resource]
    releasing.commit()
    assert waiters(second.cursor, resource) == [ticket]
    done = call(second.cursor, "hand_over", second.number, [resource])
    assert done["o_request"] == [request] and not done["o_pending"]
    assert waiters(second.cursor, resource) == []


def test_release_against_enqueue_when_the_request_comes_first(daemons, begin, resource):
    """The same race the other way round: the request holds the guard and has not committed its place
    in the queue; the release cannot see it.

    Fix: the release does not need the guard to end the lease, but hands over only under it: it
    reports the resource as pending where it cannot, and a later promote finds the waiter.
    """
    first, second = daemons
    token = first.lock(resource)
    asking = begin()
    ticket, request = second.wait(resource, cursor=asking.cursor())
    assert first.release((resource, token))[0][0] == "g"
    assert first.last["o_pending"] == [resource]
    assert call(first.cursor, "hand_over", first.number, [resource])["o_pending"] == [resource]
    asking.commit()
    done = call(second.cursor, "hand_over", second.number, [resource])
    assert done["o_request"] == [request] and ticket
    assert len(holders(second.cursor, resource)) == 1


def test_newcomers_line_up_behind_an_unguarded_waiter(daemons, begin, resource):
    """Race: a waiter that could not get the guard is in no queue, and newcomers overtake it again
    and again.

    Fix: it joins the queue all the same; whoever decides next sees it and lines up.
    """
    first, second = daemons
    blocker = begin()
    one(blocker.cursor(), "select pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(%s))", resource)
    ticket, _ = second.wait(resource)
    blocker.rollback()
    assert first.acquire({"resource": resource}) == [("b", None)]
    later, _ = first.wait(resource)
    assert later > ticket and waiters(first.cursor, resource) == [ticket, later]


def expire_all(cursor):
    """Lets the lease clock run past every TTL that the tests here use."""
    one(cursor, "select pglockd.tick('1 minute')")


def test_renewal_against_expiry_when_the_renewal_comes_first(daemons, begin, still, resource):
    """Race: the janitor sees an expired row, the holder renews it, the janitor removes it: a holder
    that was told OK has no lock.

    Fix: who removes takes the row FOR UPDATE SKIP LOCKED and checks again under the row lock: a
    renewal in flight means that the lease holds.
    """
    first, second = daemons
    token = first.lock(resource, ttl=1000)
    expire_all(first.cursor)
    renewing = begin()
    assert first.renew((resource, token), ttl=[30000], cursor=renewing.cursor())[0][0] == "g"
    assert second.acquire({"resource": resource}) == [("b", None)]
    sweep(second.cursor)
    renewing.commit()
    assert second.acquire({"resource": resource}) == [("b", None)]
    assert holders(second.cursor, resource) == [(token, "exclusive")]


def test_renewal_against_expiry_when_the_removal_comes_first(daemons, begin, still, resource):
    """The same race the other way round: the row is removed and not committed when RENEW comes.

    Fix: the row is locked: the renewal says "ask again", and finds it gone when it does: LOST,
    not OK.
    """
    first, second = daemons
    token = first.lock(resource, ttl=1000)
    expire_all(first.cursor)
    taking = begin()
    new = second.lock(resource, cursor=taking.cursor())

    def renew():
        return first.renew((resource, token), ttl=[30000])
    renewal = Background(first.connection, still(), renew)
    taking.commit()
    assert renewal.join()[0][0] in "rl"
    assert renew()[0][0] == "l"
    assert holders(second.cursor, resource) == [(new, "exclusive")] and new > token


def test_two_removals_of_one_expired_lease(daemons, begin, resource):
    """Race: the janitor and a newcomer remove the same expired lease, and both hand it over.

    Fix: the second skips the locked row: for it the lease still holds.
    """
    first, second = daemons
    first.lock(resource, ttl=1000)
    expire_all(first.cursor)
    sweeping = begin()
    assert sweep(sweeping.cursor())["o_expired"] >= 1
    assert second.acquire({"resource": resource}) == [("b", None)]
    sweeping.commit()
    second.lock(resource)
    assert len(holders(second.cursor, resource)) == 1
    assert one(second.cursor, "select count(*) from pglockd.tombstone where resource = %s", resource) == 1


def sweep(cursor):
    return call(cursor, "sweep", 100000, 30000, True, None)


def test_unlock_against_expiry(daemons, begin, still, resource):
    """Race: the holder releases what the janitor has just removed: it must hear LOST, not OK."""
    first, _ = daemons
    token = first.lock(resource, ttl=1000)
    expire_all(first.cursor)
    sweeping = begin()
    sweep(sweeping.cursor())
    release = Background(first.connection, still(), lambda: first.release((resource, token)))
    sweeping.commit()
    assert release.join() in ([("r", None)], [("l", None)])
    assert first.release((resource, token)) == [("l", None)]


def test_two_janitors(still):
    """Race: two daemons tick the lease clock, which then runs at twice the speed.

    Fix: terms. The second is refused while the first one's session holds the lock of its term, and
    begins the next when that is gone; or when it has seen no tick for long: then the first one's session is
    ended, but nothing waits for that.
    """
    def take(connection, seen=None):
        return one(connection.cursor(), "select o_term from pglockd.take_janitor(%s)", seen)
    first, second, third = still(), still(), still()
    term = eventually(lambda: take(first))  # a session of an earlier test may be about to end
    assert take(second) is None
    assert one(first.cursor(), "select 1") == 1, "nobody ends it"
    seen = one(second.cursor(), "select ticks_total from pglockd.clock")
    one(first.cursor(), "select o_ticks from pglockd.advance_clock(0, %s)", term)
    assert take(second, seen) is None, "it has ticked since"
    assert take(second, seen + 1) == term + 1
    with pytest.raises(psycopg2.OperationalError):
        eventually(lambda: not one(first.cursor(), "select 1"))
    assert take(third) is None
    second.close()
    assert eventually(lambda: take(third)) == term + 2
    third.close()


def test_a_janitor_that_was_stopped_in_the_middle_of_a_tick(still, begin):
    """Race: its backend is stopped and cannot be ended; when it goes on it credits time that its
    successor has credited already.

    Fix: a tick of a term that is over finds no row.
    """
    old, new, late = still(), still(), begin()
    clock = "select base_us, ticks_total from pglockd.clock"
    term = eventually(lambda: one(old.cursor(), "select o_term from pglockd.take_janitor()"))
    assert rows(old.cursor(), "select o_ticks from pglockd.advance_clock(250000, %s)", term) != [(None,)]
    election = Background(new, still(), lambda: one(
        new.cursor(), "select o_term from pglockd.take_janitor((select ticks_total from pglockd.clock))"))
    assert election.join() == term + 1
    before = rows(new.cursor(), clock)
    assert rows(late.cursor(), "select o_ticks, o_reading_us from pglockd.advance_clock(250000, %s)",
                term) == [(None, None)]
    late.commit()
    assert rows(new.cursor(), clock) == before
    new.close()


def test_a_tick_that_waits_for_the_election_of_another(still, begin):
    """Race: the tick is carried out, and waits for the row, while the next term begins.

    Fix: it looks at the row again when it gets it.
    """
    ticking, electing = still(), begin()
    term = one(ticking.cursor(), "select janitor_term from pglockd.clock")
    electing.cursor().execute("update pglockd.clock set janitor_term = janitor_term + 1")
    tick = Background(ticking, still(), lambda: rows(
        ticking.cursor(), "select o_ticks from pglockd.advance_clock(250000, %s)", term))
    electing.commit()
    assert tick.join() == [(None,)]


def test_the_clock_stands_still_without_a_tick_and_never_goes_back(still):
    """Race: an outage of the service, a stepped wall clock: leases would end though nobody could
    renew them.

    Fix: a reading adds at most 250 ms to what was credited, and is never below an earlier one.
    """
    cursor = still(user="postgres").cursor()
    one(cursor, "select pglockd.tick('0')")
    before = one(cursor, "select pglockd.lease_now()")
    cursor.execute("update pglockd.clock set wall_at = wall_at - interval '1 day'")
    assert one(cursor, "select pglockd.lease_now()") - before <= 250000
    cursor.execute("update pglockd.clock set wall_at = wall_at + interval '2 days'")
    after = one(cursor, "select pglockd.lease_now()")
    assert after >= before - 250000
    one(cursor, "select pglockd.tick('0')")
    assert one(cursor, "select pglockd.lease_now()") >= after


def test_what_ticks_credit_and_a_stepped_wall_clock_end_no_lease(still, daemons, resource):
    """Race: a lease is granted while a tick is on its way, just after the wall clock stepped back. That
    tick and the next, which counts from when that one was sent, both credit time before the grant; then
    the wall clock steps forward. A lease of 100 ms was over in no time.

    Fix: the slack of a lease covers all three.
    """
    cursor = still(user="postgres").cursor()
    one(cursor, "select pglockd.tick('0')")
    cursor.execute("update pglockd.clock set wall_at = wall_at + interval '1 h'")
    token = daemons[0].lock(resource, ttl=100)
    for _ in range(2):
        one(cursor, "select pglockd.tick('250 ms')")
    cursor.execute("update pglockd.clock set wall_at = wall_at - interval '2 h'")
    assert one(cursor, "select pglockd.lease_now() <= expires_us - 100000 from pglockd.lease "
               "where resource = %s and token = %s", resource, token)


def resync(instance, cursor, resource, ticket, request):
    return instance.resync((resource, ticket, request), cursor=cursor)


def test_resync_against_a_grant(daemons, begin, still, resource):
    """Race: a daemon that lost its connection puts its waiter back while another daemon's release is
    granting to it: it would wait in the queue and hold a lease that it does not know of.

    Fix: a resync first looks for a lease of the request. The grant deletes the waiter's row and
    inserts the lease in one transaction; the resync waits for that row and finds the lease.
    """
    first, second = daemons
    token = first.lock(resource)
    ticket, request = second.wait(resource)
    releasing = begin()
    first.release((resource, token), cursor=releasing.cursor())
    answer = Background(second.connection, still(),
                        lambda: resync(second, second.cursor, resource, ticket, request))
    releasing.commit()
    done = answer.join()
    if done["o_status"] != ["a"]:  # it was not sure: the next look finds the lease
        done = resync(second, second.cursor, resource, ticket, request)
    assert done["o_status"] == ["a"]
    (new,) = done["o_number"]
    assert [t for t, _ in holders(second.cursor, resource)] == [new]
    assert waiters(second.cursor, resource) == []


def test_resync_after_the_grant(daemons, resource):
    """The notification was lost: the resync finds the lease and gives it its full TTL."""
    first, second = daemons
    token = first.lock(resource)
    ticket, request = second.wait(resource)
    first.release((resource, token))
    assert first.last["o_wake"] == [second.number]
    done = resync(second, second.cursor, resource, ticket, request)
    assert done["o_status"] == ["a"]
    assert holders(second.cursor, resource) == [(done["o_number"][0], "exclusive")]
    assert waiters(second.cursor, resource) == []


def test_cancel_against_a_grant(daemons, begin, resource):
    """Race: the waiter is withdrawn while it is being granted: a lease without an owner.

    Fix: the withdrawal does not wait for the row, which would stall a whole lane, but says that it
    is locked; asked again, it does not find the waiter any more and reports the lease.
    """
    first, second = daemons
    token = first.lock(resource)
    ticket, request = second.wait(resource)
    releasing = begin()
    first.release((resource, token), cursor=releasing.cursor())

    def withdraw():
        return second.withdraw(resource, ticket, request)

    assert withdraw()["o_status"] == ["r"]
    releasing.commit()
    done = withdraw()
    assert done["o_status"] == ["a"]
    assert holders(second.cursor, resource) == [(done["o_number"][0], "exclusive")]


def test_the_old_session_of_a_lane(still):
    """Race: a daemon reconnects and asks what became of its batch while the old backend, cut off from
    it, is still about to commit.

    Fix: the new session first takes the lane's session lock; the old one is ended for it.
    """
    old, new = still(), still()
    assert one(old.cursor(), "select pglockd.claim_lane(801)") is True
    assert one(new.cursor(), "select pglockd.claim_lane(801)") is False
    eventually(lambda: one(new.cursor(), "select pglockd.claim_lane(801)"))
    with pytest.raises(psycopg2.OperationalError):
        old.cursor().execute("select 1")


def test_two_registrations_of_one_daemon(still):
    """Race: a daemon's new session registers while its old one lives: it would lose its lock later.

    Fix: null until the old session is gone.
    """
    old, new = still(), still()
    number = one(old.cursor(), "select pglockd.register_instance('h/1', 'v')")
    assert one(new.cursor(), "select pglockd.register_instance('h/1', 'v', %s)", number) is None
    old.close()
    eventually(lambda: one(new.cursor(), "select pglockd.register_instance('h/1', 'v', %s)",
                           number) == number)


def test_tokens_grow_in_the_order_of_the_grants(daemons, begin, resource):
    """Race: a token drawn before the guard is held could be given out after a larger one.

    Fix: it is drawn under the guard: a rolled back grant leaves a gap, never an older token later.
    """
    first, second = daemons
    undone = begin()
    lost = first.lock(resource, cursor=undone.cursor())
    undone.rollback()
    token = second.lock(resource)
    assert token > lost
    second.release((resource, token))
    assert first.lock(resource) > token
    assert rows(first.cursor, "select seqcache from pg_sequence where seqrelid = "
                "'pglockd.token_seq'::regclass") == [(1,)]
