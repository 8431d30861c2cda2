"""PostgreSQL servers of a test's own: primary and standbys, killed, frozen, promoted, copied, and with a wall
clock that steps.

They listen on a Unix socket in their directory only, so that a connection string with several hosts is one
with several directories. Durability is off: processes die here, not machines.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg2
import pytest

from conftest import PGLOCKCTL, process_state, signal_family
from lines import eventually

CONF = """
listen_addresses = ''
max_connections = 60
fsync = off
full_page_writes = off
wal_level = replica
max_wal_senders = 6
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 100ms
log_line_prefix = '%m [%p] %a '
timezone = 'UTC'
"""


def account():
    """Whom PostgreSQL runs as: it refuses root. Arguments of subprocess.Popen."""
    if os.getuid() != 0:
        return {}
    for name in "postgres", "nobody":
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return pytest.skip("root needs a user postgres or nobody to run PostgreSQL as")


class FakeTime:
    """The wall clock of a server: what is written into a file is in force at once. Monotonic time is real."""

    def __init__(self, directory):
        self.file = directory / "time"
        self.set("+0")
        self.environment = {"LD_PRELOAD": self.library(), "FAKETIME_TIMESTAMP_FILE": str(self.file),
                            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_RESET": "1",
                            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    @staticmethod
    def library():
        """Where it is; None where it is not installed."""
        return next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)

    def set(self, spec):
        """An offset in seconds, and a rate: "-3600", "+0 x2"."""
        new = self.file.with_suffix(".new")
        new.write_text(spec + "\n")
        new.chmod(0o644)
        new.rename(self.file)


class Server:
    """A cluster in a directory, and the server on it."""

    def __init__(self, directory, environment=None):
        self.directory = Path(directory)
        self.data = self.directory / "data"
        self.environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", **(environment or {})}
        self.process = None
        self.directory.mkdir()
        if os.getuid() == 0:
            os.chown(self.directory, account()["user"], account()["group"])

    def run(self, program, *arguments):
        """Runs one of PostgreSQL's programs to its end."""
        done = subprocess.run([f"{os.environ['PG_BINDIR']}/{program}", *map(str, arguments)],
                              env=self.environment, cwd="/", capture_output=True, text=True, timeout=120,
                              check=False, **account())
        assert done.returncode == 0, done.stdout + done.stderr

    def init(self):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(CONF)
        return self

    def start(self):
        """Until it takes connections."""
        log = open(self.directory / "log", "ab")
        command = [f"{os.environ['PG_BINDIR']}/postgres", "-D", str(self.data), "-k", str(self.directory)]
        with log:
            self.process = subprocess.Popen(command, env=self.environment, cwd="/", stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, **account())
        eventually(self.is_up, 60, what="PostgreSQL takes connections")
        return self

    def is_up(self):
        assert self.process.poll() is None, self.log()
        with contextlib.suppress(psycopg2.OperationalError):
            self.sql("postgres").connection.close()
            return True
        return False

    def log(self):
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def conninfo(self, database="pglockd", user="locks"):
        return f"host={self.directory} dbname={database} user={user}"

    def sql(self, database="pglockd", user="postgres"):
        """A cursor in autocommit, of a superuser."""
        connection = psycopg2.connect(self.conninfo(database, user))
        connection.autocommit = True
        return connection.cursor()

    def ask(self, query, *values):
        """The only value of the only row."""
        cursor = self.sql()
        with contextlib.closing(cursor.connection):
            cursor.execute(query, values)
            ((value,),) = cursor.fetchall()
            return value

    def alter(self, **settings):
        cursor = self.sql("postgres")
        with contextlib.closing(cursor.connection):
            for name, value in settings.items():
                cursor.execute(f"alter system set {name} = %s", (value,))
            cursor.execute("select pg_reload_conf()")

    # ---- the schema ----

    def install(self):
        """pglockd's schema, owned by one user, for daemons that run as another: none is a superuser."""
        cursor = self.sql("postgres")
        with contextlib.closing(cursor.connection):
            cursor.execute("create role owner login createrole")
            cursor.execute("create role locks login")
            cursor.execute("create database pglockd owner owner")
        done = subprocess.run([PGLOCKCTL, "migrate", "up", "--dsn", self.conninfo(user="owner")],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        cursor = self.sql()
        with contextlib.closing(cursor.connection):
            cursor.execute("grant pglockd_service to locks")
        return self

    # ---- faults ----

    def signal(self, number):
        return signal_family(self.process.pid, number)

    def kill(self):
        """As a machine that loses its power: all at once."""
        family = self.signal(signal.SIGKILL)
        self.process.wait(60)
        # The next server does not start while one of them has the shared memory still.
        eventually(lambda: all(process_state(pid) in "ZX" for pid in family), what="all its processes have ended")

    def stop(self, cleanly=True):
        """Fast; if not cleanly, at once, so that the next start recovers."""
        self.signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT if cleanly else signal.SIGQUIT)
        self.process.wait(60)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    # ---- standbys and copies ----

    def copy_from(self, primary, name):
        """Becomes a standby of that name."""
        self.run("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "-X", "stream", "--no-sync", "-d",
                 f"host={primary.directory} user=postgres application_name={name}")
        return self

    def cut_off(self):
        """A standby gets no more from its primary."""
        self.alter(primary_conninfo="")
        eventually(lambda: self.ask("select count(*) = 0 from pg_stat_wal_receiver"))

    def promote(self):
        assert self.ask("select pg_promote(true, 60)")

    def catch_up_with(self, primary):
        """Until the standby has all that the primary has now."""
        lsn = primary.ask("select pg_current_wal_lsn()")
        eventually(lambda: self.ask("select pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn),
                   what="the standby has caught up")

    def save(self):
        """A copy of the files, of a server that is stopped."""
        shutil.copytree(self.data, self.directory / "saved", symlinks=True)
        self.own(self.directory / "saved")

    def restore(self):
        shutil.rmtree(self.data)
        shutil.copytree(self.directory / "saved", self.data, symlinks=True)
        self.own(self.data)

    def own(self, tree):
        if os.getuid() != 0:
            return
        for path in [tree, *Path(tree).rglob("*")]:
            os.chown(path, account()["user"], account()["group"], follow_symlinks=False)


def multi_host(*servers):
    """A connection string with all of them, for whoever is the primary."""
    return (f"host={','.join(str(s.directory) for s in servers)} dbname=pglockd user=locks "
            "target_session_attrs=read-write")
