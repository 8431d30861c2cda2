"""The races between transactions that trees, sets, semaphores, changes of mode and deadlocks add, each told
and shown on the SQL functions themselves (as test_isolation.py does for single resources)."""

from schema import Background, call, holders, one


def expire_all(cursor):
    one(cursor, "select pglockd.tick('1 minute')")


def exclusive_holders(cursor, *resources):
    """How many exclusive leases each has."""
    return [one(cursor, "select count(*) from pglockd.lease where resource = %s and mode = 'exclusive'", r)
            for r in resources]


# ---- a release that finds another lease than it looked for ----

def test_unlock_against_a_renewal_of_another_session(daemons, begin, still, resource):
    """Race: a renewal has the row when the release comes, which waits for it. Where the row has moved, the release
    misses it, but handed the resource over all the same: two exclusive leases.

    Fix: nothing is taken for free that was not deleted.
    """
    first, second = daemons
    token = first.lock(resource)
    first.wait(resource)
    renewing = begin()
    second.renew((resource, token), ttl=[60000], cursor=renewing.cursor())
    release = Background(first.connection, still(), lambda: first.release((resource, token)))
    renewing.commit()
    answer = release.join()
    assert exclusive_holders(first.cursor, resource) == [1]
    assert answer[0][0] == "g" and first.grants() or answer == [("r", None)] and not first.grants()


def test_unlock_against_who_takes_an_expired_lease(daemons, begin, still, resource):
    """Race: a holder that is late releases its lease while another daemon's request removes it, since it has expired,
    and gets the resource. The release waits for the row, finds it gone, and handed over to who waits: two holders.

    Fix: the same.
    """
    first, second = daemons
    token = first.lock(resource, ttl=1000)
    expire_all(first.cursor)
    taking = begin()
    new = second.lock(resource, cursor=taking.cursor())
    first.wait(resource)  # without the guard: it is pending
    release = Background(first.connection, still(), lambda: first.release((resource, token)))
    taking.commit()
    assert release.join() == [("l", None)] and not first.grants()
    assert holders(first.cursor, resource) == [(new, "exclusive")]


def test_a_lease_of_an_expired_session_is_in_nobodys_way(daemons, still, resource):
    """A lease in a session has no end of its own. The short cut for what is held exclusively looked at that alone,
    and answered BUSY until the janitor came."""
    first, second = daemons
    session = call(still().cursor(), "session_open", 1000, "o", "", None, None, "secret")["o_session"]
    assert first.claim(resource, session=session, ttl=9000000000000)[0] == "g"
    assert second.acquire({"resource": resource}) == [("b", None)]
    expire_all(first.cursor)
    second.lock(resource)
    assert exclusive_holders(first.cursor, resource) == [1]
