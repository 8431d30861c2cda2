"""Replays docs/transcripts/*.txt against a real daemon: what the documents show is what it says.

docs/transcripts/README.md explains the format. A reply must match to the byte, placeholders aside.
"""

import contextlib
import os
import re
import shlex
import signal
from pathlib import Path

import pytest

from conftest import in_force
from lines import Lines, eventually, wait_for_queue

DIRECTORY = Path(os.environ.get("SRCDIR", Path(__file__).parents[2])) / "docs/transcripts"
FILES = sorted(DIRECTORY.glob("*.txt"))

# Placeholders that may stand for something else each time; every other one is bound by its first use.
FREE = {"ms": r"\d+", "n": r"\d+", "s": r"\d+", "any": r".*", "time": r"\d{4}-\d\d-\d\dT[\d:.]{12}Z"}
BOUND = r"[A-Za-z0-9_./:-]+"


class Replay:
    """One transcript, line by line."""

    def __init__(self, daemon, start, stack):
        self.daemon, self.start, self.stack = daemon, start, stack
        self.connections, self.values = {}, {}
        self.admin = stack.enter_context(contextlib.closing(daemon.sql(user="postgres")))
        self.guard = None

    def connection(self, name):
        if name not in self.connections:
            self.connections[name] = self.stack.enter_context(Lines(self.daemon.line))
        return self.connections[name]

    def fill_in(self, line):
        return re.sub(r"<(\w+)>", lambda m: self.values[m[1]], line)

    def pattern(self, line):
        named = set()

        def place(match):
            name = match[1]
            if name in FREE:
                return FREE[name]
            if name in self.values:
                return re.escape(self.values[name])
            if name in named:
                return f"(?P={name})"
            named.add(name)
            return f"(?P<{name}>{BOUND})"
        parts = re.split(r"(<\w+>)", line)
        return "".join(re.sub(r"<(\w+)>", place, p) if re.fullmatch(r"<\w+>", p) else re.escape(p)
                       for p in parts)

    # ---- the lines ----

    def client(self, name, line):
        connection = self.connection(name)
        if line == "(ends its input)":
            connection.end_input()
        elif line == "(goes away)":
            self.connections.pop(name).close()
        else:
            connection.send(self.fill_in(line))

    def server(self, name, line):
        got = self.connection(name).read_line()
        if line == "(closes)":
            assert got is None, got
            return
        match = re.fullmatch(self.pattern(line), got or "(closes)")
        assert match, f"\n  wanted: {line}\n  got:    {got}"
        self.values.update(match.groupdict())

    def sql(self, query, *values):
        cursor = self.admin.cursor()
        cursor.execute(query, values)
        return cursor

    def happens(self, what):
        """What is not said on the connections."""
        if match := re.fullmatch(r"(\d+) wait(?:s)? for (\S+)", what):
            with Lines(self.daemon.line) as look:
                wait_for_queue(look, match[2], int(match[1]))
        elif match := re.fullmatch(r"nobody holds (\S+) any more", what):
            if self.guard:
                self.guard.rollback()
            eventually(lambda: self.sql("select from pglockd.lease where resource = %s",
                                        match[1]).rowcount == 0)
        elif match := re.fullmatch(r"the TTL of (\S+) is over", what):
            # Nobody removes it meanwhile, as somebody would soon.
            self.guard = self.stack.enter_context(contextlib.closing(self.daemon.sql()))
            self.guard.autocommit = False
            self.guard.cursor().execute("select from pglockd.lease where resource = %s for key share", (match[1],))
            eventually(lambda: self.sql("select from pglockd.locks where resource = %s and "
                                        "ttl_left = interval '0'", match[1]).rowcount)
        elif match := re.fullmatch(r"an administrator forces (\S+): (.*)", what):
            self.sql("select * from pglockd.force(%s, reason => %s)", match[1], match[2])
        elif match := re.fullmatch(r"a transaction keeps the guard of (\S+)", what):
            self.guard = self.stack.enter_context(contextlib.closing(self.daemon.sql()))
            self.guard.autocommit = False
            self.guard.cursor().execute(
                "select pg_advisory_xact_lock(1346849793, pglockd.guard_key(%s))", (match[1],))
        elif match := re.fullmatch(r"a transaction asserts that <(\w+)> holds (\S+)", what):
            self.guard = self.stack.enter_context(contextlib.closing(self.daemon.sql()))
            self.guard.autocommit = False
            self.guard.cursor().execute("select pglockd.assert_fence(%s, %s)",
                                        (match[2], int(self.values[match[1]])))
        elif what == "that transaction ends":
            self.guard.rollback()
        elif match := re.fullmatch(r"an SQL session holds (\S+)", what):
            self.guard = self.stack.enter_context(contextlib.closing(self.daemon.sql()))
            self.guard.cursor().execute("select pglockd.hold(%s, owner => 'session', note => 'copying')",
                                        (match[1],))
        elif what == "that session ends":
            self.guard.close()
        elif match := re.fullmatch(r"another user locks (\S+) by SQL", what):
            status = self.sql("select status from pglockd.lock(%s, owner => 'dba')", match[1]).fetchone()
            assert status == ("OK",)
        elif match := re.fullmatch(r"an administrator makes the policy (\S+): (.*)", what):
            self.sql("delete from pglockd.rate_policy where name = %s", match[1])
            self.sql(f"insert into pglockd.rate_policy (name, {', '.join(shlex.split(match[2])[::2])}) "
                     "values (%s, " + ", ".join(["%s"] * len(shlex.split(match[2])[1::2])) + ")",
                     match[1], *shlex.split(match[2])[1::2])
            self.stack.callback(self.sql, "delete from pglockd.rate_policy where name = %s", match[1])
            self.stack.callback(self.sql, "delete from pglockd.rate_counter")
        elif match := re.fullmatch(r"an administrator makes a key of (\S+), who may (.*)", what):
            self.values["key"] = f"pglk_{os.urandom(16).hex()}"
            self.sql("delete from pglockd.identity where name = %s", match[1])
            self.sql("select pglockd.key_create(%s, sha256(convert_to(%s, 'UTF8')), %s)", match[1],
                     self.values["key"], match[2].split())
            in_force(self.daemon, self.admin.cursor())
            self.stack.callback(self.sql, "delete from pglockd.identity where name = %s", match[1])
        elif match := re.fullmatch(r"an administrator revokes (\S+)", what):
            self.sql("select pglockd.identity_revoke(%s)", match[1])
        elif what == "PostgreSQL stops answering":
            # From here on a daemon is asked that has less patience than those of the tests.
            self.daemon = self.start("--request-timeout", "1s")
            self.connections.clear()
            with Lines(self.daemon.line) as look:  # its connections to PostgreSQL are up
                eventually(lambda: look.ask("LOCK db/ready mode=shared").status == "OK")
            self.stack.callback(self.answer_again)
            self.shared.signal_postgres(signal.SIGSTOP)
        elif what == "PostgreSQL answers again":
            self.answer_again()
        elif what == "PostgreSQL has crashed and come back":
            # What a crash leaves of the queue, and what a lane does first on a new connection.
            self.sql("delete from pglockd.queue_epoch")
            self.sql("select pglockd.open_queue_epoch()")
        elif match := re.fullmatch(r"a daemon is started with (.*)", what):
            self.daemon = self.start(*shlex.split(match[1]))
        elif what == "the daemon is told to stop":
            self.daemon.signal(signal.SIGTERM)
        else:
            raise AssertionError(f"unknown: ! {what}")

    def answer_again(self):
        self.shared.signal_postgres(signal.SIGCONT)

    def line(self, line):
        if not line or line.startswith("#"):
            return
        if line.startswith("! "):
            self.happens(line[2:])
            return
        match = re.fullmatch(r"([CS])(\d?): (.*)", line)
        assert match, "neither C: nor S: nor ! nor #"
        (self.client if match[1] == "C" else self.server)(match[2], match[3])


