"""SQL beside the daemons: transactions that keep rows locked, and sessions with settings of their own."""

import pytest

from lines import wait_for_queue
from schema import one


@pytest.fixture
def keep_locked(sql, resource):
    """A function that does what a forgotten psql does: select for update; returns what ends it."""
    def lock_rows(table="lease"):
        connection = sql()
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute(f"select * from pglockd.{table} where resource = %s for update", (resource,))
        assert cursor.rowcount == 1
        return connection.rollback
    return lock_rows


@pytest.mark.parametrize("verb", ["RENEW", "UNLOCK"])
def test_a_locked_lease_stalls_its_own_request_only(client, connect, peer, keep_locked, resource, verb):
    """Race: somebody's open transaction has a lease's row locked. The statement that renews or releases
    it waited for the row, and with it the lane: every request behind it.

    Fix: locked rows are skipped and the request is asked again, until request_timeout: unavailable,
    surely not done. The others in its batch are answered at once.
    """
    token = client.lock(resource, "ttl=5m")
    let_go = keep_locked()
    client.send(f"@stalled {verb} {resource} token={token}",
                *[f"@l{i} LOCK {resource}/{i}" for i in range(6)])
    others = [client.reply() for _ in range(6)]
    assert sorted(r.tag for r in others) == [f"l{i}" for i in range(6)]
    assert {r.status for r in others} == {"OK"}
    client.send(*[f"@u{r.tag} UNLOCK {r['resource']} token={r['token']}" for r in others])
    assert {client.reply().status for _ in others} == {"OK"}
    impatient = connect(peer("--request-timeout", "3s"))
    refused = impatient.ask(f"{verb} {resource} token={token}")
    assert (refused.status, refused.code) == ("ERR", "unavailable")
    client.nothing_comes()
    let_go()
    stalled = client.reply()
    assert stalled[:2] == ("stalled", "OK")
    assert client.ask(f"UNLOCK {resource} token={token}").status == ("OK" if verb == "RENEW" else "LOST")


@pytest.mark.parametrize("verb", ["RENEW", "UNLOCK"])
def test_a_stalled_request_is_carried_out_when_the_row_is_free(client, keep_locked, resource, verb):
    """The transaction ends in time: the request is done, not refused."""
    token = client.lock(resource, "ttl=5m")
    let_go = keep_locked()
    client.send(f"@stalled {verb} {resource} token={token}", f"@l LOCK {resource}/other")
    assert client.reply().tag == "l"
    let_go()
    assert client.reply()[:2] == ("stalled", "OK")


def test_a_repeated_lock_of_a_locked_lease_stalls_nobody_else(client, connect, keep_locked, resource):
    """The same, where the row is wanted by a LOCK that repeats its id and so renews its lease.

    Fix: as if the guard were held elsewhere: asked again for as long as the request waits.
    """
    token = client.lock(resource, "id=locked-lease ttl=5m")
    let_go = keep_locked()
    client.send(f"@again LOCK {resource} id=locked-lease wait=inf ttl=5m", "@p PING")
    assert client.reply().tag == "p"
    other = connect()
    other.lock(f"{resource}/other")
    reply = other.ask(f"LOCK {resource} id=locked-lease")
    assert (reply.status, reply.code) == ("BUSY", "guarded")
    client.nothing_comes()
    let_go()
    again = client.reply()
    assert (again.tag, again.status, again.body.get("token")) == ("again", "OK", token)


def test_a_repeated_lock_of_a_locked_waiter_stalls_nobody_else(client, connect, keep_locked, resource):
    """The same with the row of a place in the queue that a repetition takes over."""
    holder, again, other = connect(), connect(), connect()
    token = holder.lock(resource, "ttl=5m")
    client.send(f"LOCK {resource} id=locked-waiter wait=inf")
    wait_for_queue(holder, resource, 1)
    let_go = keep_locked("waiter")
    again.send(f"@again LOCK {resource} id=locked-waiter wait=inf", "@p PING")
    assert again.reply().tag == "p"
    other.lock(f"{resource}/other")
    again.nothing_comes()
    let_go()
    assert client.reply().code == "cancelled"
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert again.reply()["token"] > token


@pytest.mark.parametrize("call", ["lock('{r}/new')", "renew('{r}', {t})", "unlock('{r}', {t})",
                                  "force('{r}', {t}, 'test')"])
def test_calls_are_durable_whatever_the_session_has(client, sql, resource, call):
    """Race: a lock is taken or ended in a session with synchronous_commit off, and the server crashes
    before its WAL is written: what the caller was told is undone. As a setting of the function it ended
    with the function, before the commit that it was meant for.

    Fix: set for the rest of the transaction, and no longer.
    """
    token = client.lock(resource)
    connection = sql(user="postgres")
    cursor = connection.cursor()
    cursor.execute("set synchronous_commit = off")
    connection.autocommit = False
    assert one(cursor, "select status from pglockd." + call.format(r=resource, t=token)) == "OK"
    assert one(cursor, "show synchronous_commit") == "on"
    connection.commit()
    assert one(cursor, "show synchronous_commit") == "off"
    connection.rollback()
