"""Every way in which a lease ends: what happens, and what of it is noted."""

from schema import call, one, rows


def released(d, r):
    d.release((r, d.lock(r)))


def waited_for(d, r):
    token = d.lock(r, owner="first")
    _, request = d.wait(r, owner="second")
    d.release((r, token))
    d.release((r, d.grants()[request]))


def gave_up(d, r):
    token = d.lock(r)
    ticket, request = d.wait(r, owner="impatient")
    d.withdraw(r, ticket, request)
    d.release((r, token))


def expired(d, r):
    d.lock(r, ttl=100)
    one(d.cursor, "select pglockd.tick('2 s')")
    call(d.cursor, "sweep", 1000, 0, False, None)


def expired_and_taken(d, r):
    d.lock(r, ttl=100)
    one(d.cursor, "select pglockd.tick('2 s')")
    d.release((r, d.lock(r)))


def forced(d, r):
    rows(d.cursor, "select * from pglockd.force(%s, %s, 'stuck')", r, d.lock(r))


def connection_closed(d, r):
    token = d.lock(r, conn=7)
    d.cursor.execute("update pglockd.lease set bound = true where resource = %s", (r,))
    call(d.cursor, "release_batch", d.number, [r], [token], [], [7], [], False)


def session_closed(d, r):
    session = call(d.cursor, "session_open", 30000, "", "", None, None, "x" * 32)["o_session"]
    d.lock(r)
    d.cursor.execute("update pglockd.lease set session_id = %s where resource = %s", (session, r))
    assert call(d.cursor, "session_close", session, None)["o_status"] == "g"


def session_expired(d, r):
    session = call(d.cursor, "session_open", 100, "", "", None, None, "x" * 32)["o_session"]
    d.lock(r)
    d.cursor.execute("update pglockd.lease set session_id = %s, expires_us = 9e15 where resource = %s", (session, r))
    one(d.cursor, "select pglockd.tick('2 s')")
    call(d.cursor, "sweep", 1000, 0, False, None)


def transferred(d, r):
    done = call(d.cursor, "transfer_lease", r, d.lock(r), "heir", None, "", 30000)
    d.release((r, done["o_token"]))


def change(d, r, token, exclusive):
    (number,) = call(d.cursor, "change_batch", d.number, [r], [token], [exclusive], [30000], [False], [1], [1],
                     [])["o_number"]
    return number


def upgraded(d, r):
    d.release((r, change(d, r, d.lock(r, exclusive=False), True)))


def downgraded(d, r):
    d.release((r, change(d, r, d.lock(r), False)))


def shared(d, r):
    d.release((r, d.lock(r, exclusive=False)), (r, d.lock(r, exclusive=False)))


def shared_and_waited_for(d, r):
    token = d.lock(r, exclusive=False)
    _, request = d.wait(r)
    d.release((r, token))
    d.release((r, d.grants()[request]))


# What it does: the ends that history has at level contended, and at level all; and what who watches is told.
WAYS = {
    released: ([], ["released"], "granted released"),
    waited_for: (["released", "released"], ["released", "released"], "granted released granted released"),
    gave_up: (["released"], ["released"], "granted released"),
    expired: (["expired"], ["expired"], "granted expired"),
    expired_and_taken: (["expired"], ["expired", "released"], "granted expired granted released"),
    forced: (["forced"], ["forced"], "granted forced"),
    connection_closed: (["connection_closed"], ["connection_closed"], "granted released"),
    session_closed: ([], ["session_closed"], "granted released"),
    session_expired: (["expired"], ["expired"], "granted expired"),
    transferred: ([], ["superseded", "released"], "granted released granted released"),
    upgraded: ([], ["superseded", "released"], "granted released granted released"),
    downgraded: ([], ["superseded", "released"], "granted released granted released"),
    shared: ([], ["released", "released"], "granted granted released released"),
    shared_and_waited_for: (["released", "released"], ["released", "released"], "granted released granted released"),
}
