"""Who is next: places that were drawn without the guard, taken again with an id, or granted by another
daemon; and every line of a long pipeline, in its turn."""

import pytest

from lines import eventually, wait_for_queue
from schema import call, holders, one, rows, waiters


@pytest.mark.parametrize("count", [1, 6], ids=["one by one", "as a set"])
def test_a_ticket_below_the_floor_is_served(daemons, begin, resource, count):
    """Race: B finds the guard held and draws its ticket without it; A, who holds the guard and does not
    see B's uncommitted row, draws a token above that ticket and is granted. A release looks for waiters
    above the token of its lease only (queue_floor), past the dead index entries: B was never found, and
    whoever came later overtook it.

    Fix: who draws without the guard is marked (early_resource), and a release looks for marks, too.
    """
    first, second = daemons
    names = [f"{resource}/{i}" for i in range(count)]
    granting, waiting = begin(), begin()
    for name in names:
        assert one(granting.cursor(), "select pg_try_advisory_xact_lock(1346849793, "
                   "pglockd.guard_key(%s))", name)
    early = {name: second.wait(name, cursor=waiting.cursor()) for name in names}
    tokens = first.acquire(*[{"resource": name} for name in names], cursor=granting.cursor())
    assert [status for status, _ in tokens] == ["g"] * count
    granting.commit()
    waiting.commit()
    for name, (_, token) in zip(names, tokens):
        assert rows(first.cursor, "select early_resource, ticket < queue_floor from pglockd.waiter "
                    "join pglockd.lease using (resource) where resource = %s", name) == [(name, True)]
        late, _ = first.wait(name)
        assert late > token
    first.release(*[(name, token) for name, (_, token) in zip(names, tokens)])
    assert first.last["o_wake"] == [second.number] * count and not first.last["o_pending"]
    for name, (ticket, request) in early.items():
        assert rows(first.cursor, "select request_id from pglockd.lease where resource = %s",
                    name) == [(request,)]
        assert ticket not in waiters(first.cursor, name) and len(waiters(first.cursor, name)) == 1


def test_a_place_taken_again_below_the_floor_is_served(daemons, resource):
    """Race: a waiter is away and passed over; those behind it are granted, which moves the floor above
    its ticket. It comes back with its id, to a place that no release looked at.

    Fix: who takes an older place again is marked as well.
    """
    first, second = daemons
    token = first.lock(resource)
    ticket, request = second.wait(resource, id="floor")
    _, next_request = first.wait(resource)
    second.withdraw(resource, ticket, request, keep=30000)
    first.release((resource, token))
    token = first.grants()[next_request]
    again, request = second.wait(resource, id="floor")
    assert again == ticket
    first.wait(resource)
    first.release((resource, token))
    assert rows(first.cursor, "select request_id from pglockd.lease where resource = %s",
                resource) == [(request,)]


def test_a_repetition_that_does_not_wait_keeps_the_place(connect, resource):
    """Race: LOCK id= without wait while the first one waits took the place over and gave it up.

    Fix: it is BUSY and touches nothing: the first keeps its place, before those who came after it.
    """
    holder, first, second = connect(), connect(), connect()
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf id=no-wait owner=a")
    wait_for_queue(holder, resource, 1)
    second.send(f"LOCK {resource} wait=inf owner=b")
    wait_for_queue(holder, resource, 2)
    for _ in range(3):
        assert connect().ask(f"LOCK {resource} id=no-wait owner=a").status == "BUSY"
    queue = wait_for_queue(holder, resource, 2)["queue"]
    assert [w["owner"] for w in queue] == ["a", "b"]
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    token = first.reply()["token"]
    second.nothing_comes()
    first.ask_ok(f"UNLOCK {resource} token={token}")
    assert second.reply()["token"] > token


