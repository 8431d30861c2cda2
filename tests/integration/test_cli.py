"""pglockctl's commands against a real daemon: output, exit statuses, quoting, harmless text."""

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from conftest import PGLOCKCTL, ctl
from fake_daemon import FakeDaemon, Lock
from lines import SECONDS, eventually
from schema import one


@pytest.fixture
def resource(request):
    return "cli/" + request.node.name.replace("[", "-").replace("]", "")


def lock(daemon, *words):
    """For longer than a test takes, where it does not say how long."""
    ttl = [] if any(word.startswith("ttl=") for word in words) else ["ttl=10m"]
    done = ctl(daemon.address, "lock", *words, *ttl)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[1-9][0-9]*\n", done.stdout)  # the token alone
    return done.stdout.strip()


def test_lock_check_renew_unlock(daemon, resource):
    token = lock(daemon, resource, "ttl=59s")
    assert re.match(r"held, expires in [1-5]?\d\.\ds\n",
                    ctl(daemon.address, "check", resource, f"token={token}").stdout)
    renewed = ctl(daemon.address, "renew", resource, f"token={token}", "ttl=9m")
    assert (renewed.returncode, renewed.stdout) == (0, "")
    assert re.search("9m00s|[5-8]m", ctl(daemon.address, "check", resource, f"token={token}").stdout)
    assert ctl(daemon.address, "unlock", resource, f"token={token}").returncode == 0
    for command in "unlock", "renew", "check":
        gone = ctl(daemon.address, command, resource, f"token={token}")
        assert gone.returncode == 76 and gone.stderr.startswith("pglockctl: "), command
    assert int(lock(daemon, resource)) > int(token)


def test_of_several_locks_each_prints_its_token(daemon, resource):
    taken = ctl(daemon.address, "lock", f"{resource}/a", f"shared={resource}/b c", "ttl=10m")
    assert taken.returncode == 0, taken.stderr
    lines = [line.split(" ", 1) for line in taken.stdout.splitlines()]
    assert [name for _, name in lines] == [f"{resource}/a", f"{resource}/b c"]
    for token, name in lines:
        assert ctl(daemon.address, "unlock", f"token={token}", "--", name).returncode == 0


def test_unix_socket_and_failover_list(daemon, resource):
    token = ctl(f"unix:/nonexistent,{daemon.unix_address}", "lock", resource).stdout.strip()
    assert ctl(daemon.address, "unlock", resource, f"token={token}").returncode == 0


def test_busy_and_waiting(daemon, resource):
    lock(daemon, resource, "owner=agent-7", "note=refactor")
    busy = ctl(daemon.address, "lock", resource)
    assert busy.returncode == 75 and busy.stdout == ""
    assert resource in busy.stderr and "agent-7" in busy.stderr and "refactor" in busy.stderr
    assert ctl(daemon.address, "lock", "-E", "3", resource).returncode == 3
    since = time.monotonic()
    late = ctl(daemon.address, "lock", resource, "wait=500ms")
    assert late.returncode == 75 and time.monotonic() - since >= 0.5


def test_wait_without_bound_ends_with_the_holder(daemon, resource):
    token = lock(daemon, resource)
    results = []
    waiter = threading.Thread(
        target=lambda: results.append(ctl(daemon.address, "lock", resource, "wait=inf")))
    waiter.start()
    eventually(lambda: "waiting" in ctl(daemon.address, "info", resource).stdout)
    ctl(daemon.address, "unlock", resource, f"token={token}")
    waiter.join(SECONDS)
    assert results[0].returncode == 0 and int(results[0].stdout) > int(token)


@pytest.mark.parametrize("words", [
    ["lock", "a//b"], ["lock", "a", "ttl=5"], ["lock", "a", "frob=1"], ["lock"],
    ["unlock", "a"], ["unlock", "a", "token=x"], ["lock", "a", "ttl=11m"], ["ls", "limit=0"]])
def test_bad_requests(daemon, words):
    done = ctl(daemon.address, *words)
    assert done.returncode == 64 and done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, status", [
    (["frob"], 64), ([], 64), (["--frob"], 64), (["lock", "--frob"], 64), (["tree", "a", "b"], 64),
    (["--connect", "tls://h", "lock", "a"], 64), (["--connect", "nowhere", "lock", "a"], 64),
    (["--connect", "127.0.0.1:1", "lock", "a"], 69), (["bench", "frob"], 64),
    (["migrate", "frob"], 64), (["--version"], 0), (["--help"], 0), (["lock", "--help"], 0)])
def test_usage(arguments, status):
    done = ctl("127.0.0.1:1", *arguments)
    assert done.returncode == status
    assert (done.stderr == "") == (status == 0)


def test_bad_address_in_the_environment_is_configuration():
    assert ctl("nowhere", "lock", "a").returncode == 78


@pytest.mark.parametrize("name", [
    "two words", "a=b", 'say "hi"', "back\\slash", "caf\u00e9/\u65e5\u672c", "@tag", "-dash", "'"])
