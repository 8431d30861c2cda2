"""Two daemons, a PostgreSQL, many clients, and everything that can happen to them.

    record = harness.run(seconds=90)       # or kinds=(…): these faults, once each
    found = fault_checks.check(record)     # violations by kind
    print(harness.report(record, found))

make check-faults runs this file; tests/integration/test_fault_harness.py runs some faults of it.

One fault at a time, dealt from a deck that has each kind once; then the service must be back, and the
clients have done some work, before the next. Nothing ends because a machine is slow. Processes die and stop
here, not machines: so PostgreSQL's durability against a loss of power is off.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import FakeTime, Server
from conftest import Daemon
from fault_checks import Record, Row, check, is_late, lost_updates
from fault_kinds import KINDS, SECONDS, Faults
from fault_record import Log, read_notes
from fault_watch import Beats, Probe, Queues
from lines import eventually
from proxy import Proxy

# Each coming and going of a lease, noted by the transaction that does it, with the lease clock's reading.
SCHEMA = """
create schema faults;
create table faults.row (n bigint generated always as identity primary key, resource text, token bigint,
    mode text, comes boolean, lease_us bigint, expires_us bigint,
    server text default pg_postmaster_start_time()::text);
create function faults.note() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'INSERT' then
        insert into faults.row (resource, token, mode, comes, lease_us)
        values (new.resource, new.token, new.mode, true, pglockd.lease_now());
    else
        insert into faults.row (resource, token, mode, comes, lease_us, expires_us)
        values (old.resource, old.token, old.mode, false, pglockd.lease_now(),
                coalesce((select s.expires_us from pglockd.session s where s.session_id = old.session_id),
                         old.expires_us));
    end if;
    return null;
end $$;
create trigger faults_note after insert or delete on pglockd.lease for each row execute function faults.note();

create table faults.fenced (resource text primary key, n int not null) with (fillfactor = 10);
create table faults.guarded (like faults.fenced including all);
insert into faults.fenced select 'fault/' || i, 0 from generate_series(0, 5) i;
insert into faults.guarded table faults.fenced;
create trigger fenced before insert or update or delete on faults.guarded
    for each row execute function pglockd.fence_guard('resource');
create table faults.written (counter text, value int, name text primary key, token bigint);

create role worker login in role pglockd_client;
grant usage on schema faults to worker;
grant select, update on faults.fenced, faults.guarded to worker;
grant insert on faults.written to worker;
"""

LEFT = """
select 'lease ' || resource || ' ' || token from pglockd.lease
union all select 'waiter ' || resource || ' ' || owner from pglockd.waiter
union all select 'session ' || session_id from pglockd.session where ended_us is null
"""

ROWS = """
select r.resource, r.token, r.mode, r.comes, r.lease_us, coalesce(r.expires_us, 0),
       coalesce(t.reason::text, ''), r.server
  from faults.row r
  left join pglockd.tombstone t on t.resource = r.resource and t.token = r.token and not r.comes
 where r.resource like 'fault/%'
 order by r.n
"""

# What a client's connections do there, and what that waits for.
SERVING = """
select to_jsonb(x)::text
  from (select a.pid, a.state, a.wait_event_type, a.wait_event, a.xact_start, a.query_start, a.query,
               pg_blocking_pids(a.pid) as blocked_by,
               (select jsonb_agg(to_jsonb(l)) from pg_locks l where l.pid = a.pid and not l.granted) as waits_for,
               (select jsonb_agg(jsonb_build_array(b.application_name, b.state, b.query)) from pg_stat_activity b
                 where b.pid = any (pg_blocking_pids(a.pid))) as blockers
          from pg_stat_activity a where a.application_name = %s) x
