"""pglockctl run: the command, its terminal and signals, and its end before the lease's end."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from conftest import PGLOCKCTL, ctl
from fake_daemon import FakeDaemon
from lines import SECONDS, eventually
from pace import Clock, stood_still

# Writes its number and the time to a file until it is killed; ignores TERM when told so.
BEAT = """
import os, signal, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    with open(sys.argv[1] + "~", "w") as f:
        f.write(f"{os.getpid()} {time.monotonic()!r}")
    os.replace(sys.argv[1] + "~", sys.argv[1])
    time.sleep(0.01)
"""
# Says when it is up, and ends when it is told.
UNTIL_TOLD = "echo up; read x"
# Of a lock that must not be lost: it is renewed after four seconds, and may be for four more.
LONG_TTL = ("--ttl", "12s")


def tell(process):
    """Ends an UNTIL_TOLD."""
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def fake():
    with FakeDaemon() as one:
        yield one


@pytest.fixture(params=["fake", "real"])
def server(request):
    """What must hold with the fake and with a real daemon."""
    return request.getfixturevalue("fake" if request.param == "fake" else "daemon")


@pytest.fixture
def resource(request):
    return "run/" + request.node.name.replace("[", "-").replace("]", "")


class Beat:
    def __init__(self, path):
        self.path = path

    def command(self, kind="polite"):
        return [sys.executable, "-c", BEAT, str(self.path), kind]

    def wait(self):
        eventually(self.path.exists, what="the command has started")

    def is_running(self):
        """Whether its process lives; a dead one may have nobody who buries it."""
        try:
            with open(f"/proc/{self.path.read_text().split()[0]}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def ended_by(self, end):
        """Whether the last beat was before the end of the lease, or as late as the machine was."""
        return float(self.path.read_text().split()[1]) < end + stood_still(end - 3)


@pytest.fixture
def beat(tmp_path):
    return Beat(tmp_path / "beat")


@pytest.fixture
def start():
    """Starts pglockctl run in a session of its own; what is left of it is killed afterwards."""
    started = []

    def run(address, *arguments, **options):
        process = subprocess.Popen([PGLOCKCTL, "--connect", address, "run", *arguments], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


# ---- the command ----


@pytest.mark.parametrize("command, status", [
    ("exit 0", 0), ("exit 3", 3), ("exit 75", 75), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_status_is_the_commands(fake, resource, command, status):
    assert ctl(fake.address, "run", resource, "--", "sh", "-c", command).returncode == status


def test_command_that_cannot_run(server, resource):
    missing = ctl(server.address, "run", resource, "--", "/nonexistent/program")
    assert missing.returncode == 127 and "No such file" in missing.stderr
    assert ctl(server.address, "run", resource, "--", "/etc/passwd").returncode == 126
    assert ctl(server.address, "lock", resource).returncode == 0  # released both times


def test_environment(server, resource):
    script = 'echo "$PGLOCK_RESOURCE|$PGLOCK_TOKEN|$PGLOCK_TOKENS"'
    done = ctl(server.address, "run", resource, "--", "sh", "-c", script)
    name, token, tokens = done.stdout.strip().split("|")
    assert name == resource
    assert json.loads(tokens) == {resource: int(token)}


def test_lock_is_held_during_the_command_and_free_afterwards(server, resource, start):
    held = start(server.address, "--owner", "me", "--note", "why", resource, "--", "sh", "-c",
                 UNTIL_TOLD)
    assert held.stdout.readline() == "up\n"
    busy = ctl(server.address, "run", "-n", resource, "--", "true")
    assert busy.returncode == 75 and resource in busy.stderr
    shown = ctl(server.address, "info", resource).stdout
    assert "me" in shown and "why" in shown
    tell(held)
    assert held.wait(SECONDS) == 0
    assert ctl(server.address, "run", "-n", resource, "--", "true").returncode == 0


def test_waiting(server, resource, start):
    first = start(server.address, resource, "--", "sh", "-c", UNTIL_TOLD)
    assert first.stdout.readline() == "up\n"
    second = start(server.address, resource, "--", "echo", "mine")
    late = ctl(server.address, "run", "-w", "200ms", "-E", "9", resource, "--", "true")
    assert late.returncode == 9 and first.poll() is second.poll() is None
    tell(first)
    assert second.wait(SECONDS) == 0 and second.stdout.read() == "mine\n"


def test_shared(server, resource, start):
    first = start(server.address, "-s", resource, "--", "sh", "-c", UNTIL_TOLD)
    assert first.stdout.readline() == "up\n"
    assert ctl(server.address, "run", "-s", "-n", resource, "--", "true").returncode == 0
    assert ctl(server.address, "run", "-n", resource, "--", "true").returncode == 75


@pytest.mark.parametrize("arguments", [
    ["run"], ["run", "a"], ["run", "a", "--"], ["run", "--", "true"], ["run", "a", "b"],
    ["run", "-n", "-w", "1s", "a", "--", "true"], ["run", "--ttl", "30", "a", "--", "true"],
    ["run", "--frob", "a", "--", "true"], ["run", "-E", "256", "a", "--", "true"],
    ["run", "--root", "/", "a", "--", "true"], ["run", "--files", "--", "true"],
    ["run", "a", "b", "a", "--", "true"], ["run", "--tree", "a/b", "a", "--", "true"]])
def test_bad_arguments(fake, arguments):
    done = ctl(fake.address, *arguments)
    assert done.returncode == 64 and done.stderr
    assert not fake.requests


def test_options_of_the_command_are_its_own(fake, resource):
    done = ctl(fake.address, "run", resource, "--", "echo", "-n", "--help", "--", "x")
    assert done.stdout == "--help -- x"


def test_unreachable(resource):
    done = ctl("127.0.0.1:1,unix:/nonexistent", "run", resource, "--", "true")
    assert done.returncode == 69 and "127.0.0.1:1" in done.stderr and "unix:" in done.stderr


# ---- losing the lock ----


def end_of_lease(fake):
    """When the last lease that was renewed ends, on the clock of the beats."""
    return max(lock.expires for lock in fake.granted)


@pytest.mark.parametrize("kind", ["polite", "stubborn"])
def test_frozen_daemon(fake, resource, start, beat, kind):
    process = start(fake.address, "--ttl", "2s", resource, "--", *beat.command(kind))
    beat.wait()
    eventually(lambda: fake.count("RENEW") or process.poll() is not None)
    fake.silent = True
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(end_of_lease(fake))
    assert "could not be renewed" in process.stderr.read()


def test_daemon_away(fake, resource, start, beat):
    process = start(fake.address, "--ttl", "2s", resource, "--", *beat.command("stubborn"))
    beat.wait()
    fake.refuse = True
    fake.drop_all()
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(end_of_lease(fake))


def test_whole_group_is_ended(fake, resource, start, beat):
    script = '"$@" & exec sleep 100'
    process = start(fake.address, "--ttl", "2s", resource, "--", "sh", "-c", script, "sh",
                    *beat.command("stubborn"))
    beat.wait()
    fake.silent = True
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(end_of_lease(fake))
    assert not beat.is_running()


def test_lost_lock(fake, resource, start, beat):
    process = start(fake.address, *LONG_TTL, resource, "--", *beat.command())
    beat.wait()
    fake.forced.add(fake.token)
    before = fake.count("RENEW")
    assert process.wait(SECONDS) == 76
    assert fake.count("RENEW") <= before + 1, "ended at the next renewal"
    assert "forced" in process.stderr.read()


def test_kill_after(fake, resource, start, beat):
    process = start(fake.address, "--ttl", "20s", "--kill-after", "300ms", resource, "--",
                    *beat.command("stubborn"))
    beat.wait()
    fake.forced.add(fake.token)
    assert "ending the command" in process.stderr.readline()
    clock = Clock()
    assert process.wait(SECONDS) == 76
    assert clock.seconds() < 4.5, "not after the 5 s that it would be by default"


def test_lost_when_the_command_had_ended(fake, resource, start):
    process = start(fake.address, "--ttl", "5m", resource, "--", "sh", "-c", UNTIL_TOLD)
    assert process.stdout.readline() == "up\n"
    fake.forced.add(fake.token)
    tell(process)
    assert process.wait(SECONDS) == 76
    assert fake.count("RENEW") == 0


def test_renewal_moves_to_another_address(fake, resource, start, tmp_path):
    with FakeDaemon(str(tmp_path / "s")) as other:
        other.held, other.token = fake.held, fake.token  # two daemons, one truth
        process = start(f"{fake.address},{other.address}", *LONG_TTL, resource, "--", "sh", "-c",
                        UNTIL_TOLD + "; exit 7")
        assert process.stdout.readline() == "up\n"
        fake.silent = True
        eventually(lambda: other.count("RENEW"))
        tell(process)
        assert process.wait(SECONDS) == 7
        assert not any(fake.held.values())


def test_short_outage_is_survived(fake, resource, start):
    process = start(fake.address, *LONG_TTL, resource, "--", "sh", "-c", UNTIL_TOLD + "; exit 7")
    assert process.stdout.readline() == "up\n"
    fake.silent = True
    eventually(lambda: fake.unanswered)
    fake.silent = False
    eventually(lambda: fake.count("RENEW"))
    tell(process)
    assert process.wait(SECONDS) == 7


def test_waiting_survives_a_lost_connection(fake, resource, start):
    token = ctl(fake.address, "lock", resource, "ttl=1m").stdout.strip()
    process = start(fake.address, resource, "--", "echo", "done")
    for asked in 2, 3:
        eventually(lambda: fake.count("LOCK") == asked)
        if asked == 2:
            fake.drop_all({"code": "shutdown", "message": "the daemon stops"})
    assert ctl(fake.address, "unlock", resource, f"token={token}").returncode == 0
    assert process.wait(SECONDS) == 0
    ids = {keys["id"] for verb, _, keys in fake.requests if verb == "LOCK" and "id" in keys}
    assert len(ids) == 1 and len(ids.pop()) == 32


# ---- pglockctl killed or stopped ----


def test_killed(fake, resource, start, beat):
    process = start(fake.address, "--ttl", "6s", resource, "--", *beat.command("stubborn"))
    beat.wait()
    process.kill()
    # The guard ends the command and then releases the lock, before the TTL has passed.
    eventually(lambda: fake.count("UNLOCK"))
    assert not beat.is_running()


def test_stopped(fake, resource, start, beat):
    process = start(fake.address, "--ttl", "2s", resource, "--", *beat.command("stubborn"))
    beat.wait()
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: not beat.is_running())
    assert beat.ended_by(end_of_lease(fake))
    process.send_signal(signal.SIGCONT)
    assert process.wait(SECONDS) == 76


def test_stopped_while_its_guard_ends_the_command(fake, resource, start, beat):
    """Race: the guard has ended the command before pglockctl looks at its clock. It ended with the right
    status and no word. Fix: that the guard began says why the command has ended."""
    process = start(fake.address, "--ttl", "2s", resource, "--", *beat.command())
    beat.wait()
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: not beat.is_running())
    process.send_signal(signal.SIGCONT)
    assert process.wait(SECONDS) == 76
    assert f"the lock on {resource} no longer holds" in process.stderr.read()


def guard_of(process):
    """The child of pglockctl that is the guard; the command may be up before it has its name."""
    def named():
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [c for c in children if Path(f"/proc/{c}/comm").read_text() == "pglockctl-guard\n"]
    (guard,) = eventually(named)
    return int(guard)


def test_guard_killed(fake, resource, start, beat):
    process = start(fake.address, *LONG_TTL, resource, "--", *beat.command())
    beat.wait()
    os.kill(guard_of(process), signal.SIGKILL)
    renewed = fake.count("RENEW")
    eventually(lambda: fake.count("RENEW") > renewed)
    assert beat.is_running() and process.poll() is None
    fake.silent = True
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(end_of_lease(fake))


def test_guard_leaves_no_descriptor_open(fake, resource, start):
    process = start(fake.address, resource, "--", "sh", "-c", UNTIL_TOLD)
    assert process.stdout.readline() == "up\n"
    directory = f"/proc/{guard_of(process)}/fd"

    def left():
        with contextlib.suppress(FileNotFoundError):  # closed between the list and the look
            links = {os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)}
            return len(links) == 2 and "/dev/null" in links
        return False
    # The command may be up before the guard has closed what it does not need.
    eventually(left)


# ---- signals and terminal ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(fake, resource, start, number):
    name = number.name[3:]
    process = start(fake.address, resource, "--", "sh", "-c",
                    f"trap 'echo got {name}; exit 5' {name}; echo up; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.wait(SECONDS) == 5
    assert process.stdout.read() == f"got {name}\n"


def test_ignored_signals_stay_ignored(fake, resource):
    script = f"trap '' HUP; '{PGLOCKCTL}' run {resource} -- sh -c 'kill -HUP $$; echo alive'"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False,
                          env=dict(os.environ, PGLOCKCTL_CONNECT=fake.address))
    assert done.stdout == "alive\n" and done.returncode == 0


class Terminal:
    """pglockctl run as the foreground job of a terminal, with this process as its shell."""

    def __init__(self, address, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(PGLOCKCTL, [PGLOCKCTL, "run", *arguments],
                       dict(os.environ, PGLOCKCTL_CONNECT=address))
        self.text = ""

    def expect(self, text, seconds=SECONDS):
        until = time.monotonic() + seconds
        while text not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
            assert ready, f"{text!r} did not come, only {self.text!r}"
            try:
                self.text += os.read(self.fd, 1000).decode()
            except OSError:
                raise AssertionError(f"{text!r} did not come, only {self.text!r}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, options=0):
        return os.waitpid(self.pid, options)[1]

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)


@pytest.fixture
def terminal():
    opened = []

    def make(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_command_reads_the_terminal(fake, resource, terminal):
    job = terminal(fake.address, resource, "--", "sh", "-c", "read x; echo got-$x; exit 4")
    job.type("hello\n")
    job.expect("got-hello")
    assert os.waitstatus_to_exitcode(job.wait()) == 4


def test_interrupt_from_the_terminal(fake, resource, terminal):
    job = terminal(fake.address, resource, "--", "cat")
    job.type("up\n")
    job.expect("up\r\nup")  # the terminal's echo and the command's: it is itself by now
    job.type("\x03")
    assert os.waitstatus_to_exitcode(job.wait()) == 128 + signal.SIGINT
    assert not any(fake.held.values())


def test_interrupt_while_waiting(fake, resource, terminal):
    ctl(fake.address, "lock", resource, "ttl=1m")
    job = terminal(fake.address, resource, "--", "true")
    eventually(lambda: fake.count("LOCK") == 2)
    job.type("\x03")
    assert os.WIFSIGNALED(job.wait())


# The shell of the job: job control needs a session leader that is not the job itself.
SHELL = """
import os, signal, sys, time
def front(group):
    os.tcsetpgrp(0, group)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    front(os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("job", pid, flush=True)
status = os.waitpid(pid, os.WUNTRACED)[1]
front(os.getpgrp())
print("stopped" if os.WIFSTOPPED(status) else "not-stopped", flush=True)
while not os.path.exists(os.environ["RESUME"]):
    time.sleep(0.05)
front(pid)
os.kill(-pid, signal.SIGCONT)
print("continued", flush=True)
status = os.waitpid(pid, 0)[1]
front(os.getpgrp())
print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.parametrize("more", [[], ["second"]])
def test_suspended_job_keeps_its_locks(fake, resource, more, tmp_path):
    resume = tmp_path / "resume"
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [
            sys.executable, "-c", SHELL, PGLOCKCTL, "--connect", fake.address, "run", *LONG_TTL,
            resource, *more, "--", "sh", "-c", "echo up; read x; echo got-$x; exit 6"],
            dict(os.environ, RESUME=str(resume)))
    job = Terminal.__new__(Terminal)
    job.pid, job.fd, job.text = pid, fd, ""
    try:
        job.expect("up")
        job.type("\x1a")
        job.expect("stopped")
        assert "not-stopped" not in job.text
        renewed = fake.count("RENEW")
        eventually(lambda: fake.count("RENEW") > renewed)  # by the guard
        resume.touch()
        job.expect("continued")
        for name in resource, *more:
            assert len(fake.holders(name)) == 1
        job.type("again\n")
        job.expect("got-again")
        job.expect("ended 6")
    finally:
        job.close()
    assert not any(fake.held.values())


