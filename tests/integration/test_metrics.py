"""Metrics: known work is counted exactly, and served as Prometheus wants it."""

import contextlib
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import Daemon, need_programs, need_tool
from lines import Lines, eventually, wait_for_queue

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
DECLARED = re.findall(r'^METRIC\(\w+, *"(\w+)", (\w+)',
                      (Path(os.environ["SRCDIR"]) / "src/base/metrics.def").read_text(), re.M)


def fetch(daemon, path="/metrics", accept=None):
    request = urllib.request.Request(f"http://{daemon.http}{path}")
    if accept:
        request.add_header("Accept", accept)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def key(name, **labels):
    return name, tuple(sorted(labels.items()))


def scrape(daemon):
    """{(name, labels): value} of /metrics."""
    found = {}
    for line in fetch(daemon)[0].splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r'(\w+)(?:{(.*)})? (\S+)', line).groups()
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
        found[name, tuple(sorted(pairs))] = float(value)
    return found


# ---- known work ----

def do_known_work(client, daemon):
    """Locks, waits, renewals, sessions and rates in known numbers; returns what they should count."""
    tokens = [client.lock(f"work/{i}") for i in range(7)]
    client.lock("work/shared", "mode=shared")
    client.lock("work/shared", "mode=shared")
    for _ in range(3):
        assert client.ask("LOCK work/0").status == "BUSY"
    assert client.ask("LOCK work/shared wait=10ms").status == "TIMEOUT"
    assert client.ask("LOCK work/0 mode=shared wait=10ms").status == "TIMEOUT"
    client.send("@w LOCK work/0 wait=inf")
    with Lines(daemon.line) as other:
        wait_for_queue(other, "work/0", 1)
    client.send("CANCEL tag=w")
    assert {r.code for r in (client.reply(), client.reply())} == {None, "cancelled"}
    for token, i in zip(tokens[:5], range(5)):
        client.ask_ok(f"UNLOCK work/{i} token={token}")
    for _ in range(4):
        client.ask_ok(f"RENEW work/5 token={tokens[5]}")
    assert client.ask(f"RENEW work/0 token={tokens[0]}").status == "LOST"
    assert client.ask("LOCK").status == "ERR"
    session = client.ask_ok("SESSION OPEN ttl=1m")["session"]
    client.lock("work/s/1", f"session={session}")
    client.lock("work/s/2", f"session={session}")
    client.ask_ok(f"SESSION KEEPALIVE {session}")
    assert client.ask_ok(f"SESSION CLOSE {session}")["released"] == 2
    assert client.ask(f"SESSION KEEPALIVE {session} secret=x").status == "DENIED"
    assert [client.ask("RATE work limit=3 per=1h").status for _ in range(5)] == (
        ["OK"] * 3 + ["LIMITED"] * 2)
    assert client.ask("RATE work limit=3 per=1h peek=true").status == "LIMITED"
    return {
        key("pglockd_requests_total", verb="lock", status="OK"): 11,
        key("pglockd_requests_total", verb="lock", status="BUSY"): 3,
        key("pglockd_requests_total", verb="lock", status="TIMEOUT"): 2,
        key("pglockd_requests_total", verb="lock", status="ERR"): 2,
        key("pglockd_requests_total", verb="unlock", status="OK"): 5,
        key("pglockd_requests_total", verb="rate", status="LIMITED"): 3,
        key("pglockd_lock_attempts_total", mode="exclusive", outcome="granted"): 9,
        key("pglockd_lock_attempts_total", mode="shared", outcome="granted"): 2,
        key("pglockd_lock_attempts_total", mode="exclusive", outcome="busy"): 3,
        key("pglockd_lock_attempts_total", mode="exclusive", outcome="timeout"): 1,
        key("pglockd_lock_attempts_total", mode="shared", outcome="timeout"): 1,
        key("pglockd_lock_attempts_total", mode="exclusive", outcome="cancelled"): 1,
        key("pglockd_lock_contention_total", mode="exclusive", reason="busy"): 3,
        key("pglockd_lock_contention_total", mode="exclusive", reason="waited"): 2,
        key("pglockd_lock_contention_total", mode="shared", reason="waited"): 1,
        key("pglockd_lock_acquire_seconds_count"): 11,
        key("pglockd_lock_wait_seconds_count"): 3,
        key("pglockd_lock_hold_seconds_count"): 5,
        key("pglockd_renewals_total", of="lease", outcome="renewed"): 4,
        key("pglockd_renewals_total", of="lease", outcome="lost"): 1,
        key("pglockd_renewals_total", of="session", outcome="renewed"): 1,
        key("pglockd_leases_ended_total", reason="released"): 5,
        key("pglockd_leases_ended_total", reason="session_closed"): 2,
        key("pglockd_rate_decisions_total", policy="(named)", result="allowed",
            source="database"): 3,
        key("pglockd_rate_permits_total", policy="(named)"): 3,
    }


