#!/usr/bin/python3
"""history.py [BUILDDIR [OTHER_BUILDDIR]]

What each level of history costs, and a watch, for docs/performance.md: CPU seconds of the server per 1000
pairs and pairs a second, by pglockctl bench. Starts a daemon of BUILDDIR (default: build) for each level,
each on a fresh embedded PostgreSQL, and one of OTHER_BUILDDIR, if there is one, to compare with; measures
them in turn, REPS times, and prints medians and the ratio to the first. Not a test: it asserts nothing.

Knobs: REPS (5)  DURATION (4s)  CLIENTS (64)  WORKLOADS ("uncontended contended")
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
REPS = int(os.environ.get("REPS", "5"))
DURATION = os.environ.get("DURATION", "4s")
CLIENTS = os.environ.get("CLIENTS", "64")
WORKLOADS = os.environ.get("WORKLOADS", "uncontended contended").split()


class Daemon:
    def __init__(self, name, directory, build, *options, watch=None):
        self.name, self.watcher = name, None
        directory.mkdir()
        directory.chmod(0o711)
        with open(directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [build / "pglockd", "--embedded", directory / "data", "--listen", "127.0.0.1:0",
                 "--http", "off", *options], stdout=subprocess.PIPE, stderr=log, text=True)
        self.line = self.process.stdout.readline().split()[1].removeprefix("line=")
        if watch:
            self.watch(watch)

    def watch(self, prefix):
        """Somebody who reads and throws away, in a process of its own so that it costs the server only."""
        host, port = self.line.rsplit(":", 1)
        pid = os.fork()
        if pid == 0:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(f"WATCH {prefix}\n".encode())
                while connection.recv(1 << 20):
                    pass
            os._exit(0)
        self.watcher = pid

    def bench(self, workload):
        done = subprocess.run(
            [BUILD / "pglockctl", "--connect", f"tcp://{self.line}", "bench", "--json", "-c", CLIENTS,
             "--duration", DURATION, "--prefix", "bench/", "--server-pid", str(self.process.pid), workload],
            stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)

    def stop(self):
        if self.watcher:
            os.kill(self.watcher, signal.SIGTERM)
            os.waitpid(self.watcher, 0)
        self.process.terminate()
        self.process.wait()


def main(base):
    others = [("other build", Path(sys.argv[2]).resolve())] if len(sys.argv) > 2 else []
    daemons = [Daemon(name, base / "other", build) for name, build in others]
    daemons += [Daemon(level, base / level, BUILD, "--history", level) for level in ("off", "contended", "all")]
    daemons += [Daemon("off, another prefix watched", base / "beside", BUILD, "--history", "off", watch="quiet"),
                Daemon("off, watched", base / "watched", BUILD, "--history", "off", watch="/")]
    try:
        for workload in WORKLOADS:
            runs = {daemon.name: [] for daemon in daemons}
            for _ in range(REPS):
                for daemon in daemons:
                    runs[daemon.name].append(daemon.bench(workload))
            print(workload)
            first = None
            for name, points in runs.items():
                cpu = statistics.median(p["server_cpu_seconds_per_1000"] for p in points)
                rate = statistics.median(p["pairs_per_second"] for p in points)
                first = first or cpu
                print(f"    {name:28} {cpu:.4f} s per 1000 ({cpu / first:.3f})  {rate:8.0f} a second")
    finally:
        for daemon in daemons:
            daemon.stop()


with tempfile.TemporaryDirectory(prefix="pglockd-bench.", dir="/var/tmp") as directory:
    os.chmod(directory, 0o711)
    main(Path(directory))
