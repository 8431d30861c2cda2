"""Metrics: known work is counted exactly, the same at every place, whatever happens meanwhile."""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

import psycopg2
import pytest

from conftest import PGLOCKCTL, Daemon, need_programs, need_tool
from lines import Lines, eventually, wait_for_queue

FAST = ("--metrics-flush", "100ms")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
DECLARED = re.findall(r'^METRIC\(\w+, *"(\w+)", (\w+)',
                      (Path(os.environ["SRCDIR"]) / "src/base/metrics.def").read_text(), re.M)


# ---- the places where metrics are to be read ----

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


def stats(daemon):
    """The same of STATS; histograms as _count. What is not there is 0."""
    labels = {"requests_total": ("verb", "status"), "lock_attempts_total": ("mode", "outcome"),
              "lock_contention_total": ("mode", "reason"), "renewals_total": ("of", "outcome"),
              "leases_ended_total": ("reason",), "leases_reclaimed_total": ("by",),
              "rate_decisions_total": ("policy", "result", "source"),
              "rate_permits_total": ("policy",), "events_total": ("event",),
              "connections_closed_total": ("reason",)}
    found = {}

    def walk(name, names, path, value):
        if len(path) < len(names):
            for inner, child in value.items():
                walk(name, names, path + [inner], child)
        elif isinstance(value, dict):
            found["pglockd_" + name.replace("_ms", "_seconds") + "_count", ()] = value["count"]
        else:
            found[key("pglockd_" + name, **dict(zip(names, path)))] = value

    with Lines(daemon.line) as client:
        for name, value in client.ask_ok("STATS")["metrics"].items():
            if name in labels or not isinstance(value, dict) or "count" in value:
                walk(name, labels.get(name, ()), [], value)
    return found


def table(cursor, instance):
    """The same of the view pglockd.metrics."""
    cursor.execute("select name, labels, value, count from pglockd.metrics where instance_id = %s",
                   (instance,))
    return {key(name if value is not None else name + "_count", **labels):
            count if value is None else value for name, labels, value, count in cursor}


def held_to(found, wanted):
    """Is everything that is wanted there, exactly?"""
    return all(found.get(series, 0) == value for series, value in wanted.items())


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
    daemon = Daemon(base / "worked").start(*FAST)
    with Lines(daemon.line) as client:
        wanted = do_known_work(client, daemon)
    eventually(lambda: "pglockd_locks_held" in fetch(daemon)[0])
    yield daemon, wanted
    assert daemon.stop() == 0, daemon.log()
    shutil.rmtree(base, ignore_errors=True)


def test_known_work_is_counted_exactly_everywhere(worked):
    daemon, wanted = worked
    assert {s: v for s, v in scrape(daemon).items() if s in wanted} == wanted
    found = stats(daemon)
    assert {s: found.get(s, 0) for s in wanted} == wanted
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()
        instance = daemon.instance()
        eventually(lambda: held_to(table(cursor, instance), wanted))
        # Rates and quantiles add up to the same.
        cursor.execute("select labels ->> 'outcome', sum(increase) from pglockd.metric_rates "
                       "where name = 'pglockd_lock_attempts_total' group by 1")
        assert dict(cursor.fetchall()) == {"granted": 11, "busy": 3, "timeout": 2, "cancelled": 1}
        cursor.execute("select count, p50 <= p99 from pglockd.metric_quantiles "
                       "where name = 'pglockd_lock_wait_seconds'")
        assert cursor.fetchall() == [(3, True)]


