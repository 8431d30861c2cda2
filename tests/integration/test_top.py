"""pglockctl top: drawn over and over on a terminal, plain lines elsewhere."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from conftest import PGLOCKCTL, ctl
from lines import Lines, eventually

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HOSTILE = 'note="a\\u001b[2Jb\\u0007c\\u202ed"'


class Terminal:
    """pglockctl on a terminal of its own; what it wrote last is the screen."""

    def __init__(self, address, *arguments, rows=24, columns=100, term="xterm"):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        environment = dict(os.environ, PGLOCKCTL_CONNECT=address, TERM=term, LC_ALL="C.UTF-8")
        self.process = subprocess.Popen([PGLOCKCTL, "top", *arguments], env=environment, stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave
        self.output = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0.01)[0]:
            self.output += os.read(self.master, 1 << 16)
        return self.output

    def frames(self):
        """What was drawn, each a list of lines without the sequences that are ours."""
        drawn = self.read().split(ENTER)[-1].split(LEAVE)[0].split(b"\x1b[H")[1:]
        return [re.split(r"\r*\n", re.sub(r"\x1b\[[KJ]", "", frame.decode())) for frame in drawn
                if frame.endswith(b"\x1b[J")]

    def until(self, condition):
        """Waits for a frame that is as it should be, and returns it."""
        def look():
            assert self.process.poll() is None, self.read()
            return next((frame for frame in self.frames()[-1:] if condition(frame)), None)
        return eventually(look)

    def until_row(self, text):
        return self.until(lambda frame: any(text in line for line in frame))

    def press(self, key):
        os.write(self.master, key)

    def wait(self):
        """Reads all the while: a terminal takes only so much that nobody reads."""
        eventually(lambda: self.read() is not None and self.process.poll() is not None)
        self.read()
        return self.process.returncode

    def is_restored(self):
        """Once all has come that was written: a terminal hands it on a moment later."""
        def look():
            output = self.read()
            return (termios.tcgetattr(self.slave) == self.before and output.count(ENTER) > 0
                    and output.count(LEAVE) == output.count(ENTER)
                    and output.rindex(LEAVE) > output.rindex(ENTER)
                    and output.rfind(b"\x1b[?25h") > output.rfind(b"\x1b[?25l"))
        return eventually(look)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def top(daemon):
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            address = options.pop("address", daemon.line)
            terminal = Terminal(f"tcp://{address}", *arguments, **options)
            stack.callback(terminal.close)
            return terminal
        yield start


# ---- what it shows ----

def test_it_draws_what_happens(top, client, connect, resource):
    client.ask_ok(f'LOCK {resource}/a owner=ann note="for a while"')
    screen = top(resource, "--every", "100ms")
    frame = screen.until_row(f"{resource}/a")
    assert frame[0].startswith("pglockd ") and f"beneath {resource}" in frame[0]
    assert re.match(r"held \d+  waiting \d+  longest wait ", frame[1])
    assert any(re.search(r"/a +ann +exclusive +\S+ +\S+ +for a while$", line) for line in frame)
    waiter = connect(name="ben")
    waiter.send(f"LOCK {resource}/a wait=inf")
    frame = screen.until_row("QUEUE  1")
    assert any(re.search(r"/a +ben +exclusive +\S+ +1 +ann$", line) for line in frame)
    waiter.close()
    screen.until(lambda f: not any("QUEUE" in line for line in f))


def test_a_key_looks_at_once(top, client, resource):
    screen = top(resource, "--every", "1h")
    screen.until(lambda frame: frame[0].startswith("pglockd"))
    client.lock(resource)

    def shows_it():
        """The answer of before may serve for a second."""
        screen.press(b" ")
        return any("LOCKS  1" in line for frame in screen.frames()[-1:] for line in frame)
    eventually(shows_it)


def test_it_fits_the_terminal(top, client, resource):
    for n in range(40):
        client.ask_ok(f'LOCK {resource}/{n:02}/{"x" * 100} owner=ann note="{"word " * 30}"')
    screen = top(resource, "--every", "1h", rows=15, columns=70)
    frame = screen.until_row("LOCKS  ")
    assert len(frame) <= 15 and all(len(line) <= 70 for line in frame)
    assert any(re.fullmatch(r"LOCKS  \d+ of 40", line) for line in frame)
    assert any(re.search(r"…  ann +exclusive", line) for line in frame)
    screen.resize(30, 50)
    frame = screen.until(lambda f: 15 < len(f) <= 30)
    assert all(len(line) <= 50 for line in frame)
    screen.resize(3, 10)
    frame = screen.until(lambda f: len(f) <= 3)
    assert all(len(line) <= 10 for line in frame)


def test_no_escape_gets_through(top, client, resource):
    client.ask_ok(f"LOCK {resource} {HOSTILE}")
    screen = top(resource, "--every", "1h")
    frame = screen.until_row(resource)
    assert any(r"a\x1b[2Jb\x07c\u{202e}d" in line for line in frame)
    assert not any("\x1b" in line or "\x07" in line or "\u202e" in line for line in frame)
    plain = ctl(f"tcp://{client.socket.getpeername()[0]}:{client.socket.getpeername()[1]}", "top", resource)
    assert r"a\x1b[2Jb\x07c\u{202e}d" in plain.stdout and "\x1b" not in plain.stdout


# ---- how it ends ----

@pytest.mark.parametrize("key, status", [
    (b"q", 0), (b"\x03", 0), (b"\x1c", -signal.SIGQUIT)], ids=["q", "Ctrl-C", "Ctrl-backslash"])
def test_keys_that_end_it(top, key, status):
    screen = top("--every", "1h")
    screen.until(lambda frame: True)
    screen.press(key)
    assert screen.wait() == status and screen.is_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_it(top, number):
    screen = top("--every", "1h")
    screen.until(lambda frame: True)
    screen.process.send_signal(number)
    assert screen.wait() == -number and screen.is_restored()


def test_it_ends_after_its_looks(top):
    screen = top("--every", "100ms", "--count", "3")
    assert screen.wait() == 0 and screen.is_restored()
    assert screen.output.count(b"\x1b[J") == 3


def test_stopping_gives_the_terminal_back(top):
    screen = top("--every", "1h")
    screen.until(lambda frame: True)
    screen.press(b"\x1a")
    os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)
    assert screen.is_restored()
    screen.process.send_signal(signal.SIGCONT)
    eventually(lambda: screen.read().count(ENTER) == 2)
    screen.until(lambda frame: True)
    screen.press(b"q")
    assert screen.wait() == 0 and screen.is_restored()


def test_nobody_there(top):
    screen = top(address="127.0.0.1:1")
    assert screen.wait() == 69
    eventually(lambda: b"127.0.0.1:1" in screen.read())
    assert ENTER not in screen.output


def test_a_daemon_that_goes_away(top, make_daemon):
    one = make_daemon()
    with Lines(one.line) as client:
        client.lock("a/lock", "ttl=10m")
        screen = top("--every", "100ms", address=one.line)
        screen.until_row("a/lock")
        one.kill()
    frame = screen.until(lambda f: "NOT UP TO DATE" in f[0])
    assert any("a/lock" in line for line in frame)
    screen.press(b"q")
    assert screen.wait() == 0 and screen.is_restored()


# ---- where there is no terminal ----

def test_plain_lines(daemon, client, resource):
    client.ask_ok(f"LOCK {resource} owner=ann")
    done = ctl(f"tcp://{daemon.line}", "top", resource)
    assert (done.returncode, done.stderr) == (0, "") and "\x1b" not in done.stdout
    assert re.search(rf"^  {re.escape(resource)}  ann +exclusive ", done.stdout, re.M)
    twice = ctl(f"tcp://{daemon.line}", "top", resource, "-n", "2", "--every", "100ms")
    assert twice.stdout.count("pglockd ") == 2


def test_a_dumb_terminal_gets_plain_lines(top):
    screen = top(term="dumb")
    assert screen.wait() == 0
    eventually(lambda: screen.read().startswith(b"pglockd "))
    assert b"\x1b" not in screen.output


def test_json(daemon, client, resource):
    client.lock(resource)
    done = ctl(f"tcp://{daemon.line}", "top", resource, "--json")
    assert [lock["resource"] for lock in json.loads(done.stdout)["locks"]] == [resource]


@pytest.mark.parametrize("arguments, status", [
    (["a", "b"], 64), (["a//b"], 64), (["--every", "1"], 64), (["--count", "0"], 64)])
def test_what_it_does_not_take(daemon, arguments, status):
    done = ctl(f"tcp://{daemon.line}", "top", *arguments)
    assert done.returncode == status and done.stderr.startswith("pglockctl: ")
