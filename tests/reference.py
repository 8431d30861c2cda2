"""What pglockd should do, said as plainly as can be: a list of leases, a list of those who wait, and one
question, who is in whose way. No index, no short cut, no clock but the one that is told to move.

tests/sql/test_reference_sql.py drives it and the SQL functions side by side and compares them step by step,
tests/integration/test_reference_daemons.py it and two daemons.
"""

import functools
import os
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

# Which histories the tests compare: so many, each with a seed of its own and as many steps as the test says. CI runs
# these; HISTORIES=40, say, or another SEED looks further.
SEED = int(os.environ.get("PGLOCKD_TEST_SEED", "20240229"))
HISTORIES = int(os.environ.get("PGLOCKD_TEST_HISTORIES", "4"))
SEEDS = range(SEED, SEED + HISTORIES)

SLACK = 0.75          # seconds that a lease lasts beyond its TTL
DELIVERY = 5          # TTL of a grant that its daemon has not collected yet
FOREVER = 9e9         # TTL of a lease that ends with its session


class Disagreement(AssertionError):
    """pglockd does something else than the reference."""


class Member(NamedTuple):
    """One resource of a claim."""
    resource: str
    exclusive: bool = True
    tree: bool = False


def covers(above, resource):
    """Is it the resource itself, or does the resource lie beneath it?"""
    return above in ("/", resource) or resource.startswith(above + "/")


def meet(a, b):
    """Do two members have something in common?"""
    return (a.resource == b.resource or a.tree and covers(a.resource, b.resource)
            or b.tree and covers(b.resource, a.resource))


@functools.cache
def conflict(a, b):
    return meet(a, b) and (a.exclusive or b.exclusive)


@dataclass(eq=False)
class Claim:
    """A LOCK: what it asks for, and who asks."""
    request: int
    members: list
    instance: object = None             # daemon; None: SQL, which does not wait
    conn: object = None
    session: Optional[int] = None
    slots: Optional[int] = None         # of a semaphore
    weight: Optional[int] = None
    ttl: float = 30
    grace: Optional[float] = None
    id: Optional[str] = None
    owner: str = ""
    bound: bool = False
    changes: Optional["Lease"] = None   # the lease that is to become exclusive
    orphaned: bool = False              # its session has run out, and the janitor has not been there
    absent_until: Optional[float] = None
    back: bool = False                  # it was away, and nobody has looked yet whether it can be served
    since: int = 0                      # when it began to wait: its ticket, where the test knows it

    @property
    def party(self):
        return party(self)


def describe(claim):
    kinds = [("exclusive" if m.exclusive else "shared") + ("-tree" if m.tree else "") + "=" + m.resource
             for m in claim.members]
    more = [f"{k}={getattr(claim, k)}" for k in ("slots", "weight", "session", "id", "grace") if getattr(claim, k)]
    return f"#{claim.request} {'+'.join(kinds)} of {claim.instance}/{claim.conn} {' '.join(more)}".strip() + (
        f" changes {claim.changes.token}" if claim.changes else "")


@dataclass(eq=False)
class Lease:
    member: Member
    request: Optional[int]
    instance: object
    conn: object
    session: Optional[int]
    slots: Optional[int]
    weight: Optional[int]
    ttl: float
    grace: Optional[float]
    id: Optional[str]
    owner: str
    bound: bool
    expires: float = 0
    delivered: bool = True
    closed: bool = False                # it has ended, and keeps others out for its grace
    token: Optional[int] = None

    @property
    def resource(self):
        return self.member.resource

    @property
    def party(self):
        return party(self)


def party(who):
    """Who holds or waits; None for SQL callers."""
    if who.session is not None:
        return "session", who.session
    return ("connection", who.instance, who.conn) if who.conn is not None else None


@dataclass
class Session:
    ttl: float
    expires: float
    grace_from: float = 0


class Needs(NamedTuple):
    """What a claim waits for: all of some parties. Of a semaphore also that no more than `room` units are left of
    those that parties have, or will have when it is their turn; and that those before it in line are served."""
    all_of: set
    units: dict
    room: int
    line: list
    of_leases: set       # those of the parties that hold