@pytest.mark.parametrize("path", FILES, ids=[f.stem for f in FILES])
def test_transcript(path, daemon, peer):
    text = path.read_text()
    with contextlib.ExitStack() as stack:
        replay = Replay(daemon, peer, stack)
        replay.shared = daemon
        replay.sql("delete from pglockd.lease where resource ~ '^(repo|deploy|db)/'")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                replay.line(line)
            except AssertionError as error:
                raise AssertionError(f"{path.name}:{number}: {line}\n{error}") from None


def test_there_are_transcripts():
    assert len(FILES) >= 8


def spoken():
    """(verb, reply) of every exchange in the transcripts; codes stand for refusals."""
    seen = set()
    for path in FILES:
        text = path.read_text()
        verbs = re.findall(r"^C\d?: (?:@\S+ )?([A-Za-z]+)", text, re.M)
        replies = re.findall(r"^S\d?: (?:@\S+ |\* )?(\w+) \{(?:\"code\":\"(\w+)\")?", text, re.M)
        seen |= {v.upper() for v in verbs} | {code or status for status, code in replies}
    return seen


@pytest.mark.parametrize("what", [
    "HELLO", "PING", "QUIT", "HELP", "STATS", "STATUS", "LOCK", "UNLOCK", "RENEW", "CHECK", "CANCEL", "INFO",
    "LIST", "FORCE", "auth_required", "key_refused", "no_right", "denied", "revoked",
    "OK", "busy", "guarded", "quiet", "timeout", "lost", "cancelled", "bad_request", "unknown_verb",
    "unknown_key", "bad_resource", "bad_duration", "ttl_out_of_range", "tag_in_use",
    "id_mismatch", "too_many_waiters", "fenced", "unavailable", "outcome_unknown", "quit", "end_of_input", "shutting_down",
])
def test_the_transcripts_show(what):
    assert what in spoken()
