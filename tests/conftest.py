"""Real daemons, each on a private PostgreSQL cluster, and pglockctl to talk to them."""

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from lines import Lines, eventually
from schema import Instance

PGLOCKD = os.environ.get("PGLOCKD", "pglockd")
PGLOCKCTL = os.environ.get("PGLOCKCTL", "pglockctl")

START_SECONDS = 60
STOP_SECONDS = 60

# A machine that stands still for a while must not end requests: that is the subject of few tests, and
# those say --request-timeout of their own, which comes later and so prevails.
PATIENT = ("--request-timeout", "1m")


class Room:
    """Where tests run: several at a time, in the workers of pytest-xdist, or one that is alone.

    Two locks, each a byte of one file: the room, which those inside share, and the door before it. Who
    wants to be alone stands in the door until the room is empty, so that nobody else enters.
    """

    DOOR, INSIDE = 0, 1

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def lock(self, how, byte):
        fcntl.lockf(self.file, how, 1, byte)

    @contextlib.contextmanager
    def enter(self, alone):
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        self.lock(how, self.DOOR)
        self.lock(how, self.INSIDE)
        if not alone:
            self.lock(fcntl.LOCK_UN, self.DOOR)
        try:
            yield
        finally:
            self.lock(fcntl.LOCK_UN, self.INSIDE)
            self.lock(fcntl.LOCK_UN, self.DOOR)


ROOM = Room(Path(os.environ["BUILDDIR"], "tests/integration.lock"))


def wants_to_be_alone(item):
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    with ROOM.enter(wants_to_be_alone(item)):
        yield


def pytest_collection_modifyitems(items):
    items.sort(key=wants_to_be_alone)  # so that others wait for them once, at the end


def read_line(stream, seconds):
    """A line of a pipe, or "" when it ends; fails after so many seconds."""
    line = b""
    until = time.monotonic() + seconds
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(0, until - time.monotonic()))
        if not ready:
            raise AssertionError(f"no line within {seconds} s, only {line!r}")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        line += byte
    return line.decode().rstrip("\n")


