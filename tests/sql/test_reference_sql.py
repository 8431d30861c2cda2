"""Random histories on the SQL functions, called as two daemons and an SQL user would, agree with the
reference (tests/reference.py) after every batch: what each request is told, who holds, who waits in which
order, who is refused for a deadlock.

No daemon runs: time moves when the history says so, and a daemon that is frozen, or that loses an answer,
does so on purpose. The seed is printed when a history fails, with its last steps; PGLOCKD_TEST_SEED repeats it, and
PGLOCKD_TEST_HISTORIES asks for more than CI's.
"""

import contextlib
import random
import subprocess
from dataclasses import dataclass, field
from typing import Optional

import psycopg2
import pytest

from conftest import PGLOCKCTL
from reference import FOREVER, SEEDS, Claim, Disagreement, Lease, Member, Model, describe
from schema import above

STEPS = 17500          # of a history

# Above, below, beside, and names that only look alike: bytes before and after the slash.
RESOURCES = ["a", "a/b", "a/b/c", "a/b/d", "a/bc", "a/b-c", "a-b", "ab", "d", "d/e", "d/e/f/g/h"]
TOP = "/"
MINUTE = 60


class Calls:
    """pglockd's functions on a connection, prepared, with the types that they declare."""

    def __init__(self, connection):
        self.connection = connection
        self.cursor = connection.cursor()
        # As a daemon's lane: the plans are part of what is tested.
        self.cursor.execute("set search_path = pg_catalog, pg_temp; set plan_cache_mode = force_generic_plan;"
                            "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off;"
                            "set jit = off; set synchronous_commit = off")
        self.prepared = set()

    def __getattr__(self, name):
        def run(*arguments):
            if name not in self.prepared:
                self.cursor.execute("select (select string_agg(t::regtype::text, ', ' order by n) from "
                                    "unnest(proargtypes) with ordinality u (t, n) where n <= %s) from pg_proc "
                                    "where pronamespace = 'pglockd'::regnamespace and proname = %s",
                                    (len(arguments), name))
                ((types,),) = self.cursor.fetchall()
                places = ", ".join(f"${i + 1}" for i in range(len(arguments)))
                self.cursor.execute(f"prepare {name} ({types}) as select * from pglockd.{name}({places})")
                self.prepared.add(name)
            self.cursor.execute(f"execute {name} ({', '.join(['%s'] * len(arguments))})", arguments)
            (row,) = self.cursor.fetchall()
            return {c.name: [] if value is None and c.name.startswith("o_") else value
                    for c, value in zip(self.cursor.description, row)}
        return run


class Daemon:
    """What a daemon knows: the requests that it believes to wait, and their tickets."""

    def __init__(self, connection):
        self.calls = Calls(connection)
        self.number = self.calls.register_instance("test/0", "test", None)["register_instance"]
        self.waits = {}                # request: (claim, ticket)
        self.pending = []


@dataclass
class Picked:
    """What a batch asks for."""
    acquires: list = field(default_factory=list)    # (claim, whether it may wait)
    claims: list = field(default_factory=list)
    changes: list = field(default_factory=list)     # leases
    releases: list = field(default_factory=list)
    renewals: list = field(default_factory=list)
    withdrawals: list = field(default_factory=list)  # requests
    bound: list = field(default_factory=list)       # leases that end with the connection
    closes: Optional[int] = None                    # a connection
    tokens: set = field(default_factory=set)        # of leases that something is asked about
    ids: set = field(default_factory=set)


