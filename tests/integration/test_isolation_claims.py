"""The races between transactions that trees, sets, semaphores, changes of mode and deadlocks add, each told
and shown on the SQL functions themselves (as test_isolation.py does for single resources)."""

import pytest

from schema import Background, call, holders, one, rows, waiters


def hold_guard(cursor, resource, tree=False):
    """Takes the guard of a resource, or of its tree, as somebody does who decides about it."""
    assert one(cursor, "select pg_try_advisory_xact_lock(%s, pglockd.guard_key(%s))",
               1346849794 if tree else 1346849793, resource)


def hold_row(cursor, table, resource, what="update"):
    """Locks the rows of a resource, as somebody does who is about to change or to remove them."""
    assert rows(cursor, f"select from pglockd.{table} where resource = %s for {what}", resource)


def look(cursor):
    """The janitor's round, once a second."""
    return call(cursor, "sweep", 100000, 30000, True, None)


def expire_all(cursor):
    one(cursor, "select pglockd.tick('1 minute')")


def exclusive_holders(cursor, *resources):
    """How many exclusive leases each has."""
    return [one(cursor, "select count(*) from pglockd.lease where resource = %s and mode = 'exclusive'", r)
            for r in resources]


# ---- trees ----

def test_a_tree_against_a_node_beneath(daemons, begin, resource):
    """Race: one transaction sees the tree free, another one a resource beneath it, and both insert a lease.

    Fix: a tree has a second guard, which a tree takes exclusively and everything beneath it shared. It is only
    tried: whoever comes second decides nothing.
    """
    first, second = daemons
    open_one = begin()
    token = first.lock(f"{resource}/a/b", cursor=open_one.cursor())
    assert second.claim(resource + "*") == ("r", None)
    assert second.claim("~" + resource + "*") == ("r", None), "nor a shared one: what it cannot see may be exclusive"
    second.lock(f"{resource}/c")  # and nothing else is held up
    open_one.commit()
    assert second.claim(resource + "*") == ("b", None)
    first.release((f"{resource}/a/b", token))
    assert exclusive_holders(first.cursor, f"{resource}/a/b", f"{resource}/c") == [0, 1]


def test_a_node_beneath_against_a_tree(daemons, begin, resource):
    """The same race the other way round: also names that only look alike are not held up."""
    first, second = daemons
    open_one = begin()
    assert first.claim(resource + "*", cursor=open_one.cursor())[0] == "g"
    assert second.acquire({"resource": f"{resource}/a/b"}, {"resource": resource + "x"})[0] == ("r", None)
    assert second.acquire({"resource": f"{resource}/a/b", "exclusive": False}) == [("r", None)]
    open_one.commit()
    assert second.acquire({"resource": f"{resource}/a/b", "exclusive": False}) == [("b", None)]


def test_the_end_of_a_tree_against_who_comes_to_wait_beneath(daemons, begin, still, resource):
    """Race (lost wake-up): a request beneath a tree sees the tree's lease and queues, while the release of the tree,
    which does not see the waiter yet, hands over to nobody. A release takes the guard of its resource only, not
    those of all that lies beneath.

    Fix: who has come to wait because of a tree asks for another look after its commit. And where the release is
    not committed even then, the janitor finds a resource that somebody waits for and nobody holds.
    """
    first, second = daemons
    _, tree = first.claim(resource + "*")
    waiting = begin()
    _, request = second.wait(f"{resource}/a", cursor=waiting.cursor())
    pending = second.last["o_pending"]
    first.release((resource, tree))
    assert not first.grants() and not first.last["o_wake"]
    waiting.commit()
    assert pending == [f"{resource}/a"]
    assert second.promote(*pending)["o_request"] == [request]

    _, tree = first.claim("~" + resource + "2*")
    second.wait(f"{resource}2/a")
    releasing = begin()
    first.release((resource + "2", tree), cursor=releasing.cursor())
    releasing.commit()
    assert second.collect() or look(still().cursor())["o_wake"] == [second.number]


