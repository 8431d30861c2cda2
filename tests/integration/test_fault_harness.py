"""Faults of many kinds, to two daemons, a PostgreSQL and many clients: and no promise is broken.

A short form of make check-faults: each of these faults once, as soon as the clients have done some work since
the one before. The report is in tests/faults.txt of the build directory. And the checks themselves are tested:
each finds the violation that was forged for it, and is content with a record that is good.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import need_programs
from fault_checks import (Record, Row, Update, check, check_acknowledged, check_fenced, check_released, check_rows,
                          check_unfenced, is_late, lost_updates)
from fault_harness import Harness, workplace
from fault_kinds import KINDS, SECONDS
from fault_record import Log, read_notes
from history import Request

SEED = int(os.environ.get("PGLOCKD_TEST_SEED", "20240229"))
FAULTS = ("clients_paused", "reply_lost", "daemon_killed", "lease_clock_stepped", "client_killed", "postgres_killed",
          "leases_forced", "daemon_paused", "connections_dropped")


def test_no_fault_breaks_a_promise():
    need_programs()
    with workplace() as directory:
        harness = Harness(directory, SEED, clients=8)
        record = harness.run(kinds=FAULTS)
        found = check(record)
        report = harness.report(record, found)
        Path(os.environ["BUILDDIR"], "tests/faults.txt").write_text(report + "\n")
        assert not any(found.values()), report
    assert [fault.kind for fault in harness.faults] == [KINDS[name].name for name in FAULTS]
    assert sum(r.granted for r in record.requests) > len(FAULTS), report
    assert any(u.outcome == "ok" for u in record.fenced), report


BREAKS = """
import sys
from fault_worker import Worker, psycopg2

class Notices:
    def append(self, _):  # called by psycopg2 in the middle of a statement
        worker.on_break()

worker = Worker("w", 1, [], sys.argv[1], ".", "/dev/null", [])
cursor = worker.cursor()
worker.sql.notices = Notices()
try:
    cursor.execute("do $$ begin raise notice 'now'; end $$")
    cursor.execute("select 1")
except psycopg2.Error:
    print("broken")
