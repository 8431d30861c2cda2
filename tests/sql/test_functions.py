"""Each function's answers on its own, edge cases included, on a database that no daemon serves."""

import pytest
from psycopg2 import errors

from lines import eventually
from schema import Instance, call, holders, in_order, one, rows, waiters


@pytest.fixture
def me(still):
    return Instance(still())


@pytest.fixture
def other(still):
    return Instance(still())


def tick(instance, seconds):
    return one(instance.cursor, "select pglockd.tick(%s * interval '1 second')", seconds)


# ---- acquire_batch ----

# Which short cut is tried first is a matter of speed.
either_way = pytest.mark.parametrize("crowded", [False, True])


def test_an_empty_batch(me):
    assert me.acquire() == []


@either_way
def test_grants_in_one_batch(me, resource, crowded):
    answers = me.acquire(*[{"resource": f"{resource}/{i}"} for i in range(300)], crowded=crowded)
    assert [s for s, _ in answers] == ["g"] * 300
    assert len({t for _, t in answers}) == 300


@either_way
def test_one_resource_in_one_batch_is_decided_in_order(me, resource, crowded):
    def ask(exclusive, wait=False):
        return {"resource": resource, "exclusive": exclusive, "wait": wait}
    answers = me.acquire(ask(False), ask(False), ask(True), ask(False), ask(True, True), ask(False),
                         ask(False, True), ask(True), crowded=crowded)
    assert "".join(s for s, _ in answers) == "ggbgwbwb"
    tickets = [n for s, n in answers if s == "w"]
    assert tickets == sorted(tickets) and waiters(me.cursor, resource) == tickets
    assert [t for t, _ in holders(me.cursor, resource)] == [n for s, n in answers if s == "g"]


@either_way
def test_many_resources_in_one_unsorted_batch(me, resource, crowded):
    names = [f"{resource}/{i % 7}" for i in range(70)]
    answers = me.acquire(*[{"resource": n, "wait": i % 2 == 1} for i, n in enumerate(names)], crowded=crowded)
    for i, (status, _) in enumerate(answers):
        assert status == ("g" if i < 7 else "w" if i % 2 else "b"), i


# ---- acquire_batch: how much an owner may have ----

def test_an_owner_gets_as_much_as_it_may(me, resource):
    asked = {"owner": resource, "most": 3}
    answers = me.acquire(*[{"resource": f"{resource}/{i}", **asked} for i in range(5)])
    assert "".join(s for s, _ in answers) == "gggoo"
    assert me.acquire({"resource": f"{resource}/5", **asked}) == [("o", None)]
    assert me.release((f"{resource}/1", answers[1][1]))[0][0] == "g"
    me.lock(f"{resource}/5", **asked)


def test_who_is_refused_for_another_reason_takes_no_room(me, other, resource):
    other.lock(f"{resource}/0")
    answers = me.acquire(*[{"resource": f"{resource}/{i}", "owner": resource, "most": 1} for i in range(3)])
    assert "".join(s for s, _ in answers) == "bgo"


def test_who_waits_counts_and_gets_its_lease(me, other, resource):
    held = other.lock(f"{resource}/0")
    asked = {"owner": resource, "most": 2}
    answers = me.acquire(*[{"resource": f"{resource}/{i}", "wait": True, **asked} for i in range(4)])
    assert "".join(s for s, _ in answers) == "wgoo"
    other.release((f"{resource}/0", held))
    assert list(me.collect()) == [(me.requests[0], f"{resource}/0")]
    assert me.acquire({"resource": f"{resource}/2", **asked}) == [("o", None)]  # as a lease it counts, too


def test_who_shares_a_batch_with_an_owner_at_its_limit(me, resource):
    """Those of others, and of owners without a limit, are decided as ever, also for the same resource."""
    answers = me.acquire(
        {"resource": f"{resource}/a", "owner": "x" + resource, "most": 1, "exclusive": False},
        {"resource": f"{resource}/a", "owner": "y" + resource, "most": 5, "exclusive": False},
        {"resource": f"{resource}/a", "exclusive": False},
        {"resource": f"{resource}/b", "owner": "x" + resource, "most": 1},
        {"resource": f"{resource}/c", "owner": "x" + resource})
    assert "".join(s for s, _ in answers) == "gggog"