def test_a_release_beneath_against_a_tree_that_comes_to_wait(daemons, begin, still, resource):
    """Race (lost wake-up): a request for a tree sees a lease beneath and queues, while that lease's release, which
    does not see the waiter, looks at its own resource only.

    Fix: who waits for a tree asks for another look after its commit; and the janitor looks at them once a second.
    """
    first, second = daemons
    token = first.lock(f"{resource}/a/b")
    waiting = begin()
    assert second.claim(resource + "*", wait=True, cursor=waiting.cursor())[0] == "w"
    request, pending = second.requests[0], second.last["o_pending"]
    first.release((f"{resource}/a/b", token))
    assert not first.last["o_wake"]
    waiting.commit()
    assert pending == [resource]
    if request % 2:
        assert second.promote(*pending)["o_request"] == [request]
    else:
        assert second.number in look(still().cursor())["o_wake"]
    assert exclusive_holders(first.cursor, resource) == [1]


def test_a_shared_lease_handed_over_to_an_exclusive_one_against_a_shared_tree(daemons, begin, resource):
    """Race: the last shared lease of a resource ends and its place goes to an exclusive one. A shared tree above
    that is being decided may look at the leases before, when there is a shared one, and at the waiters after, when
    the exclusive one waits no more: it sees nobody in its way.

    Fix: that hand-over takes the guards of the trees above, shared. Where somebody has one it is done later.
    """
    first, second = daemons
    name = f"{resource}/a"
    shared = first.lock(name, exclusive=False)
    first.wait(name)
    tree = begin()
    hold_guard(tree.cursor(), resource, tree=True)
    first.release((name, shared))
    assert not first.grants() and first.last["o_pending"] == [name], "the tree is being decided"
    assert second.claim("~" + resource + "*", cursor=tree.cursor()) == ("b", None), "and may not overtake"
    tree.commit()
    assert len(first.promote(name)["o_request"]) == 1
    assert second.claim("~" + resource + "*") == ("b", None)


def test_an_exclusive_lease_handed_over_needs_no_guard_of_the_trees(daemons, begin, resource):
    """No race: where an exclusive lease follows an exclusive one, a tree that is being decided sees the one or the
    other in its way, whenever it looks."""
    first, second = daemons
    name = f"{resource}/a"
    token = first.lock(name)
    _, request = first.wait(name)
    tree = begin()
    hold_guard(tree.cursor(), resource, tree=True)
    first.release((name, token))
    assert first.grants().keys() == {request}
    assert second.claim("~" + resource + "*", cursor=tree.cursor()) == ("b", None)
    tree.rollback()


# ---- several in one transaction ----

@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_an_exclusive_lease_beneath_a_tree_of_the_same_request(daemons, resource, mode):
    """A request for a tree and a resource beneath it has both: its own are not in each other's way. When the latter
    ended it was handed over as if nobody could have a tree above it, and two had it.

    Fix: that short cut looks for such a tree.
    """
    first, _ = daemons
    tree = ("~" if mode == "shared" else "") + resource + "*"
    assert first.claim(tree, f"{resource}/a")[0] == "g"
    tokens = dict(zip(first.last["o_grant_resource"], first.last["o_grant_token"]))
    _, request = first.wait(f"{resource}/a")
    assert first.release((f"{resource}/a", tokens[f"{resource}/a"]))[0][0] == "g"
    assert first.grants() == {} and holders(first.cursor, f"{resource}/a") == []
    first.release((resource, tokens[resource]))
    assert list(first.grants()) == [request]


def test_two_resources_that_end_in_one_batch_and_a_set_that_waits_for_both(daemons, resource):
    """Race, within one transaction: A and B are released together. A goes to a set that waits for both, and takes B
    with it; then B is handed over, as what has just come free, to who waits behind the set. Both had it.

    Fix: the short cut, which takes for granted that nobody holds what an exclusive lease has just left, is taken
    only until somebody was served who may have taken more than one resource.
    """
    first, _ = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    leases = [(a, first.lock(a)), (b, first.lock(b))]
    first.claim(a, b, wait=True)
    both = first.requests[0]
    first.wait(b)
    first.release(*leases)
    assert first.last["o_grant_request"] == [both, both]
    assert exclusive_holders(first.cursor, a, b) == [1, 1] and len(waiters(first.cursor, b)) == 1