def test_any_resource_can_be_named(daemon, name):
    name = f"{name}/cli"
    done = ctl(daemon.address, "lock", "--", name)
    assert done.returncode == 0, done.stderr
    shown = json.loads(ctl(daemon.address, "--json", "info", "--", name).stdout)["resources"][0]
    assert shown["resource"] == name and len(shown["holders"]) == 1
    assert ctl(daemon.address, "unlock", f"token={done.stdout.strip()}", "--", name).returncode == 0


def test_a_quoted_word_is_an_argument(daemon):
    token = lock(daemon, '"cli=quoted"')
    assert ctl(daemon.address, "unlock", f"token={token}", "--", "cli=quoted").returncode == 0


def test_json(daemon, resource):
    granted = json.loads(ctl(daemon.address, "--json", "lock", resource).stdout)
    assert granted["resource"] == resource and granted["token"] > 0
    busy = ctl(daemon.address, "lock", "--json", resource)
    assert busy.returncode == 75
    assert json.loads(busy.stdout)["holders"][0]["mode"] == "exclusive"
    assert json.loads(ctl(daemon.address, "stats", "--json").stdout)


def test_ls_shows_all_pages(daemon, resource):
    words = [f"{resource}/{n:02}" for n in range(7)]
    for word in words:
        lock(daemon, word, "mode=shared")
    listed = ctl(daemon.address, "ls", f"prefix={resource}").stdout.splitlines()
    assert listed[0].split()[:3] == ["RESOURCE", "OWNER", "MODE"]
    assert sorted(line.split()[0] for line in listed[1:]) == words
    page = ctl(daemon.address, "ls", f"prefix={resource}", "limit=3").stdout.splitlines()
    assert len(page) == 4
    pages = ctl(daemon.address, "ls", "--json", f"prefix={resource}").stdout.splitlines()
    assert sum(len(json.loads(line)["locks"]) for line in pages) == 7


def test_ls_follows_cursors():
    with FakeDaemon() as fake:
        fake.held = {f"r{n:04}": [Lock(n + 1, "exclusive", "", "", 60000)] for n in range(2500)}
        listed = ctl(fake.address, "ls").stdout.splitlines()
        assert [line.split()[0] for line in listed[1:]] == sorted(fake.held)
        assert len(ctl(fake.address, "ls", "--json").stdout.splitlines()) == 3

