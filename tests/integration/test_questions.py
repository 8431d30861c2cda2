"""What operators read is true: every question of docs/operations.md is asked of real contents and gives
the answer that is there, and docs/schema.md is what the comments in the database say.
"""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lines import Lines, eventually, wait_for_queue

SRCDIR = Path(os.environ["SRCDIR"])
OPERATIONS = SRCDIR / "docs/operations.md"
SCHEMA = SRCDIR / "docs/schema.md"


def questions():
    """{number: [statement, ...]} in the words that stand there."""
    part = OPERATIONS.read_text(encoding="utf-8").split("\n## Questions\n")[1].split("\n## ")[0]
    found = {}
    for piece in re.split(r"\n(?=\*\*\d+\. )", part)[1:]:
        blocks = re.findall(r"```sql\n(.*?)```", piece, re.S)
        found[int(re.match(r"\*\*(\d+)\. ", piece)[1])] = [
            s.strip() for block in blocks for s in block.split(";\n") if s.strip()]
    return found


QUESTIONS = questions()


class Scene:
    """A service with something going on, for all questions.

    ci waits for deploy/production, which agent-7 shares with the tree of sre; agent-7 waits for db/main of
    dba. night has a session.
    """

    def __init__(self, daemon, stack):
        self.daemon = daemon
        self.stack = stack
        with self.sql("postgres") as cursor:
            cursor.execute("create role desk_reader login in role pglockd_reader;"
                           "create role desk_admin login in role pglockd_admin")
        self.clients = {name: stack.enter_context(Lines(daemon.line, name))
                        for name in ("agent-7", "agent-8", "sre", "ci", "dba", "night")}
        self.lock("sre", "deploy scope=tree mode=shared")
        self.lock("agent-7", "deploy/production mode=shared note=release")
        self.lock("agent-7", "repo/a.ts")
        self.lock("agent-8", "repo/b.ts")
        self.lock("agent-8", "repository")
        self.lock("ci", "repo/attic/old")
        self.lock("dba", "db/main note=vacuum")
        session = self.clients["night"].ask_ok("SESSION OPEN ttl=5m owner=night")["session"]
        assert session == "1"
        self.lock("night", "repo/night session=1")
        self.wait("ci", "deploy/production")
        self.wait("agent-7", "db/main")

    def lock(self, name, words):
        return self.clients[name].lock(words, "" if "session=" in words else "ttl=5m")

    def wait(self, name, resource):
        self.clients[name].send(f"@{name} LOCK {resource} wait=inf")
        wait_for_queue(self.clients["night"], resource, 1)

    @contextlib.contextmanager
    def sql(self, user, autocommit=True):
        with contextlib.closing(self.daemon.sql(user=user)) as connection:
            connection.autocommit = autocommit
            yield connection.cursor()

    def ask(self, number, part, user="desk_reader", cursor=None):
        """The answer to a part of a question: a list of dictionaries."""
        with contextlib.ExitStack() as stack:
            cursor = cursor or stack.enter_context(self.sql(user))
            cursor.execute(QUESTIONS[number][part - 1])
            return [dict(zip((c.name for c in cursor.description), row)) for row in cursor.fetchall()]

    def ask_after(self, change, number, part):
        """The same after a change that is undone."""
        with self.sql("pglockd", autocommit=False) as cursor:
            cursor.execute(change)
            return self.ask(number, part, cursor=cursor)


@pytest.fixture
def scene(make_daemon):
    with contextlib.ExitStack() as stack:
        yield Scene(make_daemon("--metrics-flush", "100ms"), stack)


def pick(answer, *columns):
    return [tuple(row[c] for c in columns) for row in answer]


def test_every_question_is_answered(scene):
    """Each part of each question; what changes things comes last."""
    ask = scene.ask
    asked = {
        1: [who_holds], 2: [who_waits, through_chains], 3: [waits_longest, most_wanted, wanted_prefixes],
        4: [ends_soon, held_longest], 7: [daemons, janitor], 8: [clock], 9: [guards], 10: [dead_rows, snapshots],
        11: [sessions, silent_sessions], 12: [holdings, wishes, None], 13: [beneath],
        5: [force_one, force_owner, force_session, force_prefix], 6: [why_lost, forced],
    }
    assert {n: len(parts) for n, parts in asked.items()} == {n: len(parts) for n, parts in QUESTIONS.items()}
    for number, parts in asked.items():
        for part, check in enumerate(parts, 1):
            if check:
                check(scene, number, part)
    assert pick(ask(12, 3), "resource", "reason") == [("repo/a.ts", "forced")]


def who_holds(scene, *question):
    answer = scene.ask(*question)
    assert sorted(pick(answer, "resource", "scope", "mode", "owner", "note", "token")) == [
        ("deploy", "tree", "shared", "sre", None, None),
        ("deploy/production", "node", "shared", "agent-7", "release", None)]
    tokens = pick(scene.ask(*question, user="desk_admin"), "token")
    assert all(token > 0 for token, in tokens)


def who_waits(scene, *question):
    assert pick(scene.ask(*question), "position", "mode", "owner", "absent", "blocked_by_holders",
                "blocked_by_waiters") == [(1, "exclusive", "ci", False, ["sre", "agent-7"], None)]


def through_chains(scene, *question):
    answer = scene.ask(*question)
    assert pick(answer, "step", "owner", "resource", "blocking_owner", "blocking_resource", "blocking_note") == [
        (1, "ci", "deploy/production", "sre", "deploy", None),
        (1, "ci", "deploy/production", "agent-7", "deploy/production", "release"),
        (2, "agent-7", "db/main", "dba", "db/main", "vacuum")]
    assert {kind for kind, in pick(answer, "blocked_by")} == {"holder"}