def test_two_resources_that_end_in_one_batch_and_a_tree_that_waits_for_both(daemons, resource):
    """The same with a tree above them: it takes what is beneath with it."""
    first, _ = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    leases = [(a, first.lock(a)), (b, first.lock(b))]
    first.claim(resource + "*", wait=True)
    tree = first.requests[0]
    first.wait(b)
    first.release(*leases)
    assert first.last["o_grant_request"] == [tree]
    assert exclusive_holders(first.cursor, resource, a, b) == [1, 0, 0]


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


# ---- sets ----

def test_set_against_set(daemons, begin, resource):
    """Race: two sets with a member in common are decided at once; or each has one of two and waits for the other's.

    Fix: a set takes the guards of all its members, in whatever order, since it only tries; and it holds no lease
    until it can have them all, so that two sets never wait for each other.
    """
    first, second = daemons
    a, b, c = (f"{resource}/{x}" for x in "abc")
    open_one = begin()
    first.claim(a, b, cursor=open_one.cursor())
    assert second.claim(c, b) == ("r", None)
    open_one.rollback()
    holder = {n: first.lock(n) for n in (a, b)}
    requests = [first.requests[0] if first.claim(a, b, wait=True) else None, None]
    requests[0] = first.requests[0]
    second.claim(b, a, wait=True)
    requests[1] = second.requests[0]
    first.release((a, holder[a]))
    assert not first.grants(), "it has one of two: it holds neither"
    first.release((b, holder[b]))
    assert first.last["o_grant_request"] == [requests[0]] * 2
    assert exclusive_holders(first.cursor, a, b) == [1, 1]


def test_withdrawal_of_a_set_against_its_grant(daemons, begin, resource):
    """Race: a set is withdrawn while it is being granted: leases that nobody knows of.

    Fix: the withdrawal finds rows locked, says so, and finds all of the leases when it is asked again.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    token = first.lock(a)
    _, ticket = second.claim(a, b, wait=True)
    request = second.requests[0]
    releasing = begin()
    first.release((a, token), cursor=releasing.cursor())
    assert second.withdraw([a, b], ticket, request)["o_status"] == ["r"]
    releasing.commit()
    done = second.withdraw([a, b], ticket, request)
    assert done["o_status"] == ["a"] and done["o_grant_resource"] == [a, b]
    assert [t for n in (a, b) for t, _ in holders(first.cursor, n)] == done["o_grant_token"]


def test_a_set_of_which_one_row_is_locked_is_left_whole(daemons, begin, still, resource):
    """Race: somebody has one row of a waiting set locked when its session is closed. The other row was deleted: what
    was left could be neither granted nor withdrawn, and held up everybody behind it for ever.

    Fix: all rows of a request, or none. Its daemon hears that the session has ended, and withdraws it.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    session = call(still().cursor(), "session_open", 30000, "o", "", None, None, "secret")["o_session"]
    token = first.lock(a)
    _, ticket = second.claim(a, b, wait=True, session=session, ttl=9000000000000)
    request = second.requests[0]
    looking = begin()
    hold_row(looking.cursor(), "waiter", b)
    assert call(second.cursor, "session_close", session, None)["o_status"] == "g"
    assert waiters(first.cursor, a) == waiters(first.cursor, b) == [ticket]
    assert second.withdraw([a, b], ticket, request)["o_status"] == ["r"]
    looking.rollback()
    assert second.withdraw([a, b], ticket, request)["o_status"] == ["g"]
    assert waiters(first.cursor, a) == waiters(first.cursor, b) == []
    first.release((a, token))


def test_session_close_against_a_set_that_is_being_granted(daemons, begin, still, resource):
    """Race: a session is closed while a set is granted to it: a lease that is bound to nothing.

    Fix: the grant keeps the session from ending until it has committed. The close does nothing until then, and after
    that it finds the leases.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    session = call(still().cursor(), "session_open", 30000, "o", "", None, None, "secret")["o_session"]
    token = first.lock(a)
    second.claim(a, b, wait=True, session=session, ttl=9000000000000)
    releasing = begin()
    first.release((a, token), cursor=releasing.cursor())
    closing = still().cursor()
    assert call(closing, "session_close", session, None)["o_status"] == "f"
    releasing.commit()
    assert call(closing, "session_close", session, None)["o_released"] == 2
    assert exclusive_holders(first.cursor, a, b) == [0, 0]


def test_a_set_granted_by_another_daemon_is_collected_as_a_whole(daemons, begin, resource):
    """Race: somebody has one of the new leases locked when the daemon collects them. It had a part of the set; and
    when the rest ended before it came, it held that part without knowing.

    Fix: all leases of a request, or none of them now.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    token = first.lock(a)
    second.claim(a, b, wait=True)
    request = second.requests[0]
    first.release((a, token))
    assert first.last["o_wake"] == [second.number]
    looking = begin()
    hold_row(looking.cursor(), "lease", b, "key share")
    assert second.collect() == {}
    looking.commit()
    assert second.collect().keys() == {(request, a), (request, b)}


