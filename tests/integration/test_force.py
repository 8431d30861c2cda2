"""FORCE: who may, what becomes of the lease, and who is told."""

import contextlib
import json
import os
import select

import pytest

from conftest import ctl
from lines import Lines, eventually, wait_for_queue
from schema import one, rows, waiters


@pytest.fixture
def local(daemon):
    """A connection over the Unix socket of the shared daemon, which has auth off."""
    with Lines(daemon.unix_address) as client:
        yield client


def test_a_lease_ends_with_its_reason(client, local, sql, resource):
    token = client.lock(resource, "owner=agent-7")
    reply = local.ask_ok(f'FORCE {resource} token={token} reason="the build hangs"')
    assert (reply["resource"], reply["token"], reply["owner"]) == (resource, token, "agent-7")
    assert reply["held_ms"] >= 0
    by = f"by user {os.getuid()} over the Unix socket: the build hangs"
    lost = client.ask(f"RENEW {resource} token={token}")
    assert (lost.status, lost["reason"], lost["detail"]) == ("LOST", "forced", by)
    assert rows(sql().cursor(), "select reason::text, detail from pglockd.tombstone where resource = %s",
                resource) == [("forced", by)]
    again = local.ask(f"FORCE {resource} token={token}")
    assert (again.status, again["reason"]) == ("LOST", "forced")


def test_the_holder_is_told_and_the_next_is_served(client, connect, local, resource):
    client.ask_ok("HELLO events=on")
    token = client.lock(resource)
    waiter = connect(name="waiter")
    waiter.send(f"LOCK {resource} wait=inf")
    assert client.reply()["event"] == "wanted"
    local.ask_ok(f"FORCE {resource} token={token} reason=why")
    event = client.reply()
    assert (event["event"], event["reason"], event["held_by"]) == ("lost", "forced", "waiter")
    assert event["detail"].endswith(": why")
    assert waiter.reply()["token"] > token


def test_the_next_waits_at_another_daemon(client, connect, peer, local, resource):
    waiter = connect(peer())
    token = client.lock(resource)
    waiter.send(f"LOCK {resource} wait=inf")
    wait_for_queue(client, resource, 1)
    local.ask_ok(f"FORCE {resource} token={token}")
    assert waiter.reply().status == "OK"


def test_a_grant_that_its_daemon_has_not_collected(client, connect, sql, resource):
    """Its client never knew of it and waits on: those behind are served meanwhile, and it is the first of
    those left when its daemon notices.
    """
    cursor = sql().cursor()
    token = client.lock(resource)
    waiters_of = [connect(name=name) for name in ("first", "second", "third")]
    for waiting, waiter in enumerate(waiters_of, 1):
        waiter.send(f"LOCK {resource} wait=inf")
        wait_for_queue(client, resource, waiting)
    first, second, third = waiters_of
    ahead = waiters(cursor, resource)
    connection = sql()
    connection.autocommit = False  # until the commit no daemon knows
    assert rows(connection.cursor(), "select status from pglockd.unlock(%s, %s)", resource, token) == [("OK",)]
    assert rows(connection.cursor(), "select status from pglockd.force(%s, reason => 'why')",
                resource) == [("OK",)]
    connection.commit()
    token = second.reply()["token"]
    eventually(lambda: waiters(cursor, resource) == [ahead[0], ahead[2]])
    second.ask_ok(f"UNLOCK {resource} token={token}")
    token = first.reply()["token"]
    third.nothing_comes()
    first.ask_ok(f"UNLOCK {resource} token={token}")
    assert third.reply().status == "OK"


def test_one_of_many(client, connect, local, resource):
    tokens = [client.lock(resource, "mode=shared") for _ in range(3)]
    local.ask_ok(f"FORCE {resource} token={tokens[1]}")
    assert [client.ask(f"CHECK {resource} token={t}").status for t in tokens] == ["OK", "LOST", "OK"]


def test_a_tree(client, connect, local, resource):
    """Whoever waits beneath is let in, and whoever waits for the tree above."""
    token = client.lock(resource, "scope=tree")
    above, beneath = connect(), connect()
    beneath.send(f"LOCK {resource}/a/b wait=inf")
    wait_for_queue(client, f"{resource}/a/b", 1)
    local.ask_ok(f"FORCE {resource} token={token}")
    token = beneath.reply()["token"]
    above.send(f"LOCK {resource} scope=tree wait=inf")
    wait_for_queue(client, resource, 1)
    local.ask_ok(f"FORCE {resource}/a/b token={token}")
    assert above.reply().status == "OK"


def test_one_of_a_set(client, local, resource):
    locks = client.ask_ok(f"LOCK {resource}/a {resource}/b")["locks"]
    local.ask_ok(f"FORCE {resource}/a token={locks[0]['token']}")
    assert [client.ask(f"CHECK {l['resource']} token={l['token']}").status for l in locks] == ["LOST", "OK"]