def test_a_dead_holder_s_lease_is_reclaimed_and_no_contention(make_daemon):
    daemon = make_daemon()
    with Lines(daemon.line) as client:
        client.lock("dead/1", "ttl=100ms")
        client.lock("dead/2", "ttl=100ms")
        eventually(lambda: client.ask_ok("LIST prefix=dead")["locks"] == [])
    # The janitor may hear later than others see that it has removed them.
    found = eventually(lambda: (f := scrape(daemon))[key("pglockd_leases_ended_total", reason="expired")] == 2 and f)
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
        wanted = {key("pglockd_events_total", event="wanted"): 1, key("pglockd_connections"): 2,
                  key("pglockd_requests_in_flight"): 1, key("pglockd_waiting_requests"): 1,
                  key("pglockd_output_buffer_bytes"): 0}
        # The event and the answer of the request come over two connections to the database.
        eventually(lambda: held_to(scrape(daemon), wanted))
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
        port = eventually(lambda: listening_port(process.pid))

        def query(text):
            url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(text)}"
            with urllib.request.urlopen(url, timeout=20) as reply:
                return json.load(reply)["data"]["result"]

        def shows(text, value):
            """Of the last scrape: one that takes more than a second, on a busy machine, shows nothing."""
            with contextlib.suppress(OSError):
                return [r["value"][1] for r in query(text)] == [str(value)]
            return False
        eventually(lambda: shows("up", 1), what=(tmp_path / "log").read_text())
        for text, value in (('sum(pglockd_lock_attempts_total{outcome="granted"})', 11),
                            ("pglockd_lock_wait_seconds_count", 3), ("scrape_samples_scraped", len(scrape(daemon)))):
            eventually(lambda t=text, v=value: shows(t, v), what=text)

        def metadata():
            url = f"http://127.0.0.1:{port}/api/v1/metadata?metric=pglockd_lock_hold_seconds"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=20) as reply:
                return json.load(reply)["data"].get("pglockd_lock_hold_seconds")
            return None
        (known,) = eventually(metadata)
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


def test_hostile_names_break_neither_scrape_nor_table(make_daemon):
    """Names of policies are the only labels from outside; their check is taken away for this."""
    daemon = make_daemon(*FAST)
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
        assert set(client.ask_ok("STATS")["metrics"]["rate_permits_total"]) >= set(hostile)

        def written():
            cursor.execute("select labels ->> 'policy' from pglockd.metrics "
                           "where name = 'pglockd_rate_permits_total'")
            return {name for name, in cursor} >= set(hostile)
        eventually(written)


# ---- the database away, slow, or started anew ----

def test_metrics_are_served_while_postgresql_is_frozen(make_daemon):
    daemon = make_daemon(*FAST, "--metrics-buffer", "4")
    with Lines(daemon.line) as client, contextlib.closing(daemon.sql()) as connection:
        client.lock("frozen")
        daemon.signal_postgres(signal.SIGSTOP)
        try:
            found = eventually(
                lambda: (f := scrape(daemon))[key("pglockd_metrics_dropped_samples_total")] > 2 and f)
            assert found[key("pglockd_metrics_buffered_samples")] <= 4 + 10, "and those on their way"
            assert fetch(daemon, "/healthz")[0] == "alive\n"
        finally:
            daemon.signal_postgres(signal.SIGCONT)
        eventually(lambda: scrape(daemon)[key("pglockd_metrics_buffered_samples")] == 0)
        dropped = scrape(daemon)[key("pglockd_metrics_dropped_samples_total")]
        cursor = connection.cursor()

        def written():
            cursor.execute("select max(value) from pglockd.metric_history "
                           "where name = 'pglockd_metrics_dropped_samples_total'")
            return cursor.fetchone()[0] >= dropped > 0
        eventually(written)


def test_metrics_are_served_and_written_later_when_postgresql_is_gone(make_daemon):
    daemon = make_daemon(*FAST, "--metrics-buffer", "1000")
    with Lines(daemon.line) as client:
        client.lock("gone")
        instance = daemon.instance()
        with contextlib.closing(daemon.sql()) as connection:
            eventually(lambda: table(connection.cursor(), instance))
        before = daemon.postmaster()
        os.kill(before, signal.SIGKILL)
        eventually(lambda: daemon.postmaster() not in (None, before))
        eventually(lambda: client.ask("LOCK gone/after mode=shared").status == "OK")
        assert fetch(daemon)[0]
    # What was sampled while it was gone is there. (What was flushed just before may not be: flushing
    # does not wait for the disk.)
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()

        def outage_is_there():
            cursor.execute("select value from pglockd.metric_history where instance_id = %s and "
                           "name = 'pglockd_postgres_up' order by sampled_at", (instance,))
            values = [int(v) for v, in cursor]
            return 0 in values and values[-1] == 1
        eventually(outage_is_there)
        assert scrape(daemon)[key("pglockd_metrics_dropped_samples_total")] == 0
        cursor.execute("select bool_and(after >= before) from (select value as after, lag(value) over "
                       "(order by sampled_at) as before from pglockd.metric_history where "
                       "instance_id = %s and name = 'pglockd_received_bytes_total') h", (instance,))
        assert cursor.fetchone() == (True,)