@pytest.mark.parametrize("ask", ["resync", "withdraw", "find"])
def test_a_set_of_which_a_lease_has_ended_before_its_daemon_heard_of_it(daemons, still, resource, ask):
    """Race: a daemon is frozen while a set is granted to it; one of the leases runs out and is taken by somebody. The
    daemon is back and asks: it was told of the other one, and its client of a grant of all.

    Fix: what is left is given back, and the set waits again, or is gone.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    token = first.lock(a)
    _, ticket = second.claim(a, b, wait=True)
    request = second.requests[0]
    first.release((a, token))
    one(first.cursor, "select pglockd.force_lease(%s, null, 'as if its time were over')", b)
    if ask == "find":
        assert call(second.cursor, "find_requests", second.number, [a, b], [request] * 2)["o_item"] == []
    elif ask == "withdraw":
        assert second.withdraw([a, b], ticket, request)["o_status"] == ["l"]
    else:
        done = call(second.cursor, "resync_waiters", second.number, [1, 1], [a, b], [True] * 2, [False] * 2, [None], [None],
                    [30000], [ticket], [1], [request], [], [], [], [], [], [], [], [])
        assert done["o_status"] == ["w"] and set(done["o_pending"]) == {a, b}
        assert waiters(first.cursor, a) == waiters(first.cursor, b) == [ticket]
        assert second.promote(a)["o_resource"] == [a, b]
        return
    assert holders(first.cursor, a) == holders(first.cursor, b) == []


# ---- who is passed over ----

@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_a_waiter_whose_row_is_locked_is_not_overtaken(daemons, begin, resource, mode):
    """Race: a daemon with a new connection says who waits, and has the first one's row locked, without the guard, when
    another daemon releases. The release took the second one for the first.

    Fix: the first or nobody: who has the row locked looks at the resource again when he has done.
    """
    first, second = daemons
    token = first.lock(resource, exclusive=mode == "exclusive")
    ticket, request = first.wait(resource)
    first.wait(resource)
    resync = begin()
    pending = second_resync(first, resync.cursor(), resource, ticket, request)
    first.release((resource, token))
    assert not first.grants()
    resync.commit()
    assert pending == [resource]
    assert first.promote(resource)["o_request"] == [request]


def second_resync(instance, cursor, resource, ticket, request):
    done = instance.resync((resource, ticket, request), cursor=cursor)
    assert done["o_status"] == ["w"]
    return done["o_pending"]


def test_a_waiter_whose_daemon_was_frozen_is_not_overtaken_when_it_is_back(daemons, resource):
    """Race: a daemon gives no sign of life for 3 s, and a newcomer is granted what its client waits for. The daemon
    is back; its waiter's ticket is below the newcomer's token, where no release looks for the next: everybody who
    came later was served before it.

    Fix: who is passed over is marked.
    """
    first, second = daemons
    token = first.lock(resource)
    _, request = second.wait(resource)
    one(first.cursor, "select pglockd.tick('4 s')")
    call(first.cursor, "heartbeat", first.number)
    first.release((resource, token))
    assert not first.last["o_wake"]
    token = first.lock(resource)
    call(second.cursor, "heartbeat", second.number)
    first.wait(resource)
    first.release((resource, token))
    assert second.collect().keys() == {(request, resource)}


def test_a_wait_that_was_taken_over_is_not_put_back(daemons, resource):
    """Race: a client repeats its LOCK at another daemon, which takes its place over and is granted the lease. The
    first daemon, which misses its waiter in the queue, puts it back: it would be granted a second time.

    Fix: what has an id is not put back where that has leases or a place.
    """
    first, second = daemons
    token = first.lock(resource)
    ticket, request = first.wait(resource, id=resource)
    again, _ = second.wait(resource, id=resource)
    assert again == ticket
    first.release((resource, token))
    second.collect()
    done = call(first.cursor, "resync_waiters", first.number, [1], [resource], [True], [False], [None], [None], [30000],
                [ticket], [1], [request], [], [], [], [resource], [], [], [], [])
    assert done["o_status"] == ["l"] and waiters(first.cursor, resource) == []


def test_slots_of_two_limits_after_the_queue_was_lost(daemons, resource):
    """Race: the queue is lost; somebody comes with another limit before the first one's daemon has put it back. Each
    saw the other wait with another limit, and neither was ever served.

    Fix: only a newcomer is refused because of those; who waits is served in its turn when no lease has another one.
    """
    first, second = daemons
    token = first.lock(resource)
    _, ticket = first.claim(resource, slots=2, wait=True)
    request = first.requests[0]
    one(first.cursor, "with lost as (delete from pglockd.waiter where resource = %s returning 1) select count(*) from lost",
        resource)
    assert second.claim(resource, slots=3, wait=True)[0] == "w"
    other = second.requests[0]
    done = call(first.cursor, "resync_waiters", first.number, [1], [resource], [False], [False], [2], [1], [30000],
                [ticket], [1], [request], [], [], [], [], [], [], [], [])
    assert done["o_status"] == ["w"]
    assert second.claim(resource, slots=3) == ("n", None), "a newcomer is told"
    first.release((resource, token))
    assert first.grants().keys() == {request} and second.collect() == {}
    first.release((resource, first.grants()[request]))
    assert second.collect().keys() == {(other, resource)}


@pytest.mark.parametrize("held", [True, False])
def test_another_limit_while_somebody_decides(daemons, begin, resource, held):
    """Race: a LOCK names another limit than that of the slots which are held or waited for, while somebody has the
    guard. It was put into the queue without it, and waited there for as long as anybody had slots.

    Fix: the limit is looked at in any case.
    """
    first, second = daemons
    if held:
        first.claim(resource, slots=3)
    else:
        first.lock(resource)
        first.claim(resource, slots=3, wait=True)
    deciding = begin()
    hold_guard(deciding.cursor(), resource)
    assert second.claim(resource, slots=2, wait=True)[0] == "n"
    assert second.claim(resource, slots=3, wait=True)[0] == "w"


def test_an_id_of_other_members_has_no_tokens_of_the_first(daemons, resource):
    """An id that is used again, for something else, was answered with the tokens of what it had been used for."""
    first, _ = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    assert first.claim(a, b, id=resource)[0] == "g"
    assert first.claim(a, resource, id=resource) == ("m", None)
    assert not first.last["o_grant_token"]


# ---- changes of mode ----

def test_upgrade_against_a_release(daemons, begin, resource):
    """Race: a holder wants to become exclusive while the only other one releases: it sees the other's lease and
    queues, and the release does not see it.

    Fix: the upgrade needs the guard, which the release has: it is tried again.
    """
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False), second.lock(resource, exclusive=False)
    releasing = begin()
    second.release((resource, other), cursor=releasing.cursor())
    assert first.change(resource, mine, True, wait=True) == ("r", None)
    releasing.commit()
    status, token = first.change(resource, mine, True, wait=True)
    assert status == "g" and token > mine
    assert holders(first.cursor, resource) == [(token, "exclusive")]


def test_upgrade_against_a_release_that_comes_later(daemons, begin, resource):
    """The other way round: the release does not get the guard. It still ends its lease, and the upgrade is looked at
    again; also by the janitor, though somebody holds the resource: the one who waits."""
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False), second.lock(resource, exclusive=False)
    upgrading = begin()
    assert first.change(resource, mine, True, wait=True, cursor=upgrading.cursor())[0] == "w"
    request = first.requests[0]
    second.release((resource, other))
    assert second.last["o_pending"] == [resource]
    upgrading.commit()
    assert first.number in look(second.cursor)["o_wake"]
    assert first.collect().keys() == {(request, resource)}
    assert exclusive_holders(first.cursor, resource) == [1] == [len(holders(first.cursor, resource))]


@pytest.mark.parametrize("end", ["release", "expiry", "force", "transfer"])
def test_an_upgrade_whose_lease_ends_is_refused(daemons, resource, end):
    """Race: a shared lease ends, by whomever, while its holder waits to become exclusive. It was granted the exclusive
    one later, as if it had held it all the time; others may have been there meanwhile.

    Fix: the request is refused, and the daemon told: LOST.
    """
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False, ttl=1000), second.lock(resource, exclusive=False, ttl=600000)
    assert first.change(resource, mine, True, wait=True)[0] == "w"
    request = first.requests[0]
    if end == "release":
        first.release((resource, mine))
    elif end == "expiry":
        expire_all(first.cursor)
        look(second.cursor)
    elif end == "force":
        one(first.cursor, "select pglockd.force_lease(%s, %s, 'because')", resource, mine)
    else:
        assert call(first.cursor, "transfer_lease", resource, mine, "other", None, "", 30000)["o_status"] == "g"
    assert first.collect() == {(request, ""): -1}
    second.release((resource, other))
    assert exclusive_holders(first.cursor, resource) == [0] and waiters(first.cursor, resource) == []


def test_an_upgrade_whose_lease_ends_behind_another_one(daemons, resource):
    """Race: the lease ends while somebody waits before it, to make a tree above exclusive: who serves the line stops
    there, and the request waited in vain for as long as that one does.

    Fix: the janitor looks for such requests wherever they are in line.
    """
    first, second = daemons
    name = f"{resource}/a"
    mine = first.lock(name, exclusive=False)
    _, tree = second.claim(f"~{resource}*", conn=2)
    assert second.claim(f"~{resource}*", conn=3)[0] == "g"
    assert first.change(name, mine, True, wait=True)[0] == "w"
    request = first.requests[0]
    status, ticket = second.change(resource, tree, True, wait=True, conn=2)
    assert status == "w"
    first.release((name, mine))
    assert first.number in look(second.cursor)["o_wake"]
    assert first.collect() == {(request, ""): -1}
    assert waiters(first.cursor, resource) == [ticket] and waiters(first.cursor, name) == []


def test_an_upgrade_against_one_whose_lease_has_ended(daemons, begin, resource):
    """Race: two want to become exclusive; the lease of the first ends while its guard is held elsewhere, and nobody
    has looked at its request yet: the second was refused for a deadlock that was none.

    Fix: only who holds a lease is a rival.
    """
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False), second.lock(resource, exclusive=False)
    assert first.change(resource, mine, True, wait=True)[0] == "w"
    request = first.requests[0]
    deciding = begin()
    hold_guard(deciding.cursor(), resource)
    first.release((resource, mine))
    assert first.last["o_pending"] == [resource]
    deciding.rollback()
    assert second.change(resource, other, True, wait=True)[0] == "w"
    look(first.cursor)
    assert first.collect() == {(request, ""): -1}
    assert second.collect().keys() == {(second.requests[0], resource)}


def test_two_upgrades_of_one_lease(daemons, resource):
    """Race: a holder asks twice to become exclusive. The second request is served, and the first one, whose lease has
    gone with that, stayed in the queue below the floor of the new lease: its release did not look there, and the
    resource that nobody held was busy until the janitor came.

    Fix: who serves one refuses the others.
    """
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False), second.lock(resource, exclusive=False)
    assert first.change(resource, mine, True, wait=True)[0] == "w"
    earlier = first.requests[0]
    assert first.change(resource, mine, True, wait=True)[0] == "w"
    second.release((resource, other))
    collected = first.collect()
    token = collected.pop((first.requests[0], resource))
    assert collected == {(earlier, ""): -1}
    first.release((resource, token))
    assert second.lock(resource)


def test_two_upgrades_at_once(daemons, begin, resource):
    """Race: two holders both see only the other, and both queue: neither is ever served.

    Fix: decided under the guard, one after the other; the second is refused at once.
    """
    first, second = daemons
    mine, other = first.lock(resource, exclusive=False), second.lock(resource, exclusive=False)
    upgrading = begin()
    assert first.change(resource, mine, True, wait=True, cursor=upgrading.cursor())[0] == "w"
    assert second.change(resource, other, True, wait=True) == ("r", None)
    upgrading.commit()
    assert second.change(resource, other, True, wait=True) == ("D", mine)


# ---- deadlocks ----

def ring(first, second, resource):
    """Each holds one of two and waits for the other's. (leases, requests)."""
    a, b = f"{resource}/a", f"{resource}/b"
    leases = (a, first.lock(a, conn=1)), (b, second.lock(b, conn=2))
    requests = first.wait(b, conn=1), second.wait(a, conn=2)
    return leases, requests


