"""A daemon in memory that can be made to misbehave: what no real daemon does on demand.

It speaks enough of the line protocol for the client library and pglockctl. Its faults are switched
on while it runs: silent (reads on, answers nothing), mangle (a function over each reply line),
refuse (closes new connections), forced (tokens that are lost). Trees are taken for what they
are called alone.
"""
import asyncio
import json
import re
import threading
import time

from lines import SECONDS

WORD = re.compile(r'([A-Za-z][A-Za-z0-9_-]*=)?("(?:[^"\\]|\\.)*"|[^ ]*)(?: +|$)')


def words_of(line):
    """Words of a request: (key or None, text)."""
    words = []
    for key, text in WORD.findall(line.strip()):
        if key or text:
            words.append((key[:-1] or None, json.loads(text) if text[:1] == '"' else text))
    return words


# Keys of LOCK that name a further member of a set, and may come again.
MEMBERS = {"shared": ("shared", "node"), "exclusive": ("exclusive", "node"),
           "shared-tree": ("shared", "tree"), "exclusive-tree": ("exclusive", "tree")}


class Lock:
    def __init__(self, token, mode, owner, note, ttl_ms, scope="node"):
        self.token, self.mode, self.owner, self.note = token, mode, owner, note
        self.scope = scope
        self.ttl_ms = ttl_ms
        self.since = time.monotonic()
        self.renew(ttl_ms)

    def renew(self, ttl_ms):
        self.ttl_ms = ttl_ms
        self.expires = time.monotonic() + ttl_ms / 1000


def milliseconds(text):
    units = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000}
    if text == "inf":
        return None
    number = text.rstrip("msh")
    return int(number) * units[text[len(number):]]