class History:
    """A random history, and the reference beside it."""

    def __init__(self, connect, seed):
        self.random = random.Random(seed)
        self.model = Model()
        self.daemons = [Daemon(connect()), Daemon(connect())]
        self.by_number = {d.number: d for d in self.daemons}
        self.janitor = Calls(connect())
        self.user = Calls(connect())
        self.look = connect().cursor()
        self.connections = self.random.choice([3, 10, 100])
        self.crowd = 10                # so many wait, others then only try
        self.requests = 0
        self.steps = 0
        self.done = {}                 # kind of step: how often
        self.tokens = {}               # resource: those of the steps before
        self.woken = set()             # daemons that have something to collect
        self.refused = set()           # requests
        self.late = set()              # of these, who may still be in pglockd's queue
        self.story = []
        self.ids = 0

    # ---- what is said when it fails ----

    def tell(self, *words):
        self.story.append(" ".join(map(str, words)))
        del self.story[:-400]

    def check(self, condition, *what):
        if not condition:
            raise Disagreement("\n".join(self.story[-60:] + ["", *map(str, what)]))

    def equal(self, real, expected, what):
        if real != expected:
            self.check(False, what, f"pglockd:   {real}", f"reference: {expected}")

    # ---- making requests ----

    def request(self):
        self.requests += 1
        return self.requests

    def resource(self):
        return self.random.choice(RESOURCES)

    def claim(self, daemon, members, **more):
        r = self.random
        claim = Claim(self.request(), members, daemon.number, r.randint(1, self.connections), **more)
        if r.random() < 0.2:
            claim.session = r.choice([*self.model.sessions] or [None])
        claim.ttl = FOREVER if claim.session else r.choice([10, 2 * MINUTE, 60 * MINUTE])
        claim.owner = r.choice(["ann", "bob"])
        claim.grace = 100 if r.random() < 0.15 else None
        claim.bound = r.random() < 0.2
        if r.random() < 0.3:
            self.ids += 1
            claim.id = f"id{self.ids}"
        return claim

    def may_wait(self):
        return len(self.model.waiting) < self.crowd and self.random.random() < 0.8

    def plain(self, daemon):
        return self.claim(daemon, [Member(self.resource(), self.random.random() < 0.5)])

    def complex(self, daemon):
        """A tree, a set, or a semaphore."""
        r = self.random
        kind = r.random()
        if kind < 0.35:
            name = TOP if r.random() < 0.05 else self.resource()
            return self.claim(daemon, [Member(name, r.random() < 0.5, True)])
        if kind < 0.65:
            names = r.sample(RESOURCES, r.randint(2, 4))
            return self.claim(daemon, [Member(n, r.random() < 0.5, r.random() < 0.15) for n in names])
        slots = r.choice([1, 2, 3, 3, 3]) if r.random() < 0.1 else 3
        return self.claim(daemon, [Member(r.choice(["a", "d/e"]), False)], slots=slots,
                          weight=r.randint(1, slots))

    def again(self, daemon, claim_or_lease):
        """A LOCK that repeats an id, mostly as it was."""
        members = ([m for m in claim_or_lease.members] if isinstance(claim_or_lease, Claim) else
                   [l.member for l in self.model.leases if l.request == claim_or_lease.request
                    and l.id == claim_or_lease.id and l.owner == claim_or_lease.owner])
        x = claim_or_lease
        claim = Claim(self.request(), members, daemon.number, self.random.randint(1, self.connections), x.session,
                      x.slots, x.weight, x.ttl, x.grace, x.id, x.owner, x.bound)
        if claim.session is None and claim.ttl == FOREVER:
            claim.ttl = 60 * MINUTE
        if self.random.random() < 0.1:
            claim.members = [m._replace(exclusive=not m.exclusive) for m in members] if not x.slots else members
        return claim

    # ---- one batch, as a lane sends it ----

    def pick(self, daemon, size):
        """Random requests of a daemon; none of them twice about a lease or an id, as a lane takes care of."""
        picked = Picked()
        for _ in range(size):
            self.pick_one(daemon, picked, size)
        if picked.closes:
            # With it go its places, and what is bound to it; whose places have an id are kept.
            picked.withdrawals = [q for q, (c, _) in daemon.waits.items() if c.conn == picked.closes]
            picked.bound = [l for l in self.model.leases if l.bound and l.conn == picked.closes and l.token
                            and l.instance == daemon.number]
            for leases in (picked.releases, picked.renewals, picked.changes):
                leases[:] = [l for l in leases if l not in picked.bound]
        return picked

    def pick_one(self, daemon, picked, size):
        r = self.random
        choice = r.random()
        leases = [l for l in self.model.leases if l.token and l.token not in picked.tokens]
        if choice < 0.02 and not picked.closes and size > 3:
            picked.closes = r.randint(1, self.connections)
        elif choice < 0.42 and leases:
            l = r.choice(leases)
            picked.tokens.add(l.token)
            kind = r.random()
            (picked.releases if kind < 0.75 else picked.renewals if kind < 0.85 else picked.changes).append(l)
        elif choice < 0.45 + min(0.2, len(daemon.waits) / 100) and daemon.waits:
            request = r.choice([*daemon.waits])
            if request not in picked.withdrawals:
                picked.withdrawals.append(request)
        elif choice < 0.50:
            self.pick_again(daemon, picked)
        elif choice < 0.75:
            picked.acquires.append((self.plain(daemon), self.may_wait()))
        else:
            picked.claims.append((self.complex(daemon), self.may_wait()))

    def pick_again(self, daemon, picked):
        named = [x for x in self.model.waiting + self.model.leases
                 if x.id and x.id not in picked.ids and not getattr(x, "changes", None)]
        if not named:
            return
        claim = self.again(daemon, self.random.choice(named))
        if claim.members:
            picked.ids.add(claim.id)
            alone = len(claim.members) == 1 and not claim.members[0].tree and not claim.slots
            (picked.acquires if alone else picked.claims).append((claim, self.may_wait()))

    def batch(self, daemon, size):
        """Random requests of a daemon, as one transaction."""
        r = self.random
        picked = self.pick(daemon, size)
        if picked.closes:
            self.tell("  connection", picked.closes, "closes")
        self.tell(f"batch of daemon {daemon.number}:")
        daemon.calls.cursor.execute("begin")
        lost = r.random() < 0.02
        if lost:
            # Who comes back to its place is served when that is looked at: not before the answer is asked for.
            places = {w.id for w in self.model.waiting}
            for asked in (picked.acquires, picked.claims):
                asked[:] = [(c, w) for c, w in asked if c.id is None or c.id not in places]
        answers = Answers(self, daemon, lost)
        if r.random() < 0.5:
            answers.collect()
        answers.withdraw(picked.withdrawals, leaves=bool(picked.closes))
        answers.release(picked.releases, picked.bound, picked.closes)
        answers.renew(picked.renewals)
        answers.acquire(picked.acquires)
        answers.claim(picked.claims)
        answers.change(picked.changes)
        daemon.calls.cursor.execute("commit")
        answers.end()
        self.count("batch", size)

    def count(self, kind, steps=1):
        self.done[kind] = self.done.get(kind, 0) + steps
        self.steps += steps

    # ---- what else happens ----

    def promote(self):
        """What was reported as pending is looked at again, as the daemons do."""
        for daemon in self.daemons:
            while daemon.pending:
                resources, daemon.pending = list(dict.fromkeys(daemon.pending)), []
                for claim in self.model.waiting:
                    claim.back = False
                if daemon.number in self.model.silent:
                    daemon = next(d for d in self.daemons if d.number not in self.model.silent)
                done = daemon.calls.hand_over(daemon.number, resources, [], [])
                self.news(daemon, done)

    def collect(self, daemon):
        daemon.calls.cursor.execute("begin")
        answers = Answers(self, daemon, False)
        answers.collect()
        daemon.calls.cursor.execute("commit")
        answers.end()

    def serve(self, refuse=True):
        """The reference serves."""
        granted, refused = self.model.serve(refuse)
        for claim in granted:
            self.tell("    served:", describe(claim))
        for claim in refused:
            # A change of mode whose lease has ended. Where others are to be served before it, pglockd comes by it
            # later, with the janitor's round at the latest. It bars nobody until then whom those do not bar.
            self.refused.add(claim.request)
            self.late.add(claim.request)
            self.tell("    refused, its lease is gone:", describe(claim))

    def news(self, daemon, done, heard=True, of=""):
        """A call of a daemon has handed over. What it granted the reference has granted; whether all is granted,
        compare() finds out."""
        self.look_for_those_back(daemon)
        self.serve()
        tokens = zip(done.get(f"o_{of}request", []), done.get(f"o_{of}resource", []), done.get(f"o_{of}token", []))
        for request, resource, token in tokens:
            found = [l for l in self.model.leases if l.request == request and l.resource == resource
                     and l.instance == daemon.number and not l.delivered]
            self.check(len(found) == 1, "granted against the reference:", request, resource, token)
            self.model.deliver(found[0])
            if heard:
                self.hears(daemon, found[0], token)
        self.woken.update(done["o_wake"] if heard else self.by_number)
        if heard:
            daemon.pending += done.get("o_pending", [])

    def look_for_those_back(self, daemon):
        """Who is back at its place is served when somebody looks at it: by this call, or later."""
        back = {w.request: w for w in self.model.waiting if w.back}
        if back:
            daemon.calls.cursor.execute("select request_id from pglockd.waiter where request_id = any (%s)", ([*back],))
            waiting = {request for request, in daemon.calls.cursor.fetchall()}
            for request, claim in back.items():
                claim.back = request in waiting

    def hears(self, daemon, lease, token):
        lease.token = token
        daemon.waits.pop(lease.request, None)

    def sweep(self):
        """The janitor's rounds: what has ended is removed, what is left behind is served, rings are broken, also those
        that only what was served in the round before has closed."""
        self.model.drop_orphans()
        after, passes, found = None, 0, False
        while passes < 2:
            self.look.execute("select coalesce(max(found_at), '-infinity') from pglockd.refusal")
            ((since,),) = self.look.fetchall()
            done = self.janitor.sweep(500, 30000, True, after)
            after = done["o_after"] or None
            found = found or done["o_deadlocks"] or done["o_more"]
            self.woken.update(done["o_wake"])
            self.daemons[0].pending += done["o_pending"]
            self.look.execute("select request_id from pglockd.refusal where found_at > %s and cycle is not null "
                              "order by found_at, request_id", (since,))
            for request, in self.look.fetchall():
                self.refuse(request)
            self.serve()
            if after is None:
                passes = 0 if found else passes + 1
                found = False
        self.late.clear()
        _, must = self.model.victims()
        self.check(not must, "a ring was not found:", *map(describe, must), "of",
                   *map(describe, self.model.waiting))

    def refuse(self, request):
        (claim,) = [w for w in self.model.waiting if w.request == request] or [None]
        if claim is None and request in self.refused:
            return  # since its lease has ended, says the reference; it was in a ring, too
        may, _ = self.model.victims()
        self.check(claim in may, "refused without a ring:",
                   claim and describe(claim) or request, *map(describe, self.model.waiting))
        self.model.waiting.remove(claim)
        self.refused.add(request)
        self.tell("    refused:", describe(claim))

    def advance(self, seconds):
        self.tell("time:", seconds, "s")
        self.janitor.tick(f"{seconds} s")
        self.model.advance(seconds)
        for daemon in self.daemons:
            if daemon.number not in self.model.silent:
                daemon.calls.heartbeat(daemon.number)

    def pass_time(self):
        """Time passes; sometimes a request comes before the janitor: what has ended is not in its way."""
        self.advance(self.random.choice([4, 30, 30, 130]))
        if self.random.random() < 0.7:
            self.before_the_janitor(self.alive())
        self.sweep()
        self.count("time")

    def before_the_janitor(self, daemon):
        """Nothing is granted there that the rule forbids. Who has no claim any more may bar it for a moment, up to the
        janitor's round, as nobody has looked at the queue since: what waits for a session that has run out, and a
        change of mode whose lease has ended. The latter is refused where the request meets its lease, so that
        both answers are right."""
        # The reference serves all whose turn has come; pglockd those whom the request would meet.
        self.serve(refuse=False)
        claim = self.random.choice([self.plain, self.complex])(daemon)
        claim.id = None
        orphans = {w.request for w in self.model.waiting if w.orphaned}
        done = lock(daemon, [(claim, False)])
        status = "g" if not done["o_item"] else done["o_status"][0]
        if status == "g":
            self.serve()
        what, leases = self.model.lock(claim, False)
        self.tell("  before the janitor:", describe(claim), what)
        letter = {"granted": "g", "busy": "b", "limit_mismatch": "n", "session_lost": "l"}[what]
        self.equal(status, letter, describe(claim))
        if what == "granted":
            self.look.execute("select resource, token from pglockd.lease where request_id = %s", (claim.request,))
            tokens = dict(self.look.fetchall())
            for l in leases:
                l.token = tokens[l.resource]
        # Of its own tokens it is told here; and orphans may be served, until they end with their session.
        grants = [g for g in zip(done["o_grant_request"], done["o_grant_resource"], done["o_grant_token"])
                  if g[0] != claim.request and g[0] not in orphans]
        for name, column in zip(("request", "resource", "token"), zip(*grants) if grants else ((), (), ())):
            done[f"o_grant_{name}"] = column
        self.news(daemon, done, of="grant_")

    def alive(self):
        return self.random.choice([d for d in self.daemons if d.number not in self.model.silent])

    def freeze(self):
        """A daemon gives no sign of life for a time: its waiters are passed over; or it is back."""
        if self.model.silent:
            (number,) = self.model.silent
            self.tell("daemon", number, "is back")
            self.model.silent.clear()
            self.by_number[number].calls.heartbeat(number)
        else:
            daemon = self.random.choice(self.daemons)
            self.tell("daemon", daemon.number, "is frozen")
            self.model.silent.add(daemon.number)
            self.advance(4)
        # Nobody is told of either: the next who looks finds it.
        self.daemons[0].pending += [m.resource for w in self.model.waiting for m in w.members]
        self.sweep()
        self.count("freeze")

    def resync(self):
        """A daemon says who waits; sometimes the queue is lost, and both do."""
        if self.random.random() < 0.3:
            self.tell("the queue is lost")
            self.look.execute("delete from pglockd.waiter")
            # And with it the places of those who are away.
            self.model.waiting = [w for w in self.model.waiting if w.absent_until is None]
            for daemon in self.daemons:
                self.resync_of(daemon)
        else:
            self.resync_of(self.alive())
        self.count("resync")

    def resync_of(self, daemon):
        waits = list(daemon.waits.values())
        if not waits:
            return
        self.tell("resync of daemon", daemon.number)
        columns = claim_columns([c for c, _ in waits])
        done = daemon.calls.resync_waiters(
            daemon.number, columns["item"], columns["resource"], columns["exclusive"], columns["tree"],
            columns["slots"], columns["weight"], columns["ttl"], [t for _, t in waits], columns["conn"],
            columns["request"], columns["owner"], [], [], columns["id"], columns["session"], columns["grace"],
            columns["bound"], [c.changes.token if c.changes else None for c, _ in waits])
        tokens = dict(zip(zip(done["o_grant_request"], done["o_grant_resource"]), done["o_grant_token"]))
        for item, status, number in zip(done["o_item"], done["o_status"], done["o_number"]):
            claim, _ = waits[item - 1]
            leases = [l for l in self.model.leases if l.request == claim.request and l.instance == daemon.number]
            if claim in self.model.waiting and claim.instance == daemon.number:
                self.equal(status, "w", describe(claim))
                claim.absent_until = None
            elif leases:
                self.equal(status, "a", describe(claim))
                for l in leases:
                    self.model.deliver(l)
                    token = tokens.get((claim.request, l.resource), number)
                    l.token = token
                del daemon.waits[claim.request]
            elif claim.request in self.late and status == "w":
                pass
            elif claim.request in self.refused or not self.model.requeue(claim):
                self.check(status in "lsD", describe(claim), status)
                del daemon.waits[claim.request]
            else:
                self.equal(status, "w", describe(claim))
        daemon.pending += done["o_pending"]

    def session(self):
        r = self.random
        choice = r.random()
        if choice < 0.5 and len(self.model.sessions) < 4:
            ttl = r.choice([20, 60 * MINUTE])
            number = self.daemons[0].calls.session_open(ttl * 1000, "o", "", None, None, "secret")["o_session"]
            self.model.open_session(number, ttl)
            self.tell("session", number, "of", ttl, "s")
        elif choice < 0.8 and self.model.sessions:
            number = r.choice([*self.model.sessions])
            done = self.user.session_close(number, None)
            self.tell("session", number, "is closed")
            self.equal(done["o_status"], "g", "session_close")
            n = self.model.end_session(number)
            self.equal(done["o_released"], n, "session_close")
            self.daemons[0].pending += done["o_pending"]
            self.serve()
        self.woken |= self.by_number.keys()   # by a notification
        self.count("session")

    def transfer(self):
        r = self.random
        held = [l for l in self.model.leases if l.token]
        if not held:
            return
        l = r.choice(held)
        session = r.choice([*self.model.sessions]) if self.model.sessions and r.random() < 0.4 else None
        owner = None if session else "carl"
        done = self.user.transfer_lease(l.resource, l.token, owner, session, "", 30000)
        self.tell("transfer of", l.resource, l.token, "to", session or owner)
        if l.closed:
            self.equal(done["o_status"], "l", "transfer")
            return
        self.equal(done["o_status"], "g", "transfer")
        self.model.leases.remove(l)
        ttl = FOREVER if session else 30 if l.session is not None else l.ttl
        new = Lease(l.member, None, None, None, session, l.slots, l.weight, ttl, l.grace, None, owner or l.owner, False)
        self.model.renew(new, ttl)
        self.model.leases.append(new)
        new.token = done["o_token"]
        self.serve()
        self.woken |= self.by_number.keys()   # by a notification
        self.count("transfer")

    def sql(self):
        """pglockd.lock, unlock and force."""
        r = self.random
        held = [l for l in self.model.leases if l.token]
        choice = r.random()
        if choice < 0.5 or not held:
            tree, slots = r.random() < 0.2, r.random() < 0.2
            member = Member("d/e" if slots else self.resource(), not slots and r.random() < 0.5, tree and not slots)
            claim = Claim(None, [member], slots=3 if slots else None, weight=1 if slots else None,
                          ttl=r.choice([10, 9 * MINUTE]), owner="sql")
            what, leases = self.model.lock(claim, False)
            self.tell("SQL lock", describe(claim), what)
            row = self.user.lock(member.resource, "exclusive" if member.exclusive or slots else "shared",
                                 "tree" if member.tree else "node", f"{claim.ttl} s", "sql", None, None,
                                 claim.slots)
            self.equal(row["status"], {"granted": "OK", "busy": "BUSY", "limit_mismatch": "LIMIT_MISMATCH"}[what],
                       describe(claim))
            if what == "granted":
                leases[0].token = row["token"]
        elif choice < 0.9:
            l = r.choice(held)
            self.tell("SQL unlock", l.resource, l.token)
            what = self.model.release(l)
            self.equal(self.user.unlock(l.resource, l.token)["status"], {"done": "OK", "lost": "LOST"}[what], "unlock")
            self.serve()
        else:
            l = r.choice(held)
            self.tell("SQL force", l.resource, l.token)
            self.equal(self.user.force(l.resource, l.token, "because")["status"], "OK", "force")
            self.model.leases.remove(l)
            self.serve()
        self.woken |= self.by_number.keys()   # by a notification
        self.count("sql")

    def step(self):
        choice = self.random.random()
        if self.random.random() < 0.02:
            self.crowd = self.random.choice([4, 8, 8, 16, 40])
        if choice < 0.86:
            self.batch(self.alive(), self.random.choice([1, 1, 2, 5, 10, 30, 60]))
        elif choice < 0.90:
            self.sql()
        elif choice < 0.92:
            self.session()
        elif choice < 0.94:
            self.transfer()
        elif choice < 0.955:
            self.resync()
        elif choice < 0.975:
            self.pass_time()
        elif choice < 0.98:
            self.freeze()
        else:
            self.sweep()
            self.count("sweep")
        self.promote()
        if self.random.random() < 0.8:
            for daemon in self.daemons:
                if daemon.number not in self.model.silent:
                    self.collect(daemon)
            self.promote()
        self.compare()

    # ---- the same state? ----

    def compare(self):
        granted, refused = self.model.serve()
        self.check(not granted + refused, "nobody has served:", *map(describe, granted + refused))
        for l in self.model.leases:
            self.check(l.delivered or l.instance in self.woken, "nobody is woken for", l)
        self.look.execute(
            "select resource, mode = 'exclusive', scope = 'tree', instance_id, conn_id, request_id, session_id, slots, "
            "weight, owner, idempotency_key, delivered, bound, token from pglockd.lease")
        real = sorted(self.look.fetchall(), key=str)
        self.equal([row[:-1] for row in real], [row[:-1] for row in self.leases()], "leases")
        self.compare_tokens([(row[0], row[-1]) for row in real])
        self.look.execute(
            "select resource, ticket, mode = 'exclusive', scope = 'tree', instance_id, conn_id, request_id, members, "
            "absent_until_us is not null from pglockd.waiter where request_id <> all (%s) "
            "order by resource collate \"C\", ticket", ([*self.late],))
        self.equal([(r, *rest) for r, _, *rest in self.look.fetchall()], self.queue(), "queue")

    def compare_tokens(self, real):
        """Clients know those that hold, and new ones are greater than all before of the resource."""
        for l in self.model.leases:
            self.check(l.token is None or (l.resource, l.token) in real, "another token:", l)
        for resource in RESOURCES:
            now = {t for r, t in real if r == resource}
            before = self.tokens.setdefault(resource, {0})
            new = now - before
            self.check(not new or min(new) > max(before), "tokens do not grow:", resource, new)
            before |= now

    def leases(self):
        return sorted(((*l.member, l.instance, l.conn, l.request, l.session, l.slots, l.weight, l.owner,
                        l.id, l.delivered, l.bound, l.token) for l in self.model.leases), key=str)

    def queue(self):
        """By resource, in the order of service."""
        return sorted(((*m, w.instance, w.conn, w.request, len(w.members), w.absent_until is not None)
                       for w in self.model.waiting for m in w.members), key=lambda row: row[0].encode())

    def run(self, steps):
        while self.steps < steps:
            self.step()