def test_an_identity_counts_whatever_its_owner(me, resource):
    def ask(i, **more):
        return {"resource": f"{resource}/{i}", "owner": str(i), "identity": f"{resource}@", "most": 1, **more}
    assert "".join(s for s, _ in me.acquire(ask(0), ask(1), ask(2, identity=""))) == "gog"


def test_a_repeated_id_is_found_past_the_limit(me, resource):
    asked = {"owner": resource, "most": 1, "id": resource}
    token = me.lock(f"{resource}/a", **asked)
    assert me.acquire({"resource": f"{resource}/a", **asked}) == [("a", token)]
    assert me.acquire({"resource": f"{resource}/b", **asked, "id": "another"}) == [("o", None)]


def test_a_repeated_set_is_taken_over_whole_or_not_at_all(me, other, still, resource):
    """Race: a transaction has one of its leases locked. The others became the repetition's, which had none: the daemon
    that made them could not give them back any more when nobody took them."""
    a, b = f"{resource}/a", f"{resource}/b"
    me.claim(a, b, id=resource)
    tokens, request = me.last["o_grant_token"], me.requests[0]
    keeper = still()
    keeper.autocommit = False
    keeper.cursor().execute("select pglockd.assert_fence(%s, %s)", (b, tokens[1]))
    assert other.claim(a, b, id=resource) == ("r", None)
    done = call(me.cursor, "release_batch", me.number, [a, b], tokens, [], [], [request] * 2, True)
    assert [status for status, _ in in_order(done, 2)] == ["g", "f"]
    keeper.rollback()


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_release_of_what_nobody_took_leaves_what_a_repetition_was_given(me, other, resource, exclusive):
    token = me.lock(resource, id=resource, exclusive=exclusive)
    request = me.requests[0]
    assert other.acquire({"resource": resource, "id": resource, "exclusive": exclusive}) == [("a", token)]

    def give_back(by, of):
        done = call(by.cursor, "release_batch", by.number, [resource], [token], [], [], [of], False)
        return [status for status, _ in in_order(done, 1)]
    assert give_back(me, request) == give_back(me, other.requests[0]) == ["l"]
    assert give_back(other, other.requests[0]) == ["g"]


def test_a_set_counts_as_many_as_it_has(me, resource):
    asked = {"owner": resource, "most": 3}
    me.lock(f"{resource}/a", **asked)
    assert me.claim(f"{resource}/b", f"{resource}/c", f"{resource}/d", **asked) == ("o", None)
    assert me.claim(f"{resource}/b", f"{resource}/c", **asked)[0] == "g"
    assert me.claim(f"{resource}/d*", **asked) == ("o", None)
    assert holders(me.cursor, f"{resource}/d") == []


def test_a_changed_mode_is_no_lease_more(me, other, resource):
    asked = {"owner": resource, "most": 1}
    token = me.lock(resource, exclusive=False, **asked)
    beside = other.lock(resource, exclusive=False)
    assert me.change(resource, token, True, wait=True)[0] == "w"
    assert me.acquire({"resource": f"{resource}/b", **asked}) == [("o", None)]
    other.release((resource, beside))
    assert me.collect()
    assert me.acquire({"resource": f"{resource}/b", **asked}) == [("o", None)]


def test_what_was_given_away_counts_for_who_locked_it(me, resource):
    asked = {"owner": resource, "most": 1}
    token = me.lock(resource, **asked)
    given = call(me.cursor, "transfer_lease", resource, token, "another" + resource, None, "", 30000)
    assert given["o_status"] == "g"
    assert me.acquire({"resource": f"{resource}/b", **asked}) == [("o", None)]
    me.lock(f"{resource}/b", **{**asked, "owner": "another" + resource})


@either_way
def test_free_and_held_resources_in_one_batch(me, other, resource, crowded):
    names = sorted(f"{resource}/{i:02}" for i in range(20))
    held = {n: other.lock(n) for n in names[::3]}
    answers = dict(zip(names, me.acquire(*[{"resource": n} for n in names], crowded=crowded)))
    assert {n for n, (s, _) in answers.items() if s == "b"} == set(held)
    assert all(s == "g" for n, (s, _) in answers.items() if n not in held)


@either_way
def test_a_repeated_id_beside_a_newcomer_for_the_same_resource(me, other, resource, crowded):
    """In one batch: the one has a lease, the other is granted one, each hears of its own."""
    mine = me.lock(resource, exclusive=False, id=resource)
    other.lock(resource + "/held")
    (again, token), (granted, new), (busy, _) = me.acquire(
        {"resource": resource, "exclusive": False, "id": resource}, {"resource": resource, "exclusive": False},
        {"resource": resource + "/held"}, crowded=crowded)
    assert (again, token, granted, busy) == ("a", mine, "g", "b")
    assert new == max(t for t, _ in holders(me.cursor, resource)) > mine