@pytest.fixture(scope="module")
def worked():
    """A daemon that has done the known work, and each kind of request once, and what it should have
    counted. To look at only."""
    need_programs()
    base = Path(tempfile.mkdtemp(prefix="pglockd-test-"))
    base.chmod(0o755)  # PostgreSQL runs as another user where the tests run as root
    daemon = Daemon(base / "worked").start()
    with Lines(daemon.line) as client:
        wanted = do_known_work(client, daemon)
    eventually(lambda: "pglockd_locks_held" in fetch(daemon)[0])
    yield daemon, wanted
    assert daemon.stop() == 0, daemon.log()
    shutil.rmtree(base, ignore_errors=True)


def test_known_work_is_counted_exactly_everywhere(worked):
    daemon, wanted = worked
    assert {s: v for s, v in scrape(daemon).items() if s in wanted} == wanted


def test_a_dead_holder_s_lease_is_reclaimed_and_no_contention(make_daemon):
    daemon = make_daemon()
    with Lines(daemon.line) as client:
        client.lock("dead/1", "ttl=100ms")
        client.lock("dead/2", "ttl=100ms")
        eventually(lambda: client.ask_ok("LIST prefix=dead")["locks"] == [])
    found = scrape(daemon)
    assert found[key("pglockd_leases_ended_total", reason="expired")] == 2
    assert found[key("pglockd_leases_reclaimed_total", by="janitor")] == 2
    assert sum(v for (name, _), v in found.items() if name == "pglockd_lock_contention_total") == 0


def test_leases_end_by_their_reasons(make_daemon):
    daemon = make_daemon()

    def ended(reason):
        return scrape(daemon)[key("pglockd_leases_ended_total", reason=reason)]
    with Lines(daemon.line) as client:
        with Lines(daemon.line) as other:
            other.lock("end/bound", "bind=connection")
        eventually(lambda: ended("connection_closed") == 1)
        token = client.lock("end/given")
        token = client.ask_ok(f"TRANSFER end/given token={token} to=somebody")["token"]
        assert ended("superseded") == 1
        client.ask_ok(f"UNLOCK end/given token={token}")
        assert ended("released") == 1
        assert scrape(daemon)[key("pglockd_lock_hold_seconds_count")] == 2


def test_events_and_connections(make_daemon):
    daemon = make_daemon()
    with Lines(daemon.line) as holder, Lines(daemon.line) as other:
        holder.ask_ok("HELLO events=on")
        token = holder.lock("wanted")
        other.send("@w LOCK wanted wait=inf")
        assert holder.reply()["event"] == "wanted"
        found = scrape(daemon)
        assert found[key("pglockd_events_total", event="wanted")] == 1
        assert found[key("pglockd_connections")] == 2
        assert found[key("pglockd_requests_in_flight")] == 1
        assert found[key("pglockd_waiting_requests")] == 1
        assert found[key("pglockd_output_buffer_bytes")] == 0
        holder.ask_ok(f"UNLOCK wanted token={token}")
        other.reply()
    eventually(lambda: scrape(daemon)[key("pglockd_connections")] == 0)
    found = scrape(daemon)
    assert found[key("pglockd_connections_closed_total", reason="end_of_input")] == 2
    assert found[key("pglockd_requests_in_flight")] == 0


def test_unread_output_is_seen_and_gone_with_its_connection(make_daemon):
    daemon = make_daemon("--max-output", "67108864", "--max-inflight", "65536")
    with Lines(daemon.line) as client:
        client.send(*["HELP"] * 20000)  # and reads nothing
        eventually(lambda: scrape(daemon)[key("pglockd_output_buffer_bytes")] > 1 << 20)
        client.reset()
    eventually(lambda: scrape(daemon)[key("pglockd_output_buffer_bytes")] == 0)


# ---- formats ----