def test_a_slot_of_a_semaphore(client, connect, local, resource):
    tokens = [client.lock(resource, "limit=2") for _ in range(2)]
    waiter = connect()
    waiter.send(f"LOCK {resource} limit=2 wait=inf")
    wait_for_queue(client, resource, 1)
    local.ask_ok(f"FORCE {resource} token={tokens[0]}")
    assert waiter.reply().status == "OK"


def test_over_tcp_it_needs_auth(client, resource):
    token = client.lock(resource)
    reply = client.ask(f"FORCE {resource} token={token}")
    assert (reply.status, reply.code) == ("DENIED", "no_right") and "Unix socket" in reply["message"]
    assert client.ask_ok(f"CHECK {resource} token={token}")


def test_over_a_unix_socket_tokens_are_shown(client, local, resource):
    token = client.lock(resource)
    assert local.ask_ok(f"INFO {resource}")["holders"][0]["token"] == token
    assert local.ask(f"LOCK {resource}")["holders"][0]["token"] == token
    assert local.ask_ok(f"LIST prefix={resource}")["locks"][0]["token"] == token
    assert "token" not in client.ask_ok(f"INFO {resource}")["holders"][0]


def test_by_name(login, sql, resource):
    holder, boss = login("holder", f"lock:{resource}"), login("boss", f"force:{resource}")
    token = holder.lock(resource)
    assert boss.ask_ok(f"FORCE {resource} token={token} reason=why")["identity"] == "holder"
    assert one(sql().cursor(), "select detail from pglockd.tombstone where resource = %s",
               resource) == "by boss: why"


def test_what_a_transaction_keeps_is_not_forced(client, local, sql, resource):
    """One that has locked the row, as one that relies on the lease does."""
    token = client.lock(resource)
    keeping = sql()
    keeping.autocommit = False
    keeping.cursor().execute("select from pglockd.lease where resource = %s for key share", (resource,))
    reply = local.ask(f"FORCE {resource} token={token}")
    assert (reply.status, reply.code) == ("ERR", "fenced")
    assert rows(sql(user="postgres").cursor(), "select status from pglockd.force(%s)", resource) == [("FENCED",)]
    assert client.ask_ok(f"CHECK {resource} token={token}")
    keeping.rollback()
    local.ask_ok(f"FORCE {resource} token={token}")


def test_it_waits_a_moment_for_a_renewal(client, local, sql, resource):
    """For 200 ms. A machine that stands still may make more of any renewal, but not of each."""
    keeping, cursor = sql(), sql().cursor()
    keeping.autocommit = False

    def is_at_work():
        return one(cursor, "select count(*) from pg_stat_activity where state = 'active' and application_name = 'pglockd' "
                   "and query like '%%force_leases%%'")

    def has_waited():
        token = client.lock(resource, "ttl=10m")
        keeping.cursor().execute("select from pglockd.lease where resource = %s for no key update", (resource,))
        local.send(f"FORCE {resource} token={token}")
        seen = eventually(lambda: is_at_work() or select.select([local.socket], [], [], 0)[0])
        keeping.rollback()
        reply = local.reply()
        if reply.code == "fenced":
            client.ask_ok(f"UNLOCK {resource} token={token}")
        return reply.status == "OK" and seen == 1
    eventually(has_waited)


@pytest.mark.parametrize("keys,code", [
    ("", "bad_request"), ("token=0", "bad_request"), ("token=x", "bad_request"), ("token=1 reason=", "bad_request"),
    ("token=1 reason=" + "r" * 1025, "bad_request"), ("token=1 why=x", "unknown_key")])
def test_bad_requests(local, keys, code):
    assert local.ask(f"FORCE a {keys}").code == code


def test_a_client_that_goes_away_has_forced_all_the_same(client, daemon, resource):
    token = client.lock(resource)
    with Lines(daemon.unix_address) as gone:
        gone.send(f"FORCE {resource} token={token}")
    eventually(lambda: client.ask(f"CHECK {resource} token={token}").status == "LOST")


def test_the_command_line(client, daemon, resource):
    token = client.lock(resource, "owner=agent-7")
    (lock,) = json.loads(ctl(daemon.unix_address, "ls", f"prefix={resource}", "--json").stdout)["locks"]
    done = ctl(daemon.unix_address, "force", resource, f"token={lock['token']}", "reason=it hangs")
    assert done.returncode == 0 and done.stdout.startswith("it was held by agent-7 for "), done
    assert ctl(daemon.unix_address, "force", resource, f"token={token}").returncode == 76
    assert ctl(daemon.line, "force", resource, f"token={token}").returncode == 77


def test_many_at_once(client, daemon, resource):
    """Each lease is forced once, whoever comes first."""
    tokens = [client.lock(resource, "mode=shared") for _ in range(20)]
    with contextlib.ExitStack() as stack:
        forcing = [stack.enter_context(Lines(daemon.unix_address)) for _ in range(4)]
        for one_client in forcing:
            one_client.send(*[f"FORCE {resource} token={t}" for t in tokens])
        done = [r for c in forcing for r in [c.reply() for _ in tokens]]
    assert [r.status for r in done].count("OK") == 20 and {r.status for r in done} == {"OK", "LOST"}