@pytest.mark.parametrize("held,asked,status", [
    (True, True, "b"), (True, False, "b"), (False, True, "b"), (False, False, "g")])
def test_modes(me, other, resource, held, asked, status):
    other.lock(resource, exclusive=held)
    assert me.acquire({"resource": resource, "exclusive": asked})[0][0] == status


def test_a_waiter_stops_newcomers(me, other, resource):
    other.lock(resource, exclusive=False)
    me.wait(resource)
    assert me.acquire({"resource": resource, "exclusive": False}) == [("b", None)]


def test_what_is_stored(me, resource):
    me.lock(resource, ttl=5000, conn=7, owner="o", note="n", identity="i", id="k")
    ((*facts, left),) = rows(
        me.cursor, "select conn_id, instance_id, owner, note, identity, idempotency_key, ttl_ms, "
        "delivered, expires_us - pglockd.lease_now() from pglockd.lease where resource = %s", resource)
    assert facts == [7, me.number, "o", "n", "i", "k", 5000, True]
    assert 4_000_000 < left <= 6_000_000


def test_an_expired_lease_blocks_nobody(me, other, resource):
    old = other.lock(resource, ttl=1000)
    tick(me, 60)
    assert me.lock(resource) > old
    assert rows(me.cursor, "select reason::text from pglockd.tombstone where resource = %s and token = %s",
                resource, old) == [("expired",)]


def test_an_expired_lease_goes_to_the_queue_before_newcomers(me, other, resource):
    other.lock(resource, ttl=1000)
    _, request = me.wait(resource)
    tick(me, 60)
    for instance in me, other:  # a daemon without a sign of life is passed over
        one(me.cursor, "select known from pglockd.heartbeat(%s)", instance.number)
    assert me.acquire({"resource": resource}) == [("b", None)]
    assert list(me.grants()) == [request]


def test_the_same_id(me, other, resource):
    token = me.lock(resource, id=resource, owner="o")
    ask = {"resource": resource, "id": resource, "owner": "o"}
    assert other.acquire(ask) == [("a", token)]
    assert other.acquire({**ask, "exclusive": False})[0][0] == "m"
    assert other.acquire({**ask, "resource": resource + "/x"})[0][0] == "m"
    assert other.acquire({**ask, "owner": "p"})[0][0] == "b"
    assert other.acquire({**ask, "identity": "x"})[0][0] == "b"


def test_the_same_id_in_the_queue(me, other, resource):
    me.lock(resource)
    ask = {"resource": resource, "id": resource, "wait": True}
    ((_, ticket),) = me.acquire(ask)
    assert other.acquire(ask) == [("w", ticket)]
    assert waiters(me.cursor, resource) == [ticket]
    assert other.acquire({**ask, "wait": False})[0][0] == "b"
    assert waiters(me.cursor, resource) == [ticket]


# ---- release_batch, renew_batch, check_leases, explain_lost ----

def test_release(me, resource):
    token = me.lock(resource)
    ((status, held_ms),) = me.release((resource, token))
    assert status == "g" and 0 <= held_ms < 60000
    assert me.release((resource, token)) == [("l", None)]


def test_release_a_mixed_batch(me, resource):
    mine = me.lock(f"{resource}/mine", identity="me")
    theirs = me.lock(f"{resource}/theirs", identity="them")
    anybody = me.lock(f"{resource}/anybody")
    answers = me.release((f"{resource}/mine", mine), (f"{resource}/theirs", theirs),
                         (f"{resource}/none", 1), (f"{resource}/anybody", anybody),
                         identity=["me"] * 4)
    assert [s for s, _ in answers] == ["g", "d", "l", "g"]
    assert holders(me.cursor, f"{resource}/theirs") == [(theirs, "exclusive")]


def test_release_hands_over_in_its_own_transaction(me, other, resource):
    token = other.lock(resource)
    requests = [me.wait(resource, exclusive=e)[1] for e in (False, False, True, False)]
    assert other.release((resource, token))[0][0] == "g"
    assert other.last["o_wake"] == [me.number] * len(other.last["o_wake"]) and other.last["o_wake"]
    done = call(me.cursor, "collect_grants", me.number)
    assert done["o_request"] == requests[:2], "the readers in front of the writer"
    assert len(waiters(me.cursor, resource)) == 2