def test_a_flush_that_hangs_delays_no_lock(make_daemon):
    daemon = make_daemon(*FAST)
    with Lines(daemon.line) as client, contextlib.closing(daemon.sql()) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("lock table pglockd.metric_sample in access exclusive mode")
        eventually(lambda: scrape(daemon)[key("pglockd_metrics_buffered_samples")] >= 3)
        for i in range(50):
            client.ask_ok(f"UNLOCK hang/{i} token={client.lock(f'hang/{i}')}")
        eventually(lambda: scrape(daemon)[key("pglockd_metrics_flushes_total", outcome="refused")] > 0)
        assert scrape(daemon)[key("pglockd_metrics_buffered_samples")] >= 3
        connection.rollback()
        eventually(lambda: scrape(daemon)[key("pglockd_metrics_buffered_samples")] == 0)
        assert "event=metrics_refused sqlstate=55P03" in daemon.log()


def test_rates_know_restarts(make_daemon):
    daemon = make_daemon(*FAST)

    def increase(cursor):
        cursor.execute("select coalesce(sum(increase), 0), count(distinct instance_id) "
                       "from pglockd.metric_rates where name = 'pglockd_lock_attempts_total'")
        return cursor.fetchone()

    def lock(count):
        with Lines(daemon.line) as client:
            for i in range(count):
                client.ask_ok(f"UNLOCK r/{i} token={client.lock(f'r/{i}')}")
    lock(3)
    with contextlib.closing(daemon.sql()) as connection:
        eventually(lambda: increase(connection.cursor()) == (3, 1))
    daemon.kill()
    daemon.start(*FAST)
    lock(4)
    with contextlib.closing(daemon.sql()) as connection:
        eventually(lambda: increase(connection.cursor()) == (7, 2))
    assert daemon.stop() == 0
    daemon.start(*FAST)
    with contextlib.closing(daemon.sql()) as connection:
        cursor = connection.cursor()
        eventually(lambda: increase(cursor) == (7, 2))
        # The latest values are of the daemons that serve: this one has granted nothing yet.
        eventually(lambda: table(cursor, daemon.instance()))

        def only_the_living():
            cursor.execute("select sum(value) from pglockd.metrics where name = 'pglockd_lock_attempts_total'")
            return cursor.fetchone() == (0,)
        eventually(only_the_living)  # the janitor finds that the killed one is dead


def test_what_was_counted_last_is_written_at_the_end(make_daemon, tmp_path):
    first = make_daemon("--metrics-flush", "0s")
    second = Daemon(tmp_path / "second", dsn=first.dsn)
    second.start("--metrics-flush", "1h")
    with Lines(second.line) as client:
        client.lock("end/1")
        client.lock("end/2")
    instance = second.instance()
    assert second.stop() == 0
    with contextlib.closing(first.sql()) as connection:
        cursor = connection.cursor()
        cursor.execute("select sum(value) from pglockd.metric_history h where instance_id = %s and name = "
                       "'pglockd_lock_attempts_total' and sampled_at = (select max(sampled_at) from "
                       "pglockd.metric_sample)", (instance,))
        assert cursor.fetchone() == (2,)


# ---- several daemons ----

def test_shared_state_is_shown_by_the_janitor_s_daemon_only(make_daemon, tmp_path):
    first = make_daemon(*FAST)
    second = Daemon(tmp_path / "second", dsn=first.dsn)
    second.start(*FAST)
    shared = {name for name, kind in DECLARED if kind == "SHARED"}
    try:
        with Lines(second.line) as client, Lines(first.line) as other:
            client.lock("sum/1")
            client.lock("sum/2")
            client.ask_ok("SESSION OPEN ttl=1m")
            other.send("LOCK sum/1 wait=inf")
            wait_for_queue(client, "sum/1", 1)

            def sums():
                both = [scrape(first), scrape(second)]
                return [sum(f.get(key(name), 0) for f in both) for name in (
                    "pglockd_locks_held", "pglockd_sessions", "pglockd_waiters")]
            eventually(lambda: sums() == [2, 1, 1])
            # Another one may have become the janitor between two looks.
            eventually(lambda: sorted((shared & {name for name, _ in scrape(d)} for d in (first, second)), key=len)
                       == [set(), shared])
            # In the table as well: for each such gauge one daemon has a value.
            with contextlib.closing(first.sql()) as connection:
                cursor = connection.cursor()

                def in_table():
                    cursor.execute("select value from pglockd.metrics where name = 'pglockd_locks_held'")
                    return cursor.fetchall() == [(2,)]
                eventually(in_table)
                cursor.execute("select count(distinct layout_id) from pglockd.metric_sample")
                assert cursor.fetchone() == (1,), "daemons of one version share a layout"
    finally:
        second.stop()


