#!/usr/bin/python3
"""metrics.py [BUILDDIR]

What metrics cost, for docs/performance.md: CPU of a flush and of a scrape, bytes of a sample. CPU is
what the kernel gave the processes (schedstat), so that other work on the machine does not count.
Starts a daemon of BUILDDIR (default: build) on a fresh embedded PostgreSQL and drives the workloads of
pglockctl bench first, so that the numbers are not all 0. Not a test: it asserts nothing.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
SECONDS = 15
SCRAPES = 300


def cpu_ms(pid):
    return sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
               for task in os.listdir(f"/proc/{pid}/task")) / 1e6


def start(directory, *options):
    """(process, line address, HTTP address)"""
    log = open(f"{directory}/log", "ab")  # pylint: disable=consider-using-with
    process = subprocess.Popen([BUILD / "pglockd", "--embedded", f"{directory}/data", "--listen",
                                "127.0.0.1:0", "--http", "127.0.0.1:0", *options],
                               stdout=subprocess.PIPE, stderr=log, text=True)
    words = dict(word.split("=") for word in process.stdout.readline().split()[1:])
    return process, words["line"], words["http"]


def scrape(http, accept="text/plain"):
    request = urllib.request.Request(f"http://{http}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request) as reply:
        return reply.read().decode()


def flushes(http):
    return int(re.search(r'flushes_total\{outcome="committed"\} (\d+)', scrape(http))[1])


def work(line):
    for workload in "uncontended", "contended", "readers":
        subprocess.run([BUILD / "pglockctl", "--connect", f"tcp://{line}", "bench", "-c", "16",
                        "--duration", "2s", workload], stdout=subprocess.DEVNULL, check=True)


def measure_flushes(directory):
    """Also counts what comes with each flush here: the gauges of the shared state."""
    process, line, http = start(directory, "--metrics-flush", "10ms")
    work(line)
    backend = re.findall(r'postgres_up link="metrics" backend=(\d+)',
                         Path(f"{directory}/log").read_text())[-1]
    before, began_ms = flushes(http), cpu_ms(backend)
    time.sleep(SECONDS)
    count = flushes(http) - before
    print(f"flush: {(cpu_ms(backend) - began_ms) / count:.2f} ms of PostgreSQL's CPU ({count} of them)")
    bytes_each = subprocess.run(
        ["psql", "-XAtq", "-h", f"{directory}/data/run", "-U", "pglockd", "pglockd", "-c",
         "select round(avg(pg_column_size(cells))), avg(cardinality(cells))::int, "
         "max(pg_total_relation_size(tableoid)) / count(*) from pglockd.metric_sample"],
        capture_output=True, text=True, check=True).stdout
    print("sample: bytes of its cells, cells, bytes with row and index:", bytes_each.strip())
    process.terminate()
    process.wait()


def measure_scrapes(directory):
    process, line, http = start(directory, "--metrics-flush", "0s")
    work(line)
    for accept in "text/plain", "application/openmetrics-text":
        began_ms, took = cpu_ms(process.pid), []
        for _ in range(SCRAPES):
            began = time.perf_counter()
            size = len(scrape(http, accept))
            took.append(1000 * (time.perf_counter() - began))
        print(f"scrape of {accept}: {size} bytes, {(cpu_ms(process.pid) - began_ms) / SCRAPES:.2f} ms of "
              f"the daemon's CPU, median {sorted(took)[SCRAPES // 2]:.2f} ms for the client")
    process.terminate()
    process.wait()


with tempfile.TemporaryDirectory(prefix="pglockd-bench.", dir="/var/tmp") as base:
    os.chmod(base, 0o711)
    measure_flushes(base)
    measure_scrapes(base)