def test_own_waiters_are_told_at_once(me, resource):
    token = me.lock(resource)
    _, request = me.wait(resource)
    me.release((resource, token))
    assert list(me.grants()) == [request] and not me.last["o_wake"]
    assert list(me.grants().values()) == [t for t, _ in holders(me.cursor, resource)]


def renew(me, leases, ttl, identity=()):
    return me.renew(*leases, ttl=ttl, identity=identity)


def test_renew(me, resource):
    token = me.lock(resource, ttl=5000)
    assert renew(me, [(resource, token)], [60000]) == [("g", 60000)]
    assert renew(me, [(resource, token)], [None]) == [("g", 60000)]
    assert renew(me, [(resource, token), (resource, token + 1)], [1000, 1000])[1] == ("l", None)
    assert me.acquire({"resource": resource}) == [("b", None)]


def test_renew_denied(me, resource):
    token = me.lock(resource, identity="me")
    assert renew(me, [(resource, token)], [1000], ["you"]) == [("d", None)]
    assert renew(me, [(resource, token)], [1000], ["me"]) == [("g", 1000)]


def test_a_shortened_lease_ends_early(me, resource):
    token = me.lock(resource, ttl=600000)
    renew(me, [(resource, token)], [1000])
    tick(me, 10)
    call(me.cursor, "sweep", 100000, 1000, True, None)
    assert holders(me.cursor, resource) == []


def test_a_renewal_is_hot(me, resource):
    """Nothing that a renewal changes is indexed, or a million leases would rewrite their indexes."""
    token = me.lock(resource)
    before = one(me.cursor, "select ctid from pglockd.lease where resource = %s", resource)
    renew(me, [(resource, token)], [30000])
    indexed = rows(me.cursor, "select distinct a.attname from pg_index i join pg_attribute a on "
                   "a.attrelid = i.indrelid and a.attnum = any (i.indkey) "
                   "where i.indrelid = 'pglockd.lease'::regclass")
    assert ("expires_us",) not in indexed and ("ttl_ms",) not in indexed
    assert one(me.cursor, "select ctid from pglockd.lease where resource = %s", resource) != before


def test_check(me, resource):
    token = me.lock(resource, ttl=5000)
    result = call(me.cursor, "check_leases", [resource, resource], [token, token + 1])
    assert result["o_item"] == [1] and 4000 < result["o_number"][0] <= 5000
    tick(me, 5.5)
    assert call(me.cursor, "check_leases", [resource], [token])["o_number"] == [0]


def test_explain_lost(me, resource):
    token = me.lock(resource)
    assert rows(me.cursor, "select * from pglockd.explain_lost(%s, 1)", resource)[0][0] == "unknown"
    one(me.cursor, "select status from pglockd.force(%s, %s, 'why')", resource, token)
    me.lock(resource, owner="next")
    ((reason, lost_ms, detail, held_by),) = rows(
        me.cursor, "select * from pglockd.explain_lost(%s, %s)", resource, token)
    assert (reason, held_by) == ("forced", "next") and lost_ms >= 0 and detail.endswith(": why")


# ---- withdraw_batch, collect_grants, resync_waiters, find_requests ----

def test_withdraw(me, resource):
    me.lock(resource)
    ticket, request = me.wait(resource)
    for asked, status in ((request + 1, "l"), (request, "g"), (request, "l")):
        done = me.withdraw(resource, ticket, asked)
        assert done["o_status"] == [status]


def test_withdraw_and_keep_the_place(me, other, resource):
    token = me.lock(resource)
    ticket, request = me.wait(resource, id=resource)
    later, later_request = me.wait(resource)
    done = me.withdraw(resource, ticket, request, keep=30000)
    assert done["o_status"] == ["k"] and waiters(me.cursor, resource) == [ticket, later]
    me.release((resource, token))
    assert list(me.grants()) == [later_request], "the absent one is passed over"
    assert other.acquire({"resource": resource, "id": resource, "wait": True}) == [("w", ticket)]


def test_a_place_that_is_not_claimed_is_swept(me, resource):
    me.lock(resource)
    ticket, request = me.wait(resource, id=resource)
    me.withdraw(resource, ticket, request, keep=1000)
    tick(me, 2)
    call(me.cursor, "sweep", 100000, 1000, True, None)
    assert waiters(me.cursor, resource) == []


