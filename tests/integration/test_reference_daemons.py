"""Random histories through two daemons and SQL at once agree with the reference (tests/reference.py) step by step.

A step is one request: of a client of either daemon, or of an SQL user. What it is answered, which of those who wait
are answered thereby, and who then holds and waits in which order, is compared before the next one is sent. Several
worlds, which have nothing in common but the daemons, go their ways at the same time, so that their requests share
batches. Nothing is timed: leases outlive the test, and each answer and state that the reference names is waited for.
What ends by itself, and daemons that fail, is in tests/sql/test_reference_sql.py, where the clock is the test's.

A world begins anew, with nothing held, every ROUND steps: what a failure prints leads from there to where they
disagree. PGLOCKD_TEST_SEED repeats it, PGLOCKD_TEST_HISTORIES asks for more than CI's.
"""

import random
import select
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lines import Lines, SECONDS, eventually
from reference import SEEDS, Claim, Disagreement, Lease, Member, Model, describe

STEPS = 8000     # of a history
WORLDS = 4       # that share them
ROUND = 250

NAMES = ["a", "a/b", "a/b/c", "a/bc", "a-b", "ab", "d", "d/e"]
POOLS = ["a", "d/e"]    # of which slots are asked for, too
CROWD = 7               # so many wait, others then only try

STATE = """
    select resource, null, mode = 'exclusive', scope = 'tree', owner, session_id, slots, weight, token, false
      from pglockd.lease where resource = %(top)s or resource like %(top)s || '/%%'
     union all
    select resource, ticket, mode = 'exclusive', scope = 'tree', owner, session_id, slots, weight, null,
           upgrade_token is not null
      from pglockd.waiter where resource = %(top)s or resource like %(top)s || '/%%'
     order by 1, 2"""

# Who was refused, since it was in a ring, in the order in which that was decided.
REFUSALS = """
    select instance_id, request_id, cycle from pglockd.refusal
     where cycle -> 0 ->> 'resource' = %(top)s or cycle -> 0 ->> 'resource' like %(top)s || '/%%'
     order by found_at"""

# Nothing was done, since somebody, the janitor say, looked at the same at that moment: ask again.
ASK_AGAIN = {"guarded", "fenced", "unavailable"}


class Client:
    """A connection to one of the daemons, and the requests that wait on it."""

    def __init__(self, address, instance, number):
        self.lines, self.instance, self.number = Lines(address), instance, number
        self.waits = {}      # tag: claim
        self.replies = {}    # tag: reply that nobody has asked for yet
        self.tags = 0

    def send(self, line):
        self.tags += 1
        tag = f"t{self.tags}"
        self.lines.send(f"@{tag} {line}")
        return tag

    def reply(self, tag):
        while tag not in self.replies:
            self.read()
        return self.replies.pop(tag)

    def read(self):
        reply = self.lines.reply()
        self.replies[reply.tag] = reply

    def has_input(self):
        return bool(self.lines.received or select.select([self.lines.socket], [], [], 0)[0])