def test_every_declared_metric_is_served_and_promtool_is_content(worked):
    text, content_type = fetch(worked[0])
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M) == [
        (name, "gauge" if kind == "SHARED" else kind.lower()) for name, kind in DECLARED]
    checked = subprocess.run([need_tool("promtool"), "check", "metrics"], input=text, text=True,
                             capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def openmetrics_families(text):
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        if os.environ.get("PGLOCKD_REQUIRE_TOOLS") == "1":
            pytest.fail("prometheus_client is not installed")
        pytest.skip("prometheus_client is not installed")
    return list(text_string_to_metric_families(text))


def test_openmetrics_is_what_its_reference_parser_wants(worked):
    daemon, _ = worked
    text, content_type = fetch(daemon, accept=OPENMETRICS)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = openmetrics_families(text)
    assert [f.name for f in families] == [name.removesuffix("_total") for name, _ in DECLARED]
    for family in families:
        assert family.unit in ("", "seconds", "bytes") and family.name.endswith(family.unit)
    # The same series as in the other format.
    samples = {key(s.name, **s.labels) for f in families for s in f.samples}
    assert samples == set(scrape(daemon))


def test_prometheus_scrapes_it(worked, tmp_path):
    daemon, _ = worked
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: pglockd, "
                      f"static_configs: [{{targets: ['{daemon.http}']}}]}}]\n")
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [need_tool("prometheus"), f"--config.file={config}", "--web.listen-address=127.0.0.1:0",
             f"--storage.tsdb.path={tmp_path}/data"], stdout=log, stderr=log)
    try:
        port = eventually(lambda: listening_port(process.pid), 60)

        def query(text):
            url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(text)}"
            with urllib.request.urlopen(url, timeout=20) as reply:
                return json.load(reply)["data"]["result"]

        def is_up():
            with contextlib.suppress(urllib.error.URLError):
                return [r for r in query("up") if r["value"][1] == "1"]
            return None
        eventually(is_up, 60, (tmp_path / "log").read_text())
        (granted,) = query('sum(pglockd_lock_attempts_total{outcome="granted"})')
        assert granted["value"][1] == "11"
        (waits,) = query("pglockd_lock_wait_seconds_count")
        assert waits["value"][1] == "3"
        (errors,) = query("scrape_samples_scraped")
        assert int(errors["value"][1]) == len(scrape(daemon))
        url = f"http://127.0.0.1:{port}/api/v1/metadata?metric=pglockd_lock_hold_seconds"
        with urllib.request.urlopen(url, timeout=20) as reply:
            (known,) = json.load(reply)["data"]["pglockd_lock_hold_seconds"]
        assert known["type"] == "histogram" and known["unit"] == "seconds"  # of OpenMetrics alone
    finally:
        process.terminate()
        process.wait(60)


def listening_port(pid):
    """Of the one TCP socket that a process listens on; None while there is none."""
    inodes = set()
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in inodes:
            return int(words[1].split(":")[1], 16)
    return None


def test_hostile_names_do_not_break_the_scrape(make_daemon):
    """Names of policies are the only labels from outside; their check is taken away for this."""
    daemon = make_daemon()
    hostile = ['a"} 1\nevil_total 2\n# EOF', "back\\slash\\", 'quote"', "tab\tand\x01", "caf\u00e9 \u202e",
               "x" * 500, "{}", "le=\"+Inf\""]
    with contextlib.closing(daemon.sql()) as connection, Lines(daemon.line) as client:
        cursor = connection.cursor()
        cursor.execute("alter table pglockd.rate_policy drop constraint rate_policy_name")
        for n, name in enumerate(hostile):
            cursor.execute("insert into pglockd.rate_policy (name, pattern, quota, per) "
                           "values (%s, %s, 5, '1 h')", (name, f"h{n}"))

        def counted():
            for n in range(len(hostile)):
                client.ask(f"RATE h{n}")
            found = {name for metric, pairs in (k for k in scrape(daemon))
                     if metric == "pglockd_rate_permits_total" for _, name in pairs}
            return len(found) == len(hostile) + 2
        eventually(counted)
        text = fetch(daemon)[0]
        checked = subprocess.run([need_tool("promtool"), "check", "metrics"], input=text, text=True,
                                 capture_output=True, timeout=60, check=False)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        families = openmetrics_families(fetch(daemon, accept=OPENMETRICS)[0])
        (permits,) = [f for f in families if f.name == "pglockd_rate_permits"]
        assert {s.labels["policy"] for s in permits.samples} >= set(hostile)
        assert "evil_total" not in {s.name for f in families for s in f.samples}


def test_readers_of_metrics_do_not_stop_each_other(make_daemon):
    """Many scrapes at once, in both formats, beside locks."""
    daemon = make_daemon()
    failed = []

    def scraper(accept):
        try:
            for _ in range(30):
                fetch(daemon, accept=accept)
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)
    threads = [threading.Thread(target=scraper, args=(a,)) for a in (None, OPENMETRICS) * 4]
    for thread in threads:
        thread.start()
    with Lines(daemon.line) as client:
        while any(t.is_alive() for t in threads):
            client.ask_ok(f"UNLOCK s token={client.lock('s')}")
    for thread in threads:
        thread.join()
    assert not failed
    assert scrape(daemon)[key("pglockd_http_requests_total", code="200")] == 240