def test_withdrawing_the_writer_frees_the_readers(me, resource):
    me.lock(resource, exclusive=False)
    ticket, request = me.wait(resource)
    _, reader = me.wait(resource, exclusive=False)
    done = me.withdraw(resource, ticket, request)
    assert done["o_grant_request"] == [reader]


def test_an_uncollected_grant_ends_early_and_a_collected_one_does_not(me, other, resource):
    for name in "a", "b":
        token = other.lock(f"{resource}/{name}")
        me.wait(f"{resource}/{name}", ttl=60000)
        other.release((f"{resource}/{name}", token))
        if name == "a":
            assert len(call(me.cursor, "collect_grants", me.number)["o_request"]) == 1
    tick(me, 20)
    for instance in me, other:
        one(me.cursor, "select known from pglockd.heartbeat(%s)", instance.number)
    call(me.cursor, "sweep", 100000, 1000, True, None)
    assert len(holders(me.cursor, f"{resource}/a")) == 1
    assert holders(me.cursor, f"{resource}/b") == []


@pytest.mark.parametrize("finds", ["the janitor", "a request", "its own daemon"])
def test_an_uncollected_grant_ends_early_in_a_session_too(me, other, resource, finds):
    """It counted as held until the session ended: nobody knew of it, and nobody could have the resource."""
    session = call(me.cursor, "session_open", 3600000, "", "", None, None, "secret")["o_session"]
    token = other.lock(resource)
    _, request = me.claim(resource, wait=True, session=session, ttl=9000000000000), me.requests[0]
    other.release((resource, token))
    ((granted, _),) = holders(me.cursor, resource)
    if finds == "its own daemon":
        assert me.collect() == {(request, resource): granted}
    tick(me, 20)
    for instance in me, other:
        one(me.cursor, "select known from pglockd.heartbeat(%s)", instance.number)
    if finds != "a request":
        call(me.cursor, "sweep", 100000, 1000, True, None)
    ends = rows(me.cursor, "select reason::text, session_id from pglockd.tombstone where token = %s", granted)
    if finds == "its own daemon":
        assert [t for t, _ in holders(me.cursor, resource)] == [granted] and ends == []
        return
    if finds == "a request":
        assert rows(me.cursor, "select expired from pglockd.locks where resource = %s", resource) == [(True,)]
        other.lock(resource)
        ends = rows(me.cursor, "select reason::text, session_id from pglockd.tombstone where token = %s", granted)
    assert granted not in [t for t, _ in holders(me.cursor, resource)]
    assert ends == [("expired", session)]


def test_a_grant_collected_in_its_grace_is_held_and_not_lost(me, other, resource):
    """SESSION RESUME told of it as both: that it had ended had been noted when its grace began."""
    session = call(me.cursor, "session_open", 3600000, "", "", None, None, "secret")["o_session"]
    token = other.lock(resource)
    me.claim(resource, wait=True, session=session, ttl=9000000000000, grace=300000)
    other.release((resource, token))
    tick(me, 20)
    for instance in me, other:
        one(me.cursor, "select known from pglockd.heartbeat(%s)", instance.number)
    call(me.cursor, "sweep", 100000, 1000, True, None)
    (granted,) = me.collect().values()
    assert rows(me.cursor, "select token, reason from pglockd.session_locks(%s, 10)", session) == [(granted, None)]


def test_resync_puts_back_in_order(me, other, resource):
    me.lock(resource)
    waits = [me.wait(resource) for _ in range(3)]
    me.cursor.execute("delete from pglockd.waiter where resource = %s", (resource,))
    mine = [waits[2], waits[0]]
    done = me.resync(*[(resource, t, r) for t, r in mine])
    assert done["o_status"] == ["w", "w"]
    assert waiters(me.cursor, resource) == [waits[0][0], waits[2][0]]
    taken = other.resync((resource, waits[0][0], 999999))
    assert taken["o_status"] == ["l"], "another request has the place"


def test_resync_of_one_whose_session_has_ended(me, resource):
    """A daemon that counts its waiters may come before it has heard of the end of their session."""
    session = call(me.cursor, "session_open", 3600000, "", "", None, None, "secret")["o_session"]
    me.lock(resource)
    ticket = me.claim(resource, wait=True, session=session)[1]
    call(me.cursor, "session_close", session, None)
    done = call(me.cursor, "resync_waiters", me.number, [1], [resource], [True], [False], [None], [None], [30000],
                [ticket], [1], me.requests, [], [], [], [None], [session], [None], [False], [])
    assert done["o_status"] == ["s"] and waiters(me.cursor, resource) == []