def claim_columns(claims):
    """Requests as the arrays of acquire_claims()."""
    members = [(i + 1, m) for i, c in enumerate(claims) for m in c.members]

    def ms(seconds):
        return None if seconds is None else 9000000000000 if seconds == FOREVER else int(seconds * 1000)
    return {"item": [i for i, _ in members], "resource": [m.resource for _, m in members],
            "exclusive": [m.exclusive for _, m in members], "tree": [m.tree for _, m in members],
            "slots": [c.slots for c in claims], "weight": [c.weight for c in claims],
            "ttl": [ms(c.ttl) for c in claims], "conn": [c.conn for c in claims],
            "request": [c.request for c in claims], "owner": [c.owner for c in claims], "id": [c.id for c in claims],
            "session": [c.session for c in claims], "grace": [ms(c.grace) for c in claims],
            "bound": [c.bound for c in claims]}


def lock(daemon, asked):
    """LOCKs as one call: of acquire_batch() where all are of single resources."""
    c = claim_columns([claim for claim, _ in asked])
    wait = [w for _, w in asked]
    if all(len(a.members) == 1 and not a.members[0].tree and not a.slots for a, _ in asked):
        return daemon.calls.acquire_batch(
            daemon.number, c["resource"], sorted({a for r in c["resource"] for a in above(r)}), c["exclusive"],
            c["ttl"], wait, c["conn"], c["request"], c["owner"], [], [], c["id"], c["session"], c["grace"], c["bound"],
            c["request"][0] % 3 == 0)
    return daemon.calls.acquire_claims(
        daemon.number, c["item"], c["resource"], c["exclusive"], c["tree"], c["slots"], c["weight"], c["ttl"], wait,
        c["conn"], c["request"], c["owner"], [], [], c["id"], c["session"], c["grace"], c["bound"])


