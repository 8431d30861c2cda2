#!/usr/bin/python3
"""claims.py [BUILDDIR]

What trees, sets and long lines cost, for docs/performance.md. Starts a daemon of BUILDDIR (default: build) on a fresh
embedded PostgreSQL. Each figure stands beside another of the same run, in turns, medians of REPS. Not a test: it
asserts nothing.

- single: CPU of one backend for acquire_batch() and release_batch() of single locks, and of copies of these functions
  without what is there for trees, on a database where nobody has asked for a tree.
- trees: how long it takes to decide a LOCK of a tree with LEASES leases beneath it, and until the reply, which names
  holders; beside it that of a tree with nothing beneath it.
- sets: resources locked in sets of 10 and one by one, with as many requests at once, and with as many resources.
- line: hand-overs of a resource a second, when so many wait for it.

Knobs: LEASES (1000000)  REPS (7)  PARTS ("single trees sets line")
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg2

BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
LEASES, REPS = int(os.environ.get("LEASES", "1000000")), int(os.environ.get("REPS", "7"))
PARTS = os.environ.get("PARTS", "single trees sets line").split()


def show(what, points, beside=None):
    """Medians, and the ratio to another's."""
    ratio = f"   {statistics.median(points) / statistics.median(beside):.3f}" if beside else ""
    print(f"    {what:48}{statistics.median(points):12.3f}{ratio}   (least {min(points):.3f})", flush=True)


# ---- single locks, with and without what is there for trees ----

# In the function's text what is for trees alone (a pattern), and what stands there without it.
WITHOUT_TREES = {
    "acquire_batch": [(r",\s+c\.trees\n", "\n"),
                      (r"and \(not now\.trees or not pglockd\.is_covered\(p_resource\[k\], p_exclusive\[k\]\)\)", ""),
                      (r"for i in 1 \.\. cardinality\(p_above\) loop", "for i in 1 .. 0 loop")],
    "release_batch": [(r"or \(select exists \(select from pglockd\.waiter w where w\.scope = 'tree'\)\)", "")],
}
TYPES = {"acquire_batch": "int4, text[], text[], bool[], int8[], bool[], int8[], int8[], text[], text[], text[], text[], "
                          "int8[], int8[], bool[]",
         "release_batch": "int4, text[], int8[], text[], int8[], int8[], bool"}


def lane(cursor):
    """Makes it a lane of a daemon; the daemon's number."""
    cursor.execute("set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off;"
                   "set enable_mergejoin = off; set jit = off")
    cursor.execute("select pglockd.register_instance('bench/0', 'bench')")
    ((instance,),) = cursor.fetchall()
    return instance


def prepare(cursor):
    """Both pairs of functions."""
    for name, changes in WITHOUT_TREES.items():
        cursor.execute("select pg_get_functiondef(%s::regproc)", (f"pglockd.{name}",))
        ((text,),) = cursor.fetchall()
        for old, new in changes:
            text, found = re.subn(old, new, text)
            assert found == 1, f"{name} has changed: {old}"
        cursor.execute(text.replace(f"pglockd.{name}(", f"pglockd.{name}_plain("))
        for function in name, f"{name}_plain":
            places = ", ".join(f"${i + 1}" for i in range(TYPES[name].count(",") + 1))
            cursor.execute(f"prepare {function} ({TYPES[name]}) as select * from pglockd.{function}({places})")