def test_losing_the_queue_opens_a_quiet_period(me, resource):
    me.cursor.execute("delete from pglockd.queue_epoch")
    one(me.cursor, "select pglockd.open_queue_epoch()")  # as every lane does when it is claimed
    assert me.acquire({"resource": resource}) == [("q", None)]
    me.wait(resource)
    tick(me, 3)
    one(me.cursor, "select known from pglockd.heartbeat(%s)", me.number)
    assert len(call(me.cursor, "hand_over", me.number, [resource])["o_request"]) == 1


# ---- instances ----

def test_a_dead_daemon_is_retired_and_its_waiters_too(me, still, resource):
    dead = Instance(still())
    token = me.lock(resource)
    dead.wait(resource)
    kept, _ = dead.wait(resource, id=resource)
    _, mine = me.wait(resource)
    pid = dead.connection.info.backend_pid
    dead.connection.close()
    eventually(lambda: not rows(me.cursor, "select from pg_stat_activity where pid = %s", pid))
    tick(me, 60)
    one(me.cursor, "select known from pglockd.heartbeat(%s)", me.number)
    assert call(me.cursor, "sweep", 100000, 30000, True, None)["o_instances"] >= 1
    assert one(me.cursor, "select count(*) from pglockd.instance where instance_id = %s", dead.number) == 0
    assert kept in waiters(me.cursor, resource)
    me.release((resource, token))
    assert list(me.grants()) == [mine] or list(
        call(me.cursor, "collect_grants", me.number)["o_request"]) == [mine]


def test_a_daemon_whose_session_lives_is_not_retired(me, other):
    tick(me, 60)
    call(me.cursor, "sweep", 100000, 30000, True, None)
    assert one(me.cursor, "select count(*) from pglockd.instance where instance_id = %s", other.number) == 1


def test_heartbeat(me, resource):
    me.lock(resource)
    me.wait(resource)
    ((known, waiting, grants, quiet_ms),) = rows(
        me.cursor, "select known, waiters, grants, quiet_ms from pglockd.heartbeat(%s)", me.number)
    assert known and waiting >= 1 and not grants and quiet_ms == 0
    assert rows(me.cursor, "select known from pglockd.heartbeat(-1)") == [(False,)]


def test_retire(me, still, resource):
    leaving = Instance(still())
    token = leaving.lock(resource)
    leaving.wait(resource)
    call(leaving.cursor, "retire_instance", leaving.number, 30000)
    assert waiters(me.cursor, resource) == []
    assert holders(me.cursor, resource) == [(token, "exclusive")], "its leases stand"


# ---- sweep is bounded ----

def test_sweep_takes_no_more_than_it_may(me, resource):
    while call(me.cursor, "sweep", 100000, 1000, True, None)["o_more"]:
        pass  # what other tests have left
    me.acquire(*[{"resource": f"{resource}/{i}", "ttl": 1000} for i in range(25)])
    tick(me, 10)

    def left():
        return one(me.cursor, "select count(*) from pglockd.lease where resource like %s", resource + "/%")
    assert call(me.cursor, "sweep", 10, 1000, True, None)["o_more"] is True
    assert left() >= 15
    while call(me.cursor, "sweep", 10, 1000, True, None)["o_more"]:
        pass
    assert left() == 0


def test_sweep_says_that_old_tombstones_are_left(me, resource):
    """Whatever number of leases ends, their tombstones go."""
    me.cursor.execute("insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity) "
                      "select i, pglockd.lease_now() - 3600000001, clock_timestamp(), 'session_closed', %s, '', '' "
                      "from generate_series(1, 25) i", (resource,))
    assert call(me.cursor, "sweep", 10, 1000, False, None)["o_more"] is True
    while call(me.cursor, "sweep", 10, 1000, False, None)["o_more"]:
        pass
    assert one(me.cursor, "select count(*) from pglockd.tombstone where resource = %s", resource) == 0


# ---- lock(), unlock(), renew(), force() for people ----