class FakeDaemon:
    """Use as a context manager; `address` is where it listens."""

    def __init__(self, path=None):
        self.path = path
        self.silent = self.refuse = False
        self.mangle = None
        self.forced = set()
        self.requests = []  # (verb, arguments, keys) in the order of arrival
        self.unanswered = 0  # lines that came while it was silent
        self.held = {}
        self.granted = []  # every lock that there was
        self.token = 100
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(SECONDS)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(SECONDS)

    def count(self, verb):
        """How many such requests it has answered."""
        return sum(request[0] == verb for request in self.requests)

    def serve(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.main())

    async def main(self):
        self.stop = asyncio.Event()
        if self.path:
            server = await asyncio.start_unix_server(self.client, self.path)
            self.address = f"unix:{self.path}"
        else:
            server = await asyncio.start_server(self.client, "127.0.0.1", 0)
            self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stop.wait()
        server.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    def drop_all(self, bye=None):
        """Closes every connection, after a farewell if one is given."""
        def close():
            for writer in list(self.writers):
                if bye:
                    writer.write(("* BYE " + json.dumps(bye) + "\n").encode())
                writer.close()
        self.loop.call_soon_threadsafe(close)

    def send_event(self, event):
        line = ("* EVENT " + json.dumps(event) + "\n").encode()
        def send():
            for writer in self.writers:
                writer.write(line)
        self.loop.call_soon_threadsafe(send)

    async def client(self, reader, writer):
        if self.refuse:
            writer.close()
            return
        self.writers.add(writer)
        tasks = []
        try:
            while line := await reader.readline():
                tasks.append(asyncio.ensure_future(self.answer(line.decode().rstrip("\n"), writer)))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            for task in tasks:
                task.cancel()
            writer.close()

    async def answer(self, line, writer):
        if self.silent:
            self.unanswered += 1
            return
        tag, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
        words = words_of(rest)
        verb = words[0][1].upper()
        args = [text for key, text in words[1:] if key is None]
        keys = {key: text for key, text in words[1:] if key is not None}
        for member in MEMBERS.keys() & keys.keys():
            keys[member] = [text for key, text in words[1:] if key == member]
        self.requests.append((verb, args, keys))
        status, body = await getattr(self, "do_" + verb.lower())(*args, **keys)
        reply = f"{tag + ' ' if tag else ''}{status} {json.dumps(body)}\n"
        if self.mangle:
            reply = self.mangle(reply)
        if reply and not self.silent:
            writer.write(reply.encode())

    # ---- verbs ----

    async def do_hello(self, **_):
        return "OK", {"server": "pglockd", "protocol": 1, "line_max": 65536}

    async def do_ping(self):
        return "OK", {}

    async def do_stats(self):
        return "OK", {"version": "fake", "connections": {"now": 1, "max": 2 ** 53 - 1}}

    def holders(self, resource):
        now = time.monotonic()
        live = [l for l in self.held.get(resource, []) if l.expires > now]
        self.held[resource] = live
        return live

    def describe(self, resource, lock):
        now = time.monotonic()
        return {"resource": resource, "owner": lock.owner, "mode": lock.mode, "scope": lock.scope,
                "held_ms": int((now - lock.since) * 1000), "note": lock.note,
                "ttl_ms": int((lock.expires - now) * 1000)}

    def first_held(self, members):
        """A resource of members that is held in a way that conflicts, or None."""
        return next((resource for resource, mode, _ in members
                     if not all(l.mode == mode == "shared" for l in self.holders(resource))), None)

    async def do_lock(self, *resources, mode="exclusive", scope="node", ttl="30s", wait="0s",
                      owner="", note="", id=None, **others):
        members = [(resource, mode, scope) for resource in resources]
        members += [(resource, *MEMBERS[key]) for key, named in others.items()
                    for resource in named]
        start, wait_ms = time.monotonic(), milliseconds(wait)
        while held := self.first_held(members):
            if wait_ms is not None and (time.monotonic() - start) * 1000 >= wait_ms:
                what = "TIMEOUT" if wait_ms else "BUSY"
                return what, {"code": what.lower(), "message": f"{held} is held",
                              "resource": held,
                              "holders": [self.describe(held, l) for l in self.holders(held)]}
            await asyncio.sleep(0.005)
        locks = []
        for resource, mode, scope in members:
            self.token += 1
            lock = Lock(self.token, mode, owner, note, milliseconds(ttl), scope)
            self.held[resource].append(lock)
            self.granted.append(lock)
            locks.append({"resource": resource, "token": self.token, "mode": mode, "scope": scope})
        return "OK", {"locks": locks, "resource": locks[0]["resource"],
                      "token": locks[0]["token"], "ttl_ms": milliseconds(ttl),
                      "waited_ms": int((time.monotonic() - start) * 1000)}

    def find(self, resource, token):
        if int(token) in self.forced:
            return None
        return next((l for l in self.holders(resource) if l.token == int(token)), None)

    def lost(self, token):
        reason = "forced" if int(token) in self.forced else "expired"
        return "LOST", {"code": "lost", "message": "the lock is lost", "reason": reason}

    async def do_unlock(self, resource, token):
        lock = self.find(resource, token)
        if not lock:
            return self.lost(token)
        self.held[resource].remove(lock)
        return "OK", {"held_ms": int((time.monotonic() - lock.since) * 1000)}

    async def do_renew(self, resource, token, ttl="30s"):
        lock = self.find(resource, token)
        if not lock:
            return self.lost(token)
        lock.renew(milliseconds(ttl))
        return "OK", {"ttl_ms": lock.ttl_ms}

    async def do_check(self, resource, token):
        lock = self.find(resource, token)
        if not lock:
            return self.lost(token)
        return "OK", {"ttl_ms": int((lock.expires - time.monotonic()) * 1000)}

    async def do_info(self, *resources):
        return "OK", {"resources": [
            {"resource": r, "queue": [],
             "holders": [self.describe(r, l) for l in self.holders(r)]} for r in resources]}

    async def do_list(self, prefix="", limit="100", after=""):
        names = sorted(r for r in self.held if r.startswith(prefix) and r > after)
        page = names[:int(limit)]
        locks = [self.describe(r, l) for r in page for l in self.holders(r)]
        return "OK", {"locks": locks, "next": page[-1] if len(page) < len(names) else None}


if __name__ == "__main__":
    with FakeDaemon() as fake:
        print(fake.address, flush=True)
        threading.Event().wait()