def break_deadlocks(cursor, resource):
    """How many requests of this test are refused."""
    def refused():
        return one(cursor, "select count(*) from pglockd.refusal where cycle::text like %s", f'%"{resource}/%')
    before = refused()
    search(cursor)
    return refused() - before


def search(cursor):
    """A whole search for rings: the resources that it reports."""
    reported, after = [], None
    while True:
        done = call(cursor, "break_deadlocks", after)
        reported += done["o_resource"]
        after = done["o_after"] or None
        if after is None:
            return reported


def test_a_ring_is_broken_at_its_youngest(daemons, resource):
    first, second = daemons
    leases, (older, younger) = ring(first, second, resource)
    assert break_deadlocks(first.cursor, resource) == 1
    assert second.collect() == {(younger[1], ""): 0} and first.collect() == {}
    assert waiters(first.cursor, f"{resource}/a") == [] and waiters(first.cursor, f"{resource}/b") == [older[0]]
    second.release(leases[1])
    assert first.collect().keys() == {(older[1], f"{resource}/b")}


def test_a_ring_against_a_release_in_flight(daemons, begin, resource):
    """Race: one of two who wait for each other has released, and the other has been granted what it waits for, but
    that is not committed: the search sees a ring that there is no more, and refuses somebody for nothing.

    Fix: the search locks what the ring consists of, and looks again; whoever is about to take a part of it away has
    locked that.
    """
    first, second = daemons
    leases, (older, younger) = ring(first, second, resource)
    releasing = begin()
    first.release(leases[0], cursor=releasing.cursor())
    assert break_deadlocks(second.cursor, resource) == 0
    releasing.commit()
    assert break_deadlocks(second.cursor, resource) == 0
    assert second.collect().keys() == {(younger[1], f"{resource}/a")}
    assert waiters(first.cursor, f"{resource}/b") == [older[0]]


