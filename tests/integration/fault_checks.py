"""What the fault harness checks beside history.py: pure functions of what was recorded.

Requests are those of history.py, as the clients saw them. Ends are what a trigger on the leases wrote down
inside the transactions themselves, in lease time. Updates are what clients did under their locks. Every check
returns what is wrong, as sentences; test_fault_harness.py feeds each a record with a violation of its kind.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Optional

from history import check_exclusion, check_order, check_tokens, held


# By how much two readings of the lease clock may differ where a wall clock has stepped in between.
CLOCK_US = 250000


@dataclass
class Row:
    """A row of pglockd.lease came or went. In the order of their transactions for each resource."""
    resource: str
    token: int
    mode: str
    comes: bool
    lease_us: int         # the lease clock then
    expires_us: int = 0   # of one that goes: when it could be removed for having expired
    reason: str = ""      # of one that goes against its holder's will
    server: str = ""      # when that PostgreSQL started: a crash may lose ticks, and the clock starts from earlier ones


@dataclass
class Update:
    """A client read a counter and wrote one more, under a lock."""
    counter: str
    name: str                    # of the update, there is no other of it
    token: int
    start: float
    end: Optional[float] = None  # None: the client died before it knew
    wrote: Optional[int] = None  # None: nothing, or it is not known what
    deadline: float = 0          # of its lock, when it wrote
    outcome: str = ""            # ok, refused (PL001), failed (surely not done), too late (not tried), or unknown

    @property
    def is_fenced(self):
        """The counters without a fence are files, named by their paths."""
        return not self.counter.startswith("/")


# ---- leases ----

def check_rows(rows):
    """Of the table itself: nobody comes while another is in the way, in lease time; tokens grow."""
    wrong = []
    there, gone, highest = {}, {}, {}
    for row in rows:
        holders = there.setdefault(row.resource, {})
        if not row.comes:
            holders.pop(row.token, None)
            gone[row.resource, row.server] = row.lease_us
            if row.reason == "expired" and row.lease_us + CLOCK_US < row.expires_us:
                wrong.append(f"{row} was removed before its time")
            continue
        if holders and "exclusive" in (row.mode, *holders.values()):
            wrong.append(f"{row} came while {holders} held")
        if row.lease_us + CLOCK_US < gone.get((row.resource, row.server), 0):
            wrong.append(f"{row} came before the one before it had gone, in lease time")
        # A lease whose mode was changed at once comes again with its token.
        if row.token < highest.get(row.resource, 0):
            wrong.append(f"{row} has a token below {highest[row.resource]}")
        highest[row.resource] = max(row.token, highest.get(row.resource, 0))
        holders[row.token] = row.mode
    return wrong


def check_acknowledged(requests, rows):
    """A grant that a client was told of is a row, until its client ends it or its time is over, unless forced."""
    wrong = []
    came = {(r.resource, r.token): r.mode for r in rows if r.comes}
    why = {(r.resource, r.token): r.reason for r in rows if not r.comes}
    for r in requests:
        if r.granted and came.get((r.resource, r.token)) != r.mode:
            wrong.append(f"{r} was acknowledged and is not in the database")
        if r.granted and r.released is None and why.get((r.resource, r.token)) == "":
            wrong.append(f"{r} was released, and not by its client")
        if r.lost is not None and r.lost < held(r)[1] and r.lost_reason != "forced":
            wrong.append(f"{r} was lost before its deadline")
    return wrong


def check_released(left):
    """left: what there is of leases, waiters, sessions when everybody has gone and all TTLs are over."""
    return [f"{what} is left" for what in left]


# ---- updates ----

def check_fenced(updates, written, finals):
    """No update under a fence is lost.

    written: for each counter the updates that the database has, (value, name, token) in the order of their
    values; finals: what each counter says in the end.
    """
    wrong = []
    known = {u.name: u for u in updates}
    for counter, rows in written.items():
        values = [value for value, _, _ in rows]
        if values != list(range(1, len(rows) + 1)) or finals.get(counter) != len(rows):
            wrong.append(f"{counter}: {len(rows)} updates gave {finals.get(counter)}: {odd(values)}")
        for (_, before, older), (_, name, token) in zip(rows, rows[1:]):
            if token < older:
                wrong.append(f"{counter}: {name} with token {token} came after {before} with {older}")
        for _, name, token in rows:
            u = known.get(name)
            if u is None or (u.counter, u.token) != (counter, token) or u.outcome in ("refused", "failed", "too late"):
                wrong.append(f"{counter}: {name} is there, and should not be: {u}")
    there = {name for rows in written.values() for _, name, _ in rows}
    return wrong + [f"{u} was committed and is not there" for u in updates
                    if u.outcome == "ok" and u.name not in there]


def odd(values):
    """What is twice in it, and what is not."""
    twice = sorted(v for v, n in Counter(values).items() if n > 1)
    return f"twice {twice[:5]}, missing {sorted(set(range(1, len(values) + 1)) - set(values))[:5]}"


def check_unfenced(updates):
    """Without a fence updates may be lost, but only after somebody wrote past its deadline."""
    wrong = []
    for counter in sorted({u.counter for u in updates}):
        mine = sorted((u for u in updates if u.counter == counter and u.outcome in ("ok", "unknown")),
                      key=lambda u: u.start)
        spoilt = min((u.start for u in mine if is_late(u)), default=float("inf"))
        values = [u.wrote for u in mine if u.end is not None and u.end < spoilt and u.wrote is not None]
        if len(set(values)) < len(values):
            wrong.append(f"{counter}: an update in time was lost: {odd(values)}")
    return wrong


def is_late(update):
    """It may have been written when its lock was another's."""
    return update.end is None or update.end > update.deadline or update.outcome == "unknown"


def lost_updates(updates):
    """How many updates without a fence were lost: values that were written again."""
    written = [(u.counter, u.wrote) for u in updates if u.outcome == "ok"]
    return len(written) - len(set(written))


@dataclass
class Record:
    """All that a run has left."""
    requests: list
    rows: list
    fenced: list
    written: dict
    finals: dict
    unfenced: list
    overlaps: list  # what pglockd itself has found: rows of pglockd.violation
    left: list
    hung: list      # clients that did not end when they were told to


def check(record):
    """{kind of violation: sentences}, of every kind that is looked for."""
    return {
        "two exclusive holders, as their clients saw it": check_exclusion(record.requests),
        "two exclusive holders in lease time, or removed too early": check_rows(record.rows),
        "two exclusive holders, as pglockd found": record.overlaps,
        "tokens that do not grow": check_tokens(record.requests),
        "acknowledged leases that are missing": check_acknowledged(record.requests, record.rows),
        "updates lost under a fence": check_fenced(record.fenced, record.written, record.finals),
        "updates lost in time": check_unfenced(record.unfenced),
        "not served in the order they came": check_order(record.requests),
        "not released at the end": check_released(record.left),
        "clients that hang": record.hung,
    }