def cpu_us(pid):
    """What a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def turn(cursor, kind, instance, batches, size=32):
    """CPU of the backend in microseconds for a pair of LOCK and UNLOCK."""
    pid = cursor.connection.info.backend_pid
    batch = [[f"repo/{i % 7}/src/{b}/{i:02}.c" for i in range(size)] for b in range(batches)]
    before = cpu_us(pid)
    for names in batch:
        names.sort()
        above = sorted({"/".join(n.split("/")[:k]) for n in names for k in range(1, n.count("/") + 1)} | {"/"})
        cursor.execute(f"execute acquire_batch{kind} (%s, %s, %s, %s, %s, %s, %s, %s, %s, '{{}}', '{{}}', '{{}}', '{{}}', "
                       "'{}', '{}')", (instance, names, above, [True] * size, [30000] * size, [False] * size,
                                       [1] * size, list(range(size)), ["bench"] * size))
        tokens = cursor.fetchone()[2]
        cursor.execute(f"execute release_batch{kind} (%s, %s, %s, '{{}}', '{{}}', '{{}}', false)", (instance, names, tokens))
        cursor.fetchone()
    return (cpu_us(pid) - before) / batches / size


def single(server):
    connection = server.database()
    cursor = connection.cursor()
    instance = lane(cursor)
    prepare(cursor)
    points = {"": [], "_plain": []}
    for _ in range(3 * REPS):
        for kind in points:
            points[kind].append(turn(cursor, kind, instance, 100))
    print("single locks, no tree in sight: µs of the backend's CPU a pair, in batches of 32")
    show("without what is for trees", points["_plain"])
    show("as it is", points[""], points["_plain"])
    connection.close()


# ---- a tree over many leases ----

def load(cursor):
    """So many exclusive leases, and as many shared ones."""
    for prefix, mode in ("exclusive", "exclusive"), ("shared", "shared"):
        cursor.execute("""
            insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id,
                                       instance_id, mode, scope, delivered, resource, owner, identity)
            select nextval('pglockd.token_seq'), 1e15, 1e15, 600000, 0, clock_timestamp(), n, 1, %s, 'node', true,
                   'tree/' || %s || '/' || n % 100 || '/' || n, 'bench', ''
              from generate_series(1, %s) n""".replace("n % 100", "n %% 100"), (mode, prefix, LEASES))
    cursor.execute("vacuum analyze pglockd.lease")


def ask(client, line):
    started = time.monotonic()
    reply = client.ask(line)
    return reply, 1000 * (time.monotonic() - started)


def decide(cursor, instance, mode, beneath):
    """(status, ms): acquire_claims() as a lane calls it, undone again."""
    cursor.execute("begin")
    started = time.monotonic()
    cursor.execute("execute acquire_claims (%s, '{1}', %s, %s, '{t}', '{}', '{}', '{30000}', '{f}', '{1}', '{1}', '{bench}', "
                   "'{}', '{}', '{}', '{}', '{}', '{}')", (instance, [f"tree/{beneath}"], [mode == "exclusive"]))
    ((_, (status,), *_),) = cursor.fetchall()
    took = 1000 * (time.monotonic() - started)
    cursor.execute("rollback")
    return {"g": "granted", "b": "BUSY"}[status.strip('"')], took


def trees(server):
    connection = server.database()
    cursor = connection.cursor()
    load(cursor)
    instance = lane(cursor)
    cursor.execute("prepare acquire_claims (int4, int4[], text[], bool[], bool[], int4[], int4[], int8[], bool[], int8[], "
                   "int8[], text[], text[], text[], text[], int8[], int8[], bool[]) as select o_item, o_status from "
                   f"pglockd.acquire_claims({', '.join(f'${i}' for i in range(1, 19))})")
    points = {}
    with Client(server.line) as client:
        for _ in range(3 * REPS):
            for mode in "exclusive", "shared":
                for beneath in "nothing", "exclusive", "shared":
                    status, ms = decide(cursor, instance, mode, beneath)
                    points.setdefault(("decided", mode, beneath, status), []).append(ms)
                    reply, ms = ask(client, f"LOCK tree/{beneath} scope=tree mode={mode}")
                    points.setdefault(("replied", mode, beneath, reply[0]), []).append(ms)
                    if reply[0] == "OK":
                        client.ask(f"UNLOCK tree/{beneath} token={reply[1]['token']}")
    print(f"a LOCK of a tree over {LEASES} leases: ms until it is decided, and until the reply")
    for (what, mode, beneath, status), took in sorted(points.items()):
        show(f"{what}: {mode} over {beneath}: {status}", took)
    connection.close()


# ---- sets ----

class Client:
    """A connection that can be asked in bulk."""

    def __init__(self, line):
        host, port = line.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def reply(self):
        """(status, body), the tag before it where there is one."""
        words = self.file.readline().decode()
        tag = ""
        if words.startswith("@"):
            tag, words = words.split(" ", 1)
        status, body = words.split(" ", 1)
        self.tag = tag
        return status, json.loads(body)

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self.reply()

    def ask_all(self, lines):
        self.socket.sendall("".join(line + "\n" for line in lines).encode())
        return [self.reply() for _ in lines]


def pairs(server, client, size, requests, resources=6400):
    """(resources a second, s of server CPU for 1000): so many LOCKs of that size at once, then an UNLOCK for each
    resource."""
    before, started = server.cpu(), time.monotonic()
    for first in range(0, resources, size * requests):
        names = [f"sets/{size}/{first + i:06}" for i in range(size * requests)]
        locks = client.ask_all(["LOCK " + " ".join(names[i:i + size]) for i in range(0, len(names), size)])
        client.ask_all([f"UNLOCK {lock['resource']} token={lock['token']}" for _, reply in locks for lock in reply["locks"]])
    took = time.monotonic() - started
    return resources / took, 1000 * server.cpu_since(before) / resources


def sets(server):
    runs = {"one by one, 64 requests at once": (1, 64), "in sets of 10, 64 requests at once": (10, 64),
            "one by one, 320 requests at once": (1, 320), "in sets of 10, 32 requests at once": (10, 32)}
    points = {name: [] for name in runs}
    with Client(server.line) as client:
        for _ in range(REPS):
            for name, (size, requests) in runs.items():
                points[name].append(pairs(server, client, size, requests))
    print("resources locked and unlocked a second, and server CPU s per 1000, pipelined over one connection")
    names = list(runs)
    for single_name, set_name in (names[:2], names[2:]):
        for i, unit in enumerate(("a second", "CPU")):
            beside = [p[i] for p in points[single_name]]
            show(f"{single_name}: {unit}", beside)
            show(f"{set_name}: {unit}", [p[i] for p in points[set_name]], beside)


# ---- a line ----

def hand_overs(client, resource, count):
    """A second, each followed by an UNLOCK and a LOCK that waits in the end of the line."""
    started, done = time.monotonic(), 0
    while done < count:
        status, body = client.reply()
        if client.tag:
            assert status == "OK", body
            done += 1
            client.socket.sendall(f"UNLOCK {resource} token={body['token']}\n"
                                  f"{client.tag} LOCK {resource} wait=inf\n".encode())
    return count / (time.monotonic() - started)


def line(server):
    lengths = 10, 10000
    clients = {n: Client(server.line) for n in lengths}
    for n, client in clients.items():
        held = client.ask(f"LOCK line/{n} ttl=10m")[1]["token"]
        for first in range(0, n, 500):
            client.socket.sendall("".join(f"@{i} LOCK line/{n} wait=inf\n" for i in range(first, min(first + 500, n))).encode())
        while client.ask(f"INFO line/{n}")[1]["waiting"] < n:
            time.sleep(0.05)
        client.held = held
    points = {n: [] for n in lengths}
    for _ in range(REPS):
        for n, client in clients.items():
            client.socket.sendall(f"UNLOCK line/{n} token={client.held}\n".encode())
            points[n].append(hand_overs(client, f"line/{n}", 1000))
            client.held = hold(client, f"line/{n}")
    print("hand-overs a second, over one connection")
    show("10 wait", points[10])
    show("10,000 wait", points[10000], points[10])


def hold(client, resource):
    """The line stands still: the next grant is kept. Its token."""
    while True:
        status, body = client.reply()
        if client.tag and status == "OK":
            client.socket.sendall(f"{client.tag} LOCK {resource} wait=inf\n".encode())
            return body["token"]


# ---- the server ----

class Server:
    def __init__(self, directory):
        with open(directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BUILD / "pglockd", "--embedded", directory / "data", "--listen", "127.0.0.1:0", "--http", "off",
                 "--max-inflight", "20000"], stdout=subprocess.PIPE, stderr=log, text=True)
        ready = self.process.stdout.readline()
        assert ready.startswith("ready "), (directory / "log").read_text()
        self.line = ready.split()[1].removeprefix("line=")
        self.dsn = f"host={directory}/data/run dbname=pglockd user=postgres"

    def database(self):
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = True
        return connection

    def cpu(self):
        """{process: microseconds} of the daemon and all that it has started."""
        todo, used = [self.process.pid], {}
        while todo:
            pid = todo.pop()
            used[pid] = cpu_us(pid)
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return used

    def cpu_since(self, before):
        """Seconds; without those that have come or gone."""
        return sum(us - before[pid] for pid, us in self.cpu().items() if pid in before) / 1e6

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="pglockd-bench.", dir="/var/tmp") as directory:
        os.chmod(directory, 0o711)
        server = Server(Path(directory))
        try:
            for part in PARTS:
                {"single": single, "trees": trees, "sets": sets, "line": line}[part](server)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