def test_a_release_while_a_ring_is_looked_at_is_asked_again(daemons, begin, resource):
    """Race: the search has a lease of the ring locked when its holder releases it, and the lock looked like that
    of assert_fence(): the holder was told that a transaction fences it.

    Fix: the search takes another kind of row lock.
    """
    first, second = daemons
    leases, _ = ring(first, second, resource)
    searching = begin()
    search(searching.cursor())
    for me, lease in zip(daemons, leases):
        assert me.release(lease, careful=True)[0][0] == "r"
    searching.rollback()
    assert first.release(leases[0], careful=True)[0][0] == "g"


def test_a_ring_against_a_withdrawal_in_flight(daemons, begin, resource):
    """The same for one who has given up waiting."""
    first, second = daemons
    _, (older, _) = ring(first, second, resource)
    leaving = begin()
    first.withdraw(f"{resource}/b", *older, cursor=leaving.cursor())
    assert break_deadlocks(second.cursor, resource) == 0
    leaving.commit()
    assert break_deadlocks(second.cursor, resource) == 0 and second.collect() == {}


def test_who_is_passed_over_while_a_ring_is_looked_at_is_looked_at_again(daemons, begin, resource):
    """Race: the search has the rows of a ring locked when somebody releases: their turn may have come, and nobody knew.

    Fix: the search reports what they wait for, whether it refuses one or not.
    """
    first, second = daemons
    a = f"{resource}/a"
    ring(first, second, resource)
    other = begin()
    hold_row(other.cursor(), "lease", a, "update")  # so that it gives up
    assert a in search(second.cursor) and second.collect() == {}


