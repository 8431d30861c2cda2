#!/usr/bin/python3
"""fairness.py [BUILDDIR [KIND...]]

What clients at full speed do to one that has a single request in flight, for docs/performance.md: its
latency alone and beside each kind of load, in turn, and the ratio; medians of REPS rounds. Starts a
daemon of BUILDDIR (default: build) on a fresh embedded PostgreSQL. Not a test: it asserts nothing.

Knobs: REPS (5)  SECONDS (3)  OPTIONS ("", of the daemon)  DIRECTORY (/var/tmp; of the data)
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

REPS = int(os.environ.get("REPS", "5"))
SECONDS = float(os.environ.get("SECONDS", "3"))
WINDOW = 1000  # requests of a fast client in flight; below max_inflight
WARM_UP = 1    # s until the fast clients are measured to be at full speed

# How many connections are at full speed, and with what.
KINDS = {
    "1 client, PING": (1, "ping"),
    "1 client, INFO": (1, "info"),
    "1 client, LOCK that is BUSY": (1, "busy"),
    "1 client, LOCK and UNLOCK": (1, "pairs"),
    "4 clients, LOCK and UNLOCK": (4, "pairs"),
}

GRANT = re.compile(rb'^OK \{"locks":\[\{"resource":"([^"]+)","token":(\d+)', re.M)


class Fast:
    """A client that always has WINDOW requests in flight, and does as little as it can for that."""

    def __init__(self, line, what, number):
        host, port = line.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.what, self.sent, self.number = what, 0, number
        self.start, self.replies = time.monotonic(), 0

    def more(self, n):
        if self.what == "ping":
            return b"PING\n" * n
        if self.what == "info":
            return b"INFO fast/held\n" * n
        if self.what == "busy":
            return b"LOCK fast/held\n" * n
        self.sent += n
        return b"".join(b"LOCK fast/%d/%d\n" % (self.number, k) for k in range(self.sent - n, self.sent))

    def run(self):
        rest = b""
        self.socket.sendall(self.more(WINDOW))
        while data := self.socket.recv(1 << 18):
            whole, _, rest = (rest + data).rpartition(b"\n")
            replies = whole.count(b"\n") + 1 if whole else 0
            self.replies += replies
            unlocks = [b"UNLOCK %s token=%s\n" % grant for grant in GRANT.findall(whole)] if self.what == "pairs" else []
            self.socket.sendall(b"".join(unlocks) + self.more(replies - len(unlocks)))


def fast_main(line, what, number):
    """Prints replies a second when its standard input ends."""
    client = Fast(line, what, number)
    if os.fork() == 0:
        sys.stdin.read()
        client.socket.shutdown(socket.SHUT_RDWR)
        os._exit(0)
    try:
        client.run()
    except OSError:
        pass
    print(client.replies / (time.monotonic() - client.start), flush=True)


def start_fast(line, n, what):
    return [subprocess.Popen([sys.executable, __file__, "--fast", line, what, str(i)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE) for i in range(n)]


def stop_fast(clients):
    return sum(float(client.communicate()[0]) for client in clients)


def polite(line):
    """(p50, p99) in ms of the acquisitions of a client with one request in flight."""
    done = subprocess.run([BUILD / "pglockctl", "--connect", f"tcp://{line}", "bench", "--json", "-c", "1", "--warmup",
                           "200ms", "--duration", f"{int(SECONDS * 1000)}ms", "uncontended"],
                          stdout=subprocess.PIPE, check=True, text=True)
    point = json.loads(done.stdout)["acquire_us"]
    return point["p50"] / 1000, point["p99"] / 1000


def beside(line, n, what):
    clients = start_fast(line, n, what)
    time.sleep(WARM_UP)
    figures = polite(line)
    return (*figures, stop_fast(clients))


def hold(line):
    """Somebody holds what others are told is BUSY."""
    host, port = line.rsplit(":", 1)
    holder = socket.create_connection((host, int(port)))
    holder.sendall(b"LOCK fast/held ttl=10m owner=holder\n")
    holder.recv(4096)
    return holder


def measure(line, kinds):
    runs = {"alone": [], **{kind: [] for kind in kinds}}
    holder = hold(line)
    for _ in range(REPS):
        runs["alone"].append((*polite(line), 0))
        for kind in kinds:
            runs[kind].append(beside(line, *KINDS[kind]))
    holder.close()
    alone = [statistics.median(column) for column in zip(*runs["alone"])]
    print(f"{'beside':30} {'p50 ms':>8} {'p99 ms':>8} {'p50 ×':>7} {'p99 ×':>7} {'its requests/s':>15}")
    for kind, points in runs.items():
        p50, p99, rate = (statistics.median(column) for column in zip(*points))
        print(f"{kind:30} {p50:8.2f} {p99:8.2f} {p50 / alone[0]:7.2f} {p99 / alone[1]:7.2f} {rate:15,.0f}")


def main():
    kinds = sys.argv[2:] or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="pglockd-fairness.",
                                     dir=os.environ.get("DIRECTORY", "/var/tmp")) as directory:
        os.chmod(directory, 0o711)
        with open(f"{directory}/log", "wb") as log:
            daemon = subprocess.Popen([BUILD / "pglockd", "--embedded", f"{directory}/data", "--listen", "127.0.0.1:0",
                                       "--http", "off", *os.environ.get("OPTIONS", "").split()],
                                      stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                measure(daemon.stdout.readline().split()[1].removeprefix("line="), kinds)
            finally:
                daemon.terminate()
                daemon.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fast"]:
        fast_main(*sys.argv[2:4], int(sys.argv[4]))
    else:
        BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
        main()
