"""Nothing that a client sends becomes something else than text, wherever it arrives.

Not SQL, a line of the log, HTML, a label of a metric, an escape sequence of a terminal, a word of a
shell, or another line of the protocol.
"""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import PGLOCKCTL, ctl
from lines import Lines
from schema import one, rows

# Words that break out where they are not kept in.
HOSTILE = [
    "'; drop table pglockd.lease; --", "$$; drop table pglockd.lease; $$", "\\'; select pg_sleep(9); --",
    "{a,b}", '{"a"}', "{", '"', "\\", "%s%n%d", "%", "NULL", "null", "$1", "E'\\x00'",
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "&lt;", "'onclick='x",
    "$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "a b", "-rf", "--help", "*", "~",
    "a=b", "a\"b", "@tag", "Ⅸ\u202egnp.exe", "ﬁ", "\ufeffa", "e\u0301",
]
# And some with control characters, which a resource may not have.
CONTROLS = ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "a\nlevel=error event=forged", "a\r\nUNLOCK x token=1",
            "\x07\x08", "\x7f", "\x9b31m", "\u0085", "a\tb", "\u2028", "\u2066x\u2069"]


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def tables(sql):
    """But partitions, which the daemon makes when a day begins, and a little after its start."""
    return rows(sql(user="postgres").cursor(), "select c.oid, c.relname from pg_class c where "
                "c.relnamespace = 'pglockd'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition "
                "order by 1")


HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

# ---- SQL ----

@pytest.mark.parametrize("text", HOSTILE + CONTROLS)
def test_texts_arrive_as_they_are(client, sql, resource, text):
    before = tables(sql)
    reply = client.ask(f"LOCK {resource}/x owner={quoted(text)} note={quoted(text)} id={quoted(text)} ttl=1m")
    assert reply.status == "OK", reply
    assert rows(sql().cursor(), "select owner, note, idempotency_key from pglockd.lease where resource = %s",
                resource + "/x") == [(text, text, text)]
    (holder,) = client.ask_ok(f"INFO {resource}/x")["holders"]
    assert (holder["owner"], holder["note"]) == (text, text)
    (held,) = client.ask_ok(f"LIST owner={quoted(text)} prefix={resource}")["locks"]
    assert held["note"] == text
    assert client.ask_ok(f"SESSION OPEN ttl=1s owner={quoted(text)} note={quoted(text)} id={quoted(text)}")
    assert client.ask(f"SESSION RESUME 1 secret={quoted(text)}").status in ("DENIED", "LOST")
    assert client.ask(f"RATE k policy={quoted(text)}").status == "ERR"
    client.ask(f"HELLO key={quoted(text)}")
    client.ask_ok(f"UNLOCK {resource}/x token={reply['token']}")
    assert tables(sql) == before


@pytest.mark.parametrize("text", HOSTILE)
def test_resources_and_keys_arrive_as_they_are(client, sql, resource, text):
    before = tables(sql)
    name = f"{resource}/{text}"
    token = client.lock(quoted(name))
    assert one(sql().cursor(), "select resource from pglockd.lease where token = %s", token) == name
    assert client.ask_ok(f"INFO {quoted(name)}")["resources"][0]["resource"] == name
    (held,) = client.ask_ok(f"LIST prefix={quoted(name)}")["locks"]
    assert held["resource"] == name
    page = client.ask_ok(f"LIST prefix={resource} limit=1 after={quoted(f'1:{name}')}")
    assert page.status == "OK"
    client.ask_ok(f"RENEW {quoted(name)} token={token}")
    client.ask_ok(f"RATE {quoted(name)} limit=3 per=1h id={quoted(text)}")
    assert one(sql().cursor(), "select count(*) from pglockd.rate_counter where key = %s", name) == 1
    client.ask_ok(f"UNLOCK {quoted(name)} token={token}")
    assert tables(sql) == before


@pytest.mark.parametrize("text", HOSTILE + CONTROLS)
def test_reasons_arrive_as_they_are(client, daemon, sql, resource, text):
    token = client.lock(resource)
    with Lines(daemon.unix_address) as local:
        local.ask_ok(f"FORCE {resource} token={token} reason={quoted(text)}")
    assert one(sql().cursor(), "select detail from pglockd.tombstone where token = %s", token).endswith(f": {text}")
    assert client.ask(f"RENEW {resource} token={token}")["detail"].endswith(f": {text}")


