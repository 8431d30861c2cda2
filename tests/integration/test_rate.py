"""Rate limits over several daemons: the bound holds whatever happens, and what there is gets used."""

import contextlib
import os
import signal
import threading
import time

import pytest

from conftest import Daemon
from lines import Lines, eventually
from proxy import Proxy
from rate_load import Record, admitted, load, worst_excess

SECONDS = float(os.environ.get("PGLOCKD_RATE_SECONDS", "3"))  # of one hot key; 10 for measuring


def stood_still_in(records):
    """Seconds in which not one answer came to anybody: nobody asked, and nobody could use a permit."""
    times = sorted({r.received for r in records})
    return sum(gap for gap in (b - a for a, b in zip(times, times[1:])) if gap > 0.1)


@pytest.fixture
def behind(daemon, directory):
    """A daemon that reaches the database through a proxy: (daemon, proxy)."""
    with Proxy(f"{daemon.directory}/run/.s.PGSQL.5432") as proxy:
        one = Daemon(directory / "behind-rate",
                     dsn=f"host=127.0.0.1 port={proxy.port} dbname=pglockd user=pglockd")
        one.start()
        yield one, proxy
        if one.is_running():
            one.stop()


def stats(address):
    with Lines(address) as client:
        return client.ask_ok("STATS")["metrics"]


# ---- the checker itself ----

def test_the_checker_sees_an_excess():
    """Of a made-up record: 12 in 1 s under a limit of 10 a second with a burst of 1."""
    records = [Record(i / 12, i / 12, 0, "", 1, "OK", "") for i in range(13)]
    assert worst_excess(records, 12, 1) <= 1e-6
    assert worst_excess(records, 10, 1) == pytest.approx(2)


# ---- one hot key ----

@pytest.mark.alone
def test_four_daemons_share_a_hot_key(daemon, peer):
    addresses = [daemon.line] + [peer().line for _ in range(3)]
    rate = burst = 1000
    before = [stats(a)["rate_lost_permits_total"] for a in addresses]
    records = load(addresses, ["RATE hot/four limit=1000 per=1s"], SECONDS)
    lost = sum(stats(a)["rate_lost_permits_total"] for a in addresses) - sum(before)
    begin = min(r.sent for r in records)
    took = max(r.received for r in records) - begin
    usable = took - stood_still_in(records)
    got = admitted(records)
    # The first second is that of the burst, which goes to whoever is first.
    steady = [r for r in got if SECONDS >= 10 or r.sent > begin + 1]
    shares = [sum(r.daemon == number for r in steady) / len(steady) for number in range(4)]
    print(f"admitted {len(got)} of {rate * took + burst:.0f} in {took:.2f} s, asked {len(records)}, "
          f"lost {lost}, shares {shares}")
    assert worst_excess(records, rate, burst) <= 0
    # Where the machine is not left to this test, clients do not come in time for all permits.
    measured = SECONDS >= 10
    assert len(got) + lost >= (0.99 if measured else 0.85) * (rate * usable + burst)
    low, high = (0.15, 0.35) if measured else (0.08, 0.5)
    assert all(low <= share <= high for share in shares)


def test_writes_do_not_grow_with_demand(daemon):
    """A batch writes a counter once at most, so batches bound the writes to the hot key's row."""
    def batches(connections, depth):
        before, begin = stats(daemon.line)["rate_batches_total"], time.monotonic()
        records = load([daemon.line], ["RATE hot/writes limit=1000 per=1s"], 1, connections, depth)
        count = stats(daemon.line)["rate_batches_total"] - before
        return count, count / max(1, time.monotonic() - begin), len(records)
    low, low_rate, few = batches(1, 4)
    high, high_rate, many = batches(8, 64)
    print(f"{few} requests: {low} batches; {many} requests: {high} batches")
    assert many > 20 * high
    assert max(low_rate, high_rate) <= 100


# ---- faults ----

def clock_back(sql, seconds):
    cursor = sql().cursor()
    cursor.execute("select pg_get_functiondef('pglockd.rate_now_ns()'::regprocedure)")
    original = cursor.fetchone()[0]
    cursor.execute(original.replace("::bigint * 1000", f"::bigint * 1000 - {seconds}000000000"))
    return lambda: cursor.execute(original)


def test_the_bound_holds_whatever_happens(daemon, peer, behind, sql, policy):
    policy("faults", pattern="faults/p/", quota=400, per="1 s", burst=200)
    policy("faults-all", pattern="faults/p/", quota=600, per="1 s", burst=600, counter="pattern")
    policy("faults-exact", pattern="faults/e", quota=300, per="1 s", burst=100, borrow=False)
    stopped, killed, (late, proxy) = peer(), peer(), behind
    lines = (["RATE faults/one limit=1000 per=1s"] * 4 +
             [f"RATE faults/mixed limit=2000 per=1s burst=500 cost={c}" for c in (1, 3, 7, 1)] +
             ["RATE faults/p/a", "RATE faults/p/b cost=2", "RATE faults/p/a", "RATE faults/e"])
    from_sql, ending = [], threading.Event()
    restore = []

    def ask_by_sql():
        cursor = sql().cursor()
        while not ending.wait(0.02):
            sent = time.monotonic()
            cursor.execute("select status from pglockd.rate('faults/one', quota => 1000, per => '1 s')")
            from_sql.append(Record(sent, time.monotonic(), 9, "RATE faults/one", 1, cursor.fetchone()[0], "sql"))

    thread = threading.Thread(target=ask_by_sql)
    thread.start()
    try:
        records = load([daemon.line, stopped.line, killed.line, late.line], lines, 3.6, 2, 24, [
            (0.4, lambda: stopped.signal(signal.SIGSTOP)),  # longer than permits may be kept
            (0.7, lambda: proxy.cut_after("rate_decide")),
            (1.0, lambda: stopped.signal(signal.SIGCONT)),
            (1.2, proxy.release),                           # stalled between commit and reply
            (1.5, killed.kill),
            (1.7, lambda: proxy.cut_after("rate_decide")),
            (1.9, proxy.cut),                               # and lost
            (2.2, lambda: restore.append(clock_back(sql, 5))),
            (2.8, lambda: policy("faults", quota=800, burst=400)),
            (3.2, lambda: policy("faults", quota=200, burst=50)),
        ])
    finally:
        ending.set()
        thread.join()
        for undo in restore:
            undo()
    records += from_sql

    def of(word):
        return [r for r in records if word in r.line]
    assert worst_excess(of("faults/one"), 1000, 1000) <= 0
    assert worst_excess(of("faults/mixed"), 2000, 500) <= 0
    assert worst_excess(of("faults/e"), 300, 100) <= 0
    assert worst_excess(of("faults/p/"), 600, 600) <= 0
    for key in "faults/p/a", "faults/p/b":
        # Two changes: each may let the burst before and the one behind it meet in a window.
        assert worst_excess(of(key), 800, 200 + 400 + 50) <= 0
    for word in "faults/one", "faults/mixed", "faults/p/a", "faults/p/b", "faults/e":
        assert len(admitted(of(word))) > 50, word
    assert {r.source for r in admitted(records)} >= {"local", "database", "sql"}