def process_state(pid):
    """The letter that ps shows: T stopped, Z ended, and its parent has not looked yet; X where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def signal_family(pid, number):
    """Sends a process and its children a signal; one that stops or kills misses none of them. Returns them all.

    They are listed while the parent is stopped: one that it forks meanwhile would live on, hold the shared memory
    of a server that is to be started again, or answer in the name of one that is frozen.
    """
    if number != signal.SIGCONT:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: process_state(pid) in "TZ", what=f"process {pid} is stopped")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    family = [pid, *map(int, children)]
    for one in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, number)
    return family


@pytest.fixture
def within_a_day():
    """For a test of what is made and dropped by days (UTC), which begin a minute early for who makes ahead."""
    left = 86400 - time.time() % 86400
    if left < 300:
        time.sleep(left)


class Daemon:
    """pglockd on a cluster of its own in a directory, or on the database that dsn names.

    It can be stopped and started again there.
    """

    listens_on = ("--listen", "127.0.0.1:0")
    runs_in = ()  # a command that runs the command behind it

    def __init__(self, directory, *arguments, dsn=None):
        self.directory = Path(directory)
        self.arguments = arguments
        self.dsn = dsn or f"host={directory}/run dbname=pglockd user=pglockd"
        self.where = ["--dsn", dsn] if dsn else ["--embedded", str(self.directory)]
        self.log_path = self.directory.with_suffix(".log")
        self.process = None

    def start(self, *arguments):
        command = [*self.runs_in, PGLOCKD, *self.where, *self.listens_on, "--http", "127.0.0.1:0",
                   *PATIENT, *self.arguments, *arguments]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log)
        ready = read_line(self.process.stdout, START_SECONDS)
        assert ready.startswith("ready "), f"{ready!r} {self.log()}"
        words = dict(word.split("=", 1) for word in ready.split()[1:])
        self.line, self.http = words["line"], words["http"]
        return self

    @property
    def address(self):
        return self.line

    @property
    def unix_address(self):
        return f"unix:{self.directory}/pglockd.sock"

    def log(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Drains; returns the exit status."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.wait()

    def kill(self):
        self.process.kill()
        return self.wait()

    def wait(self, seconds=STOP_SECONDS):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"pglockd did not stop within {seconds} s: {self.log()}")
        self.process.stdout.close()
        return status

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def postmaster(self):
        """Process id of the embedded PostgreSQL; None where it does not run."""
        with contextlib.suppress(FileNotFoundError, IndexError):  # its file may not be written yet
            pid = int((self.directory / "pgdata/postmaster.pid").read_text().split()[0])
            if Path(f"/proc/{pid}").exists():
                return pid
        return None

    def signal_postgres(self, number):
        signal_family(self.postmaster(), number)

    def instance(self):
        """Its number in pglockd.instances."""
        with Lines(self.line) as client:
            return int(client.ask_ok("HELLO")["instance"])

    def sql(self, **options):
        """A connection to its database, as the owner of the schema, in autocommit."""
        connection = psycopg2.connect(self.dsn, **options)
        connection.autocommit = True
        return connection


def ctl(address, *arguments, **options):
    """Runs pglockctl to its end; the result has returncode, stdout and stderr."""
    environment = dict(os.environ, PGLOCKCTL_CONNECT=address)
    return subprocess.run([PGLOCKCTL, *map(str, arguments)], env=environment, text=True,
                          capture_output=True, timeout=60, check=False, **options)


def need_programs():
    for program in PGLOCKD, PGLOCKCTL:
        if not shutil.which(program):
            pytest.skip(f"{program} is not built")


def need_tool(*names):
    """The path of a program of that name; skips the test, or fails it where CI has installed it."""
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        missing = f"{' or '.join(names)} is not installed"
        if os.environ.get("PGLOCKD_REQUIRE_TOOLS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def make_daemon():
    """A function that starts a daemon with further arguments; all are stopped after the test."""
    need_programs()
    made = []
    base = Path(tempfile.mkdtemp(prefix="pglockd-test-"))
    base.chmod(0o755)  # PostgreSQL runs as another user where the tests run as root

    def make(*arguments):
        daemon = Daemon(base / f"d{len(made)}", *arguments)
        made.append(daemon)
        return daemon.start()

    yield make
    for daemon in made:
        if daemon.is_running():
            daemon.stop()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def directory():
    """For the whole session; PostgreSQL's user can reach it."""
    need_programs()
    base = Path(tempfile.mkdtemp(prefix="pglockd-test-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon(directory):
    """One daemon for all tests that only use it. Resources must not be shared between tests."""
    one = Daemon(directory / "shared")
    yield one.start()
    assert one.stop() == 0, one.log()


@pytest.fixture(scope="module")
def other(daemon, directory, request):
    """A second daemon on the database of the shared one, for all tests of a module."""
    second = Daemon(directory / f"{request.module.__name__}-other", dsn=daemon.dsn)
    yield second.start()
    assert second.stop() == 0, second.log()


PEERS = itertools.count()


@pytest.fixture
def peer(daemon, directory):
    """A function that starts a further daemon on the database of the shared one, with a log of its own."""
    made = []

    def start(*arguments):
        made.append(Daemon(directory / f"peer{next(PEERS)}", *arguments, dsn=daemon.dsn))
        return made[-1].start()

    yield start
    for one in made:
        if one.is_running():
            assert one.stop() == 0, one.log()


@pytest.fixture
def connect(daemon):
    """A function that opens a connection to a daemon, by default the shared one."""
    with contextlib.ExitStack() as stack:
        def open_one(to=daemon, name=None):
            return stack.enter_context(Lines(to if isinstance(to, str) else to.line, name))
        yield open_one


@pytest.fixture(scope="session")
def secure(daemon, directory):
    """A daemon with auth = on, on the database of the shared one, with a Unix socket.

    The user who runs the tests is the name "peer" there, once somebody makes it.
    """
    one = Daemon(directory / "secure", "--auth", "on", "--log-level", "debug",
                 "--listen", f"unix:{directory}/secure.sock", "--peer-names", f"{os.getuid()}:peer",
                 dsn=daemon.dsn)
    one.unix_path = f"unix:{directory}/secure.sock"
    yield one.start()
    assert one.stop() == 0, one.log()


def in_force(daemon, cursor):
    """Waits until a daemon has read the names, rights and keys that the database has now."""
    cursor.execute("select epoch from pglockd.identity_epoch")
    ((epoch,),) = cursor.fetchall()

    def has_read():
        epochs = re.findall(r"event=identities epoch=(\d+)", daemon.log_path.read_text(errors="replace"))
        return epochs and int(epochs[-1]) >= epoch
    eventually(has_read, what=f"version {epoch} of the identities is in force")


@pytest.fixture
def identity(secure, sql):
    """A function that makes a name with rights, in force at the secure daemon, and returns its key."""
    cursor = sql().cursor()
    made = set()

    def make(name, *rights, expires=None, daemons=(secure,)):
        key = f"test-{secrets.token_hex(16)}"
        cursor.execute("select pglockd.key_create(%s, %s, %s, %s)",
                       (name, hashlib.sha256(key.encode()).digest(), list(rights), expires))
        made.add(name)
        for one in daemons:
            in_force(one, cursor)
        return key
    yield make
    cursor.execute("delete from pglockd.identity where name = any(%s)", (list(made),))
    in_force(secure, cursor)  # the next test may have another by that name, or want none


@pytest.fixture
def login(secure, identity):
    """A function that makes a name with rights and returns a connection that has shown its key."""
    with contextlib.ExitStack() as stack:
        def open_one(name, *rights, **more):
            key = identity(name, *rights, **more)
            client = stack.enter_context(Lines(secure.line))
            assert client.ask_ok(f"HELLO name={name} key={key}")["identity"] == name
            client.key = key
            return client
        yield open_one


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def sql(daemon):
    """A function that opens a connection to the shared daemon's database, in autocommit."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(daemon.sql(**options)))


@pytest.fixture
def never_silent(sql):
    """Daemons on the shared database count as alive for a minute after each heartbeat, not for 3 s: for tests of who
    comes first, since the waiters of a daemon that stands still for longer are passed over, as they should be."""
    cursor = sql(user="postgres").cursor()
    cursor.execute("""
        create function public.never_silent() returns trigger language plpgsql as
            'begin new.heartbeat_us := new.heartbeat_us + 60000000; return new; end';
        create trigger never_silent before insert or update on pglockd.instance
            for each row execute function public.never_silent();
        update pglockd.instance set heartbeat_us = heartbeat_us""")
    yield
    cursor.execute("drop function public.never_silent() cascade")


@pytest.fixture
def policy(sql):
    """A function that makes or changes a policy; all are gone after the test, and all counters."""
    cursor = sql().cursor()
    made = set()

    def put(name, **columns):
        cursor.execute("begin")  # no daemon sees it as it is only at first
        if name not in made:
            made.add(name)
            cursor.execute("insert into pglockd.rate_policy (name, pattern, quota, per) "
                           "values (%s, %s, 1, '1 s')", (name, columns.get("pattern", "")))
        cursor.execute("update pglockd.rate_policy set " + ", ".join(f"{c} = %s" for c in columns) +
                       " where name = %s", [*columns.values(), name])
        cursor.execute("commit")
    yield put
    cursor.execute("delete from pglockd.rate_policy where name = any(%s)", (list(made),))
    cursor.execute("delete from pglockd.rate_counter")


@pytest.fixture
def resource(request):
    """A resource of this test alone."""
    return "t/" + re.sub(r"[^A-Za-z0-9_.-]", "-", request.node.name)


@pytest.fixture(scope="session")
def still_dsn(daemon):
    """A migrated database that no daemon serves."""
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        connection.cursor().execute("create database still owner pglockd")
    dsn = daemon.dsn.replace("dbname=pglockd", "dbname=still")
    done = subprocess.run([PGLOCKCTL, "migrate", "up", "--dsn", dsn], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dsn


@pytest.fixture(scope="session")
def onlooker(daemon):
    """A connection that sees what others do."""
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        yield connection


@pytest.fixture
def still(still_dsn, onlooker):
    """A function that opens a connection, in autocommit, to the database that no daemon serves.

    There the lease clock stands still unless the test ticks, and nothing happens by itself. What a session of a test
    had open, transactions and advisory locks, has ended before the next test begins.
    """
    opened, pids = [], []

    def open_one(**options):
        opened.append(psycopg2.connect(still_dsn, **options))
        opened[-1].autocommit = True
        pids.append(opened[-1].info.backend_pid)
        return opened[-1]
    yield open_one
    for connection in opened:
        connection.close()
    cursor = onlooker.cursor()

    def have_ended():
        cursor.execute("select from pg_stat_activity where pid = any(%s)", (pids,))
        return cursor.rowcount == 0
    eventually(have_ended)


@pytest.fixture
def daemons(still):
    """Two daemons' sessions, on the database that no daemon serves."""
    return Instance(still()), Instance(still())


@pytest.fixture
def begin(still):
    """A function that opens a session inside a transaction, on that database."""
    def open_one():
        connection = still()
        connection.autocommit = False
        return connection
    return open_one
