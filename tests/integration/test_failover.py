"""PostgreSQL fails over, restarts, and is restored, under real replication.

Tokens only grow. Nobody is granted what a lost grant may cover: while a holder may still rely on a grant
that the promoted standby missed, nothing is granted, and who has a lease renews it. Where every standby
confirms each commit nothing is lost, and nobody waits.
"""

import contextlib
import http.client
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from cluster import Server, multi_host
from conftest import Daemon, need_programs
from history import Swarm, check
from lines import Lines, eventually, wait_for_queue

TTL = 5  # seconds: the longest that is asked for where a quiet period is waited for


@pytest.fixture
def base():
    """A directory that PostgreSQL's user can reach, with a short name."""
    need_programs()
    path = Path(tempfile.mkdtemp(prefix="pglockd-fo-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(base):
    """A function that makes a server in a directory of that name; all are stopped after the test."""
    made = []

    def make(name, environment=None):
        made.append(Server(base / name, environment))
        return made[-1]
    yield make
    for one in made:
        if one.is_running():
            one.stop()


@pytest.fixture
def primary(server):
    return server("p").init().start().install()


@pytest.fixture
def standby(server, primary):
    return server("s").copy_from(primary, "s").start()


@pytest.fixture
def serve(base):
    """A function that starts a daemon on a connection string; all are stopped after the test."""
    made = []

    def start(dsn, *arguments):
        made.append(Daemon(base / f"d{len(made)}", "--ttl", f"{TTL}s", *arguments, dsn=dsn))
        return made[-1].start()
    yield start
    for one in made:
        if one.is_running():
            one.kill()


@pytest.fixture
def connect():
    with contextlib.ExitStack() as stack:
        yield lambda daemon: stack.enter_context(Lines(daemon.line))


def servers(cursor):
    """What was recorded, oldest first."""
    cursor.execute("select reason, timeline, quiet_ms, tokens_from, tokens_to, detail from pglockd.server "
                   "order by server_id")
    return cursor.fetchall()


def last_server(server):
    """(reason, length of the quiet period)"""
    reason, _, quiet_ms, _, _, _ = servers(server.sql())[-1]
    return reason, quiet_ms


def readyz(daemon):
    host, port = daemon.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", "/readyz")
    response = connection.getresponse()
    return response.status, response.read().decode()


def metric(daemon, name):
    host, port = daemon.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", "/metrics")
    return float(re.search(rf"^{name} (\S+)$", connection.getresponse().read().decode(), re.M)[1])


def answered(client, line, *statuses):
    """Asks until the answer has one of these statuses, or is no ERR where none is named."""
    def ask():
        reply = client.ask(line)
        return (reply.status in statuses if statuses else reply.status != "ERR") and reply
    return eventually(ask, 60, what=line)


def until_it_grants(client, line):
    return answered(client, line, "OK")


# ---- an asynchronous standby ----

def test_a_grant_that_the_standby_missed_keeps_its_resource_closed(primary, standby, serve, connect):
    dsn = multi_host(primary, standby)
    ttl = 15  # seconds: enough for all that is asked before it is over, and in the quiet period
    a, b = (serve(dsn, "--ttl", f"{ttl}s") for _ in range(2))
    holder, loser, other, waiter = connect(a), connect(b), connect(a), connect(b)
    kept = holder.lock("kept/1")
    standby.catch_up_with(primary)
    holder.ask_ok(f"RENEW kept/1 token={kept}")
    standby.cut_off()
    lost_sent = time.monotonic()
    lost = loser.ask_ok("LOCK lost/1")
    waiter.send("@w LOCK lost/1 wait=inf")
    wait_for_queue(other, "lost/1", 1)
    assert holder.ask_ok(f"RENEW kept/1 token={kept}")["ttl_ms"] == 1000 * ttl
    primary.kill()
    standby.promote()

    # Renewals go on, nothing is granted, and the lost one is said to be lost.
    assert answered(holder, f"RENEW kept/1 token={kept}").status == "OK"
    busy = answered(other, "LOCK lost/1")
    assert (busy.status, busy.code) == ("BUSY", "quiet")
    assert other.ask("LOCK free/1").code == "quiet"
    gone = answered(loser, f"RENEW lost/1 token={lost['token']}")
    assert (gone.status, gone["reason"]) == ("LOST", "failover")
    eventually(lambda: "not granting: quiet" in readyz(a)[1])
    assert readyz(a)[0] == 200
    eventually(lambda: metric(b, "pglockd_quiet_seconds") > 0)
    assert last_server(standby) == ("failover", 1000 * ttl + 750)

    # The waiter has kept its place, and gets the lock when the deadline of the lost grant is over.
    grant = waiter.reply(60)
    deadline = lost_sent + (lost["waited_ms"] + lost["ttl_ms"]) / 1000
    assert grant.status == "OK" and time.monotonic() >= deadline
    assert grant["token"] > lost["token"] and grant["token"] > kept
    assert holder.ask(f"RENEW kept/1 token={kept}").status == "OK", "the clock stood still"
    waiter.ask_ok(f"UNLOCK lost/1 token={grant['token']}")
    eventually(lambda: readyz(a) == (200, "ready, granting\n"))
    eventually(lambda: metric(b, "pglockd_server_changes_total") == 1)
    for daemon in (a, b):
        eventually(lambda: "event=quiet_period_over " in daemon.log_path.read_text())
        assert "event=quiet_period " in daemon.log_path.read_text()


def test_failover_under_load(primary, standby, serve, connect):
    """Many clients through two daemons. The standby lags as it happens; the primary dies under them."""
    dsn = multi_host(primary, standby)
    a, b = serve(dsn), serve(dsn)
    many = Swarm([a.line, b.line], [f"load/{i}" for i in range(4)], 12, 5)
    many.faulty = many.lossy = True
    many.ttl = TTL
    with contextlib.ExitStack() as stack:
        stack.callback(many.close)
        many.run(400)
        many.run(100000, until=lambda: sum(r.granted for r in many.record) > 20)
        standby.cut_off()
        many.run(200)
        died = time.monotonic()
        primary.kill()
        many.run(100)
        standby.promote()
        many.run(100000, until=lambda: any(r.granted and r.start > died + TTL for r in many.record))
        many.run(300)
        many.run(100000, until=lambda: sum(r.granted and r.end > died + TTL for r in many.record) > 5)
        many.finish()
    assert check(many.record) == []
    assert many.surprises == []
    before = [r.token for r in many.record if r.granted and r.end < died]
    after = [r.token for r in many.record if r.granted and r.end > died + TTL]
    assert len(before) > 20 and len(after) > 5 and min(after) > max(before)
    assert last_server(standby) == ("failover", 1000 * TTL + 750)
    for client in connect(a), connect(b):  # its daemon gives back first what a cancelled LOCK was granted
        client.ask_ok(f"UNLOCK settled token={client.lock('settled')}")
    assert standby.ask("select count(*) from pglockd.lease") == 0


def test_the_longest_ttl_is_reported_where_its_record_was_lost(primary, standby, serve, connect):
    """A TTL longer than any before, asked for just before the failover."""
    a = serve(multi_host(primary, standby))
    client = connect(a)
    client.lock("short/1", "ttl=1s")
    standby.catch_up_with(primary)
    standby.cut_off()
    client.lock("long/1", "ttl=1m")
    primary.kill()
    standby.promote()
    assert answered(client, "LOCK long/1").code == "quiet"
    assert last_server(standby) == ("failover", 60750)


def test_a_second_daemon_makes_the_quiet_period_longer(primary, standby, serve, connect):
    """The one who comes first does not know of the longest TTL."""
    dsn = multi_host(primary, standby)
    a, b = serve(dsn), serve(dsn)
    connect(a).lock("short/1", "ttl=10s")
    standby.catch_up_with(primary)
    standby.cut_off()
    connect(b).lock("long/1", "ttl=1m")
    b.signal(signal.SIGSTOP)
    try:
        primary.kill()
        standby.promote()
        assert answered(connect(a), "LOCK short/2").code == "quiet"
        assert last_server(standby) == ("failover", 10750)
    finally:
        b.signal(signal.SIGCONT)
    eventually(lambda: last_server(standby) == ("failover", 60750))
    assert standby.ask("select quiet_left_us from pglockd.clock") > 45_000_000


def test_what_looks_expired_is_not_removed_in_the_quiet_period(primary, standby, serve, connect):
    """The standby missed the last renewal: its holder is in time."""
    a = serve(multi_host(primary, standby))
    holder = connect(a)
    token = holder.lock("late/1", "ttl=1m")
    standby.catch_up_with(primary)
    a.signal(signal.SIGSTOP)
    try:
        primary.kill()
        standby.promote()
        standby.sql().execute("update pglockd.lease set expires_us = 0, check_us = 0")
    finally:
        a.signal(signal.SIGCONT)
    def ticks():
        return standby.ask("select ticks_total from pglockd.clock")
    assert answered(connect(a), "LOCK late/1").code == "quiet"
    before = ticks()
    eventually(lambda: ticks() > before + 4)
    assert holder.ask(f"RENEW late/1 token={token}").status == "OK"


def test_grants_that_no_daemon_has_accepted_end(primary, standby, serve, connect):
    """One that is on its way to a frozen daemon: on the old primary it may have run out, and the
    resource have been granted to somebody else."""
    dsn = multi_host(primary, standby)
    a, b = serve(dsn), serve(dsn)
    holder, waiter = connect(a), connect(b)
    token = holder.lock("way/1")
    waiter.send("LOCK way/1 wait=inf")
    wait_for_queue(holder, "way/1", 1)
    b.signal(signal.SIGSTOP)
    try:
        holder.ask_ok(f"UNLOCK way/1 token={token}")
        undelivered = primary.ask("select token from pglockd.lease where not delivered")
        standby.catch_up_with(primary)
        primary.kill()
        standby.promote()
        assert answered(holder, "LOCK way/2").code == "quiet"
        assert standby.ask("select count(*) from pglockd.lease") == 0
        assert standby.ask("select reason::text from pglockd.tombstone where token = %s",
                           undelivered) == "failover"
    finally:
        b.signal(signal.SIGCONT)
    grant = waiter.reply(60)
    assert grant.status == "OK" and grant["token"] > undelivered


def test_numbers_of_daemons_do_not_come_again(primary, standby, serve):
    dsn = multi_host(primary, standby)
    serve(dsn)
    standby.catch_up_with(primary)
    standby.cut_off()
    # A sequence is written 32 ahead: so many are not lost.
    primary.ask("select max(nextval(pg_get_serial_sequence('pglockd.instance', 'instance_id'))) "
                "from generate_series(1, 100)")
    others = [serve(dsn) for _ in range(2)]
    lost = [one.instance() for one in others]
    primary.kill()
    standby.promote()
    assert serve(dsn).instance() > max(lost)
    for one in others:
        eventually(lambda: standby.ask("select count(*) from pglockd.instances where connected") == 4)
        assert one.is_running()


def test_nothing_is_granted_before_the_server_is_recorded(primary, standby, serve, connect):
    """By SQL, on a promoted standby where no daemon has been yet."""
    a = serve(multi_host(primary, standby))
    token = connect(a).lock("kept/1", "ttl=1m")
    standby.catch_up_with(primary)
    primary.kill()
    a.kill()
    standby.promote()
    cursor = standby.sql(user="owner")
    for query in ("select pglockd.lock('sql/1')", "select pglockd.lock('kept/1')"):
        with pytest.raises(psycopg2.errors.CannotConnectNow):
            cursor.execute(query)
    assert len(servers(cursor)) == 1
    cursor.execute("select status from pglockd.renew('kept/1', %s, '1 min')", (token,))
    assert cursor.fetchall() == [("OK",)]
    base_us = standby.ask("select base_us from pglockd.clock")
    cursor.execute("select pglockd.tick()")
    assert last_server(standby) == ("failover", 60750)
    cursor.execute("select status from pglockd.lock('sql/1')")
    assert cursor.fetchall() == [("BUSY",)]
    # The time of a quiet period is that of the ticks, like all other.
    cursor.execute("select pglockd.tick('1 min')")
    cursor.execute("select status from pglockd.lock('sql/1')")
    assert cursor.fetchall() == [("BUSY",)]
    assert standby.ask("select base_us from pglockd.clock") == base_us
    cursor.execute("select pglockd.tick('2 s')")
    cursor.execute("select status, token > %s from pglockd.lock('sql/1')", (token,))
    assert cursor.fetchall() == [("OK", True)]


# ---- a synchronous standby ----

@pytest.fixture
def synchronous(primary, standby):
    primary.alter(synchronous_standby_names="s")
    eventually(lambda: primary.ask("select count(*) = 1 from pg_stat_replication where sync_state = 'sync'"))
    return standby


def until_it_is_recorded(primary):
    eventually(lambda: primary.ask("select synchronous from pglockd.clock"),
               what="a tick has found that each commit is confirmed")


def test_a_synchronous_standby_loses_nothing_and_needs_no_quiet_period(primary, synchronous, serve):
    dsn = multi_host(primary, synchronous)
    a, b = serve(dsn), serve(dsn)
    many = Swarm([a.line, b.line], [f"sync/{i}" for i in range(4)], 12, 6)
    many.faulty = True
    with contextlib.ExitStack() as stack:
        stack.callback(many.close)
        until_it_is_recorded(primary)
        many.run(400)
        died = time.monotonic()
        for request in many.record:  # the queue is lost, and a daemon may come back too late to put its part back
            request.disturbed = request.end is None
        primary.kill()
        many.run(50)
        synchronous.promote()
        many.run(100000, until=lambda: any(r.granted and r.start > died for r in many.record))
        many.run(300)
        cursor = synchronous.sql()
        cursor.execute("select token from pglockd.lease")
        there = {token for token, in cursor.fetchall()}
        held = {r.token for r in many.record if r.granted and r.released is None}
        assert held <= there, "nothing that was acknowledged is lost"
        many.finish()
    assert check(many.record) == []
    assert many.surprises == []
    assert last_server(synchronous) == ("failover", 0)
    eventually(lambda: synchronous.ask("select count(*) from pglockd.lease") == 0)


def test_a_further_standby_that_need_not_confirm_is_not_trusted(primary, synchronous, server, serve, connect):
    """Either of them may be promoted."""
    late = server("t").copy_from(primary, "t").start()
    eventually(lambda: primary.ask("select count(*) = 2 from pg_stat_replication where state = 'streaming'"))
    a = serve(multi_host(primary, synchronous, late))
    client = connect(a)
    client.lock("x/1", "ttl=1m")
    assert not primary.ask("select synchronous from pglockd.clock")
    assert not primary.ask("select pglockd.is_synchronous()")
    primary.alter(synchronous_standby_names="ANY 2 (s, t)")
    eventually(lambda: primary.ask("select synchronous from pglockd.clock"))
    primary.alter(synchronous_standby_names="ANY 1 (s, t)")
    eventually(lambda: not late.ask("select synchronous from pglockd.clock"))
    late.alter(synchronous_standby_names="")
    primary.kill()
    late.promote()
    assert answered(client, "LOCK x/2").code == "quiet"
    assert last_server(late)[1] > 0


def test_a_standby_that_was_synchronous_once_and_lost_commits(primary, synchronous, serve, connect):
    """Confirmation was turned off while it was cut off: the tokens that a daemon was told of tell."""
    a = serve(multi_host(primary, synchronous))
    client = connect(a)
    client.lock("x/1", "ttl=1m")
    until_it_is_recorded(primary)
    synchronous.catch_up_with(primary)
    synchronous.stop()
    primary.alter(synchronous_standby_names="")
    for i in range(50):  # more than a sequence is written ahead
        client.lock(f"lost/{i}", "ttl=1m")
    primary.kill()
    synchronous.start().promote()
    assert answered(client, "LOCK lost/1").code == "quiet"
    # Lost, where somebody who had not been told of a token came first and saw a failover that loses nothing.
    reason, quiet_ms = last_server(synchronous)
    assert reason in ("failover", "lost") and quiet_ms == 60750


def cancel_the_wait_of(primary, function):
    """Ends the lane's wait for the standby by calling a function of its process id."""
    def done():
        cursor = primary.sql()
        cursor.execute(f"select {function}(pid) from pg_stat_activity where wait_event = 'SyncRep' and "
                       "query like '%%acquire_batch%%'")
        return cursor.rowcount > 0
    eventually(done)


def test_a_cancelled_wait_for_the_standby_is_outcome_unknown(primary, synchronous, serve, connect):
    """The lease is there, but a promoted standby may not have it: nobody is told OK before it has."""
    a = serve(multi_host(primary, synchronous), "--request-timeout", "20s")
    client = connect(a)
    client.lock("cancel/0")
    synchronous.signal(signal.SIGSTOP)
    try:
        client.send("LOCK cancel/1 id=one ttl=1m")
        cancel_the_wait_of(primary, "pg_cancel_backend")
        reply = client.reply()
        assert (reply.status, reply.code) == ("ERR", "outcome_unknown")
        assert "event=batch_not_replicated" in a.log_path.read_text()
        assert primary.ask("select count(*) from pglockd.lease where resource = 'cancel/1'") == 1
        client.send("LOCK cancel/1 id=one ttl=1m")
    finally:
        synchronous.signal(signal.SIGCONT)
    reply = client.reply()
    assert reply.status == "OK" and reply["repeated"] is True


def test_a_lane_ended_in_its_wait_for_the_standby(primary, synchronous, serve, connect):
    """Its next connection finds the lease, which no standby has: it waits until one has before it says so."""
    a = serve(multi_host(primary, synchronous), "--request-timeout", "2s")
    client = connect(a)
    until_it_grants(client, "LOCK ended/0")
    synchronous.signal(signal.SIGSTOP)
    try:
        client.send("LOCK ended/1")
        cancel_the_wait_of(primary, "pg_terminate_backend")
        eventually(lambda: primary.ask("select count(*) from pglockd.lease where resource = 'ended/1'") == 1)
        reply = client.reply()
        assert (reply.status, reply.code) == ("ERR", "outcome_unknown")
    finally:
        synchronous.signal(signal.SIGCONT)
    assert until_it_grants(client, "LOCK ended/2")["token"] > 0


# ---- an old primary that serves still ----

def test_a_daemon_does_not_go_back_to_an_old_primary(primary, standby, serve, connect):
    """It comes first in the connection string, and is not fenced off. Who has been at the new one knows better."""
    a = serve(multi_host(primary, standby))
    client = connect(a)
    client.lock("old/1", "ttl=1s")
    standby.catch_up_with(primary)
    primary.kill()
    standby.promote()
    until_it_grants(client, "LOCK old/2")
    primary.start()
    cursor = standby.sql()
    cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pglockd'")
    token = until_it_grants(client, "LOCK old/3 ttl=1m")["token"]
    assert standby.ask("select token from pglockd.lease where resource = 'old/3'") == token
    assert primary.ask("select count(*) from pglockd.lease where resource = 'old/3'") == 0
    eventually(lambda: "event=postgres_old_primary" in a.log_path.read_text())


def test_a_host_that_is_silent_does_not_keep_the_daemon_from_the_next(primary, base, serve, connect):
    """It takes connections and says nothing, as a machine does that hangs."""
    import socket
    silent = base / "silent"
    silent.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(silent / ".s.PGSQL.5432"))
        listener.listen(100)
        (silent / ".s.PGSQL.5432").chmod(0o777)
        a = serve(f"host={silent},{primary.directory} dbname=pglockd user=locks connect_timeout=2 "
                  "target_session_attrs=read-write")
        connect(a).lock("silent/1")


# ---- restarts ----

@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_lets_the_tokens_leap_and_nothing_else(primary, serve, connect, how):
    a = serve(primary.conninfo())
    holder, other = connect(a), connect(a)
    token = holder.lock("again/1", "ttl=1m")
    getattr(primary, how)()
    primary.start()
    assert answered(holder, f"RENEW again/1 token={token}").status == "OK"
    new = until_it_grants(other, "LOCK again/2")["token"]
    reason, _, quiet_ms, tokens_from, tokens_to, _ = servers(primary.sql())[-1]
    assert (reason, quiet_ms) == ("restart", 0)
    assert token <= tokens_from < tokens_to < new
    assert primary.ask("select quiet_left_us from pglockd.clock") == 0


def test_a_daemon_restores_itself_after_a_restart_of_postgres(primary, serve, connect):
    """Its sign of life, its lanes, its statements, what it listens for, and its place in the queue."""
    a, b = serve(primary.conninfo()), serve(primary.conninfo())
    holder, waiter = connect(a), connect(b)
    number = b.instance()
    token = holder.lock("self/1", "ttl=5m")
    waiter.send("LOCK self/1 wait=inf ttl=5m")
    wait_for_queue(holder, "self/1", 1)
    primary.kill()
    primary.start()
    def locks(number_class, key):
        return primary.ask("select count(*) from pg_locks where locktype = 'advisory' and granted and "
                           "classid = %s and objid = %s", number_class, key)
    eventually(lambda: locks(0x50474C03, number) == 1 and locks(0x50474C04, 8 * number) == 1, 60)
    eventually(lambda: wait_for_queue(holder, "self/1", 1), 60)
    answered(holder, f"UNLOCK self/1 token={token}", "OK", "LOST")
    assert waiter.reply(60)["token"] > token

    # It listens: a grant of another's transaction comes without a heartbeat between.
    def comes_by_notification():
        cursor = primary.sql(user="owner")
        cursor.execute("select token from pglockd.lock('self/2', ttl => '5 min')")
        ((held,),) = cursor.fetchall()
        waiter.send("LOCK self/2 wait=inf")
        wait_for_queue(holder, "self/2", 1)
        beat = "select heartbeat_at from pglockd.instances where instance_id = %s"
        before = primary.ask(beat, number)
        cursor.execute("select pglockd.unlock('self/2', %s)", (held,))
        grant = waiter.reply()
        after = primary.ask(beat, number)
        waiter.ask_ok(f"UNLOCK self/2 token={grant['token']}")
        return before == after
    eventually(comes_by_notification)


def test_sql_alone_goes_on_after_a_restart(primary):
    """Where no daemon runs the first caller records the server, and only the others wait for its commit."""
    cursor = primary.sql(user="owner")
    cursor.execute("select token from pglockd.lock('alone/1')")
    ((token,),) = cursor.fetchall()
    primary.stop()
    primary.start()
    first = primary.sql(user="owner")
    first.connection.autocommit = False
    first.execute("select token from pglockd.lock('alone/2')")
    ((new,),) = first.fetchall()
    assert new > token
    second = primary.sql(user="owner")
    with pytest.raises(psycopg2.errors.CannotConnectNow):
        second.execute("select pglockd.lock('alone/3')")
    first.connection.commit()
    second.execute("select token from pglockd.lock('alone/3')")
    assert second.fetchall()[0][0] > new
    assert [s[0] for s in servers(second)] == ["first", "restart"]


# ---- restored backups ----

def run_pg(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_restored_dump_is_noticed(primary, server, serve, connect):
    """Another cluster, or the same: its tables are others."""
    a = serve(primary.conninfo())
    client = connect(a)
    kept = client.lock("dump/1", f"ttl={TTL}s")
    dump = run_pg("pg_dump", "-h", str(primary.directory), "-U", "postgres", "-Fc", "-f",
                  str(primary.directory / "dump"), "pglockd") or str(primary.directory / "dump")
    lost = client.lock("dump/2", f"ttl={TTL}s")
    assert a.stop() == 0
    cursor = primary.sql("postgres")
    cursor.execute("drop database pglockd")
    cursor.execute("create database pglockd owner owner")
    run_pg("pg_restore", "-h", str(primary.directory), "-U", "postgres", "-d", "pglockd", dump)
    b = serve(primary.conninfo())
    client = connect(b)
    assert client.ask("LOCK dump/2").code == "quiet"
    assert last_server(primary) == ("moved", 1000 * TTL + 750)
    assert client.ask(f"RENEW dump/1 token={kept}").status == "OK"
    assert until_it_grants(client, "LOCK dump/2")["token"] > lost


def test_an_announced_restore(primary, serve, connect):
    """A copy of the files, as a snapshot of the volume is: nothing in it shows that it is old."""
    a = serve(primary.conninfo())
    client = connect(a)
    client.lock("snap/0", f"ttl={TTL}s")
    a.kill()
    primary.stop()
    primary.save()
    primary.start()
    a.start()
    client = connect(a)
    lost = client.lock("snap/1", f"ttl={TTL}s")
    a.kill()
    primary.stop()
    primary.restore()
    primary.start()
    cursor = primary.sql()
    cursor.execute("create role boss login in role pglockd_admin")
    boss = primary.sql(user="boss")
    boss.execute("select token, quiet_ms from pglockd.after_restore('the volume of last night')")
    ((token, quiet_ms),) = boss.fetchall()
    assert token > lost and quiet_ms == 1000 * TTL + 750
    assert servers(boss)[-1][5] == "by boss: the volume of last night"
    a.start()
    client = connect(a)
    assert client.ask("LOCK snap/1").code == "quiet"
    assert until_it_grants(client, "LOCK snap/1")["token"] > token
    assert [s[0] for s in servers(boss)] == ["first", "announced"]


def test_a_restore_that_was_not_announced(primary, serve, connect):
    """It looks like a restart: tokens grow all the same. A daemon that lived through it was told of tokens
    that were not drawn here, and a quiet period follows."""
    a = serve(primary.conninfo())
    client = connect(a)
    client.lock("snap/0", f"ttl={TTL}s")
    primary.stop()
    primary.save()
    primary.start()
    lost = [until_it_grants(client, f"LOCK snap/{i + 1}")["token"] for i in range(50)][-1]
    primary.stop()
    primary.restore()
    primary.start()
    assert answered(client, "LOCK snap/1").code == "quiet"
    assert last_server(primary) == ("lost", 1000 * TTL + 750)
    assert until_it_grants(client, "LOCK snap/1")["token"] > lost
    # It is told once.
    assert [s[0] for s in servers(primary.sql())].count("lost") == 1

    a.kill()
    primary.stop()
    primary.restore()
    primary.start()
    b = serve(primary.conninfo())
    assert connect(b).lock("snap/2") > lost
    assert last_server(primary) == ("restart", 0)


def test_a_report_comes_after_the_leap(primary, serve, connect):
    """The daemon that knows better is not the first to come back."""
    a = serve(primary.conninfo())
    client = connect(a)
    client.lock("snap/0", "ttl=20s")
    primary.stop()
    primary.save()
    primary.start()
    for i in range(50):
        until_it_grants(client, f"LOCK snap/{i + 1} ttl=20s")
    a.signal(signal.SIGSTOP)
    try:
        primary.stop()
        primary.restore()
        primary.start()
        b = serve(primary.conninfo())
        connect(b).lock("other/1")
        assert last_server(primary) == ("restart", 0)
    finally:
        a.signal(signal.SIGCONT)
    eventually(lambda: last_server(primary) == ("lost", 20750))
    assert answered(client, "LOCK snap/1").code == "quiet"