@pytest.mark.parametrize("text", HOSTILE)
def test_events_carry_texts_as_they_are(client, connect, daemon, resource, text):
    name = quoted(f"{resource}/{text}")
    client.ask_ok("HELLO events=on")
    token = client.lock(name)
    other = connect()
    other.send(f"LOCK {name} wait=inf owner={quoted(text)}")
    event = client.reply()
    assert (event["resource"], event["by_owner"]) == (f"{resource}/{text}", text)
    client.ask_ok(f"UNLOCK {name} token={token}")


# ---- the log ----

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{12}Z level=(error|warn|info|debug) event=[a-z0-9_]+( |$)")


def test_the_log_has_lines_of_the_daemon_alone(peer, connect, identity, resource):
    """All that is slow, refused or forced is logged, with names that clients chose."""
    noisy = peer("--auth", "on", "--slow-request", "1ms", "--log-level", "debug")
    key = identity("noisy", "admin:*", daemons=[noisy])
    for text in HOSTILE + CONTROLS:
        with Lines(noisy.line) as client:
            client.ask_ok(f"HELLO name={quoted(text)} key={key}")
            name = quoted(f"{resource}/{text}") if text in HOSTILE else resource
            token = client.lock(name, f"owner={quoted(text)} note={quoted(text)} id={quoted(text)}")
            client.ask_ok(f"FORCE {name} token={token} reason={quoted(text)}")
            client.ask(f"NONSENSE {quoted(text)}")
    with Lines(noisy.line) as client:
        client.ask(f"HELLO name={quoted(CONTROLS[2])} key=wrong")
        client.send_bytes(b"\x1b[2J\xff\xfe\n@\n\n")
        assert [client.reply().status for _ in range(3)] == ["ERR"] * 3
    lines = noisy.log_path.read_text(errors="replace").splitlines()
    assert sum("event=slow_request" in line for line in lines) > 3
    assert sum("event=forced" in line for line in lines) == len(HOSTILE + CONTROLS)
    for line in lines:
        assert LOG_LINE.match(line), line
        assert not HARMFUL.search(line), line
    outside = [re.sub(r'"(\\.|[^"\\])*"', '""', line) for line in lines]
    assert not any("forged" in line for line in outside)


# ---- HTTP ----

def get(daemon, path, host=None):
    request = urllib.request.Request(f"http://{daemon.http}{path}")
    if host:
        request.add_header("Host", host)
    try:
        return urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        return error


@pytest.mark.parametrize("path", ["/<script>alert(1)</script>", "/metrics?x=<script>", "/healthz?<b>", "/%3Cscript%3E"])
def test_http_answers_are_text(daemon, path):
    answer = get(daemon, path.replace(" ", ""))
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in answer.read().decode()


def test_http_shows_a_host_as_text(daemon):
    answer = get(daemon, "/metrics", host="<script>alert(1)</script>")
    assert answer.status == 421 and answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ---- metrics ----

def test_no_label_of_a_metric_comes_from_a_client(daemon, client, connect, resource):
    for text in HOSTILE + CONTROLS:
        connect(name=None).ask(f"HELLO name={quoted('metric-' + text)}")
        if text in HOSTILE:
            client.ask(f"LOCK {quoted(f'metric-{resource}/{text}')} owner={quoted('metric-' + text)} ttl=1s")
            client.ask(f"RATE {quoted('metric-' + text)} limit=1 per=1s")
        client.ask(f"RATE metric policy={quoted('metric-' + text)}")
        client.ask(f"metric-{re.sub(r'[^a-z]', 'x', text)} x")
    text = get(daemon, "/metrics").read().decode()
    assert "metric-" not in text and "<script" not in text
    label = r'[a-z_]+="(?:[^"\\\n]|\\.)*"'
    for line in text.splitlines():
        assert re.fullmatch(rf"# (HELP|TYPE) .*|[a-z_:]+(\{{{label}(,{label})*\}})? [-+0-9.eInf]+", line), line


# ---- the terminal ----

