#!/usr/bin/python3
"""leases.py WORKLOAD... [--build DIR]

What keeping and ending many leases costs, for docs/performance.md; each workload on a fresh embedded
PostgreSQL with its defaults. Nothing else should run on the machine. Not a test: it asserts nothing.

    sessions  LEASES locks bound to SESSIONS sessions: rows updated by a renewal of all, and how many of that HOT
    renewals  LEASES single leases renewed, beside uncontended pairs over the same CLIENTS connections
    expiry    LEASES leases that end at one time: how long until they are gone, and what others notice of it
    churn     PAIRS pairs of lock and unlock, and renewals beside them: sizes of tables and indexes as it goes on

Knobs: LEASES (100000)  SESSIONS (1000)  CLIENTS (64)  REPS (3; renewals)  PAIRS (5000000)
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg2

LEASES, SESSIONS, CLIENTS, REPS, PAIRS = (int(os.environ.get(name, default)) for name, default in (
    ("LEASES", 100000), ("SESSIONS", 1000), ("CLIENTS", 64), ("REPS", 3), ("PAIRS", 5000000)))
PIPELINED = 500  # requests that are sent before their replies are read


class Service:
    """A daemon on a PostgreSQL of its own."""

    def __init__(self, build, directory):
        self.build = build
        with open(directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [build / "pglockd", "--embedded", directory / "data", "--listen", "127.0.0.1:0", "--http", "off",
                 "--request-timeout", "1m"],  # a busy machine is no error
                stdout=subprocess.PIPE, stderr=log, text=True)
        ready = self.process.stdout.readline()
        assert ready.startswith("ready "), (directory / "log").read_text()
        self.address = re.search(r"line=(\S+)", ready)[1]
        connection = psycopg2.connect(f"host={directory}/data/run dbname=pglockd user=postgres")
        connection.autocommit = True
        self.cursor = connection.cursor()

    def ask(self, query, *values):
        self.cursor.execute(query, values)
        return self.cursor.fetchall()

    def bench(self, *arguments):
        """Results of pglockctl bench."""
        done = subprocess.run([self.build / "pglockctl", "--connect", f"tcp://{self.address}", "bench", "--json",
                               "-c", str(CLIENTS), *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self):
        self.cursor.connection.close()
        self.process.terminate()
        self.process.wait()


class Client:
    """A connection on which requests are pipelined."""

    def __init__(self, service):
        host, port = service.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.replies = self.socket.makefile("r")

    def ask(self, lines):
        """The bodies of the replies, all of which must be OK; lines may be made one by one."""
        lines, replies = iter(lines), []
        while chunk := list(itertools.islice(lines, PIPELINED)):
            self.socket.sendall("".join(line + "\n" for line in chunk).encode())
            for line in chunk:
                status, body = self.replies.readline().split(" ", 1)
                assert status == "OK", (line, status, body)
                replies.append(json.loads(body))
        return replies


def updates(service):
    """{table: (rows updated, of these HOT)}"""
    time.sleep(12)  # a backend tells what it did once a second, and when it has been idle for 10 s
    query = ("select case when relname like 'lease%%' then 'lease' else relname end, sum(n_tup_upd), sum(n_tup_hot_upd) "
             "from pg_stat_user_tables where relname ~ '^(session|lease_(exclusive|shared|tree))$' group by 1")
    return {name: (int(rows), int(hot)) for name, rows, hot in service.ask(query)}


def sessions(service):
    client = Client(service)
    ids = [reply["session"] for reply in client.ask(["SESSION OPEN ttl=10m"] * SESSIONS)]
    began = time.monotonic()
    client.ask(f"LOCK bench/{i} session={ids[i % SESSIONS]}" for i in range(LEASES))
    print(f"sessions: {LEASES} locks taken in {time.monotonic() - began:.2f} s")
    before = updates(service)
    began = time.monotonic()
    locks = sum(reply["locks"] for reply in client.ask(f"SESSION KEEPALIVE {session}" for session in ids))
    took = time.monotonic() - began
    print(f"sessions: {SESSIONS} renewed in {took:.2f} s, with {locks} locks")
    for table, (rows, hot) in updates(service).items():
        print(f"    {table:8} {rows - before[table][0]} rows updated, {hot - before[table][1]} of these HOT")


def renewals(service):
    """Both rates are of one request at a time on each connection; a pair is two requests."""
    runs = []
    for _ in range(REPS):
        results = {r["workload"]: r for r in service.bench("-d", "4s", "--leases", str(LEASES), "held")}
        pairs, beside, renewed = (results[f"held: {name}"] for name in (
            "none yet", "pairs beside them", "renewing the leases"))
        runs.append((pairs["pairs_per_second"], beside["pairs_per_second"], renewed["pairs_per_second"],
                     renewed["renew_us"]["p50"] / 1000, renewed["renew_us"]["p99"] / 1000))
        print("    %.0f pairs/s, %.0f beside the leases, %.0f renewals/s, p50 %.2f ms, p99 %.2f ms" % runs[-1])
    ratio = statistics.median(run[2] / run[0] for run in runs)
    print(f"renewals: {LEASES} leases, {CLIENTS} connections: {ratio:.2f} times the pairs a second (median of {REPS})")


def acquire_p99(service, condition):
    """Of uncontended pairs in each second while the condition holds, in ms."""
    found = []
    while condition():
        (result,) = service.bench("-d", "1s", "--warmup", "0ms", "uncontended")
        found.append(result["acquire_us"]["p99"] / 1000)
    return found


def expiry(service):
    """The TTLs of all end at one time. Beside them clients lock and unlock, before it and until all are gone."""
    client = Client(service)
    seconds = 20 + LEASES / 10000
    end = time.monotonic() + seconds
    client.ask(f"LOCK ends/{i} ttl={int((end - time.monotonic()) * 1000)}ms" for i in range(LEASES))

    def left():
        return service.ask("select count(*) from pglockd.lease where resource like 'ends/%%'")[0][0]
    assert left() == LEASES and end - time.monotonic() > 10, "not fast enough for that"
    quiet = acquire_p99(service, lambda: time.monotonic() < end - 2)
    while left() == LEASES:
        time.sleep(0.01)
    began, gone = time.monotonic(), []

    def watch():
        while left():
            time.sleep(0.05)
        gone.append(time.monotonic())
    thread = threading.Thread(target=watch)
    thread.start()
    busy = acquire_p99(service, lambda: not gone)
    thread.join()
    print(f"expiry: {LEASES} leases gone {gone[0] - began:.2f} s after the first, {gone[0] - end:.2f} s after their TTL")
    print(f"    acquire p99 of {CLIENTS} other clients, each second: before {quiet} ms, meanwhile {busy} ms; medians "
          f"{statistics.median(quiet):.2f} and {statistics.median(busy):.2f}, "
          f"{statistics.median(busy) / statistics.median(quiet):.1f} times")


SIZES = """
select c.relname, pg_relation_size(c.oid), coalesce(i.size, 0)
  from pg_class c
  left join lateral (select sum(pg_relation_size(x.indexrelid))::bigint as size
                       from pg_index x where x.indrelid = c.oid) i on true
 where c.relnamespace = 'pglockd'::regnamespace and c.relkind = 'r'
   and pg_total_relation_size(c.oid) > 1000000
 order by c.relname