def test_a_semaphore_with_somebody_who_lets_go_is_no_deadlock(daemons, resource):
    """False positive: who waits for a slot does not wait for each of its holders. One of two who have a slot waits for
    the one who wants one; the other will let go."""
    first, second = daemons
    pool, x = f"{resource}/pool", f"{resource}/x"
    first.claim(pool, slots=2, conn=1)
    _, other = second.claim(pool, slots=2, conn=2)
    first.lock(x, conn=3)
    assert first.claim(pool, slots=2, conn=3, wait=True)[0] == "w"
    first.wait(x, conn=1)
    assert break_deadlocks(first.cursor, resource) == 0
    # And when that one waits for it, too, nobody is left who could.
    second.wait(x, conn=2)
    assert break_deadlocks(first.cursor, resource) == 1
    second.release((pool, other))


def test_who_waits_behind_others_for_slots_waits_for_them_to_be_served(daemons, resource):
    """False positive: two in a line for slots are not in each other's way when both can have some. The first of them
    waits, with another request, for what the second holds."""
    first, second = daemons
    pool, x = f"{resource}/pool", f"{resource}/x"
    _, held = first.claim(pool, slots=3, weight=3, conn=1)
    second.lock(x, conn=3)
    assert first.claim(pool, slots=3, conn=2, wait=True)[0] == "w"
    assert second.claim(pool, slots=3, conn=3, wait=True)[0] == "w"
    first.wait(x, conn=2)
    assert break_deadlocks(first.cursor, resource) == 0
    first.release((pool, held))
    assert break_deadlocks(first.cursor, resource) == 0