"""

RESOURCES = [f"fault/{i}" for i in range(6)]
DAEMONS = (0, 1)
GRANTS = 5  # between two faults


@dataclass
class Fault:
    """One that has happened."""
    kind: str
    begin: float
    end: float        # of what was done
    back: float       # when both daemons had served again
    disturbs: tuple   # whose waiters


class Worker:
    """A client: a process, and what it has written down."""

    def __init__(self, name, process, log):
        self.name, self.process, self.log = name, process, log

    def is_alive(self):
        return self.process.poll() is None

    def is_updating(self):
        """It has begun an update and not ended it, as far as it has written."""
        return [entry["what"] for entry in self.log.read().entries[-1:]] == ["update"]


@contextlib.contextmanager
def reserved_address():
    """An address that is free, and stays so while nobody listens there.

    A socket that is bound and does not listen keeps everybody else, clients above all, from being given the port;
    whoever names it, with SO_REUSEADDR, has it.
    """
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        yield "127.0.0.1:%d" % one.getsockname()[1]


class Harness:
    def __init__(self, directory, seed, clients=16):
        self.directory, self.seed, self.clients = Path(directory), seed, clients
        self.random = random.Random(seed)
        self.errors = self.directory / "workers.err"
        self.files = self.directory / "files"
        self.files.mkdir()
        self.wall = FakeTime(self.directory) if FakeTime.library() else None
        self.postgres = Server(self.directory / "pg", self.wall and self.wall.environment)
        self.links, self.addresses, self.daemons, self.workers, self.faults, self.hung = [], [], [], [], [], []

    # ---- start and stop ----

    def start(self, stack):
        self.postgres.init().start()
        stack.callback(self.stop_postgres)
        self.postgres.install().sql().execute(SCHEMA)
        self.beats = Beats(self.postgres.sql)
        for i in DAEMONS:
            self.links.append(stack.enter_context(Proxy(str(self.postgres.directory / ".s.PGSQL.5432"))))
            # The same address after each start, so that the clients find it again.
            self.addresses.append(stack.enter_context(reserved_address()))
            self.daemons.append(Daemon(
                self.directory / f"daemon{i}", "--requeue-grace", "3s", "--history", "all",
                "--listen", self.addresses[i],
                dsn=f"host=127.0.0.1 port={self.links[i].port} dbname=pglockd user=locks"))
            stack.callback(self.stop_daemon, self.daemons[i])
            self.start_daemon(self.daemons[i])
        self.probes = [Probe(f"p{i}", self.addresses[i]) for i in DAEMONS]
        self.queues = Queues(self.addresses, RESOURCES)
        self.watchers = [*self.probes, self.queues, self.beats]
        for watcher in self.watchers:
            watcher.start()
        stack.callback(self.kill_workers)
        self.spawn(self.clients)

    def start_daemon(self, daemon):
        daemon.start()
        self.beats.follow(self.daemons.index(daemon), daemon.instance())

    def stop_postgres(self):
        if self.postgres.is_running():
            self.postgres.stop(cleanly=False)

    @staticmethod
    def stop_daemon(daemon):
        if daemon.is_running():
            daemon.kill()

    def spawn(self, count=1):
        new = [self.start_worker() for _ in range(count)]
        eventually(lambda: all(worker.log.path.exists() for worker in new), SECONDS, "clients have started")

    def start_worker(self):
        name = f"w{len(self.workers)}"
        settings = {"name": name, "seed": self.random.randrange(1 << 30), "directory": str(self.files),
                    "log": str(self.directory / f"{name}.log"), "resources": RESOURCES,
                    "dsn": self.postgres.conninfo(user="worker"),
                    "addresses": self.addresses}
        with open(self.errors, "ab") as errors:
            process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("fault_worker.py"), json.dumps(settings)],
                stdin=subprocess.DEVNULL, stderr=errors)
        self.workers.append(Worker(name, process, Log(Path(settings["log"]))))
        return self.workers[-1]

    def living(self):
        return [worker for worker in self.workers if worker.is_alive()]

    def kill_workers(self):
        for worker in self.living():
            worker.process.kill()
            worker.process.wait()

    # ---- the run ----

    def kinds(self):
        """Every kind, in any order, again and again."""
        while True:
            # Clients that wake too late are what fences are for: twice.
            deck = [name for name in KINDS if self.wall or not name.startswith("wall_clock")] + ["clients_paused"]
            self.random.shuffle(deck)
            yield from deck

    def is_back(self, since):
        return all(probe.has_served(since) for probe in self.probes)

    def granted(self):
        return sum(worker.log.read().granted for worker in self.workers)

    def work(self):
        """Until clients have been granted some more."""
        before = self.granted()
        eventually(lambda: self.granted() >= before + GRANTS, SECONDS, "clients are granted locks")

    def inject(self, name):
        kind = KINDS[name]
        daemon = self.random.choice(DAEMONS)
        arguments = [self.daemons[daemon]] if kind.befalls_one else []
        begin = time.monotonic()
        kind.do(Faults(self), *arguments)
        end = time.monotonic()
        eventually(lambda: self.is_back(end), SECONDS, f"the service is back after: {kind.name}")
        disturbs = {"daemon": (daemon,), "both": DAEMONS, "": ()}[kind.disturbs]
        self.faults.append(Fault(kind.name, begin, end, time.monotonic(), disturbs))

    def run(self, seconds=float("inf"), kinds=None):
        """For so long, or these kinds once each. Returns what has been recorded."""
        with contextlib.ExitStack() as stack:
            self.start(stack)
            eventually(lambda: self.is_back(0), SECONDS, "the service is there")
            until = time.monotonic() + seconds
            for kind in kinds or self.kinds():
                self.work()
                if time.monotonic() > until:
                    break
                self.inject(kind)
            self.work()
            return self.finish()

    def finish(self):
        """All release what they hold, and what the dead have left runs out."""
        if self.wall:
            self.wall.set("+0")
        for worker in self.living():
            worker.process.terminate()
        for worker in self.workers:
            status = self.end(worker)
            assert status in (0, -signal.SIGKILL), (status, self.worker_errors())
        for watcher in self.watchers:
            watcher.stop()
        cursor = self.postgres.sql()
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.left(cursor), SECONDS)
        return self.record(cursor)

    def end(self, worker):
        """Its exit status. Who does not come to its end is a violation, and killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return worker.process.wait(SECONDS)
        cursor = self.postgres.sql()
        cursor.execute(SERVING, (worker.name,))
        served = [what for what, in cursor.fetchall()]
        said = self.errors.stat().st_size
        worker.process.send_signal(signal.SIGUSR2)  # it says where it is
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.errors.stat().st_size > said, SECONDS)
        worker.process.kill()
        self.hung.append(f"{worker.name} after {worker.log.read().entries[-1:]}, in PostgreSQL {served}, at "
                         f"{self.worker_errors()}")
        return worker.process.wait()

    def worker_errors(self):
        return self.errors.read_text()[-4000:]

    @staticmethod
    def left(cursor):
        cursor.execute(LEFT)
        return [what for what, in cursor.fetchall()]

    # ---- what has been recorded ----

    def record(self, cursor):
        cursor.execute(ROWS)
        rows = [Row(*row) for row in cursor.fetchall()]
        cursor.execute("select counter, value, name, token from faults.written order by counter, value, name")
        written = {}
        for counter, *row in cursor.fetchall():
            written.setdefault(counter, []).append(tuple(row))
        cursor.execute("select 'fenced/' || resource, n from faults.fenced where n > 0 union all "
                       "select 'guarded/' || resource, n from faults.guarded where n > 0")
        finals = dict(cursor.fetchall())
        cursor.execute("select to_jsonb(v)::text from pglockd.violation v")
        overlaps = [row for row, in cursor.fetchall()]
        cursor.execute("select token, owner from pglockd.tombstone where reason = 'forced'")
        requests, updates = read_notes([w.log for w in self.workers], dict(cursor.fetchall()))
        for request in requests:
            request.seen_waiting = self.queues.seen.get(request.number)
            request.disturbed = self.is_disturbed(request)
        return Record(requests, rows, [u for u in updates if u.is_fenced], written, finals,
                      [u for u in updates if not u.is_fenced], overlaps, self.left(cursor), self.hung)

    def is_disturbed(self, request):
        """A fault, or the silence of its daemon, may have cost it its place in the queue."""
        times = [(f.begin, self.beats.settled(f.back)) for f in self.faults if {*f.disturbs} & {*request.daemons}]
        times += [(begin, end) for daemon, begin, end in self.beats.silences if daemon in request.daemons]
        return any(begin < (request.end or float("inf")) and end > request.start for begin, end in times)

    # ---- the report ----

    def unavailable(self, fault, probes):
        """The longest time around a fault in which none of these daemons served, in seconds."""
        served = sorted(at for probe in probes for at in probe.served if fault.begin - 1 < at < fault.back + 1)
        return max((b - a for a, b in zip(served, served[1:])), default=fault.back - fault.begin)

    def report_faults(self):
        kinds = {}
        for fault in self.faults:
            kinds.setdefault(fault.kind, []).append(fault)
        yield f"  {'':28} {'':5}   longest time without service"
        yield f"  {'fault':28} {'times':>5}   by either daemon   by one of them"
        for kind, faults in sorted(kinds.items()):
            both = max(self.unavailable(fault, self.probes) for fault in faults)
            one = max(self.unavailable(fault, [probe]) for fault in faults for probe in self.probes)
            yield f"  {kind:28} {len(faults):5}   {both:14.2f} s   {one:12.2f} s"

    def report(self, record, found):
        requests, fenced, plain = record.requests, record.fenced, record.unfenced

        def count(updates, *outcomes):
            return sum(u.outcome in outcomes for u in updates)
        seen = [r for r in requests if r.seen_waiting is not None]
        compared = sum(not r.left and not r.disturbed for r in seen)
        granted = sum(r.granted for r in requests)
        too_late = sum(u.outcome == "ok" and is_late(u) for u in plain)
        lines = [
            f"{len(self.faults)} faults, seed {self.seed}", *self.report_faults(),
            f"operations: {len(requests)} requests for a lock, {granted} of them granted; "
            f"{len(fenced) + len(plain)} updates",
            f"updates under a fence: {count(fenced, 'ok')} done, {count(fenced, 'refused')} refused as stale, "
            f"{count(fenced, 'failed', 'unknown', '')} cut off; lost: {len(found['updates lost under a fence'])}",
            f"updates without a fence: {count(plain, 'ok')} done, {too_late} of them past their deadline, which cost "
            f"{lost_updates(plain)} updates; {count(plain, 'too late')} given up in time by a look at the clock",
            f"seen waiting: {len(seen)}, of these compared for their order: {compared}",
            f"violations: {sum(map(len, found.values()))}"]
        for kind, wrong in found.items():
            lines += [f"  {kind}: {len(wrong)}"] * bool(wrong) + [f"    {what}" for what in wrong[:5]]
        return "\n".join(lines)


@contextlib.contextmanager
def workplace():
    """A directory that PostgreSQL's user can reach; kept where something goes wrong."""
    path = Path(tempfile.mkdtemp(prefix="pglockd-faults-"))
    path.chmod(0o755)
    try:
        yield path
    except BaseException:
        print(f"what is left of it: {path}", file=sys.stderr)
        raise
    shutil.rmtree(path, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description="Injects faults into pglockd under load, and checks what it promises.")
    parser.add_argument("--seconds", type=float, default=os.environ.get("FAULT_SECONDS") or 90, help="how long (90)")
    parser.add_argument("--seed", type=int, default=os.environ.get("FAULT_SEED") or time.time_ns() % (1 << 30),
                        help="of the order of the faults and of what clients do (random)")
    parser.add_argument("--clients", type=int, default=16, help="how many (16)")
    arguments = parser.parse_args()
    with workplace() as directory:
        harness = Harness(directory, arguments.seed, arguments.clients)
        print(f"seed {arguments.seed}, {arguments.seconds:.0f} s, in {directory}", flush=True)
        record = harness.run(arguments.seconds)
        found = check(record)
        print(harness.report(record, found))
        if any(found.values()):
            sys.exit(1)


if __name__ == "__main__":
    main()