"""


def print_sizes(service, pairs, renewed, rate):
    sizes = ", ".join(f"{name} {table / 1e6:.1f} + {index / 1e6:.1f}" for name, table, index in service.ask(SIZES))
    print(f"    {pairs:8} pairs ({rate:6.0f}/s), {renewed:8} renewals: {sizes or 'nothing above 1 MB'}", flush=True)


def churn(service):
    """Leases that stay are renewed all the time, so that their rows move, too."""
    client, renewed, stopping = Client(service), [0], threading.Event()
    kept = [(f"kept/{i}", reply["token"])
            for i, reply in enumerate(client.ask(f"LOCK kept/{i} ttl=10m" for i in range(1000)))]

    def renew():
        while not stopping.wait(0.5):
            renewed[0] += len(client.ask(f"RENEW {resource} token={token}" for resource, token in kept))
    thread = threading.Thread(target=renew)
    thread.start()
    print("churn: MB of tables + their indexes, of those above 1 MB")
    print_sizes(service, 0, 0, 0)
    pairs = 0
    while pairs < PAIRS:
        (result,) = service.bench("-d", "20s", "uncontended")
        pairs += result["pairs"]
        print_sizes(service, pairs, renewed[0], result["pairs_per_second"])
    stopping.set()
    thread.join()
    query = "select relname, autovacuum_count from pg_stat_user_tables where autovacuum_count > 0 order by 2 desc"
    print("    autovacuum:", ", ".join(f"{name} {count} times" for name, count in service.ask(query)))


WORKLOADS = {"sessions": sessions, "renewals": renewals, "expiry": expiry, "churn": churn}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--build", type=lambda path: Path(path).resolve(), default="build", metavar="DIR")
    arguments = parser.parse_args()
    for name in arguments.workloads:
        with tempfile.TemporaryDirectory(prefix="pglockd-bench.", dir="/var/tmp") as directory:
            os.chmod(directory, 0o711)
            with contextlib.closing(Service(arguments.build, Path(directory))) as service:
                WORKLOADS[name](service)


if __name__ == "__main__":
    main()