def test_a_repetition_without_the_guard_does_not_queue(daemons, begin, resource):
    """Race: the guard is held elsewhere when the holder repeats its LOCK with wait. It was queued without
    a look at the leases, and waited for itself.

    Fix: a request with an id is not decided without the guard: it is asked again.
    """
    first, _ = daemons
    token = first.lock(resource, id="no-guard")
    blocker = begin()
    assert one(blocker.cursor(), "select pg_try_advisory_xact_lock(1346849793, "
               "pglockd.guard_key(%s))", resource)
    repeated = {"resource": resource, "id": "no-guard", "wait": True}
    assert first.acquire(repeated) == [("r", None)]
    assert waiters(first.cursor, resource) == []
    blocker.rollback()
    assert first.acquire(repeated) == [("a", token)]


def test_a_daemon_asks_again_for_a_repetition_without_the_guard(client, sql, resource):
    """The same over a connection: the answer comes with the guard, and is the lease."""
    token = client.lock(resource, "id=ask-again")
    blocker = sql()
    blocker.autocommit = False
    blocker.cursor().execute("select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))",
                             (resource,))
    client.send(f"@again LOCK {resource} id=ask-again wait=inf")
    client.nothing_comes()
    assert client.ask_ok(f"@i INFO {resource}")["waiting"] == 0
    blocker.rollback()
    reply = client.reply()
    assert (reply.tag, reply["token"], reply["repeated"]) == ("again", token, True)


def test_a_short_lease_from_another_daemon_ends_soon_after_its_ttl(daemons, resource):
    """Race: a grant for another daemon's waiter has 5 s until it is accepted, and the janitor looks at
    it then (check_us). With its own, shorter TTL it was still looked at after those 5 s only.

    Fix: acceptance moves check_us back with the end of the lease.
    """
    first, second = daemons
    token = first.lock(resource)
    _, request = second.wait(resource, ttl=100)
    first.release((resource, token))
    assert first.last["o_wake"] == [second.number]
    accepted = call(second.cursor, "collect_grants", second.number)
    assert accepted["o_request"] == [request]
    assert one(first.cursor, "select check_us <= expires_us and expires_us < pglockd.lease_now() + 2000000 "
               "from pglockd.lease where resource = %s", resource)
    one(first.cursor, "select pglockd.tick('2 s')")
    call(first.cursor, "sweep", 10000, 30000, False, None)
    assert holders(first.cursor, resource) == []


def test_an_unlock_behind_a_lock_that_will_wait(connect, resource):
    """Race: a LOCK that will only join a queue lets everything else that has come with it go first. An
    UNLOCK behind it, of the same connection, may not overtake it. Where the two came alone, neither
    went until something else came or their time was over.

    Fix: where nothing of the others can go, the LOCKs go.
    """
    holder, first, client = connect(), connect(), connect()
    token = holder.lock(resource)
    first.send(f"LOCK {resource} wait=inf")
    wait_for_queue(holder, resource, 1)
    other = client.lock(f"{resource}/other")
    client.send(f"@l LOCK {resource} wait=inf", f"@u UNLOCK {resource}/other token={other}")
    reply = client.reply()
    assert (reply.tag, reply.status) == ("u", "OK")
    wait_for_queue(holder, resource, 2)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert first.reply().status == "OK"


@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "tagged"])
def test_a_very_deep_pipeline_is_answered(client, connect, resource, tagged):
    """Race: the lines of a connection are taken a few at a turn, and reading stops past max_inflight.
    Lines that had all been received must go on without anything new on the socket to wake the daemon.

    Fix: a connection with lines left asks for its next turn itself; others are served in between.
    """
    count = 5000
    client.send(*[f"{f'@t{i} ' if tagged else ''}LOCK {resource}/{i} ttl=10m" for i in range(count)])
    assert connect().ask("PING").status == "OK"
    replies = [client.reply() for _ in range(count)]
    assert {r.status for r in replies} == {"OK"}
    assert {r["resource"] for r in replies} == {f"{resource}/{i}" for i in range(count)}
    client.send(*[f"UNLOCK {r['resource']} token={r['token']}" for r in replies])
    assert {client.reply().status for _ in range(count)} == {"OK"}
    eventually(lambda: client.ask_ok(f"LIST prefix={resource}")["locks"] == [])