class Answers:
    """The calls of one batch and what they should answer. A batch whose answer is lost is asked for afterwards."""

    def __init__(self, history, daemon, lost):
        self.h, self.model, self.daemon, self.lost = history, history.model, daemon, lost
        self.waits = dict(daemon.waits)
        self.withdrawn = [], []
        self.asked = []          # of LOCKs: (claim, what, its leases)

    def statuses(self, done, count):
        if not done["o_item"]:  # all were granted, in their order
            self.h.equal(len(done["o_number"]), count, "items")
            return [("g", number) for number in done["o_number"]]
        self.h.equal(sorted(done["o_item"]), list(range(1, count + 1)), "items")
        found = dict(zip(done["o_item"], zip(done["o_status"], done["o_number"])))
        return [found[i] for i in range(1, count + 1)]

    def news(self, done):
        self.h.news(self.daemon, done, not self.lost, "grant_")

    def collect(self):
        done = self.daemon.calls.collect_grants(self.daemon.number, 500)
        real = dict(zip(zip(done["o_request"], done["o_resource"]), done["o_token"]))
        for l in self.model.leases:
            if l.instance == self.daemon.number and not l.delivered:
                self.h.check((l.request, l.resource) in real, "not collected:", l, done)
                self.model.deliver(l)
                token = real.pop((l.request, l.resource))
                if not self.lost:
                    self.h.hears(self.daemon, l, token)
        self.h.woken.discard(self.daemon.number)
        for (request, resource), token in real.items():
            self.h.check(token <= 0, "collected too much:", request, resource, token)
            self.h.check(not any(w.request == request for w in self.model.waiting), "refused:", request)
            if not self.lost:
                self.daemon.waits.pop(request, None)

    def withdraw(self, requests, leaves):
        r = self.h.random
        waits = [self.waits[q] for q in requests]
        self.withdraw_all(waits, [25 if c.id and not c.changes and (leaves or r.random() < 0.5) else None
                                  for c, _ in waits])

    def withdraw_all(self, waits, keep):
        if not waits:
            return
        self.withdrawn = waits, keep
        columns = claim_columns([c for c, _ in waits])
        done = self.daemon.calls.withdraw_batch(
            self.daemon.number, columns["item"], columns["resource"], [t for _, t in waits], columns["request"],
            [k and k * 1000 for k in keep])
        tokens = dict(zip(zip(done["o_grant_request"], done["o_grant_resource"]), done["o_grant_token"]))
        for (claim, _), request, k, (status, number) in zip(waits, columns["request"], keep,
                                                            self.statuses(done, len(waits))):
            self.h.tell("  withdraw", describe(claim), k, status)
            leases = [l for l in self.model.leases if l.request == request and l.instance == self.daemon.number]
            if claim in self.model.waiting and claim.request == request:
                self.h.equal(status, "g" if k is None else "k", describe(claim))
                self.model.withdraw(claim, k)
            elif leases:
                self.h.equal(status, "a", describe(claim))
                for l in leases:
                    self.model.deliver(l)
                    token = tokens.pop((claim.request, l.resource), None)
                    if not self.lost:
                        l.token = number if len(leases) == 1 else token
            elif request not in self.h.late or status != "g":
                self.h.equal(status, "l", describe(claim))
            self.h.late.discard(request)
            self.daemon.waits.pop(request, None)
        done["o_grant_request"], done["o_grant_resource"] = zip(*tokens) if tokens else ([], [])
        done["o_grant_token"] = list(tokens.values())
        self.news(done)

    def release(self, leases, bound, conn):
        asked = [(l, None) for l in leases] + [(l, conn) for l in bound]
        if not asked:
            return
        asked.sort(key=lambda a: a[0].resource.encode())
        done = self.daemon.calls.release_batch(
            self.daemon.number, [l.resource for l, _ in asked], [l.token for l, _ in asked], [],
            [c for _, c in asked] if bound else [], [], self.h.random.random() < 0.2)
        for (l, c), (status, _) in zip(asked, self.statuses(done, len(asked))):
            what = self.model.release(l)
            self.h.tell("  release", l.resource, l.token, "of a closed connection" if c else "", what)
            self.h.equal(status, {"done": "g", "lost": "l"}[what], l)
        self.news(done)

    def renew(self, leases):
        if not leases:
            return
        ttls = [self.h.random.choice([None, 10, 90 * MINUTE]) for _ in leases]
        done = self.daemon.calls.renew_batch(
            self.daemon.number, [l.resource for l in leases], [l.token for l in leases],
            [t and t * 1000 for t in ttls], [], [self.h.random.randint(1, self.h.connections) for _ in leases])
        self.daemon.calls.cursor.execute("select resource, token, conn_id, instance_id from pglockd.lease "
                                         "where token = any (%s)", ([l.token for l in leases],))
        bound_to = {(r, t): rest for r, t, *rest in self.daemon.calls.cursor.fetchall()}
        for l, ttl, (status, _) in zip(leases, ttls, self.statuses(done, len(leases))):
            self.h.tell("  renew", l.resource, l.token, status)
            if l not in self.model.leases or l.closed:
                self.h.equal(status, "l", l)
                continue
            self.h.equal(status, "G" if l.bound else "g", l)
            if l.session is None:
                self.model.renew(l, ttl)
            if l.bound:
                l.conn, l.instance = bound_to[l.resource, l.token]

    def decide(self, claim, wait):
        what, result = self.model.lock(claim, wait)
        self.h.tell("  lock", describe(claim), "wait" if wait else "", what)
        self.asked.append((claim, what, result if what in ("granted", "again") else []))
        return what, result

    def locked(self, done, claim, what, result, status, number):
        letter = {"granted": "g", "waits": "w", "busy": "b", "limit_mismatch": "n", "session_lost": "l", "again": "a",
                  "takes_over": "w", "mismatch": "m"}[what]
        self.h.equal(status, letter, describe(claim))
        if what == "takes_over":
            # The request before it is over.
            for d in self.h.daemons:
                for request, (c, _) in list(d.waits.items()):
                    if c is result and request != claim.request:
                        del d.waits[request]
        if self.lost:
            return
        if what == "waits":
            claim.since = number
        if what in ("waits", "takes_over"):
            self.daemon.waits[claim.request] = (result, number)
        elif what == "granted" and len(result) == 1:
            result[0].token = number

    def acquire(self, asked):
        if not asked:
            return
        # As a lane does, and sometimes not: then everything goes one by one.
        if self.h.random.random() < 0.9:
            asked = sorted(asked, key=lambda a: a[0].members[0].resource.encode())
        done = lock(self.daemon, asked)
        for (claim, wait), (status, number) in zip(asked, self.statuses(done, len(asked))):
            self.locked(done, claim, *self.decide(claim, wait), status, number)
        self.news(done)

    def claim(self, asked):
        if not asked:
            return
        if all(len(a.members) == 1 and not a.members[0].tree and not a.slots for a, _ in asked):
            asked = [*asked, (self.h.claim(self.daemon, [Member("a", False), Member("d", False)]), True)]
        done = lock(self.daemon, asked)
        tokens = dict(zip(zip(done["o_grant_request"], done["o_grant_resource"]), done["o_grant_token"]))
        for (claim, wait), (status, number) in zip(asked, self.statuses(done, len(asked))):
            what, result = self.decide(claim, wait)
            self.locked(done, claim, what, result, status, number)
            if what in ("granted", "again"):
                for l in result:
                    token = tokens.pop((claim.request, l.resource))
                    if what == "again":
                        self.h.check(l.token in (None, token), l, token)
                    if l.token is None and not self.lost:
                        l.token = token
        done["o_grant_request"], done["o_grant_resource"] = zip(*tokens) if tokens else ([], [])
        done["o_grant_token"] = list(tokens.values())
        self.news(done)

    def change(self, leases):
        if not leases:
            return
        r = self.h.random
        asked = [(l, r.random() < 0.6, r.random() < 0.7,
                  Claim(self.h.request(), [l.member._replace(exclusive=True)], self.daemon.number,
                        r.randint(1, self.h.connections), l.session, ttl=l.ttl, grace=l.grace, id=l.id, owner=l.owner,
                        bound=l.bound)) for l in leases]
        done = self.daemon.calls.change_batch(
            self.daemon.number, [l.resource for l, *_ in asked], [l.token for l, *_ in asked],
            [e for _, e, *_ in asked], [None for _ in asked], [w for _, _, w, _ in asked], [c.conn for *_, c in asked],
            [c.request for *_, c in asked], [])
        for (l, exclusive, wait, claim), (status, number) in zip(asked, self.statuses(done, len(asked))):
            what, result = self.model.change(l, exclusive, claim, wait)
            self.h.tell("  change", l.resource, l.token, "to exclusive" if exclusive else "to shared",
                        "wait" if wait else "", what, f"#{claim.request}")
            self.h.equal(status, {"lost": "l", "semaphore": "m", "same": "g", "deadlock": "D", "granted": "g",
                                  "busy": "b", "waits": "w"}[what], l)
            self.asked.append((claim, what, result if what == "granted" else [l] if what == "same" else []))
            if what == "waits" and not self.lost:
                claim.since = -number
                self.daemon.waits[claim.request] = (claim, number)
            elif what == "granted" and not self.lost:
                result[0].token = number
            elif what == "same":
                self.h.equal(number, l.token, "token")
            self.h.serve()
        self.news(done)

    def end(self):
        """The answer of a lost batch is asked for, as a daemon does when it has a new connection."""
        if not self.lost:
            return
        self.h.tell("  and the answer is lost")
        self.lost = False
        self.withdraw_all(*self.withdrawn)
        places = [(c, m.resource) for c, *_ in self.asked for m in c.members]
        done = self.daemon.calls.find_requests(self.daemon.number, [r for _, r in places],
                                               [c.request for c, _ in places])
        found = {}
        for item, status, number in zip(done["o_item"], done["o_status"], done["o_number"]):
            claim, resource = places[item - 1]
            found[claim.request, resource] = status, number
        for claim, what, leases in self.asked:
            holds = [l for l in self.model.leases if l.request == claim.request and l.instance == self.daemon.number]
            waits = [w for w in self.model.waiting if w.request == claim.request and w.instance == self.daemon.number]
            for m in claim.members:
                status, number = found.pop((claim.request, m.resource), (None, None))
                if holds:
                    (l,) = [l for l in holds if l.resource == m.resource] or [None]
                    self.h.equal(status, "g" if l else None, describe(claim))
                    if l:
                        self.model.deliver(l)
                        if l.token is None:
                            l.token = number
                elif waits:
                    self.h.equal(status, "w", describe(claim))
                    self.daemon.waits[claim.request] = (waits[0], number)
                    waits[0].since = abs(number)
                elif claim.request not in self.h.late:
                    self.h.equal(status, None, describe(claim))
        self.h.resync_of(self.daemon)
        # What it should have looked at again nobody knows now but the janitor.
        self.h.sweep()


# ---- the tests ----

@pytest.fixture
def connect_to(daemon, seed):
    """A function that opens a connection to a migrated database of this history alone: it locks the whole space."""
    name = f"reference{seed}"
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        connection.cursor().execute(f"create database {name} owner pglockd")
    dsn = daemon.dsn.replace("dbname=pglockd", f"dbname={name}")
    done = subprocess.run([PGLOCKCTL, "migrate", "up", "--dsn", dsn], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with contextlib.ExitStack() as stack:
        def open_one():
            connection = stack.enter_context(contextlib.closing(psycopg2.connect(dsn, user="postgres")))
            connection.autocommit = True
            return connection
        yield open_one


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_agrees_with_the_reference(connect_to, seed):
    print(f"PGLOCKD_TEST_SEED={seed}")
    history = History(connect_to, seed)
    history.run(STEPS)
    print(history.done)