@pytest.mark.parametrize("arguments,error", [
    ("''", errors.InvalidParameterValue), ("null", errors.InvalidParameterValue),
    ("'/'", errors.InvalidParameterValue), ("'/a'", errors.InvalidParameterValue),
    ("'a/'", errors.InvalidParameterValue), ("'a//b'", errors.InvalidParameterValue),
    ("'a/../b'", errors.InvalidParameterValue), ("'.'", errors.InvalidParameterValue),
    (r"E'a\nb'", errors.InvalidParameterValue), (r"E'a\u0085b'", errors.InvalidParameterValue),
    ("repeat('a', 513)", errors.InvalidParameterValue),
    ("repeat('a/', 32) || 'a'", errors.InvalidParameterValue),
    ("'a', mode => 'x'", errors.InvalidParameterValue), ("'a', mode => null", errors.InvalidParameterValue),
    ("'a', scope => 'x'", errors.InvalidParameterValue), ("'a', slots => 0", errors.InvalidParameterValue),
    ("'a', slots => 2, mode => 'shared'", errors.InvalidParameterValue), ("'/'", errors.InvalidParameterValue),
    ("'a', slots => 2, scope => 'tree'", errors.InvalidParameterValue), ("'a', ttl => '99 ms'", errors.InvalidParameterValue),
    ("'a', ttl => '11 min'", errors.InvalidParameterValue), ("'a', ttl => null", errors.InvalidParameterValue),
    ("'a', id => ''", errors.InvalidParameterValue), ("'a', id => repeat('a', 65)", errors.InvalidParameterValue),
])
def test_lock_refuses(me, arguments, error):
    with pytest.raises(error):
        me.cursor.execute(f"select * from pglockd.lock({arguments})")


def test_lock_by_sql(me, resource):
    ((status, token, ttl_ms, held_by),) = rows(
        me.cursor, "select * from pglockd.lock(%s, 'shared', ttl => '5 min', owner => 'o', note => 'n', "
        "id => %s)", resource, resource)
    assert (status, ttl_ms, held_by) == ("OK", 300000, None)
    again = "select status, token from pglockd.lock(%s, 'shared', owner => 'o', id => %s)"
    assert rows(me.cursor, again, resource, resource) == [("OK", token)]
    assert rows(me.cursor, again.replace("'shared'", "'exclusive'"), resource, resource) == [
        ("ID_MISMATCH", None)]
    ((status, held_by),) = rows(me.cursor, "select status, holders from pglockd.lock(%s)", resource)
    assert status == "BUSY" and held_by[0]["owner"] == "o" and "token" not in held_by[0]


def test_renew_by_sql(me, resource):
    token = one(me.cursor, "select token from pglockd.lock(%s)", resource)
    assert rows(me.cursor, "select status, ttl_ms from pglockd.renew(%s, %s, '1 s')", resource,
                token) == [("OK", 1000)]
    assert one(me.cursor, "select status from pglockd.renew(%s, 1, '1 s')", resource) == "LOST"
    for ttl in "1 ms", "1 h":
        with pytest.raises(errors.InvalidParameterValue):
            me.cursor.execute("select * from pglockd.renew(%s, %s, %s)", (resource, token, ttl))


def test_force(me, resource):
    tokens = [me.lock(resource, exclusive=False) for _ in range(3)]
    assert rows(me.cursor, "select status, token from pglockd.force(%s, %s)", resource,
                tokens[1]) == [("OK", tokens[1])]
    assert sorted(rows(me.cursor, "select status, token from pglockd.force(%s)", resource)) == [
        ("OK", tokens[0]), ("OK", tokens[2])]
    assert rows(me.cursor, "select status, token from pglockd.force(%s)", resource) == [("LOST", None)]


def sweep_after(seconds, *instances):
    tick(instances[0], seconds)
    for instance in instances:
        one(instance.cursor, "select known from pglockd.heartbeat(%s)", instance.number)
    call(instances[0].cursor, "sweep", 100000, 1000, True, None)


def why_ended(instance, token):
    return rows(instance.cursor, "select reason::text from pglockd.tombstone where token = %s", token)


def test_force_in_its_grace(me, resource):
    """That it has ended is noted when its grace begins; it failed where that was to be noted again."""
    me.claim(resource, ttl=1000, grace=60000)
    token = me.last["o_number"][0] or me.last["o_grant_token"][0]
    sweep_after(5, me)
    assert why_ended(me, token) == [("expired",)] and holders(me.cursor, resource) == [(token, "exclusive")]
    assert rows(me.cursor, "select status, token from pglockd.force(%s, %s, 'urgent')", resource, token) == [("OK", token)]
    assert why_ended(me, token) == [("forced",)] and holders(me.cursor, resource) == []


