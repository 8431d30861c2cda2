"""Calls pglockd's batch functions as a daemon does, one request a dictionary."""

import itertools
import threading

import psycopg2

from lines import SECONDS, eventually

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

    def acquire(self, *requests, cursor=None, crowded=False):
        """Each request: resource and what differs from an exclusive one that does not wait."""
        full = [{"exclusive": True, "ttl": 30000, "wait": False, "conn": 1, "request": next(_numbers),
                 "owner": "", "note": None, "identity": "", "id": None, "most": None, **r} for r in requests]
        columns = [[r[k] for r in full] for k in (
            "resource", "exclusive", "ttl", "wait", "conn", "request", "owner", "note", "identity", "id")]
        columns.insert(1, list({a for r in full for a in above(r["resource"])}))
        places = ("%s::text[], %s::text[], %s::bool[], %s::int8[], %s::bool[], %s::int8[], %s::int8[], "
                  "%s::text[], %s::text[], %s::text[], %s::text[], '{}', '{}', '{}', %s, %s::int4[]")
        cursor = cursor or self.cursor
        cursor.execute(f"select * from pglockd.acquire_batch(%s, {places})", [self.number, *columns, crowded, [r["most"] for r in full]])
        (row,) = cursor.fetchall()
        result = {c.name: value or [] for c, value in zip(cursor.description, row)}
        self.last = result
        self.requests = [r["request"] for r in full]
        return in_order(result, len(full))

    def claim(self, *members, cursor=None, **more):
        """One request for trees, several resources or slots: resources, with "*" behind those of trees and "~"
        before shared ones. (status, number); tokens and all else are in last, its number in requests."""
        r = {"slots": None, "weight": None, "ttl": 30000, "wait": False, "conn": 1, "owner": "", "id": None,
             "session": None, "grace": None, "bound": False, "most": None, **more}
        names = [m.strip("~*") for m in members]
        self.requests = [next(_numbers)]
        self.last = call(
            cursor or self.cursor, "acquire_claims", self.number, [1] * len(names), names,
            [m[0] != "~" and not r["slots"] for m in members], [m[-1] == "*" for m in members], [r["slots"]],
            [r["weight"] or r["slots"] and 1], [r["ttl"]], [r["wait"]], [r["conn"]], self.requests, [r["owner"]], [], [],
            [r["id"]], [r["session"]], [r["grace"]], [r["bound"]], [r["most"]])
        return self.last["o_status"][0], self.last["o_number"][0]

    def change(self, resource, token, exclusive, cursor=None, wait=False, conn=1):
        """LOCK token=: (status, number)."""
        self.requests = [next(_numbers)]
        self.last = call(cursor or self.cursor, "change_batch", self.number, [resource], [token], [exclusive], [None],
                         [wait], [conn], self.requests, [])
        return self.last["o_status"][0], self.last["o_number"][0]

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
                         [t for _, t in leases], list(identity), [], [], careful)
        return in_order(self.last, len(leases))

    def renew(self, *leases, ttl, cursor=None, identity=()):
        """Of (resource, token), each to its ttl in ms; returns (status, number) of each."""
        done = call(cursor or self.cursor, "renew_batch", self.number, [r for r, _ in leases],
                    [t for _, t in leases], list(ttl), list(identity), [])
        return in_order(done, len(leases))

    def withdraw(self, resource, ticket, request, keep=None, cursor=None):
        """Takes one waiter out of the queue, of several resources where a list is given; returns all that the
        function does."""
        resources = resource if isinstance(resource, list) else [resource]
        return call(cursor or self.cursor, "withdraw_batch", self.number, [1] * len(resources), resources, [ticket],
                    [request], [keep])

    def collect(self, cursor=None):
        """Accepts what others granted: {(request, resource): token}."""
        done = call(cursor or self.cursor, "collect_grants", self.number, 500)
        return dict(zip(zip(done["o_request"], done["o_resource"]), done["o_token"]))

    def promote(self, *resources, cursor=None):
        """Serves who waits; returns all that the function does."""
        return call(cursor or self.cursor, "hand_over", self.number, list(resources), [], [])

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


def lane_waits_for(cursor, instance, table):
    """Does a batch of that daemon wait for the lock of a table? Others, of its janitor for one, do not count."""
    return one(cursor, "select count(*) from pg_locks w join pg_locks k using (pid) where not w.granted and "
               "w.relation = %s::regclass and k.locktype = 'advisory' and k.classid = 1346849796 and k.objid::bigint / 8 = %s",
               table, instance)


class Background:
    """work() on a thread, on a session that may have to wait for another one's lock."""

    def __init__(self, connection, watcher, work):
        self.value = self.error = None
        self.thread = threading.Thread(target=self.run, args=(work,))
        self.thread.start()
        pid, cursor = connection.info.backend_pid, watcher.cursor()
        eventually(lambda: not self.thread.is_alive()
                   or one(cursor, "select cardinality(pg_blocking_pids(%s))", pid) > 0)

    def run(self, work):
        try:
            self.value = work()
        except psycopg2.Error as error:  # for who joins
            self.error = error

    def join(self):
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "it hangs"
        if self.error:
            raise self.error
        return self.value
