"""What the clients of the fault harness wrote down, line by line, as requests and updates.

Each line is {"what": kind, …}, see fault_worker.py; a function below is called with the rest of it.
"""

import json
from dataclasses import dataclass

from fault_checks import Update
from history import Request


@dataclass
class Asked(Request):
    """A request of a worker."""
    number: str = ""
    wait: float = 0
    daemons: tuple = ()  # those that it asked


class Notes:
    """Requests and updates by their names."""

    def __init__(self):
        self.requests, self.updates = {}, {}

    def lock(self, number, resource, mode, t, wait):
        # left until there is an answer: nobody knows then whether its client still waits.
        self.requests[number] = Asked(resource, mode, t, number=number, wait=wait, left=True)

    def locked(self, number, t, status, left, daemons, code="", token=0, deadline=None):
        r = self.requests[number]
        r.end, r.status, r.code, r.token, r.left, r.daemons = t, status, code, token, left, tuple(daemons)
        r.deadline = deadline
        if status == "TIMEOUT":
            r.given_up = r.start + r.wait

    def renewed(self, number, deadline):
        self.requests[number].deadline = deadline

    def lost(self, number, t, reason):
        r = self.requests[number]
        r.lost, r.lost_reason = t, reason

    def unlock(self, number, t):
        self.requests[number].released = t

    def unlocked(self, number, t, status, again, reason):
        r = self.requests[number]
        r.release_status = status
        if status == "LOST" and not again:
            r.lost, r.lost_reason = t, reason

    def update(self, counter, name, token, t, deadline):
        self.updates[name] = Update(counter, name, token, t, deadline=deadline)

    def updated(self, name, t, outcome, wrote):
        u = self.updates[name]
        u.end, u.outcome, u.wrote = t, outcome, wrote

    def add(self, entry):
        getattr(self, entry["what"])(**{key: value for key, value in entry.items() if key != "what"})


class Log:
    """What a worker has written so far, read as it grows."""

    def __init__(self, path):
        self.path, self.offset = path, 0
        self.entries = []
        self.granted = 0

    def read(self):
        if not self.path.exists():
            return self
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[:data.rfind(b"\n") + 1]  # a worker may be writing
        self.offset += len(whole)
        new = [json.loads(line) for line in whole.splitlines()]
        self.granted += sum(entry["what"] == "locked" and entry["status"] == "OK" for entry in new)
        self.entries += new
        return self


def read_notes(logs, forced):
    """(requests, updates); forced: {token: owner} of leases that an administrator took away."""
    notes = Notes()
    for log in logs:
        for entry in log.read().entries:
            notes.add(entry)
    for r in notes.requests.values():
        if r.token in forced:
            r.lost_reason = "forced"
            # Its client heard of it some time after it had ended; how long after, the rows know better.
            r.deadline = min(r.deadline, r.end or r.deadline)
        elif r.number in forced.values():  # before its daemon had collected the grant: others have had its turn
            r.left = True
    for u in notes.updates.values():
        if u.token in forced:  # some time; from its start on it may have been too late
            u.deadline = min(u.deadline, u.start)
    return list(notes.requests.values()), list(notes.updates.values())