def test_who_waits_behind_two_others_for_slots_waits_for_them_to_be_served(daemons, resource):
    """False positive: three in a line for slots wait for an exclusive lease, which is the third one's own. There are
    slots enough for all, so none waits for another. The search stopped when it had seen that of the second.

    Fix: it goes on as long as anything changes.
    """
    first, second = daemons
    pool = f"{resource}/pool"
    first.lock(pool, conn=1)
    for daemon, conn in (first, 2), (second, 3), (first, 1):
        assert daemon.claim(pool, slots=3, conn=conn, wait=True)[0] == "w"
    assert break_deadlocks(first.cursor, resource) == 0


@pytest.mark.parametrize("grace", [None, 60000])
def test_a_lease_that_has_ended_is_in_no_ring(daemons, resource, grace):
    """False positive: two wait for each other's lease, and one of these has ended. It is still there, since it keeps
    others out for its grace, or since the janitor has not got as far: the one who waits for it will get it.

    Fix: a lease that has ended is nobody's for the search.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    assert first.claim(a, conn=1, ttl=1000, grace=grace)[0] == "g"
    second.lock(b, conn=2, ttl=3600000)
    older, (_, younger) = first.wait(b, conn=1), second.wait(a, conn=2)
    one(first.cursor, "select pglockd.tick('10 s')")
    first.cursor.execute("select pglockd.heartbeat(n) from unnest(%s) n", ([first.number, second.number],))
    assert break_deadlocks(first.cursor, resource) == 0
    one(first.cursor, "select pglockd.tick('1 minute')")
    first.cursor.execute("select pglockd.heartbeat(n) from unnest(%s) n", ([first.number, second.number],))
    look(first.cursor)
    assert second.collect().keys() == {(younger, a)}
    assert waiters(first.cursor, b) == [older[0]]


def test_a_waiter_who_is_passed_over_is_in_nobodys_ring(daemons, resource):
    """False positive: one waits behind another, who waits, with another request, for what the first holds. But the
    daemon of the other is frozen, so that the first is served before it: it is no deadlock, as long as that lasts.

    Fix: those who are passed over are in nobody's way for the search, either.
    """
    first, second = daemons
    a, b = f"{resource}/a", f"{resource}/b"
    held = first.lock(a, conn=9, ttl=3600000)
    first.lock(b, conn=1, ttl=3600000)
    second.wait(a, conn=2)
    second.wait(b, conn=2)
    _, request = first.wait(a, conn=1)
    one(first.cursor, "select pglockd.tick('4 s')")
    one(first.cursor, "select pglockd.heartbeat(%s)", first.number)
    assert break_deadlocks(first.cursor, resource) == 0
    first.release((a, held))
    assert first.grants().keys() == {request}


def test_a_refusal_that_was_not_heard_is_told_again(daemons, resource):
    """Race: the daemon is refused a request and has lost its connection, or does not know yet that it waits. Its
    resync would put it back, into the same ring.

    Fix: a refused request is not put back, and says so.
    """
    first, second = daemons
    a = f"{resource}/a"
    _, (_, (ticket, request)) = ring(first, second, resource)
    assert break_deadlocks(first.cursor, resource) == 1
    assert second.resync((a, ticket, request))["o_status"] == ["D"] and waiters(first.cursor, a) == []