def test_transfer_of_a_grant_that_was_collected_in_its_grace(me, other, resource):
    """The same of one that its daemon heard of late, and that has gone on from there."""
    held = other.lock(resource)
    me.claim(resource, wait=True, ttl=60000, grace=60000)
    other.release((resource, held))
    sweep_after(10, me, other)
    ((_, token),) = me.collect().items()
    assert why_ended(me, token) == [("expired",)]
    assert call(me.cursor, "transfer_lease", resource, token, "heir", None, "", 30000)["o_status"] == "g"
    assert why_ended(me, token) == [("superseded",)]


def test_list_leases(me, resource):
    for end in "", "/a", "/a/b", "-x", "0", "b":
        me.lock(resource + end)

    def listed(prefix):
        return [r for r, in rows(me.cursor, "select resource from pglockd.list_leases(%s, %s, null, null, "
                                 "null, 100)", [prefix + "/", prefix], [prefix + "0", prefix + "\x01"])]
    assert listed(resource) == [resource, resource + "/a", resource + "/a/b"]
    assert listed(resource + "/a") == [resource + "/a", resource + "/a/b"]


def test_guard_keys_are_those_of_the_documentation(me, resource):
    """DBAs find the guard of a resource in pg_locks by class 0x50474C01."""
    me.connection.autocommit = False
    me.lock(resource)
    assert one(me.cursor, "select count(*) from pg_locks where locktype = 'advisory' and "
               "classid = x'50474C01'::int and objid = pglockd.guard_key(%s)::int8 & 4294967295 "
               "and pid = pg_backend_pid()", resource) == 1
    me.connection.rollback()


# ---- cost ----

FETCHED = """
select coalesce(sum(seq_tup_read + idx_tup_fetch), 0) from pg_stat_xact_user_tables
 where schemaname = 'pglockd' and relname in ('lease_exclusive', 'lease_shared', 'lease_tree')
"""


@pytest.mark.parametrize("planner", ["", "set plan_cache_mode = force_generic_plan; set enable_seqscan = off"],
                         ids=["sql", "daemon"])
@pytest.mark.parametrize("question", [
    "pglockd.check_leases(array[%(r)s || '/7'], array[%(token)s::bigint])",
    "pglockd.holders(array[%(r)s || '/7'], array[false])",
    "pglockd.explain_lost(%(r)s || '/7', 1)",
    "pglockd.find_by_id('no', '', '')",
    "pglockd.session_locks(%(session)s, 10)",
    "pglockd.lock(%(r)s || '/7')",
    "pglockd.force(%(r)s || '/7')",
    "pglockd.hold(%(r)s || '/new')",
    "pglockd.assert_fence(%(r)s || '/7', %(token)s)",
])
def test_what_is_asked_of_one_lease_passes_no_others(still, resource, planner, question):
    """CHECK, and so each LOCK in a session, and RESUME passed all leases by their index: the planner joined or
    sorted so, having seen the table when it was empty."""
    connection = still()
    session = call(connection.cursor(), "session_open", 60000, "", "", None, None, "secret")["o_session"]
    connection.autocommit = False
    me = Instance(connection)
    me.acquire(*[{"resource": f"{resource}/{i}"} for i in range(1500)])
    token = me.last["o_number"][7]
    me.cursor.execute("update pglockd.lease set session_id = %s where resource like %s", (session, f"{resource}/1_0"))
    me.cursor.execute(planner or "select 1")
    before = one(me.cursor, FETCHED)
    me.cursor.execute(f"select * from {question}", {"r": resource, "token": token, "session": session})
    assert one(me.cursor, FETCHED) - before < 50, "of 1500"
    connection.rollback()


# ---- tick ----

def test_a_tick_beside_a_janitor_credits_nothing(me, other):
    """Otherwise the same time would count twice, and leases would end early."""
    clock = "select row(base_us, ticks_total)::text from pglockd.clock"
    term = one(other.cursor, "select o_term from pglockd.take_janitor()")
    before = one(me.cursor, clock)
    assert one(me.cursor, "select pglockd.tick()") > 0
    assert one(me.cursor, clock) == before
    assert one(other.cursor, "select pg_advisory_unlock(1346849797, %s)", term)
    one(me.cursor, "select pglockd.tick()")
    assert one(me.cursor, clock) != before