@dataclass
class Model:
    now: float = 0
    leases: list = field(default_factory=list)
    waiting: list = field(default_factory=list)     # in the order of service
    sessions: dict = field(default_factory=dict)
    silent: set = field(default_factory=set)        # daemons without a sign of life
    came: int = 0

    # ---- the rule ----

    def is_present(self, claim):
        return claim.absent_until is None and claim.instance not in self.silent

    def leases_in_the_way(self, claim):
        return [l for l in self.leases if l is not claim.changes
                and any(conflict(l.member, m) for m in claim.members)]

    def slots_missing(self, claim):
        """How many units too few are free, as a number above 0, of a claim for a semaphore."""
        if claim.slots is None:
            return 0
        taken = sum(l.weight for l in self.slot_holders(claim))
        return max(0, taken + claim.weight - claim.slots)

    def slot_holders(self, claim):
        return [l for l in self.leases if l.slots is not None and l.resource == claim.members[0].resource]

    def waiters_in_the_way(self, claim, before):
        """Those of `before` who are to be served first."""
        return [w for w in before if self.is_present(w)
                and (self.in_line(w, claim) or any(conflict(a, b) for a in w.members for b in claim.members))]

    def in_line(self, a, b):
        """Do both want slots of one semaphore?"""
        return a.slots is not None and b.slots is not None and a.members[0].resource == b.members[0].resource

    def before(self, claim):
        return self.waiting[:self.waiting.index(claim)] if claim in self.waiting else self.waiting

    def other_limit(self, claim, among):
        return any(x.slots not in (None, claim.slots) and x.members[0].resource == claim.members[0].resource
                   for x in among)

    def may_have(self, claim):
        before = self.before(claim)
        held = [Claim(0, [l.member], slots=l.slots) for l in self.leases]
        return not (self.leases_in_the_way(claim) or self.slots_missing(claim)
                    or self.waiters_in_the_way(claim, before)
                    or claim.slots is not None and self.other_limit(claim, held))

    # ---- what clients ask ----

    def lock(self, claim, wait):
        """granted, waits, busy, limit_mismatch, session_lost; or of one that repeats an id: again, takes_over
        (then the claim that waits is returned as well), mismatch. Returns (what, leases or claims)."""
        if claim.session is not None and claim.session not in self.sessions:
            return "session_lost", None
        if claim.id is not None:
            found = self.repeated(claim, wait)
            if found:
                return found
        held = [Claim(0, [l.member], slots=l.slots) for l in self.leases]
        if claim.slots is not None and self.other_limit(claim, held + self.waiting):
            return "limit_mismatch", None
        if self.may_have(claim):
            return "granted", self.grant(claim)
        if not wait:
            return "busy", None
        self.enqueue(claim)
        return "waits", claim

    def repeated(self, claim, wait):
        def asked(x, members):
            return sorted((*m, x.slots or 0, x.weight or 0, x.session or 0) for m in members)

        def same_id(x):
            return x.id == claim.id and x.owner == claim.owner
        wanted = asked(claim, claim.members)
        mine = [l for l in self.leases if same_id(l) and not l.closed]
        if mine:
            if sorted(x for l in mine for x in asked(l, [l.member])) != wanted:
                return "mismatch", None
            for l in mine:
                l.instance, l.conn, l.request, l.delivered = claim.instance, claim.conn, claim.request, True
                self.renew(l, claim.ttl)
            return "again", mine
        for w in self.waiting:
            if same_id(w) and not w.changes:
                if asked(w, w.members) != wanted:
                    return "mismatch", None
                if not wait:
                    return "busy", None
                w.back = w.back or not self.is_present(w)
                w.instance, w.conn, w.request, w.ttl = claim.instance, claim.conn, claim.request, claim.ttl
                w.absent_until = None
                return "takes_over", w
        return None

    def enqueue(self, claim):
        self.came += 1
        claim.since = self.came
        if claim.changes:
            self.waiting.insert(0, claim)
        else:
            self.waiting.append(claim)

    def grant(self, claim, delivered=True):
        """Its leases; not delivered: its daemon has yet to hear of them, and they end soon where it does not."""
        if claim in self.waiting:
            self.waiting.remove(claim)
        if claim.changes:
            self.leases.remove(claim.changes)
        made = [Lease(m, claim.request, claim.instance, claim.conn, claim.session, claim.slots, claim.weight,
                      claim.ttl, claim.grace, claim.id, claim.owner, claim.bound, delivered=delivered)
                for m in claim.members]
        for l in made:
            self.renew(l, l.ttl if delivered else DELIVERY)
            l.ttl = claim.ttl
        self.leases += made
        return made

    def renew(self, lease, ttl=None):
        if ttl is not None:
            lease.ttl = ttl
        lease.expires = self.now + SLACK + (FOREVER if lease.session is not None and lease.delivered else lease.ttl)

    def serve(self, refuse=True):
        """All whose turn has come get their leases, in order, to be delivered. Returns (granted, refused): claims;
        the lease is gone that the refused were to change."""
        granted, refused = [], []
        for claim in list(self.waiting):
            if claim.changes and (claim.changes not in self.leases or claim.changes.closed):
                if refuse:
                    self.waiting.remove(claim)
                    refused.append(claim)
            elif self.is_present(claim) and self.may_have(claim) and not claim.back and not claim.orphaned:
                self.grant(claim, delivered=False)
                granted.append(claim)
        return granted, refused

    def deliver(self, lease):
        """Its daemon has heard of it: late, perhaps, but its resource was kept closed for its grace until then."""
        lease.delivered, lease.closed = True, False
        self.renew(lease)

    def change(self, lease, exclusive, claim, wait):
        """As lock(); also lost, semaphore, deadlock, same (the lease stays, in another mode)."""
        if lease not in self.leases or lease.closed:
            return "lost", None
        if lease.slots is not None:
            return "semaphore", None
        if lease.member.exclusive or not exclusive:
            lease.member = lease.member._replace(exclusive=exclusive and lease.member.exclusive)
            lease.conn, lease.instance, lease.request = claim.conn, claim.instance, claim.request
            self.renew(lease)
            return "same", lease
        if any(w.changes and w.changes is not lease and w.changes.resource == lease.resource for w in self.waiting):
            return "deadlock", None
        claim.changes = lease
        first = [w for w in self.waiting if w.changes]
        if not self.leases_in_the_way(claim) and not self.waiters_in_the_way(claim, first):
            return "granted", self.grant(claim)
        if not wait:
            return "busy", None
        self.enqueue(claim)
        return "waits", claim

    def release(self, lease):
        """done, or lost: then it is open at once where it was in its grace."""
        if lease not in self.leases:
            return "lost"
        self.leases.remove(lease)
        return "lost" if lease.closed else "done"

    def withdraw(self, claim, keep=None):
        if claim not in self.waiting:
            return False
        if keep is None:
            self.waiting.remove(claim)
        else:
            claim.absent_until = self.now + keep
        return True

    def requeue(self, claim):
        """Its daemon says that it waits, though nobody has it in the queue any more: back to its old place, unless
        its session or its lease is gone or another request has taken over what its id left."""
        gone = (claim.changes and claim.changes not in self.leases
                or claim.session is not None and claim.session not in self.sessions)
        taken = not claim.changes and claim.id and any(
            x.id == claim.id and x.owner == claim.owner for x in self.leases + self.waiting)
        if gone or taken:
            return False
        claim.absent_until = None
        self.waiting.append(claim)
        self.waiting.sort(key=lambda w: (0, -w.since) if w.changes else (1, w.since))
        return True

    # ---- time ----

    def advance(self, seconds):
        self.now += seconds
        for number, s in list(self.sessions.items()):
            if s.expires <= self.now:
                self.end_session(number, expired_at=s.expires)
        for l in list(self.leases):
            if l.expires <= self.now:
                l.closed = l.grace is not None
                if l.expires + (l.grace or 0) <= self.now:
                    self.leases.remove(l)
        for w in list(self.waiting):
            if w.absent_until is not None and w.absent_until <= self.now:
                self.waiting.remove(w)

    def open_session(self, number, ttl):
        self.sessions[number] = Session(ttl, self.now + ttl + SLACK)

    def end_session(self, number, expired_at=None):
        """Returns how many locks it had."""
        del self.sessions[number]
        mine = [l for l in self.leases if l.session == number]
        for l in mine:
            if expired_at is None or l.grace is None:
                self.leases.remove(l)
            else:
                l.session, l.expires, l.closed = None, expired_at, True
        for w in [w for w in self.waiting if w.session == number]:
            w.orphaned = True
        if expired_at is None:
            self.drop_orphans()
        return len(mine)

    def drop_orphans(self):
        """The janitor does: a session that has run out may be renewed until somebody marks it as ended, and only he
        takes its claims out of the queue. Until then they bar those behind them."""
        self.waiting = [w for w in self.waiting if not w.orphaned]

    # ---- deadlocks ----

    def needs(self, claim):
        """That a party waits for itself does not count: another of its threads may let go. Nor does a lease that has
        ended, whose grace will be over."""
        before = self.before(claim)
        leases = [l for l in self.leases_in_the_way(claim) if not l.closed]
        slots = [l for l in self.slot_holders(claim) if not l.closed] if claim.slots is not None else []
        ahead = [w for w in self.waiters_in_the_way(claim, before)
                 if any(conflict(a, b) for a in w.members for b in claim.members)]
        line = [w for w in before if self.is_present(w) and self.in_line(w, claim)]
        units = {}
        for x in slots + line:
            if x.party != claim.party:
                units[x.party] = units.get(x.party, 0) + x.weight
        holders = {l.party for l in leases} - {claim.party}
        return Needs(holders | {w.party for w in ahead} - {claim.party}, units,
                     claim.slots - claim.weight if claim.slots is not None else 0, line,
                     holders | {l.party for l in slots if l.party in units})

    def stuck(self, needs):
        """{party: {claim: parties that it waits for in vain}} of those who wait for each other for ever: whoever
        waits for nobody will let go, and so on; the others are left over."""
        vain, short, before = set(needs), set(needs), None
        while before != (vain, short):
            before = vain, short
            left = {w.party for w in vain}
            short = {w for w, n in needs.items() if w in short and (
                sum(u for p, u in n.units.items() if p in left) > n.room or any(b in short for b in n.line))}
            vain = {w for w, n in needs.items() if n.all_of & left or w in short}
        found = {}
        for w in vain:
            n = needs[w]
            of_slots = {p for p in n.units if p in left} if w in short else set()
            found.setdefault(w.party, {})[w] = n.all_of & left | of_slots
        return found

    def ring(self, needs, vain, claim):
        """Does a ring go through this claim, in which all others are older? Of leases: somebody in it holds what
        another one waits for."""
        seen, todo = set(), [(p, p in needs[claim].of_leases) for p in vain[claim.party][claim]]
        while todo:
            who, by_lease = todo.pop()
            if (who, by_lease) in seen:
                continue
            seen.add((who, by_lease))
            if who == claim.party:
                continue
            for w, parties in vain.get(who, {}).items():
                if w.since < claim.since:
                    todo += [(p, by_lease or p in needs[w].of_leases) for p in parties]
        return "of leases" if (claim.party, True) in seen else "of waits" if (claim.party, False) in seen else None

    def victims(self):
        """(claims that may be refused, those of which one has to be): the youngest of each ring; it must be
        found where somebody in it holds what another waits for."""
        needs = {w: self.needs(w) for w in self.waiting if w.absent_until is None}
        vain = self.stuck(needs)
        rings = {w: self.ring(needs, vain, w) for claims in vain.values() for w in claims}
        return [w for w, ring in rings.items() if ring], [w for w, ring in rings.items() if ring == "of leases"]
