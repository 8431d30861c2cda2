"""Calls pglockd's batch functions as a daemon does, one request a dictionary."""

import itertools

_numbers = itertools.count(1)


def rows(cursor, query, *values):
    cursor.execute(query, values)
    return cursor.fetchall()


def one(cursor, query, *values):
    """The only value of the only row."""
    ((value,),) = rows(cursor, query, *values)
    return value


def call(cursor, function, *arguments):
    """The result of a function with out parameters, as a dictionary; null arrays are empty."""
    places = ", ".join(["%s"] * len(arguments))
    cursor.execute(f"select * from pglockd.{function}({places})", arguments)
    (row,) = cursor.fetchall()
    return {c.name: [] if value is None and c.name.startswith("o_") else value
            for c, value in zip(cursor.description, row)}


def in_order(result, count):
    """(status, number) of each request of a batch; each has exactly one. Without items: all granted."""
    if not result["o_item"] and result["o_number"]:
        result["o_item"], result["o_status"] = list(range(1, count + 1)), ["g"] * count
    assert sorted(result["o_item"]) == list(range(1, count + 1)), result
    assert len(result["o_status"]) == len(result["o_number"]) == count
    found = dict(zip(result["o_item"], zip(result["o_status"], result["o_number"])))
    return [found[i] for i in range(1, count + 1)]


def above(resource):
    """What a resource lies beneath, as pglockd.above()."""
    parts = resource.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))] + ["/"]


class Instance:
    """A daemon's place in the schema: its own session with its advisory lock."""

    def __init__(self, connection):
        self.connection = connection
        self.cursor = connection.cursor()
        self.number = one(self.cursor, "select pglockd.register_instance('test/0', 'test')")
        self.cursor.execute("set search_path = pg_catalog, pg_temp")

    def acquire(self, *requests, cursor=None):
        """Each request: resource and what differs from an exclusive one that does not wait."""
        full = [{"exclusive": True, "ttl": 30000, "wait": False, "conn": 1, "request": next(_numbers),
                 "owner": "", "note": None, "identity": "", "id": None, **r} for r in requests]
        columns = [[r[k] for r in full] for k in (
            "resource", "exclusive", "ttl", "wait", "conn", "request", "owner", "note", "identity", "id")]
        columns.insert(1, list({a for r in full for a in above(r["resource"])}))
        places = ("%s::text[], %s::text[], %s::bool[], %s::int8[], %s::bool[], %s::int8[], %s::int8[], "
                  "%s::text[], %s::text[], %s::text[], %s::text[], '{}', '{}', '{}'")
        cursor = cursor or self.cursor
        cursor.execute(f"select * from pglockd.acquire_batch(%s, {places})", [self.number, *columns])
        (row,) = cursor.fetchall()
        result = {c.name: value or [] for c, value in zip(cursor.description, row)}
        self.last = result
        self.requests = [r["request"] for r in full]
        return in_order(result, len(full))

    def lock(self, resource, cursor=None, **more):
        """Takes a lock that must be granted; returns its token."""
        ((status, number),) = self.acquire({"resource": resource, **more}, cursor=cursor)
        assert status == "g", status
        return number

    def wait(self, resource, cursor=None, **more):
        """Queues; returns (ticket, request)."""
        ((status, number),) = self.acquire({"resource": resource, "wait": True, **more}, cursor=cursor)
        assert status == "w", status
        return number, self.requests[0]

    def release(self, *leases, cursor=None, identity=(), careful=False):
        """Of (resource, token); returns (status, number) of each, grants and all are in last."""
        self.last = call(cursor or self.cursor, "release_batch", self.number, [r for r, _ in leases],
                         [t for _, t in leases], list(identity), [], careful)
        return in_order(self.last, len(leases))

    def renew(self, *leases, ttl, cursor=None, identity=()):
        """Of (resource, token), each to its ttl in ms; returns (status, number) of each."""
        done = call(cursor or self.cursor, "renew_batch", self.number, [r for r, _ in leases],
                    [t for _, t in leases], list(ttl), list(identity), [])
        return in_order(done, len(leases))

    def withdraw(self, resource, ticket, request, keep=None, cursor=None):
        """Takes one waiter out of the queue; returns all that the function does."""
        return call(cursor or self.cursor, "withdraw_batch", self.number, [1], [resource], [ticket],
                    [request], [keep])

    def resync(self, *waits, ttl=30000, cursor=None):
        """Of (resource, ticket, request), exclusive ones; returns all that the function does."""
        n = len(waits)
        return call(cursor or self.cursor, "resync_waiters", self.number, list(range(1, n + 1)),
                    [r for r, _, _ in waits], [True] * n, [False] * n, [], [], [ttl] * n,
                    [t for _, t, _ in waits], [1] * n, [q for _, _, q in waits], [], [], [], [], [], [],
                    [], [])

    def grants(self):
        """Own waiters that the last call granted: {request: token}."""
        return dict(zip(self.last["o_grant_request"], self.last["o_grant_token"]))


def holders(cursor, resource):
    return rows(cursor, "select token, mode::text from pglockd.lease where resource = %s order by token",
                resource)


def waiters(cursor, resource):
    return [t for t, in rows(cursor, "select ticket from pglockd.waiter where resource = %s "
                             "order by ticket", resource)]