@pytest.fixture
def shown(client, connect, resource):
    """A lock with a hostile owner and note, and one who waits for it, for each text."""
    names = []
    for number, text in enumerate(HOSTILE + CONTROLS):
        name = f"{resource}/{number}/{text}" if text in HOSTILE else f"{resource}/{number}"
        client.lock(quoted(name), f"owner={quoted(text)} note={quoted(text)}")
        names.append(name)
    waiter = connect()
    waiter.send(f"LOCK {quoted(names[-1])} wait=inf owner={quoted(CONTROLS[0])}")
    return names


@pytest.mark.parametrize("command", ["ls", "tree", "info", "lock", "unlock", "force"])
def test_pglockctl_shows_no_control_character(daemon, shown, resource, command):
    for name in shown if command not in ("ls", "tree") else [resource]:
        words = {"ls": [f"prefix={name}"], "tree": [name], "unlock": [name, "token=1"], "force": [name, "token=1"],
                 }.get(command, [name])
        done = ctl(daemon.unix_address, command, *words)
        assert done.stdout or done.stderr
        for output in done.stdout, done.stderr:
            assert not HARMFUL.search(output), repr(output)


@pytest.mark.parametrize("command", [["ls"], ["info"], ["lock"]])
def test_pglockctl_json_has_no_control_character(daemon, shown, resource, command):
    name = [f"prefix={resource}"] if command == ["ls"] else shown[-len(CONTROLS):][:1]
    done = ctl(daemon.unix_address, *command, *name, "--json")
    assert json.loads(done.stdout.split("\n")[0])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout), repr(done.stdout)


def test_pglockctl_shows_its_own_words_without_control_characters(daemon):
    for words in (["lock", "\x1b[2Jx"], ["\x1b[2J"], ["lock", "a", "\x1b[31m=x"], ["--\x1b[2J"], ["rate", "a", "\x1b]0;"],
                  ["key", "create", "--name", "\x1b[2J"], ["key", "allow", "--name", "a", "\x1b[2J:*"]):
        done = ctl(daemon.line, *words)
        assert done.returncode == 64 and not HARMFUL.search(done.stdout + done.stderr), repr(done)


def test_keys_are_listed_without_control_characters(daemon, sql):
    cursor = sql().cursor()
    cursor.execute("select pglockd.key_create('noted', sha256('x'), '{lock:*}', null, %s)", ("".join(CONTROLS),))
    try:
        for what in "ls", "names":
            done = ctl("", "key", what, "--dsn", daemon.dsn)
            assert "noted" in done.stdout and not HARMFUL.search(done.stdout), repr(done.stdout)
    finally:
        cursor.execute("delete from pglockd.identity where name = 'noted'")


# ---- the shell, and the protocol ----

@pytest.mark.parametrize("text", [t for t in HOSTILE if not t.startswith("-")])
def test_run_hands_on_words_as_they_are(daemon, tmp_path, resource, text):
    name = f"{resource}/{text}"
    environment = dict(os.environ, PGLOCKCTL_CONNECT=daemon.line)
    code = ("import os, sys, json; print(json.dumps([os.environ['PGLOCK_RESOURCE'], "
            "json.loads(os.environ['PGLOCK_TOKENS']), sys.argv[1:]]))")
    done = subprocess.run([PGLOCKCTL, "run", "--owner", text, "--note", text, name, "--",
                           "/usr/bin/python3", "-c", code, text], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told, tokens, arguments = json.loads(done.stdout)
    assert (told, list(tokens), arguments) == (name, [name], [text])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x\nLOCK {other} ttl=1m", "x\r\nLOCK {other} ttl=1m", "x\" token=1 note=\"y",
                                  "x ttl=9m", "\"x\" ttl=9m", "\\", "\"", "x\\"])
def test_a_word_of_the_command_line_is_one_word(daemon, client, resource, text):
    other = resource + "/other"
    text = text.replace("{other}", other)
    done = ctl(daemon.line, "lock", resource, "ttl=1m", f"note={text}", f"owner={text}")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+\n", done.stdout)
    assert client.ask_ok(f"INFO {other}")["holders"] == []
    (holder,) = client.ask_ok(f"INFO {resource}")["holders"]
    assert (holder["note"], holder["owner"]) == (text, text) and holder["ttl_ms"] <= 60000
