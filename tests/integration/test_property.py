"""Random clients on two daemons: whatever they do, the promises hold.

Mutual exclusion, tokens that only grow, first come first served, nothing left behind. The seed is
printed when a test fails; PGLOCKD_TEST_SEED repeats a run (as far as the machine repeats itself).
And the checks themselves are tested: each finds the violation that was forged for it.
"""

import os

import pytest

from history import Request, Swarm, check, check_exclusion, check_order, check_tokens
from lines import eventually

SEED = int(os.environ.get("PGLOCKD_TEST_SEED", "20240229"))


def left_over(cursor, prefix):
    """Leases and waiters; not the places of clients that came back for too short a wait."""
    cursor.execute("select 'lease', resource, token::text from pglockd.lease where resource like %s "
                   "union all select 'waiter', resource, owner from pglockd.waiter "
                   "where resource like %s and absent_until_us is null",
                   (prefix + "/%", prefix + "/%"))
    return cursor.fetchall()


@pytest.mark.parametrize("run,clients,resources,steps", [
    (1, 8, 1, 2000), (2, 24, 3, 3000), (3, 40, 10, 3000),
])
def test_random_clients_on_two_daemons(never_silent, peer, sql, run, clients, resources, steps):
    prefix = f"random/{run}"
    swarm = Swarm([peer().line, peer().line], [f"{prefix}/{i}" for i in range(resources)], clients, SEED + run)
    print(f"PGLOCKD_TEST_SEED={SEED}")
    swarm.run(steps)
    swarm.finish()
    swarm.close()
    assert check(swarm.record) == []
    assert swarm.surprises == []
    granted = [r for r in swarm.record if r.granted]
    waited = [r for r in swarm.record if r.seen_waiting]
    assert len(granted) > steps / 50 and len(waited) > 50, "too little happened to prove anything"
    # A client that vanished with a grant on its way loses it at once, not after the TTL.
    cursor = sql().cursor()
    # A grant whose client left with an id is kept for requeue_grace (30 s).
    eventually(lambda: not left_over(cursor, prefix), seconds=120, what=f"nothing is left of {prefix}")


def test_one_writer_among_many_readers(never_silent, daemon, peer, sql):
    """Readers come without end, overlapping; each writer gets its turn all the same."""
    swarm = Swarm([daemon.line, peer().line], ["random/rw/0"], 8, SEED)
    writers, readers = swarm.clients[:2], swarm.clients[2:]
    done = 0

    def turn():
        nonlocal done
        for client in swarm.clients:
            if client.held and swarm.random.random() < 0.5:
                done += client in writers
                swarm.unlock(client)
            elif not client.held and not client.waiting:
                swarm.lock(client, "inf", mode="exclusive" if client in writers else "shared")
        swarm.look(readers[0])
        swarm.poll(0.05)
        return done >= 40
    eventually(turn, seconds=120, what="each writer gets its turn")
    swarm.finish()
    swarm.close()
    assert check(swarm.record) == [] and swarm.surprises == []
    cursor = sql().cursor()
    eventually(lambda: not left_over(cursor, "random/rw"))


# ---- the checks find what they look for ----

def grant(start, end, released, token, mode="exclusive", resource="r", **more):
    return Request(resource, mode, start, end, "OK", "", token, released=released, **more)


GOOD = [grant(0, 1, 2, 1), grant(0.5, 3, 4, 2, seen_waiting=0.7), grant(5, 6, 9, 3, "shared"),
        grant(5, 7, 8, 4, "shared"), grant(0, 1, None, 5, resource="other"),
        Request("r", "exclusive", 7, 7.5, "BUSY", "busy"),
        Request("r", "exclusive", 0.6, 0.9, "ERR", "cancelled", seen_waiting=0.7, given_up=0.8)]


def test_a_good_record_passes():
    assert check(GOOD) == []


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_two_holders_are_found(mode):
    assert check_exclusion([grant(0, 1, 5, 1), grant(2, 3, 4, 2, mode)])
    assert check_exclusion([grant(0, 1, 5, 1, mode), grant(2, 3, 4, 2)])
    assert check_exclusion([grant(0, 1, None, 1), grant(2, 3, None, 2)])


def test_holders_that_only_touch_are_fine():
    assert not check_exclusion([grant(0, 1, 3, 1), grant(2, 3, 4, 2)])
    assert not check_exclusion([grant(0, 1, 5, 1, "shared"), grant(2, 3, 4, 2, "shared")])
    assert not check_exclusion([grant(0, 1, None, 1), grant(2, 150, None, 2)]), "the TTL was over"


def test_tokens_that_shrink_or_repeat_are_found():
    assert check_tokens([grant(0, 1, 2, 7), grant(3, 4, 5, 6)])
    assert check_tokens([grant(0, 1, 2, 7), grant(3, 4, 5, 7, resource="s")])
    assert not check_tokens([grant(0, 1, 2, 7), grant(3, 4, 5, 6, resource="s")])
    assert not check_tokens([grant(0, 2, 3, 7), grant(1, 4, 5, 6)]), "they overlapped"


def test_overtaking_is_found():
    waiter = grant(1, 9, 10, 8, seen_waiting=2)
    assert check_order([waiter, grant(3, 4, 5, 7)])
    assert check_order([waiter, grant(3, 4, 5, 7, "shared")])
    assert not check_order([waiter, grant(1.5, 4, 5, 7)]), "it came before the waiter was seen"
    assert not check_order([waiter, grant(3, 4, 5, 9)])
    assert not check_order([grant(1, 9, 10, 8, "shared", seen_waiting=2), grant(3, 4, 5, 7, "shared")])


def test_a_grant_past_a_waiter_that_got_nothing_is_found():
    waiter = Request("r", "exclusive", 1, 9, "TIMEOUT", "timeout", seen_waiting=2, given_up=8)
    assert check_order([waiter, grant(3, 4, 5, 7)])
    assert not check_order([waiter, grant(3, 8.5, 9, 7)]), "it had given up"


def test_the_victim_of_a_deadlock_was_out_of_the_queue_before_it_heard_of_it():
    victim = Request("r", "exclusive", 1, 9, "DEADLOCK", "deadlock", seen_waiting=2)
    assert not check_order([victim, grant(3, 4, 5, 7)])