"""


def test_a_client_whose_connections_break_at_any_time_goes_on(daemon):
    """Race: the signal comes while psycopg2 reads a notice, in Python and with its connection locked. The
    client's handler closed that connection, which waited for the lock: for ever.

    Fix: it shuts the socket down, and leaves the rest to whoever uses it.
    """
    done = subprocess.run([sys.executable, "-c", BREAKS, daemon.dsn], cwd=Path(__file__).parent, timeout=SECONDS,
                          capture_output=True, text=True, check=True)
    assert done.stdout == "broken\n"


# ---- the checks find what they look for ----

def come(token, lease_us, mode="exclusive", resource="r", **more):
    return Row(resource, token, mode, True, lease_us, **more)


def go(token, lease_us, mode="exclusive", resource="r", **more):
    return Row(resource, token, mode, False, lease_us, **more)


ROWS = [come(1, 10), go(1, 20), come(2, 20), come(3, 25, resource="other"), go(2, 30, expires_us=30, reason="expired"),
        come(4, 40, "shared"), come(5, 40, "shared"), go(4, 50), go(5, 50), come(7, 60)]


def grant(start, end, released, token, deadline, **more):
    return Request("r", "exclusive", start, end, "OK", "", token, released=released, deadline=deadline, **more)


GRANTS = [grant(0, 1, 2, 1, 9), grant(0.5, 3, 4, 2, 9), grant(5, 6, None, 7, 9, lost=10, lost_reason="expired")]


def update(counter, name, token, start, end, wrote, outcome="ok", deadline=100):
    return Update(counter, name, token, start, end, wrote, deadline, outcome)


FENCED = [update("c", "u1", 1, 0, 1, 1), update("c", "u2", 2, 2, 3, 2), update("c", "u3", 1, 0, 4, None, "refused"),
          update("c", "u4", 2, 5, 6, None, "unknown"), update("c", "u5", 3, 7, None, None, "")]
WRITTEN = {"c": [(1, "u1", 1), (2, "u2", 2), (3, "u4", 2), (4, "u5", 3)]}
UNFENCED = [update("/f", "f1", 1, 0, 1, 1), update("/f", "f2", 2, 2, 3, 2),
            update("/f", "f3", 3, 4, 6, 3, deadline=5), update("/f", "f4", 4, 6, 7, 3)]
GOOD = Record(GRANTS, ROWS, FENCED, WRITTEN, {"c": 4}, UNFENCED, [], [], [])


def test_a_good_record_passes():
    assert not any(check(GOOD).values()), check(GOOD)


@pytest.mark.parametrize("kind, forged", [
    ("two exclusive holders, as their clients saw it", {"requests": [grant(0, 1, None, 1, 9), grant(2, 3, 4, 2, 9)]}),
    ("two exclusive holders in lease time", {"rows": [come(1, 10), come(2, 20)]}),
    ("two exclusive holders, as pglockd found", {"overlaps": ['{"resource": "r"}']}),
    ("tokens that do not grow", {"requests": [grant(0, 1, 2, 7, 9), grant(3, 4, 5, 2, 9)]}),
    ("acknowledged leases that are missing", {"rows": []}),
    ("updates lost under a fence", {"finals": {"c": 3}}),
    ("updates lost in time", {"unfenced": UNFENCED[:2] + [update("/f", "f3", 3, 4, 5, 2)]}),
    ("not served in the order they came", {"requests": [grant(0, 9, 10, 8, 19, seen_waiting=1),
                                                        grant(2, 3, 4, 7, 9)]}),
    ("not released at the end", {"left": ["lease r 1"]}),
    ("clients that hang", {"hung": ["w1"]}),
])
def test_each_kind_of_violation_is_reported(kind, forged):
    found = check(replace(GOOD, **forged))
    assert [wrong for name, wrong in found.items() if name.startswith(kind) and wrong], found


@pytest.mark.parametrize("rows", [
    [come(1, 10), come(2, 20, "shared")], [come(1, 10, "shared"), come(2, 20)], [come(1, 10), come(1, 20)],
    [come(5, 10), go(5, 20), come(4, 30)],
    [come(1, 10), go(1, 900000), come(2, 600000)],
    [come(1, 10), go(1, 700000, expires_us=1000000, reason="expired")],
])
def test_rows_that_should_not_be_are_found(rows):
    assert check_rows(rows)


@pytest.mark.parametrize("rows", [
    [come(1, 10, "shared"), come(2, 10, "shared"), go(1, 20), come(3, 30, "shared")],
    [come(1, 10, "shared"), go(1, 20, "shared"), come(1, 20)],                      # its mode was changed
    [come(1, 10), go(1, 900000), come(2, 800000)],                                  # a wall clock stepped
    [come(1, 10), go(1, 900000, server="a"), come(2, 600000, server="b")],          # a crash lost ticks
    [come(1, 10), go(1, 700000, expires_us=1000000, reason="forced")],
])
def test_rows_that_may_be_pass(rows):
    assert not check_rows(rows)


@pytest.mark.parametrize("r", [
    grant(0, 1, 2, 3, 9), grant(0, 1, 2, 4, 9), grant(0, 1, None, 7, 9, lost=8, lost_reason="expired"),
    grant(0, 1, None, 7, 9, lost=8, lost_reason="unknown"), grant(0, 1, None, 1, 9)])
def test_a_lease_that_is_missing_is_found(r):
    """Never there, there in another mode, lost before its deadline, or ended by nobody."""
    assert check_acknowledged([r], ROWS)


@pytest.mark.parametrize("r", [
    grant(0, 1, None, 7, 9, lost=8, lost_reason="forced"), grant(0, 1, 2, 7, 9, lost=3, lost_reason="unknown"),
    Request("r", "exclusive", 0, 1, "BUSY", "busy")])
def test_a_lease_that_was_taken_away_or_released_is_not_missing(r):
    assert not check_acknowledged([r], ROWS)


@pytest.mark.parametrize("updates, written, final", [
    (FENCED, [(1, "u1", 1), (1, "u2", 2), (2, "u4", 2), (3, "u5", 3)], 3),        # one more than the other
    (FENCED, [(1, "u1", 1), (3, "u2", 2), (4, "u4", 2), (5, "u5", 3)], 5),
    (FENCED, [(1, "u1", 2), (2, "u2", 1), (3, "u4", 2), (4, "u5", 3)], 4),        # a stale token came later
    (FENCED, [(1, "u2", 2), (2, "u4", 2), (3, "u5", 3)], 3),                      # u1 was acknowledged
    (FENCED, [(1, "u1", 1), (2, "u2", 2), (3, "u3", 2)], 3),                      # u3 was refused
    (FENCED[:2], [(1, "u1", 1), (2, "u2", 2), (3, "x", 3)], 3),                   # nobody's
    (FENCED[:2], [(1, "u1", 1), (2, "u2", 2)], 1),
])
def test_a_lost_update_under_a_fence_is_found(updates, written, final):
    assert check_fenced(updates, {"c": written}, {"c": final})


def test_what_a_client_does_not_know_may_be_there_or_not():
    assert not check_fenced(FENCED, {"c": WRITTEN["c"][:2]}, {"c": 2})
    assert not check_fenced(FENCED, WRITTEN, {"c": 4})


def test_without_a_fence_only_what_is_late_excuses_a_lost_update():
    assert is_late(UNFENCED[2]) and not is_late(UNFENCED[1])
    assert lost_updates(UNFENCED) == 1 and not check_unfenced(UNFENCED)
    in_time = UNFENCED[:2] + [replace(UNFENCED[2], deadline=6)] + UNFENCED[3:]
    assert check_unfenced(in_time)
    assert not check_unfenced(in_time[:3]), "each wrote another value"
    unknown = [replace(UNFENCED[0], end=None, wrote=None, outcome="unknown")] + in_time[1:]
    assert not check_unfenced(unknown), "who died in a write may have written late"


@pytest.mark.parametrize("forced", [{}, {7: "w1-1"}], ids=["kept", "forced"])
def test_what_was_written_under_a_lease_that_was_taken_away_may_be_late(tmp_path, forced):
    """In time by its writer's clock, who has not heard of it."""
    lines = [{"what": "update", "counter": "/f", "name": "w1-2", "token": 7, "t": 1, "deadline": 9},
             {"what": "updated", "name": "w1-2", "t": 2, "outcome": "ok", "wrote": 1}]
    path = tmp_path / "w1.log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, (written,) = read_notes([Log(path)], forced)
    assert is_late(written) == bool(forced)


def test_what_is_left_is_found():
    assert check_released(["waiter r w1-1"]) and not check_released([])