def waits_longest(scene, *question):
    assert pick(scene.ask(*question), "resource", "owner", "blocked_by_holders") == [
        ("deploy/production", "ci", ["sre", "agent-7"]), ("db/main", "agent-7", ["dba"])]


def most_wanted(scene, *question):
    assert pick(scene.ask(*question), "resource", "waiting") == [("deploy/production", 1), ("db/main", 1)]


def wanted_prefixes(scene, *question):
    assert pick(scene.ask(*question), "prefix", "waiting", "resources") == [
        ("deploy/production", 1, 1), ("db/main", 1, 1)]


def ends_soon(scene, *question):
    assert scene.ask(*question) == []
    change = ("update pglockd.lease set expires_us = pglockd.lease_end(pglockd.lease_now(), 9000) "
              "where resource = 'repo/b.ts'")
    assert pick(scene.ask_after(change, *question), "resource", "owner") == [("repo/b.ts", "agent-8")]


def held_longest(scene, *question):
    assert pick(scene.ask(*question), "resource", "owner")[:2] == [
        ("deploy", "sre"), ("deploy/production", "agent-7")]


def daemons(scene, *question):
    ((name, connected, waiters, pid),) = pick(scene.ask(*question), "name", "connected", "waiters", "pid")
    assert name.endswith(f"/{scene.daemon.process.pid}") and connected and waiters == 2 and pid > 0


def janitor(scene, *question):
    ((name,),) = eventually(lambda: pick(scene.ask(*question), "instance"), what="a sample of the janitor")
    assert name.endswith(f"/{scene.daemon.process.pid}")


def clock(scene, *question):
    ((quiet_ms, last_tick),) = pick(scene.ask(*question, user="pglockd"), "quiet_ms", "last_tick")
    assert quiet_ms == 0 and last_tick is not None


def guards(scene, *question):
    with scene.sql("pglockd", autocommit=False) as cursor:
        cursor.execute("select pg_backend_pid(), status from pglockd.lock('guarded/x')")
        ((pid, _),) = cursor.fetchall()
        # On a busy machine the daemon's may last as long.
        eventually(lambda: (pid, "pglockd", "idle in transaction") in pick(
            scene.ask(*question, user="postgres"), "pid", "usename", "state"), what="a transaction of a second")


def dead_rows(scene, *question):
    names = {name for name, in pick(scene.ask(*question, user="pglockd"), "relname")}
    assert {"lease_exclusive", "lease_shared", "lease_tree", "waiter", "tombstone"} <= names


def snapshots(scene, *question):
    with scene.sql("pglockd", autocommit=False) as cursor:
        cursor.execute("set transaction isolation level repeatable read; select pg_backend_pid()")
        ((pid,),) = cursor.fetchall()
        assert pid in [p for p, in pick(scene.ask(*question, user="postgres"), "pid")]


def sessions(scene, *question):
    assert pick(scene.ask(*question), "session", "owner", "locks", "waiting") == [(1, "night", 1, 0)]


def silent_sessions(scene, *question):
    assert scene.ask(*question) == []
    change = "update pglockd.session set expires_us = expires_us - 200000000"
    assert pick(scene.ask_after(change, *question), "session", "owner") == [(1, "night")]


def holdings(scene, *question):
    assert pick(scene.ask(*question), "resource", "mode", "note") == [
        ("deploy/production", "shared", "release"), ("repo/a.ts", "exclusive", None)]


def wishes(scene, *question):
    assert pick(scene.ask(*question), "resource", "position", "blocked_by_holders") == [("db/main", 1, ["dba"])]


def beneath(scene, *question):
    assert pick(scene.ask(*question), "resource", "owner") == [
        ("repo/a.ts", "agent-7"), ("repo/attic/old", "ci"), ("repo/b.ts", "agent-8"), ("repo/night", "night")]


def force_one(scene, *question):
    assert pick(scene.ask(*question, user="desk_admin"), "status") == [("OK",)]


def force_owner(scene, *question):
    assert pick(scene.ask(*question, user="desk_admin"), "status", "resource") == [
        ("OK", "repo/b.ts"), ("OK", "repository")]


def force_session(scene, *question):
    assert pick(scene.ask(*question, user="desk_admin"), "status", "locks") == [("OK", 1)]


def force_prefix(scene, *question):
    assert pick(scene.ask(*question, user="desk_admin"), "status", "resource") == [("OK", "repo/attic/old")]


def why_lost(scene, *question):
    assert pick(scene.ask(*question), "owner", "reason", "detail") == [
        ("agent-7", "forced", "by desk_admin: agent-7 hangs, ticket 4711")]


def forced(scene, *question):
    assert pick(scene.ask(*question), "owner", "resource", "detail") == [
        ("ci", "repo/attic/old", "by desk_admin: moved"),
        ("night", "repo/night", "by desk_admin: nightly build hangs"),
        ("agent-8", "repository", "by desk_admin: host is gone"),
        ("agent-8", "repo/b.ts", "by desk_admin: host is gone"),
        ("agent-7", "repo/a.ts", "by desk_admin: agent-7 hangs, ticket 4711")]


# ---- schema.md ----

def test_schema_md_is_what_the_comments_say(still_dsn):
    """PGLOCKD_UPDATE_DOCS=1 writes it anew."""
    made = subprocess.run([sys.executable, SRCDIR / "contrib/schema-doc", still_dsn], check=True, text=True,
                          capture_output=True, timeout=60).stdout
    if os.environ.get("PGLOCKD_UPDATE_DOCS") == "1":
        SCHEMA.write_text(made, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == made, "write docs/schema.md anew: PGLOCKD_UPDATE_DOCS=1"
