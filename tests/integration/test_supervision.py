"""What a supervisor sees: the log's form, slow requests in it, and what systemd is told."""

import contextlib
import re
import signal
import socket
import time

import pytest

from lines import SECONDS, Lines, eventually

WORD = r'[a-z_]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]*)'
EVENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(error|warn|info|debug) "
                   r"event=([a-z_]+)((?: " + WORD + r")*)")


def events(daemon, name):
    """The words of each line of the log that is such an event."""
    found = [EVENT.fullmatch(line) for line in daemon.log_path.read_text().splitlines()]
    return [dict(re.findall(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)', match[3]))
            for match in found if match and match[2] == name]


@contextlib.contextmanager
def frozen_postgres(daemon):
    daemon.signal_postgres(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal_postgres(signal.SIGCONT)


def test_every_line_of_the_log_is_an_event(make_daemon):
    daemon = make_daemon("--log_level", "debug", "--request-timeout", "1s")
    with Lines(daemon.line, name='"a\\nlevel=error event=forged \\u001b[31m"') as client:
        client.ask("LOCK a/b note=\"x y\"")
        client.ask("NONSENSE \"\\n\"")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: events(daemon, "reloaded"))
    with frozen_postgres(daemon), Lines(daemon.line) as client:
        client.ask("LOCK a/c")
    eventually(lambda: events(daemon, "postgres_lost") or events(daemon, "postgres_up"))
    assert daemon.stop() == 0
    lines = daemon.log_path.read_text().splitlines()
    assert len(lines) > 10
    assert [line for line in lines if not EVENT.fullmatch(line)] == []
    assert not events(daemon, "forged")
    assert events(daemon, "stopped") == [{"status": "0"}]


def test_slow_requests_are_logged_and_waits_are_not(make_daemon):
    daemon = make_daemon("--slow_request", "1s")
    with Lines(daemon.line, name='"agent \\"7\\""') as one, Lines(daemon.line) as two:
        held = one.ask_ok("LOCK slow/waited ttl=10m")
        two.send("LOCK slow/waited wait=1h", "PING")
        eventually(lambda: [w for w in one.ask_ok("INFO slow/waited")["queue"] if w["waiting_ms"] > 1200])
        one.ask_ok(f"UNLOCK slow/waited token={held['token']}")
        assert two.reply()["waited_ms"] > 1100
        assert two.reply().status == "OK"
        with frozen_postgres(daemon):
            one.send("@frozen LOCK slow/frozen")
            one.nothing_comes()  # it has been read
            time.sleep(1.2)  # what is to be logged is time itself
        assert one.reply().status == "OK"
    slow = eventually(lambda: [e for e in events(daemon, "slow_request") if e["resource"] == '"slow/frozen"'])
    assert len(slow) == 1, slow
    assert slow[0]["verb"] == "LOCK" and slow[0]["status"] == "OK"
    assert slow[0]["client"] == '"agent \\"7\\""'
    assert int(slow[0]["took_ms"]) >= 1000 and slow[0]["queued_ms"] == "0"
    # Unless it was slow beside its wait, as it may be on a busy machine.
    waits = [(int(e["took_ms"]), int(e["queued_ms"])) for e in events(daemon, "slow_request")
             if e["resource"] == '"slow/waited"' and e["verb"] == "LOCK"]
    assert all(queued > 0 and took - queued >= 1000 for took, queued in waits)


def test_slow_requests_cannot_flood_the_log(make_daemon):
    daemon = make_daemon("--slow_request", "400ms")
    begin = time.monotonic()
    with Lines(daemon.line) as client:
        for _ in range(2):
            with frozen_postgres(daemon):
                client.send(*(f"@{n} LOCK flood/{n}" for n in range(200)))
                client.nothing_comes()  # all have been read
                time.sleep(0.6)
            for _ in range(200):
                assert client.reply().status in ("OK", "BUSY")
            time.sleep(1.1)  # the next flood is in another second
    slow = events(daemon, "slow_request")
    assert 10 <= len(slow) <= 10 * (2 + time.monotonic() - begin), "ten a second"
    # What was left out of the first flood was told at the latest when the next one began.
    left_out = sum(int(event["count"]) for event in events(daemon, "slow_requests_left_out"))
    assert left_out > 0 and left_out + len(slow) >= 200


def test_no_slow_requests_when_turned_off(make_daemon):
    daemon = make_daemon("--slow_request", "0s")
    with Lines(daemon.line) as client:
        with frozen_postgres(daemon):
            client.send("LOCK slow/off")
            time.sleep(0.6)
        assert client.reply().status == "OK"
    assert daemon.stop() == 0
    assert not events(daemon, "slow_request")


@pytest.fixture
def manager(directory):
    """A socket on which a service manager is told things."""
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(SECONDS)
        yield path, lambda: dict(line.split("=", 1)
                                 for line in listener.recv(4096).decode().splitlines())
    path.unlink()


def test_the_service_manager_is_told(manager, make_daemon, monkeypatch):
    path, receive = manager
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    daemon = make_daemon()
    monkeypatch.delenv("NOTIFY_SOCKET")
    told = receive()  # nothing came before, and nothing from PostgreSQL
    assert told["READY"] == "1" and daemon.line in told["STATUS"]
    for _ in range(3):
        assert receive() == {"WATCHDOG": "1"}
    daemon.signal(signal.SIGHUP)
    while (told := receive()) == {"WATCHDOG": "1"}:
        pass
    assert told["RELOADING"] == "1" and int(told["MONOTONIC_USEC"]) > 0
    assert receive() == {"READY": "1"}
    assert daemon.stop() == 0
    while (told := receive()) == {"WATCHDOG": "1"}:
        pass
    assert told["STOPPING"] == "1" and int(told["EXTEND_TIMEOUT_USEC"]) == 40_000_000


def test_a_watchdog_of_another_process_is_not_fed(manager, make_daemon, monkeypatch):
    path, receive = manager
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    daemon = make_daemon()
    assert receive()["READY"] == "1"
    assert daemon.stop() == 0
    # The watchdog was meant for another process: nothing but the stop was told.
    assert receive()["STOPPING"] == "1"