# ---- with real daemons ----


def renewals(daemon):
    """How many RENEWs a daemon has carried out."""
    text = urllib.request.urlopen(f"http://{daemon.http}/metrics").read().decode()
    found = re.search(r'^pglockd_requests_total{verb="renew",status="OK"} (\d+)', text, re.M)
    return int(found[1]) if found else 0


def test_real_daemon_frozen(make_daemon, resource, start, beat):
    daemon = make_daemon()
    process = start(daemon.address, "--ttl", "3s", resource, "--", *beat.command("stubborn"))
    beat.wait()
    eventually(lambda: renewals(daemon) or process.poll() is not None)
    frozen = time.monotonic()
    daemon.signal(signal.SIGSTOP)
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(frozen + 3)
    daemon.signal(signal.SIGCONT)


def test_real_daemon_killed(make_daemon, resource, start, beat):
    daemon = make_daemon()
    process = start(daemon.address, "--ttl", "3s", resource, "--", *beat.command("stubborn"))
    beat.wait()
    killed = time.monotonic()
    daemon.kill()
    assert process.wait(SECONDS) == 76
    assert beat.ended_by(killed + 3)


def test_real_lock_outlives_its_ttl(daemon, resource, start, sql):
    process = start(daemon.address, *LONG_TTL, resource, "--", "sh", "-c", UNTIL_TOLD)
    assert process.stdout.readline() == "up\n"
    cursor = sql().cursor()

    def is_over():
        """The TTL that it was granted with, on the clock of leases, with all that is added to it."""
        assert ctl(daemon.address, "lock", resource).returncode == 75
        cursor.execute("select pglockd.lease_now()")
        (now,) = cursor.fetchone()
        is_over.begin = is_over.begin or now
        return now > is_over.begin + 13_000_000
    is_over.begin = None
    eventually(is_over)
    tell(process)
    assert process.wait(SECONDS) == 0