class World:
    """A tree of resources, those who want them, and the reference beside it."""

    def __init__(self, top, addresses, cursor, seed):
        self.top, self.addresses, self.cursor = top, addresses, cursor
        self.random = random.Random(seed)
        self.number = 0      # of requests and of connections
        self.clients = [self.connect(i % 2) for i in range(6)]
        self.done = {}       # kind of step: how often
        self.told = set()    # refusals that are over
        self.asked = {}      # (owner, resource): the claim that asked last, and might have waited
        self.begin()

    def begin(self):
        self.model = Model()
        self.sessions = {}   # number: secret
        self.story = []
        self.count = 0

    def connect(self, which):
        self.number += 1
        return Client(self.addresses[which], which, self.number)

    # ---- what is said when it fails ----

    def tell(self, *words):
        self.story.append(" ".join(map(str, words)))

    def check(self, condition, *what):
        if not condition:
            raise Disagreement("\n".join(["", *self.story, "", "waiting, says the reference:",
                                           *map(describe, self.model.waiting), "", *map(str, what)]))

    def equal(self, real, expected, what):
        if real != expected:
            self.check(False, what, f"pglockd:   {real}", f"reference: {expected}")

    # ---- asking ----

    def ask(self, client, line):
        """Its reply; those that others get meanwhile are kept."""
        while True:
            reply = self.reply(client, client.send(line), line)
            if reply.code not in ASK_AGAIN:
                self.tell(f"{client.instance}/{client.number}: {line}  ->", reply.status, reply.body.get("token", ""))
                return reply

    def reply(self, client, tag, what):
        try:
            return client.reply(tag)
        except AssertionError as error:
            self.cursor.execute(STATE, {"top": self.top})
            self.check(False, f"{client.instance}/{client.number}: @{tag} {what}", error, *self.cursor.fetchall())

    def ask_sql(self, query, *values):
        """Of lock(), unlock() or force(): its status and its token, asked again as those of clients."""
        while True:
            self.cursor.execute(query, values)
            status, token, holders = self.cursor.fetchone()
            if status == "FENCED" or status == "BUSY" and not holders:
                continue
            self.tell(f"SQL: {query % values}  ->", status, token or "")
            return status, token

    def client(self):
        return self.random.choice(self.clients)

    def words(self, claim):
        """LOCK's arguments."""
        prefix = {(True, False): "exclusive", (False, False): "shared",
                  (True, True): "exclusive-tree", (False, True): "shared-tree"}
        words = [f"{prefix[m.exclusive, m.tree]}={m.resource}" for m in claim.members]
        if claim.slots:
            words = [claim.members[0].resource, f"limit={claim.slots}", f"weight={claim.weight}"]
        elif len(claim.members) == 1:
            (m,) = claim.members
            words = [m.resource, f"mode={'exclusive' if m.exclusive else 'shared'}",
                     f"scope={'tree' if m.tree else 'node'}"]
        if claim.bound:
            words.append("bind=connection")
        if claim.id:
            words.append(f"id={claim.id}")
        if claim.session is not None:
            words += [f"session={claim.session}", f"secret={self.sessions[claim.session]}"]
        else:
            words.append("ttl=10m")
        return " ".join([*words, f"owner={claim.owner}"])

    def claim(self, client):
        r = self.random
        self.number += 1
        kind = r.random()
        slots = None
        if kind < 0.5:
            members = [Member(self.name(), r.random() < 0.5)]
        elif kind < 0.68:
            members = [Member(self.top if r.random() < 0.1 else self.name(), r.random() < 0.5, True)]
        elif kind < 0.84:
            members = [Member(f"{self.top}/{n}", r.random() < 0.5, r.random() < 0.15)
                       for n in r.sample(NAMES, r.randint(2, 4))]
        else:
            slots = 2 if r.random() < 0.1 else 3
            members = [Member(f"{self.top}/{r.choice(POOLS)}", False)]
        session = r.choice([*self.sessions]) if self.sessions and r.random() < 0.25 else None
        return Claim(self.number, members, client.instance, client.number, session, slots,
                     slots and r.randint(1, slots), id=f"{self.top}-{self.number}" if r.random() < 0.3 else None,
                     owner=f"o{self.number}", bound=session is None and r.random() < 0.2)

    def name(self):
        return f"{self.top}/{self.random.choice(NAMES)}"

    def lease(self):
        return self.random.choice(self.model.leases) if self.model.leases else None

    # ---- the steps ----

    def lock(self):
        client, r = self.client(), self.random
        claim = self.claim(client)
        wait = r.choice(["inf", "inf", "inf", "0s", "5ms"]) if len(self.model.waiting) < CROWD else "0s"
        self.remember(claim)
        what, leases = self.model.lock(claim, wait == "inf")
        if wait == "5ms" and what == "granted":
            wait = "inf"  # where the janitor looks at the same, 5 ms may be over before anybody decides
        line = f"LOCK {self.words(claim)} wait={wait}"
        if what == "waits":
            self.waits(client, line, claim)
            return
        reply = self.ask(client, line)
        if reply.status == "DEADLOCK":
            self.would_be_refused(claim, reply)
            return
        self.equal((reply.status, reply.code), {
            "granted": ("OK", None), "busy": ("BUSY", "busy") if wait == "0s" else ("TIMEOUT", "timeout"),
            "limit_mismatch": ("ERR", "limit_mismatch")}[what], describe(claim))
        if what == "granted":
            self.has(claim, leases, reply)

    def waits(self, client, line, claim):
        tag = client.send(line)
        client.waits[tag] = claim
        self.tell(f"{client.instance}/{client.number}: @{tag} {line}  waits")

    def would_be_refused(self, claim, reply):
        """Who waits for a moment may be refused in it, where a ring goes through it."""
        self.model.enqueue(claim)
        self.check(claim in self.model.victims()[0], "refused without a ring:", describe(claim), reply)
        self.model.waiting.remove(claim)

    def has(self, claim, leases, reply):
        """The tokens that it is told."""
        tokens = {l["resource"]: l["token"] for l in reply["locks"]}
        self.equal(tokens.keys(), {l.resource for l in leases}, describe(claim))
        for l in leases:
            l.token = tokens[l.resource]
            self.model.deliver(l)

    def repeat(self):
        """A LOCK with the id of one that is held."""
        named = [l for l in self.model.leases if l.id]
        if not named:
            return
        l, client, r = self.random.choice(named), self.client(), self.random
        members = [x.member for x in self.model.leases if x.id == l.id]
        if r.random() < 0.2:
            members = [Member(f"{self.top}/x")]
        claim = Claim(0, members, client.instance, client.number, l.session if l.session in self.sessions else None,
                      l.slots, l.weight, id=l.id, owner=l.owner, bound=l.bound)
        before = {x.resource: x.token for x in self.model.leases if x.id == l.id}
        what, leases = self.model.lock(claim, False)
        reply = self.ask(client, f"LOCK {self.words(claim)}")
        self.equal((reply.status, reply.code, reply.body.get("repeated")),
                   ("OK", None, True) if what == "again" else ("ERR", "id_mismatch", None), what)
        if what == "again":
            self.has(claim, leases, reply)
            self.equal({x.resource: x.token for x in leases}, before, "tokens")

    def change(self):
        """Not twice of one lease, as in tests/sql/test_reference_sql.py: who of them was refused would not be known."""
        l, client, r = self.lease(), self.client(), self.random
        if l is None or any(w.changes is l for w in self.model.waiting):
            return
        exclusive, wait = r.random() < 0.6, r.random() < 0.7 and len(self.model.waiting) < CROWD
        self.number += 1
        claim = Claim(self.number, [l.member._replace(exclusive=True)], client.instance, client.number, l.session,
                      id=l.id, owner=l.owner, bound=l.bound)
        self.remember(claim)
        what, leases = self.model.change(l, exclusive, claim, wait)
        line = (f"LOCK {l.resource} token={l.token} mode={'exclusive' if exclusive else 'shared'} "
                f"wait={'inf' if wait else '0s'}")
        if what == "waits":
            self.waits(client, line, claim)
            return
        reply = self.ask(client, line)
        self.equal((reply.status, reply.code), {
            "semaphore": ("ERR", "bad_request"), "same": ("OK", None), "granted": ("OK", None),
            "busy": ("BUSY", "busy"), "deadlock": ("DEADLOCK", "deadlock")}[what], l)
        if what == "same":
            self.equal(reply["token"], l.token, "token")
        elif what == "granted":
            self.has(claim, leases, reply)
        elif what == "deadlock":
            self.refusals()

    def unlock(self):
        l, client = self.lease(), self.client()
        if l is None:
            return
        leases = [x for x in self.model.leases if x.id == l.id] if l.id and self.random.random() < 0.5 else []
        # One after the other: a change of mode that waited for the first may be granted before the second ends.
        if leases and not any(w.changes in leases for w in self.model.waiting):
            reply = self.ask(client, f"UNLOCK id={l.id} owner={l.owner}")
            self.equal(reply.body.get("locks"), len(leases), reply)
        else:
            leases = [l]
            reply = self.ask(client, f"UNLOCK {l.resource} token={l.token}")
        self.equal(reply.status, "OK", reply)
        # By an id one after the other: who is served in between must be served in the end, too.
        for x in leases:
            self.model.release(x)

    def lost(self):
        """A token that does not hold, of a resource that somebody holds."""
        l, client = self.lease(), self.client()
        if l is None:
            return
        verb = self.random.choice(["UNLOCK", "RENEW", "CHECK"])
        self.equal(self.ask(client, f"{verb} {l.resource} token=1").status, "LOST", l)

    def renew(self):
        l, client = self.lease(), self.client()
        if l is None:
            return
        self.equal(self.ask(client, f"RENEW {l.resource} token={l.token}").status, "OK", l)
        if l.bound:
            l.conn, l.instance = client.number, client.instance

    def transfer(self):
        l, client = self.lease(), self.client()
        if l is None:
            return
        session = self.random.choice([*self.sessions]) if self.sessions and self.random.random() < 0.5 else None
        self.number += 1
        owner = l.owner if session else f"o{self.number}"
        reply = self.ask(client, f"TRANSFER {l.resource} token={l.token} to={f'session={session}' if session else owner}")
        self.equal(reply.status, "OK", reply)
        self.model.leases.remove(l)
        self.model.leases.append(Lease(l.member, None, None, None, session, l.slots, l.weight, 600, None, None,
                                       owner, False, expires=self.model.now + 600, token=reply["token"]))

    def cancel(self):
        if self.model.waiting:
            self.give_up(*self.where(self.random.choice(self.model.waiting)))

    def give_up(self, client, tag, answers=("cancelled",)):
        claim = client.waits.pop(tag)
        cancelled = self.ask(client, f"CANCEL tag={tag}")["cancelled"]
        reply = self.reply(client, tag, describe(claim))
        self.check(reply.code in answers and cancelled == (reply.code == "cancelled"), describe(claim), reply)
        self.model.withdraw(claim)
        self.refusals()

    def close(self):
        """A connection ends: so do its waits, and what is bound to it. Those with an id would keep their places."""
        clients = [c for c in self.clients if not any(w.id for w in c.waits.values())]
        if not clients:
            return
        client = self.random.choice(clients)
        self.tell(f"{client.instance}/{client.number}: closes")
        client.lines.close()
        self.clients.remove(client)
        self.clients.append(self.connect(client.instance))
        for claim in client.waits.values():
            self.model.withdraw(claim)
        for l in [l for l in self.model.leases if l.bound and l.conn == client.number]:
            self.model.release(l)

    def session(self):
        r, client = self.random, self.client()
        if len(self.sessions) < 2 and r.random() < 0.6:
            reply = self.ask(client, "SESSION OPEN ttl=10m")
            self.sessions[int(reply["session"])] = reply["secret"]
            self.model.open_session(int(reply["session"]), 600)
        elif self.sessions:
            number = r.choice([*self.sessions])
            self.equal(self.ask(client, f"SESSION CLOSE {number} secret={self.sessions.pop(number)}")["released"],
                       self.close_session(number), "released")

    def close_session(self, number):
        """With it go its locks, and its waits are LOST."""
        gone = [(c, tag) for c in self.clients for tag, w in c.waits.items() if w.session == number]
        for client, tag in gone:
            del client.waits[tag]
            reply = self.reply(client, tag, number)
            self.equal((reply.status, reply.code), ("LOST", "lost"), tag)
        return self.model.end_session(number)

    def info(self):
        name = self.name()
        reply = self.ask(self.client(), f"INFO {name}")
        self.equal(sorted(h["owner"] for h in reply["holders"] if h["resource"] == name),
                   sorted(l.owner for l in self.model.leases if l.resource == name), f"holders of {name}")
        self.equal([(q["position"], q["owner"]) for q in reply["queue"]],
                   [*enumerate((w.owner for w in self.model.waiting for m in w.members if m.resource == name), 1)],
                   f"queue of {name}")

    def sql_lock(self):
        r = self.random
        self.number += 1
        slots = 3 if r.random() < 0.2 else None
        member = (Member(f"{self.top}/{r.choice(POOLS)}", False) if slots else
                  Member(self.name(), r.random() < 0.5, r.random() < 0.2))
        claim = Claim(None, [member], slots=slots, weight=slots and 1, owner=f"o{self.number}")
        what, leases = self.model.lock(claim, False)
        if what == "busy":  # also where only a waiter is in the way, and so without holders
            query = "select status, token, '[1]' from pglockd.lock(%s, %s, %s, '10 min', %s, slots => %s)"
        else:
            query = "select status, token, null from pglockd.lock(%s, %s, %s, '10 min', %s, slots => %s)"
        status, token = self.ask_sql(query, member.resource, "exclusive" if member.exclusive or slots else "shared",
                                     "tree" if member.tree else "node", claim.owner, slots)
        self.equal(status, {"granted": "OK", "busy": "BUSY", "limit_mismatch": "LIMIT_MISMATCH"}[what], describe(claim))
        if what == "granted":
            leases[0].token = token

    def sql_end(self):
        l = self.lease()
        if l is None:
            return
        query = self.random.choice(["select status, token, null from pglockd.unlock(%s, %s)",
                                    "select status, token, null from pglockd.force(%s, %s, 'because')"])
        status, _ = self.ask_sql(query, l.resource, l.token)
        self.equal(status, "OK", l)
        self.model.leases.remove(l)

    STEPS = {lock: 40, unlock: 27, change: 8, cancel: 4, renew: 3, transfer: 3, repeat: 3, lost: 1, info: 3, close: 1.5,
             session: 2, sql_lock: 6, sql_end: 4}

    # ---- a step, and what comes of it ----

    def step(self):
        (kind,) = self.random.choices([*self.STEPS], [*self.STEPS.values()])
        kind(self)
        self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1
        self.settle()

    def settle(self):
        """All is answered that is to be; then the state is the reference's, and nobody else has been answered."""
        self.serve()
        self.break_rings()
        self.compare()

    def serve(self):
        """Those whose turn has come, and those whose lease to change has gone, are answered."""
        granted, refused = self.model.serve()
        for claim in granted:
            leases = [l for l in self.model.leases if l.request == claim.request]
            self.has(claim, leases, self.answer(claim, "OK"))
        for claim in refused:
            self.answer(claim, "LOST")
        self.grow(granted)

    def where(self, claim):
        """(client, tag) of one who waits."""
        (found,) = [(c, tag) for c in self.clients for tag, w in c.waits.items() if w is claim]
        return found

    def answer(self, claim, status):
        """Of one who has waited."""
        client, tag = self.where(claim)
        del client.waits[tag]
        reply = self.reply(client, tag, describe(claim))
        self.tell(f"    {client.instance}/{client.number}: @{tag}", reply.status, reply.body.get("token", ""))
        self.equal(reply.status, status, describe(claim))
        return reply

    def grow(self, granted):
        """Of those who are served at once only slots of a semaphore have an order: the others do not conflict."""
        place = {claim.request: i for i, claim in enumerate(granted)}
        slots = sorted((l for l in self.model.leases if l.request in place and l.slots), key=lambda l: place[l.request])
        for resource in {l.resource for l in slots}:
            tokens = [l.token for l in slots if l.resource == resource]
            self.equal(tokens, sorted(tokens), f"order of tokens of {resource}")

    def compare(self):
        expected = self.leases(), self.queue()
        until = time.monotonic() + SECONDS
        while True:
            self.cursor.execute(STATE, {"top": self.top})
            rows = self.cursor.fetchall()
            real = (sorted((r, *rest[:-1]) for r, ticket, *rest in rows if ticket is None),
                    [(r, *rest[:5], rest[-1]) for r, ticket, *rest in rows if ticket is not None])
            if (sorted(real[0], key=str), real[1]) == expected:
                break
            if time.monotonic() > until:
                self.equal(sorted(real[0], key=str), expected[0], "leases")
                self.equal(real[1], expected[1], "queue")
            time.sleep(0.001)
        for client in self.clients:
            while client.has_input():
                client.read()
            self.check(not client.replies, "answered against the reference:", client.replies)

    def leases(self):
        return sorted(((*l.member, l.owner, l.session, l.slots, l.weight, l.token) for l in self.model.leases), key=str)

    def queue(self):
        """By resource, in the order of service."""
        return sorted(((*m, w.owner, w.session, w.slots, w.changes is not None)
                       for w in self.model.waiting for m in w.members), key=lambda row: row[0].encode())

    # ---- rings ----

    def break_rings(self):
        """Where there is one, a request is refused that may be; and none else is."""
        while True:
            may, must = self.model.victims()
            if not must:
                break
            self.refused(may)
            self.serve()
        # Others may be refused, or not: they go before anything depends on it.
        for claim in may:
            if claim in self.model.waiting:
                self.give_up(*self.where(claim), ("cancelled", "deadlock"))
                self.serve()

    def refusals(self):
        """(key, claim) of the refusals that nobody has heard of yet, the first one first: where several rings were found
        at once, it may be heard of last. The youngest of a ring is refused. Who does not wait any more has heard of it, or
        its time was just over."""
        self.cursor.execute(REFUSALS, {"top": self.top})
        found = []
        for *key, cycle in self.cursor.fetchall():
            ring = [self.asked[step["owner"], step["resource"]] for step in cycle if tuple(key) not in self.told]
            youngest = max(ring, key=lambda claim: claim.request, default=None)
            if youngest in self.model.waiting:
                found.append((tuple(key), youngest))
            else:
                self.told.add(tuple(key))
        return found

    def remember(self, claim):
        for m in claim.members:
            self.asked[claim.owner, m.resource] = claim

    def refused(self, may):
        """Waits for a DEADLOCK."""
        (_, claim), *_ = eventually(self.refusals, what="\n".join([*self.story, "a ring is broken among",
                                                                  *map(describe, may)]))
        self.check(claim in may, "refused without a ring:", describe(claim))
        reply = self.answer(claim, "DEADLOCK")
        self.check(reply["cycle"], "refused without a ring:", describe(claim), reply)
        self.model.withdraw(claim)
        self.refusals()
        self.done["deadlock"] = self.done.get("deadlock", 0) + 1

    # ---- all of it ----

    def clear(self):
        """Everybody gives up and releases."""
        while self.model.waiting:
            self.cancel()
            self.settle()
        for l in list(self.model.leases):
            self.equal(self.ask(self.clients[0], f"UNLOCK {l.resource} token={l.token}").status, "OK", l)
            self.model.release(l)
        for number in [*self.sessions]:
            self.ask(self.clients[0], f"SESSION CLOSE {number} secret={self.sessions.pop(number)}")
        self.settle()
        self.begin()

    def run(self, steps):
        for n in range(1, steps + 1):
            self.step()
            if n % ROUND == 0:
                self.clear()
        self.clear()
        for client in self.clients:
            client.lines.close()
        return self.done


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_through_two_daemons_agrees_with_the_reference(never_silent, daemon, other, sql, seed):
    print(f"PGLOCKD_TEST_SEED={seed}")
    worlds = [World(f"reference/{seed}-{i}", (daemon.line, other.line), sql().cursor(), f"{seed} {i}")
              for i in range(WORLDS)]
    with ThreadPoolExecutor(WORLDS) as threads:
        running = [threads.submit(w.run, STEPS // WORLDS) for w in worlds]
    print([r.result() for r in running])
