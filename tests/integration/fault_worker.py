"""A client of the fault harness: takes locks in every way there is, and counts under them.

A process of its own, so that it can be killed and stopped like any. What it does is written down, one line of
JSON before each step and one after it, so that whatever becomes of it the record says what was certain.

    fault_worker.py '{"name": …, "seed": …, "addresses": […], "dsn": …, "directory": …, "log": …, "resources": […]}'

SIGTERM has it release what it holds and end; SIGUSR1 breaks its connections; SIGUSR2 has it say where it is, also
where that is in a library.
"""

import contextlib
import faulthandler
import json
import os
import random
import signal
import socket
import sys
import time

import psycopg2

from lines import Lines

TTL = 1.5           # seconds, of leases and of sessions
PATIENCE = 3.0      # for a reply that should come at once
GIVE_UP = 15.0      # after so long a request is left alone
BROKEN = (OSError, AssertionError)  # of Lines: the connection is gone, or silent


class Gone(Exception):
    """The lock, or the way to it, is lost: go on with something else."""


class Log:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def put(self, what, **fields):
        os.write(self.file, (json.dumps({"what": what, **fields}) + "\n").encode())


class Client:
    """A connection to one of the daemons; another daemon's when that one does not answer."""

    def __init__(self, addresses, at):
        self.addresses, self.at = addresses, at
        self.lines = None

    def connection(self):
        if self.lines is None:
            self.lines = Lines(self.addresses[self.at % len(self.addresses)])
        return self.lines

    def drop(self, go_on=True):
        if self.lines is not None:
            with contextlib.suppress(OSError):
                self.lines.reset()
            self.lines = None
        self.at += go_on

    def ask(self, line, seconds=PATIENCE):
        """Its reply; raises BROKEN when there is none. The connection is a new one then."""
        try:
            self.connection().send(line)
            reply = self.connection().reply(seconds)
            if reply.tag == "*":
                raise OSError("BYE")
            return reply
        except BROKEN:
            self.drop()
            raise