def test_an_old_snapshot_is_seen(make_daemon):
    daemon = make_daemon(*FAST)
    with contextlib.closing(psycopg2.connect(daemon.dsn)) as connection, Lines(daemon.line) as client:
        connection.set_session(isolation_level="REPEATABLE READ")
        connection.cursor().execute("select 1")
        for i in range(20):
            client.ask_ok(f"UNLOCK x/{i} token={client.lock(f'x/{i}')}")

        def age():
            found = scrape(daemon)
            return (found.get(key("pglockd_postgres_oldest_xmin_transactions"), 0) >= 20 and
                    found[key("pglockd_postgres_oldest_xmin_seconds")] > 0)
        eventually(age)
        connection.rollback()
        eventually(lambda: scrape(daemon)[key("pglockd_postgres_oldest_xmin_transactions")] < 20)


# ---- rights, partitions, settings ----

def test_a_member_of_the_service_role_is_enough(within_a_day, make_daemon, tmp_path):
    """No superuser, no owner: partitions are made and samples written all the same."""
    cluster = make_daemon("--metrics-flush", "0s")
    with contextlib.closing(cluster.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        cursor.execute("create database other owner pglockd")
        cursor.execute("create role plain login in role pglockd_service")
    owner = cluster.dsn.replace("dbname=pglockd", "dbname=other")
    done = subprocess.run([PGLOCKCTL, "migrate", "up", "--dsn", owner], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    daemon = Daemon(tmp_path / "plain", dsn=owner.replace("user=pglockd", "user=plain"))
    daemon.start(*FAST)
    try:
        with contextlib.closing(psycopg2.connect(owner)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            eventually(lambda: table(cursor, daemon.instance()))

            def made_ahead():
                cursor.execute("select count(*), bool_and(pg_get_userbyid(relowner) = 'pglockd') "
                               "from pg_class where relname ~ '^metric_sample_[0-9]{8}$'")
                return cursor.fetchone() == (3, True)
            eventually(made_ahead)
            found = eventually(
                lambda: (f := scrape(daemon)).get(key("pglockd_locks_held")) is not None and f)
            assert found[key("pglockd_postgres_errors_total", **{"class": "42"})] == 0
    finally:
        daemon.stop()


def test_the_janitor_s_daemon_drops_what_is_too_old(within_a_day, make_daemon):
    daemon = make_daemon(*FAST)

    def partitions():
        with contextlib.closing(daemon.sql()) as connection:
            cursor = connection.cursor()
            cursor.execute("select relname from pg_class where relname ~ '^metric_sample_[0-9]{8}$' "
                           "and relkind = 'r' order by 1")
            return [name for name, in cursor]
    eventually(lambda: len(partitions()) == 3)
    with contextlib.closing(daemon.sql()) as connection:
        connection.cursor().execute("select pglockd.day_partition('metric_sample', current_date - 8), "
                                    "pglockd.day_partition('metric_sample', current_date - 6)")
    assert len(partitions()) == 5
    assert daemon.stop() == 0
    daemon.start(*FAST)
    eventually(lambda: len(partitions()) == 4)
    assert daemon.stop() == 0
    daemon.start(*FAST, "--metrics-retention", "1d")
    eventually(lambda: len(partitions()) == 3)


def test_flushing_is_off_and_on_by_a_reload(make_daemon, tmp_path):
    ini = tmp_path / "pglockd.ini"
    ini.write_text("[pglockd]\nmetrics_flush = 0s\n")
    daemon = make_daemon("--config", str(ini))

    def samples():
        with contextlib.closing(daemon.sql()) as connection:
            cursor = connection.cursor()
            cursor.execute("select count(*) from pglockd.metric_sample")
            return cursor.fetchone()[0]
    eventually(lambda: "pglockd_locks_held" in fetch(daemon)[0])  # gauges need no flushing
    assert samples() == 0
    ini.write_text("[pglockd]\nmetrics_flush = 100ms\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: samples() > 3)


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