def drawn(daemon, *words, locale="C"):
    """What tree draws: the title, and the text of every line before the column of the owners."""
    done = subprocess.run([PGLOCKCTL, "--connect", daemon.address, "tree", *words], text=True,
                          env=dict(os.environ, LC_ALL=locale), capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tree_draws_paths(daemon, resource):
    # Not the order of bytes: "b-c" would come between "b" and "b/c".
    for name in "b/c", "b-c", "b", "a/x/y":
        lock(daemon, f"{resource}/{name}", "owner=one", f"note={name}")
    for owner in "two", "three":
        lock(daemon, f"{resource}/s", "mode=shared", f"owner={owner}")
    lines = drawn(daemon, resource, locale="C.UTF-8")
    wide = lines[0].index("OWNER")
    assert [line[:wide].rstrip() for line in lines[1:]] == [
        resource, "├── a", "│   └── x", "│       └── y", "├── b", "│   └── c", "├── b-c",
        "└── s", ""]
    assert [line[wide:].split()[:2] for line in lines[1:]] == [
        [], [], [], ["one", "exclusive"], ["one", "exclusive"], ["one", "exclusive"],
        ["one", "exclusive"], ["two", "shared"], ["three", "shared"]]
    assert [line[:wide].rstrip() for line in drawn(daemon, resource)[1:]] == [
        resource, "|-- a", "|   `-- x", "|       `-- y", "|-- b", "|   `-- c", "|-- b-c", "`-- s",
        ""]
    # The root's own leases stand beside it, and all of it is beneath "/".
    assert drawn(daemon, f"{resource}/b")[1].split()[:2] == [f"{resource}/b", "one"]
    whole = drawn(daemon)
    assert whole[1].startswith("/") and any(line.startswith("|-- cli") or line.startswith("`-- cli")
                                            for line in whole)
    assert len(ctl(daemon.address, "--json", "tree", resource).stdout.splitlines()) == 1


def test_tree_of_nothing(daemon, resource):
    assert drawn(daemon, resource) == [f"{resource}  nothing is held"]


def test_text_of_others_cannot_steer_the_terminal(daemon, resource):
    note = "\x1b]0;owned\x07\x9b31m\u202edesrever"
    lock(daemon, resource, f"note={note}")
    for command in ["info", resource], ["ls", f"prefix={resource}"], ["tree", resource], \
            ["lock", resource]:
        done = ctl(daemon.address, *command)
        for bad in "\x1b", "\x07", "\x9b", "\u202e":
            assert bad not in done.stdout + done.stderr, command
        assert "owned" in done.stdout + done.stderr


def test_stats_is_a_table(daemon):
    lines = ctl(daemon.address, "stats").stdout.splitlines()
    assert any(re.match(r"metrics\.requests_total\.hello\.OK\s+[0-9]+$", line) for line in lines)


def test_closed_output_is_no_success(daemon, resource):
    with open("/dev/full", "w") as full:
        done = subprocess.run([PGLOCKCTL, "--connect", daemon.address, "info", resource],
                              stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 74


# ---- bench ----

# How long, in ms. A busy machine may get too little done in the first of them.
LONGER = (500, 3000, 20000)

@pytest.mark.parametrize("workload, more", [
    ("uncontended", []), ("contended", ["--hold", "1ms"]), ("readers", ["--writers", "2"]),
    ("held", ["--leases", "300"])])
def test_bench(daemon, workload, more):
    def bench(ms):
        done = ctl(f"{daemon.address},{daemon.unix_address}", "bench", workload, "--json", "--clients",
                   "6", "--threads", "2", "--duration", f"{ms}ms", "--warmup", "100ms", "--keys", "50",
                   "--server-pid", daemon.process.pid, *more)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    for ms in LONGER:
        results = bench(ms)
        if all(result["pairs"] >= 50 and result["server_cpu_seconds_per_1000"] > 0 for result in results):
            break
    if workload == "held":
        assert [result["pairs"] for result in results[1::2]] == [300, 300], "taken and renewed"
        assert results[3]["renew_us"]["max"] > 0 and results[4]["pairs"] == 300
    for result in results:
        assert result["pairs"] > 0
        assert result["violations"] == result["token_regressions"] == result["errors"] == 0
        assert result["server_cpu_seconds_per_1000"] > 0
        if workload == "contended":
            assert result["jain"] > 0.5 and result["handoffs_per_second"] > 0
        if workload == "readers":
            assert result["reads"] > 0 and result["writes"] > 0
    listed = ctl(daemon.address, "ls", "prefix=bench").stdout
    assert listed == ""


def test_bench_notices_a_violation():
    def same_token(reply):
        return re.sub(r'"token": \d+', '"token": 5', reply)

    def notices(fake, what, *words):
        fake.find = lambda resource, token: fake.held[resource][0]
        for ms in LONGER:
            done = ctl(fake.address, "bench", "contended", "--duration", f"{ms}ms", "--warmup", "0ms",
                       "--json", *words)
            if done.returncode != 0:
                return done.returncode == 76 and json.loads(done.stdout)[what] > 0
        return False

    with FakeDaemon() as fake:
        fake.mangle = same_token
        assert notices(fake, "token_regressions", "--clients", "2")
    with FakeDaemon() as fake:
        fake.holders = lambda resource: fake.held.setdefault(resource, [])[:0]
        assert notices(fake, "violations", "--clients", "4", "--hold", "2ms")


# ---- migrate ----


def test_migrate(make_daemon):
    daemon = make_daemon()
    busy = ctl("", "migrate", "status", "--embedded", daemon.directory)
    assert busy.returncode == 78 and "in use" in busy.stderr
    daemon.stop()
    status = json.loads(ctl("", "migrate", "status", "--json", "--embedded",
                            daemon.directory).stdout)
    assert status["version"] == status["program_version"] > 0
    assert status["pending"] == [] and status["functions_current"]
    assert ctl("", "migrate", "up", "--embedded", daemon.directory).returncode == 0


def test_migrate_makes_functions_anew_whose_parameters_or_results_have_changed(make_daemon):
    daemon = make_daemon()
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()
        cursor.execute("""
            delete from pglockd.migration where version > 8;
            drop function pglockd.note_ttl(bigint[], bigint[]);
            create function pglockd.note_ttl(bigint[], bigint[] default '{}') returns void language sql as '';
            create function pglockd.release_batch(integer, text[], bigint[], text[], bigint[], boolean) returns void
                language sql as ''""")
    daemon.stop()
    assert json.loads(ctl("", "migrate", "status", "--json", "--embedded", daemon.directory).stdout)["version"] == 8
    done = ctl("", "migrate", "up", "--embedded", daemon.directory)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(daemon.start().sql()) as connection:
        assert one(connection.cursor(), "select count(*) from pg_proc where proname = 'release_batch'") == 1


def test_migrate_without_a_database(tmp_path):
    assert ctl("", "migrate", "status", "--dsn", "host=127.0.0.1 port=1").returncode == 69
    assert ctl("", "migrate", "status", "--config", tmp_path / "none").returncode == 78


# ---- the manual ----


def test_manual_names_every_option_and_command():
    manual = (Path(__file__).parents[2] / "docs/man/pglockctl.1").read_text()
    commands = re.findall(r"^  ([a-z]+)  ", ctl("", "--help").stdout, re.M)
    assert {"lock", "run", "bench", "migrate"} <= set(commands)
    for command in commands:
        assert re.search(rf"\bCm {command}\b", manual), command
        for option in re.findall(r"--([a-z-]+)", ctl("", command, "--help").stdout):
            assert f"Fl -{option}" in manual, (command, option)