class Worker:
    def __init__(self, name, seed, addresses, dsn, directory, log, resources):
        self.name, self.dsn, self.directory, self.resources = name, dsn, directory, resources
        self.random = random.Random(seed)
        self.client = Client(addresses, seed)
        self.count = 0
        self.stopping = False
        self.session = None
        self.sql = None
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGUSR1, self.on_break)
        faulthandler.register(signal.SIGUSR2)
        self.log = Log(log)  # once that is there, it may be signalled

    def on_term(self, *_):
        self.stopping = True

    def on_break(self, *_):
        """Whatever is being done over them finds them broken."""
        if self.client.lines is not None:
            with contextlib.suppress(OSError):
                self.client.lines.reset()
        if self.sql is not None and not self.sql.closed:
            # Not by close(): psycopg2 may be at work on it, down the stack, and wait for itself to end.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.sql.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    # ---- SQL ----

    def cursor(self):
        if self.sql is None or self.sql.closed:
            self.sql = psycopg2.connect(self.dsn, connect_timeout=5, application_name=self.name)
        return self.sql.cursor()

    def close_sql(self):
        if self.sql is not None:
            with contextlib.suppress(psycopg2.Error):
                self.sql.close()
            self.sql = None

    # ---- locks ----

    def again(self, ask, since):
        """Asks until there is an answer that says something; raises Gone when there is none for long."""
        tries = 0
        while time.monotonic() - since < GIVE_UP:
            tries += 1
            with contextlib.suppress(*BROKEN):
                reply = ask()
                if not (reply.status == "ERR" and reply.code in ("unavailable", "outcome_unknown", "fenced", "guarded")
                        or reply.status == "BUSY" and reply.code == "guarded"
                        or reply.code == "cancelled" and tries > 1):
                    return reply, tries
            time.sleep(0.05)
        raise Gone

    def lock(self, resource, mode, keys, wait, deadline_of):
        """Takes a lock; logs it. Returns its number, token and deadline, or None where it was not granted."""
        self.count += 1
        number = f"{self.name}-{self.count}"
        line = f"LOCK {resource} mode={mode} wait={wait}ms owner={number} id={number} {keys}"
        start = time.monotonic()
        self.log.put("lock", number=number, resource=resource, mode=mode, t=start, wait=wait / 1000)
        sent = start
        daemons = []

        def ask():
            nonlocal sent
            daemons.append(self.client.at % len(self.client.addresses))
            self.client.connection()
            sent = time.monotonic()
            return self.client.ask(line, wait / 1000 + PATIENCE)
        try:
            reply, tries = self.again(ask, start)
        except Gone:
            self.log.put("locked", number=number, t=time.monotonic(), status="", left=True, daemons=daemons)
            return None
        deadline = deadline_of(sent, reply) if reply.status == "OK" else None
        self.log.put("locked", number=number, t=time.monotonic(), status=reply.status, code=reply.code,
                     token=reply.body.get("token", 0), deadline=deadline, left=tries > 1, daemons=daemons)
        return (number, reply["token"], deadline) if reply.status == "OK" else None

    def renew(self, number, resource, token, deadline):
        """Its new deadline."""
        sent = time.monotonic()
        try:
            reply = self.client.ask(f"RENEW {resource} token={token}")
        except BROKEN:
            return deadline
        if reply.status == "OK":
            deadline = sent + reply["ttl_ms"] / 1000
            self.log.put("renewed", number=number, deadline=deadline)
        elif reply.status == "LOST":
            self.lost(number, reply)
        return deadline

    def lost(self, number, reply):
        self.log.put("lost", number=number, t=time.monotonic(), reason=reply.body.get("reason", ""))
        raise Gone

    def unlock(self, number, resource, token):
        start = time.monotonic()
        self.log.put("unlock", number=number, t=start)
        reply, tries = self.again(lambda: self.client.ask(f"UNLOCK {resource} token={token}"), start)
        self.log.put("unlocked", number=number, t=time.monotonic(), status=reply.status, again=tries > 1,
                     reason=reply.body.get("reason", ""))

    # ---- what is done under a lock ----

    def think(self):
        """Mostly a moment, sometimes as long as a fault needs to come in between."""
        time.sleep(self.random.choice([0, 0, 0.001, 0.001, 0.005, 0.2]))

    def update(self, counter, token, deadline, do):
        self.count += 1
        name = f"{self.name}-{self.count}"
        self.log.put("update", counter=counter, name=name, token=token, t=time.monotonic(), deadline=deadline)
        outcome, wrote = do(name)
        self.log.put("updated", name=name, t=time.monotonic(), outcome=outcome, wrote=wrote)
        if outcome != "ok":
            raise Gone

    def update_file(self, resource, token, deadline):
        """Without a fence: nothing stops a write that comes too late but its writer's look at the clock."""
        # A new one now and then, so that one late write does not spoil all that comes after it.
        path = os.path.join(self.directory, f"{resource.replace('/', '-')}.{int(time.monotonic()) // 20}")

        def do(_):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                n = int(os.pread(file, 100, 0) or 0) + 1
                self.think()
                if time.monotonic() >= deadline:
                    return "too late", None
                self.think()  # between the look and the write there is always a moment
                os.pwrite(file, b"%020d" % n, 0)
                return "ok", n
            finally:
                os.close(file)
        self.update(path, token, deadline, do)

    def update_table(self, resource, token, deadline):
        """With a fence, asked for first or last, or by the table's trigger. No row is locked by the read."""
        how = self.random.choice(["first", "last", "last", "trigger"])
        table = "guarded" if how == "trigger" else "fenced"
        assert_fence = "select pglockd.assert_fence(%s, %s)", (resource, token)

        def do(name):
            asked_to_commit = False
            try:
                cursor = self.cursor()
                if how == "first":
                    cursor.execute(*assert_fence)
                elif how == "trigger":
                    cursor.execute("select set_config('pglockd.token', %s, true)", (str(token),))
                cursor.execute(f"select n from faults.{table} where resource = %s", (resource,))
                ((n,),) = cursor.fetchall()
                self.think()
                cursor.execute(f"update faults.{table} set n = %s where resource = %s", (n + 1, resource))
                cursor.execute("insert into faults.written values (%s, %s, %s, %s)",
                               (f"{table}/{resource}", n + 1, name, token))
                if how == "last":
                    cursor.execute(*assert_fence)
                asked_to_commit = True
                self.sql.commit()
                return "ok", n + 1
            except psycopg2.Error as error:
                refused = error.pgcode == "PL001"
                self.close_sql()
                return "refused" if refused else "unknown" if asked_to_commit else "failed", None
        self.update(f"{table}/{resource}", token, deadline, do)

    def work(self, resource, token, deadline):
        self.random.choice([self.update_file, self.update_table])(resource, token, deadline)

    # ---- one round ----

    def by_lease(self, resource, keys=f"ttl={int(TTL * 1000)}ms"):
        mode = self.random.choice(["exclusive"] * 5 + ["shared"])
        got = self.lock(resource, mode, keys, self.random.choice([0, 500, 3000]),
                        lambda sent, reply: sent + (reply["waited_ms"] + reply["ttl_ms"]) / 1000)
        if got is None:
            return
        number, token, deadline = got
        for _ in range(self.random.choice([0, 1, 1, 3]) if mode == "exclusive" else 0):
            self.work(resource, token, deadline)
            if deadline - time.monotonic() < TTL / 2 or self.random.random() < 0.2:
                deadline = self.renew(number, resource, token, deadline)
        if self.random.random() < 0.95:  # else it is left to expire
            self.unlock(number, resource, token)

    def keep_session(self):
        """Opens, renews or takes up a session; its deadline is from then on."""
        id_, secret = self.session[:2] if self.session else (None, None)
        sent = time.monotonic()
        if id_ is None:
            self.count += 1
            reply, _ = self.again(lambda: self.client.ask(
                f"SESSION OPEN ttl={int(TTL * 1000)}ms id={self.name}-{self.count}"), sent)
            id_, secret = reply["session"], reply["secret"]
        else:
            reply, _ = self.again(lambda: self.client.ask(f"SESSION RESUME {id_} secret={secret}"), sent)
            if reply.status == "LOST":
                self.session = None
                raise Gone
        # What was repeated counts from the first time it was sent, which is too early, if anything.
        self.session = id_, secret, sent + reply["ttl_ms"] / 1000

    def by_session(self, resource):
        self.keep_session()
        id_, secret, deadline = self.session
        got = self.lock(resource, "exclusive", f"session={id_} secret={secret}", self.random.choice([0, 300]),
                        lambda sent, reply: deadline)
        if got is None:
            return
        number, token, _ = got
        self.work(resource, token, deadline)
        self.keep_session()
        self.log.put("renewed", number=number, deadline=self.session[2])
        self.work(resource, token, self.session[2])
        self.unlock(number, resource, token)

    def by_hold(self, resource):
        """As long as the SQL session answers, it holds."""
        self.count += 1
        number = f"{self.name}-{self.count}"
        self.log.put("lock", number=number, resource=resource, mode="exclusive", t=time.monotonic(), wait=0)
        status, token = "", 0
        try:
            cursor = self.cursor()
            cursor.execute("select status, token from pglockd.hold(%s, owner => %s)", (resource, number))
            ((status, token),) = cursor.fetchall()
            self.sql.commit()
        except psycopg2.Error:
            status = ""
            self.close_sql()
        now = time.monotonic()
        self.log.put("locked", number=number, t=now, status=status, token=token or 0, deadline=now, left=True,
                     daemons=[])
        if status != "OK":
            return
        with contextlib.suppress(psycopg2.Error):
            for _ in range(2):
                self.update_table(resource, token, now)
                before = time.monotonic()
                self.cursor().execute("select 1")
                self.sql.commit()
                self.log.put("renewed", number=number, deadline=before)
            self.log.put("unlock", number=number, t=time.monotonic())
            self.cursor().execute("select pglockd.unlock(%s, %s)", (resource, token))
            self.sql.commit()
            return
        self.close_sql()

    def round(self):
        resource = self.random.choice(self.resources)
        how = self.random.choice([self.by_lease] * 6 + [self.by_session, self.by_hold])
        try:
            how(resource)
        except Gone:
            pass
        except BROKEN:
            self.client.drop()

    def run(self):
        while not self.stopping:
            self.round()
        self.client.drop()
        self.close_sql()


if __name__ == "__main__":
    Worker(**json.loads(sys.argv[1])).run()
