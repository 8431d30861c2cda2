"""Keys and names: how clients show who they are, and how that ends."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from conftest import PGLOCKCTL, ctl, in_force
from lines import Lines, eventually, wait_for_queue
from pace import Clock
from schema import one, rows


@pytest.fixture
def keys(daemon):
    """A function that runs pglockctl key on the database; names that it makes are removed."""
    made = set()

    def run(*words, **options):
        if "--name" in words:
            made.add(words[words.index("--name") + 1])
        return ctl("", "key", *words, "--dsn", daemon.dsn, **options)
    yield run
    with contextlib.closing(daemon.sql()) as connection:
        connection.cursor().execute("delete from pglockd.identity where name = any(%s)", (list(made),))


@pytest.fixture
def created(keys, secure, sql):
    """A function that makes a key with pglockctl, in force, and returns it."""
    def make(*words):
        done = keys("create", *words)
        assert done.returncode == 0, done.stderr
        in_force(secure, sql().cursor())
        return done.stdout.strip()
    return make


# ---- showing a key ----

def test_a_key_in_the_first_hello(secure, identity):
    key = identity("first", "lock:*")
    with Lines(secure.line) as client:
        client.send(f"HELLO key={key} name=label", "LOCK first/a ttl=1s", "STATS")  # one packet
        hello, lock, stats = client.reply(), client.reply(), client.reply()
        assert (hello["auth"], hello["identity"]) == ("on", "first")
        assert lock.status == stats.status == "OK"


def test_hello_tells_who_one_is(secure, daemon):
    with Lines(secure.line) as client:
        hello = client.ask_ok("HELLO")
        assert (hello["auth"], hello["identity"]) == ("on", None)
    with Lines(daemon.line) as client:
        hello = client.ask_ok("HELLO key=any-key-at-all")
        assert hello["auth"] == "off" and "identity" not in hello.body


@pytest.mark.parametrize("wrong", ["wrong", "", " ", "é" * 20, "k" * 256, "a'; drop table pglockd.api_key; --"])
def test_a_wrong_key(secure, identity, wrong):
    key = identity("right", "lock:*")
    if not wrong:
        wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    with Lines(secure.line) as client:
        since = time.monotonic()
        reply = client.ask(f"HELLO key={json.dumps(wrong, ensure_ascii=False)}")
        assert (reply.status, reply.code) == ("DENIED", "key_refused")
        assert time.monotonic() - since >= 1, "a guess costs a second"
        assert client.ask("LOCK right/a").code == "auth_required"
        assert client.ask_ok(f"HELLO key={key}")["identity"] == "right", "the right one is taken yet"


def test_guessing_on_one_connection_ends_it(secure):
    with Lines(secure.line) as client:
        client.send(*[f"HELLO key=guess{n}" for n in range(50)])
        replies = client.rest()
        assert [r.code for r in replies] == ["key_refused"] * 4, replies  # the last one is BYE
        assert replies[-1].status == "BYE"


def test_a_refused_key_holds_nobody_else_up(secure, login):
    """If they were served one after the other, the last would wait for a minute."""
    other = login("other", "lock:*")
    with contextlib.ExitStack() as stack:
        guessing = [stack.enter_context(Lines(secure.line)) for _ in range(60)]
        clock = Clock()
        for client in guessing:
            client.send("HELLO key=guess")
        other.ask_ok("LOCK other/a ttl=1s")
        for client in guessing:
            assert client.reply().code == "key_refused"
        assert clock.seconds() < 30


def test_a_client_that_goes_away_while_it_waits_for_its_refusal(secure, login):
    for _ in range(5):
        client = Lines(secure.line)
        client.send("HELLO key=guess")
        client.reset()
    login("still", "lock:*").ask_ok("LOCK still/a ttl=1s")


def test_authentications_are_counted(secure, identity):
    def counts():
        import urllib.request
        text = urllib.request.urlopen(f"http://{secure.http}/metrics").read().decode()
        return {m[1]: int(m[2]) for m in re.finditer(
            r'pglockd_authentications_total\{source="key",result="(\w+)"\} (\d+)', text)}
    key = identity("counted", "lock:*")
    before = counts()
    with Lines(secure.line) as client:
        client.ask_ok(f"HELLO key={key}")
        client.ask("HELLO key=wrong")
    after = counts()
    assert (after["accepted"] - before["accepted"], after["refused"] - before["refused"]) == (1, 1)


def test_a_connection_stays_who_it_is(secure, login, identity):
    ann = login("ann", "lock:*")
    ben = identity("ben", "lock:*")
    ann.lock("ann/a", "ttl=1s")
    assert ann.ask(f"HELLO key={ben}").code == "other_identity"
    assert ann.ask_ok("HELLO")["identity"] == "ann"
    assert ann.ask_ok(f"HELLO key={ann.key}")["identity"] == "ann"
    with Lines(secure.line) as fresh:  # nothing was asked for under the first name
        fresh.ask_ok(f"HELLO key={ann.key}")
        assert fresh.ask_ok(f"HELLO key={ben}")["identity"] == "ben"


# ---- secrecy ----

def test_a_key_is_written_nowhere(daemon, secure, keys, sql, identity):
    """Not into a log (of a daemon at level debug, of a server that logs all statements), nor a table."""
    name = "nowhere"
    sql(user="postgres").cursor().execute("alter system set log_statement = 'all'")
    sql(user="postgres").cursor().execute("select pg_reload_conf()")
    try:
        done = keys("create", "--name", name, "--allow", "lock:*")
        key = done.stdout.strip()
        assert re.fullmatch(r"pglk_[A-Za-z0-9_-]{43}", key), done
        in_force(secure, sql().cursor())
        with Lines(secure.line) as client:
            replies = [client.ask(f"HELLO key={key}"), client.ask(f"HELLO key={key}x"),
                       client.ask(f"LOCK nowhere/a key={key}"), client.ask(f"HELLO key={key} nonsense=1"),
                       client.ask(f"HELLO key={key} key={key}"), client.ask(f"HELLO key={key} protocol=9")]
        assert not any(key in json.dumps(r.body) for r in replies)
    finally:
        sql(user="postgres").cursor().execute("alter system reset log_statement")
        sql(user="postgres").cursor().execute("select pg_reload_conf()")
    digest = hashlib.sha256(key.encode())
    assert one(sql(user="postgres").cursor(), "select sha256 from pglockd.api_key where name = %s",
               name).tobytes() == digest.digest()
    assert digest.hexdigest()[:12] in done.stderr
    secret = key[5:]
    for path in [daemon.log_path, secure.log_path, *daemon.directory.glob("log/*")]:
        assert secret not in path.read_text(errors="replace"), path
    dump = subprocess.run(["pg_dump", "--data-only", daemon.dsn], capture_output=True, text=True, check=False)
    assert dump.returncode == 0 and name in dump.stdout and secret not in dump.stdout


def test_a_slow_hello_is_logged_without_its_key(peer, identity, connect):
    slow = peer("--auth", "on", "--slow-request", "1ms", "--log-level", "debug")
    key = identity("slow", "lock:*", daemons=[slow])
    with Lines(slow.line) as client:
        client.send("@w LOCK slow/a wait=inf", f"HELLO key={key}", f"HELLO key={key}wrong")
        client.reply(), client.reply(), client.reply()
    log = slow.log_path.read_text()
    assert key not in log and "key_refused" in log


# ---- life of a key ----

def test_create_rotate_revoke(keys, created, secure, sql, daemon):
    first = created("--name", "ci", "--allow", "lock:ci/*", "--allow", "read:*", "--expires", "90d",
                    "--note", "build farm")
    (row,) = json.loads(keys("ls", "--json", "--name", "ci").stdout)
    assert (row["name"], row["state"], row["note"]) == ("ci", "valid", "build farm")
    assert 89.9 < one(sql().cursor(), "select extract(epoch from expires_at - now()) / 86400 from "
                      "pglockd.keys where name = 'ci'") < 90
    (name,) = json.loads(keys("names", "--json", "--name", "ci").stdout)
    assert (name["rights"], name["keys"], name["valid"]) == (["lock:ci/*", "read:*"], 1, True)

    second = keys("rotate", "--name", "ci", "--overlap", "1h").stdout.strip()
    in_force(secure, sql().cursor())
    for key in first, second:
        with Lines(secure.line) as client:
            assert client.ask_ok(f"HELLO key={key}")["identity"] == "ci", "two are valid at once"
    assert [r["state"] for r in json.loads(keys("ls", "--json", "--name", "ci").stdout)] == ["valid"] * 2
    left = rows(sql().cursor(), "select expires_at is null or expires_at > now() + interval '61 min' "
                "from pglockd.keys where name = 'ci' order by created_at")
    assert left == [(False,), (True,)], "the older one ends with the overlap"

    digest = hashlib.sha256(first.encode()).hexdigest()[:12]
    assert keys("revoke", digest).returncode == 0
    assert keys("revoke", digest).returncode == 64
    in_force(secure, sql().cursor())
    with Lines(secure.line) as client:
        assert client.ask(f"HELLO key={first}").code == "key_refused"
        assert client.ask_ok(f"HELLO key={second}")["identity"] == "ci"
    assert keys("revoke", "--name", "ci").returncode == 0
    assert keys("revoke", "--name", "ci").returncode == 64
    assert {r["state"] for r in json.loads(keys("ls", "--json", "--name", "ci").stdout)} == {"revoked"}
    assert keys("rotate", "--name", "ci").returncode == 64

    again = created("--name", "ci", "--allow", "rate:*")  # anew, with these rights and no others
    with Lines(secure.line) as client:
        client.ask_ok(f"HELLO key={again}")
        assert client.ask("LOCK ci/a").code == "no_right"
    with Lines(secure.line) as client:
        assert client.ask(f"HELLO key={second}").code == "key_refused"
    text = keys("ls", "--name", "ci").stdout
    assert "valid" in text and "revoked" in text and again not in text


def test_another_key_of_a_name(keys, created):
    created("--name", "two", "--allow", "lock:*")
    assert "42710" not in keys("create", "--name", "two").stderr
    refused = keys("create", "--name", "two", "--allow", "admin:*")
    assert refused.returncode == 64 and "key allow" in refused.stderr and refused.stdout == ""
    assert keys("create", "--name", "two", "--allow", "lock:*").returncode == 0, "it has that right"
    (name,) = json.loads(keys("names", "--json", "--name", "two").stdout)
    assert (name["rights"], name["keys"]) == (["lock:*"], 3)


def test_rights_are_given_and_taken(keys, created, secure, sql, login):
    created("--name", "grow", "--allow", "lock:a/*")
    assert keys("allow", "--name", "grow", "rate:user:*", "read:*").returncode == 0
    assert keys("deny", "--name", "grow", "lock:a/*").returncode == 0
    assert keys("deny", "--name", "grow", "lock:a/*").returncode == 64, "it has it no more"
    assert keys("deny", "--name", "grow", "read:a/*").returncode == 64, "as it was given"
    (name,) = json.loads(keys("names", "--json", "--name", "grow").stdout)
    assert name["rights"] == ["rate:user:*", "read:*"]


@pytest.mark.parametrize("words", [
    ["create"], ["create", "--name", "a b"], ["create", "--name", "x", "--allow", "fly:*"],
    ["create", "--name", "x", "--allow", "lock:a*"], ["create", "--name", "x", "--expires", "5"],
    ["create", "--name", "x", "more"], ["rotate"], ["rotate", "--name", "no-such-name"], ["revoke"],
    ["revoke", "no-such-key"], ["revoke", "--name", "no-such-name"], ["allow", "--name", "x"],
    ["allow", "--name", "no-such-name", "lock:*"], ["allow", "lock:*"], ["nonsense"], [], ["ls", "more"],
])
def test_wrong_words(keys, words):
    done = keys(*words)
    assert done.returncode == 64 and done.stderr.startswith("pglockctl: ") and done.stdout == ""
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("pattern", ["*", "a", "a/b/*", "a b", "ä/*", "a'b/*"])
def test_the_database_takes_what_the_program_takes(sql, pattern):
    cursor = sql().cursor()
    cursor.execute("select pglockd.key_create('patterns', null, %s)", (["lock:" + pattern],))
    cursor.execute("delete from pglockd.identity where name = 'patterns'")


@pytest.mark.parametrize("right", ["fly:*", "lock:", "lock:a*", "lock:a/*/b", "lock:/a", "lock:a/", "lock:a//b",
                                   "lock:a/../b", "rate:a*", "lock:" + "a" * 515, "lock:a\nb", "lock"])
def test_the_database_refuses_what_the_program_refuses(sql, right):
    import psycopg2
    cursor = sql().cursor()
    with pytest.raises(psycopg2.Error) as error:
        cursor.execute("select pglockd.key_create('patterns', null, %s)", ([right],))
    assert error.value.pgcode in ("22023", "23514"), error.value.pgcode


def test_the_command_line_shows_a_key(secure, created, sql, tmp_path):
    file = tmp_path / "key"
    file.write_text(created("--name", "cli", "--allow", "lock:cli/*") + "\n")
    assert ctl(secure.line, "lock", "cli/a").returncode == 77
    assert ctl(secure.line, "--key-file", file, "lock", "cli/a", "ttl=1s").returncode == 0
    environment = dict(os.environ, PGLOCKCTL_CONNECT=secure.line, PGLOCKCTL_KEY_FILE=str(file))
    run = subprocess.Popen([PGLOCKCTL, "run", "--ttl", "12s", "cli/b", "--", "cat"], env=environment,
                           stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cursor = sql().cursor()

    def end():
        return rows(cursor, "select expires_us from pglockd.lease where resource = 'cli/b'")
    first = eventually(end)
    eventually(lambda: end() != first, what="it is renewed over a connection of its own")
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert ctl(secure.line, "--key-file", file, "lock", "other/a").returncode == 77
    file.write_text("wrong\n")
    assert ctl(secure.line, "--key-file", file, "lock", "cli/c").returncode == 77
    assert ctl(secure.line, "--key-file", tmp_path / "none", "lock", "cli/c").returncode == 78
    file.write_text("\n")
    assert ctl(secure.line, "--key-file", file, "lock", "cli/c").returncode == 78


def test_what_others_hold_is_never_less_than_may_be_seen(secure, created, login, tmp_path):
    """A hook that asks must not pass what it cannot see: a tree above, for one."""
    login("holder", "lock:*").lock("others/a", "scope=tree")
    file = tmp_path / "key"
    for name, rights, status in (("most", ("read:others/*",), 77), ("all", ("read:others/*", "read:others"), 75)):
        file.write_text(created("--name", name, *sum((("--allow", r) for r in rights), ())))
        assert ctl(secure.line, "--key-file", file, "info", "--others", "others/a/b").returncode == status


def test_the_last_use_is_noted(secure, login, sql):
    cursor = sql().cursor()
    login("used", "lock:*")
    epoch = one(cursor, "select epoch from pglockd.identity_epoch")
    eventually(lambda: one(cursor, "select last_used_at from pglockd.keys where name = 'used'"))
    assert one(cursor, "select epoch from pglockd.identity_epoch") == epoch, "that is no change"


# ---- the end of a key, on open connections and on every daemon ----

@pytest.fixture
def both(secure, peer):
    """Two daemons with auth = on."""
    return [secure, peer("--auth", "on", "--log-level", "debug")]


REVOCATIONS = {"key": "select pglockd.key_revoke('{}')", "name": "select pglockd.identity_revoke('gone')",
               "deleted": "delete from pglockd.identity where name = 'gone'"}


def bye(client):
    """What the daemon says when it ends the connection, other lines aside."""
    return client.rest()[-1]


@pytest.mark.parametrize("how", REVOCATIONS)
def test_a_second_after_a_revocation_nothing_is_done_for_who_was_revoked(both, identity, sql, connect, resource, how):
    """However slow the machine is: what is not confirmed is not acted upon."""
    key = identity("gone", "lock:*", daemons=both)
    clients = [connect(d.line) for d in both]
    for client in clients:
        client.ask_ok(f"HELLO key={key}")
    sql().cursor().execute(REVOCATIONS[how].format(hashlib.sha256(key.encode()).hexdigest()[:12]))
    time.sleep(1)  # nothing is waited for: the second is what is promised
    for number, client in enumerate(clients):
        with contextlib.suppress(OSError):  # it may be closed already
            client.send(f"LOCK {resource}/{number}")
        assert {r.code for r in client.rest()} <= {"revoked", "unavailable"}
    for one_daemon in both:
        with Lines(one_daemon.line) as again:
            assert again.ask(f"HELLO key={key}").code in ("key_refused", "unavailable")
    assert rows(sql().cursor(), "select from pglockd.lease where resource like %s", resource + "/%") == []


@pytest.mark.parametrize("how", REVOCATIONS)
def test_revocation_ends_open_connections_everywhere(both, identity, sql, connect, resource, how):
    key = identity("gone", "lock:*", daemons=both)
    clients = [connect(d.line) for d in both]
    for client in clients:
        client.ask_ok(f"HELLO key={key}")
    token = clients[0].lock(resource, "ttl=1m")
    bound = clients[0].lock(f"{resource}/bound", "ttl=1m bind=connection")
    clients[1].send(f"LOCK {resource} wait=inf")
    session = clients[0].ask_ok("SESSION OPEN ttl=1m")["session"]
    sql().cursor().execute(REVOCATIONS[how].format(hashlib.sha256(key.encode()).hexdigest()[:12]))
    for client in clients:
        assert bye(client).code == "revoked"
    # What it holds stands until its TTL; who waited waits no more.
    cursor = sql().cursor()
    assert rows(cursor, "select token, identity from pglockd.locks where resource = %s", resource) == [(token, "gone")]
    assert one(cursor, "select identity from pglockd.sessions where session = %s", session) == "gone"
    eventually(lambda: rows(cursor, "select from pglockd.queue where resource = %s", resource) == [])
    with Lines(both[0].line) as other:  # what its daemon had to release would be released before this
        other.ask_ok(f"HELLO key={identity('other', 'lock:*', daemons=both[:1])}")
        assert other.ask(f"LOCK {resource}/bound").status == "BUSY"
        assert other.ask(f"CHECK {resource}/bound token={bound}").status == "DENIED"


def test_who_reads_nothing_is_revoked_all_the_same(secure, identity, sql, resource):
    """Its LOCK leaves the queue though there is no telling it so."""
    holder_key, key = identity("holder", "lock:*"), identity("gone", "lock:*")
    with Lines(secure.unix_path) as holder, Lines(secure.unix_path) as client:
        holder.ask_ok(f"HELLO key={holder_key}")
        token = holder.lock(resource, "ttl=1m")
        client.ask_ok(f"HELLO key={key}")
        client.send(f"@w LOCK {resource} wait=inf", *["HELP"] * 100)  # more than a socket holds
        cursor = sql().cursor()
        eventually(lambda: rows(cursor, "select from pglockd.queue where resource = %s", resource))
        cursor.execute("select pglockd.identity_revoke('gone')")
        eventually(lambda: not rows(cursor, "select from pglockd.queue where resource = %s", resource))
        holder.ask_ok(f"UNLOCK {resource} token={token}")
        assert bye(client).code == "revoked"
    assert rows(cursor, "select from pglockd.lease where resource = %s", resource) == []


def test_revocation_without_a_notification(both, identity, sql, connect):
    """Daemons ask for what they were not told."""
    key = identity("quiet", "lock:*", daemons=both)
    clients = [connect(d.line) for d in both]
    for client in clients:
        client.ask_ok(f"HELLO key={key}")
    cursor = sql(user="postgres").cursor()
    cursor.execute("set session_replication_role = replica")  # no trigger, so no notification
    cursor.execute("begin; delete from pglockd.api_key where name = 'quiet'; "
                   "update pglockd.identity_epoch set epoch = epoch + 1; commit")
    for client in clients:
        assert bye(client).code == "revoked"


def test_expiry_ends_open_connections(secure, sql, identity):
    key = identity("short", "lock:*", expires="1 hour")
    with Lines(secure.line) as client:
        client.ask_ok(f"HELLO key={key}")
        sql().cursor().execute("update pglockd.api_key set expires_at = clock_timestamp() + interval '1 s' "
                               "where name = 'short'")
        assert bye(client).code == "revoked"
    assert one(sql().cursor(), "select state from pglockd.keys where name = 'short'") == "expired"
    with Lines(secure.line) as client:
        assert client.ask(f"HELLO key={key}").code == "key_refused"


def test_a_right_that_is_taken_away(login, secure, sql, resource):
    holder, client = login("holder", "lock:*"), login("client", "lock:*", f"read:{resource}")
    token = holder.lock(resource, "ttl=1m")
    client.send(f"@w LOCK {resource} wait=inf", f"@v LOCK {resource} wait=inf id=x", f"LOCK {resource} wait=inf")
    wait_for_queue(login("looker", "read:*"), resource, 3)
    kept = client.ask_ok  # the connection stays
    cursor = sql().cursor()
    cursor.execute("select pglockd.identity_deny('client', '{lock:*}')")
    replies = [client.reply() for _ in range(3)]
    assert sorted(r.tag for r in replies) == ["", "v", "w"]
    assert {(r.status, r.code) for r in replies} == {("DENIED", "no_right")}
    assert client.ask(f"LOCK {resource}/2").code == "no_right"
    assert kept(f"INFO {resource}")["waiting"] == 0
    cursor.execute("select pglockd.identity_allow('client', '{lock:*}')")
    in_force(secure, cursor)
    holder.ask_ok(f"UNLOCK {resource} token={token}")
    assert client.lock(resource)


def test_a_right_that_is_taken_away_among_requests_in_their_turn(login, secure, sql, resource):
    """Requests that wait for others before them are answered, each once and in their order."""
    holder, client = login("holder", "lock:*"), login("client", "lock:*", "read:*")
    holder.lock(resource, "ttl=1m")
    client.send(f"LOCK {resource} wait=inf", "LIST prefix=none", f"LOCK {resource} wait=inf", "STATS",
                f"LOCK {resource} wait=inf", f"CHECK {resource} token=9000000000")
    wait_for_queue(login("looker", "read:*"), resource, 1)
    sql().cursor().execute("select pglockd.identity_deny('client', '{lock:*}')")
    assert [r.status for r in (client.reply() for _ in range(6))] == [
        "DENIED", "OK", "DENIED", "OK", "DENIED", "LOST"]
    client.ask_ok("STATS")


# ---- what cannot be confirmed ----

@pytest.fixture
def unconfirmed(sql):
    """A context in which no daemon can read names, rights and keys."""
    @contextlib.contextmanager
    def hold():
        connection = sql()
        connection.autocommit = False
        connection.cursor().execute("lock table pglockd.identity_epoch in access exclusive mode")
        yield
        connection.rollback()
    return hold


def test_nothing_is_decided_by_rights_that_cannot_be_confirmed(peer, connect, identity, unconfirmed, resource):
    one_daemon = peer("--auth", "on", "--request-timeout", "300ms", "--log-level", "debug")
    key = identity("sure", "lock:*", daemons=[one_daemon])
    client = connect(one_daemon.line)
    eventually(lambda: client.ask(f"HELLO key={key}").status == "OK")
    with unconfirmed():
        # What began before may still be done, or be on its way; then nothing is any more.
        eventually(lambda: client.ask(f"LOCK {resource} ttl=1s").code == "unavailable")
        for n in range(3):
            assert client.ask(f"LOCK {resource}/free/{n} ttl=1s").code == "unavailable"
        assert client.ask_ok("PING") is not None
        with Lines(one_daemon.line) as other:
            assert other.ask(f"HELLO key={key}").code == "unavailable"
            assert other.ask("LOCK a").code == "unavailable"
    eventually(lambda: client.ask(f"LOCK {resource}/2 ttl=1s").status == "OK")


def test_a_daemon_that_slept_through_a_revocation_takes_no_request(peer, connect, identity, sql, resource):
    """It wakes up with the request before it and the news behind it: the news count."""
    one_daemon = peer("--auth", "on", "--log-level", "debug")
    for attempt in range(3):
        key = identity(f"sleeper{attempt}", "lock:*", daemons=[one_daemon])
        client = connect(one_daemon.line)
        client.ask_ok(f"HELLO key={key}")
        one_daemon.signal(signal.SIGSTOP)
        client.send(f"LOCK {resource}/{attempt} ttl=1m")
        sql().cursor().execute("select pglockd.identity_revoke(%s)", (f"sleeper{attempt}",))
        time.sleep(1)  # longer than rights may go unconfirmed
        one_daemon.signal(signal.SIGCONT)
        assert [r.code for r in client.rest()] == ["revoked"]
        assert rows(sql().cursor(), "select from pglockd.lease where resource like %s", resource + "/%") == []


def test_the_connection_that_brings_news_is_lost(peer, connect, identity, sql, resource):
    one_daemon = peer("--auth", "on", "--log-level", "debug")
    key = identity("steady", "lock:*", daemons=[one_daemon])
    client = connect(one_daemon.line)
    client.ask_ok(f"HELLO key={key}")
    cursor = sql(user="postgres").cursor()
    for _ in range(3):
        cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where query like "
                       "'%identity_epoch where one'")
        token = client.lock(resource, "ttl=1m")
        client.ask_ok(f"UNLOCK {resource} token={token}")
    sql().cursor().execute("select pglockd.identity_revoke('steady')")
    assert bye(client).code == "revoked"


# ---- users of this machine ----

def test_a_unix_socket_tells_who_its_user_is(secure, identity, sql):
    with Lines(secure.unix_path) as early:
        assert early.ask_ok("HELLO")["identity"] is None, "nobody has made that name"
        key = identity("peer", "lock:peer/*")
        eventually(lambda: early.ask_ok("HELLO")["identity"] == "peer")
        token = early.lock("peer/a", "ttl=1m")
        with Lines(secure.line) as tcp:
            assert tcp.ask("LOCK peer/b").code == "auth_required", "over TCP a user is nobody"
            tcp.ask_ok(f"HELLO key={key}")
            tcp.ask_ok(f"UNLOCK peer/a token={token}")  # the same name
        other = identity("other", "lock:other/*")
        with Lines(secure.unix_path) as client:  # a key says more than a user, if it comes first
            assert client.ask_ok(f"HELLO key={other}")["identity"] == "other"
        assert early.ask(f"HELLO key={other}").code == "other_identity"
        sql().cursor().execute("select pglockd.identity_revoke('peer')")
        assert bye(early).code == "revoked"


def test_users_are_taken_from_the_configuration_anew(directory, daemon, identity, sql):
    from conftest import Daemon
    ini = directory / "peers.ini"
    path = f"unix:{directory}/peers.sock"
    ini.write_text(f"[pglockd]\npeer_names = {os.getuid()}:before\n")
    one_daemon = Daemon(directory / "peers", "--auth", "on", "--log-level", "debug", "--listen", path,
                        "--config", str(ini), dsn=daemon.dsn).start()
    try:
        identity("before", "lock:*", daemons=[one_daemon])
        identity("after", "lock:*", daemons=[one_daemon])
        with Lines(path) as client:
            assert client.ask_ok("HELLO")["identity"] == "before"
            ini.write_text(f"[pglockd]\npeer_names = no-such-user:x, {os.getuid()}:after\n")
            one_daemon.signal(signal.SIGHUP)
            assert bye(client).code == "revoked", "it is that user no more"
        with Lines(path) as client:
            assert client.ask_ok("HELLO")["identity"] == "after"
        assert 'event=peer_unknown user="no-such-user"' in one_daemon.log_path.read_text()
    finally:
        assert one_daemon.stop() == 0


def test_who_may_use_a_unix_socket(secure, daemon):
    """Where a connection says who one is, others may connect; where it is enough, the owner alone."""
    assert os.stat(secure.unix_path[5:]).st_mode & 0o777 == 0o666
    assert os.stat(daemon.unix_address[5:]).st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="to become another user takes root")
def test_another_user_of_this_machine_is_nobody(secure, identity):
    identity("peer", "lock:*")
    code = ("import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'HELLO\\nLOCK a\\n')\n"
            "print(s.makefile().readline(), end=''); s.close()")
    done = subprocess.run(["/usr/bin/python3", "-c", code, secure.unix_path[5:]], capture_output=True, text=True,
                          check=False)
    assert '"identity":null' in done.stdout, done


# ---- where it is served ----

@pytest.mark.parametrize("arguments,wanted", [
    (["--listen", "0.0.0.0:0"], "auth is off"), (["--http", "0.0.0.0:0"], "auth is off"),
    (["--listen", "0.0.0.0:0", "--auth", "on"], "plaintext_auth"),
    (["--listen", "0.0.0.0:0", "--auth", "on", "--auth_off_on_network", "yes"], "plaintext_auth"),
    (["--listen", "0.0.0.0:0", "--plaintext_auth", "yes"], "auth_off_on_network"),
])
def test_off_loopback_is_refused(daemon, arguments, wanted):
    from conftest import PGLOCKD
    done = subprocess.run([PGLOCKD, "--dsn", daemon.dsn, *arguments], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 78 and wanted in done.stderr and done.stdout == ""


@pytest.mark.parametrize("arguments,event", [
    (["--auth-off-on-network", "yes"], "auth_off_on_network"),
    (["--auth", "on", "--plaintext-auth", "yes"], "plaintext_auth")])
def test_off_loopback_for_who_insists(peer, arguments, event):
    one_daemon = peer("--listen", "0.0.0.0:0", *arguments)
    assert f"level=warn event={event}" in one_daemon.log_path.read_text()


def test_guesses_over_http_are_slowed(peer, identity):
    from test_rights import http
    one_daemon = peer("--auth", "on", "--log-level", "debug")
    key = identity("web", "read:*", daemons=[one_daemon])
    statuses = [http(one_daemon, "/", f"guess{n}").status for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = http(one_daemon, "/", key)
    assert refused.status == 429 and refused.headers["Retry-After"] == "60"
    assert http(one_daemon, "/metrics").status == 200
    with Lines(one_daemon.line) as client:
        client.ask_ok(f"HELLO key={key}")
