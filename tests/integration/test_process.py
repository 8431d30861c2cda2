"""What the daemon may do to the machine: rights that it gives up, files that it leaves alone."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from conftest import PGLOCKD, Daemon
from lines import Lines

NOBODY = "nobody"


def status_of(pid):
    """{name: value} of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def sanitized():
    return b"__asan_init" in Path(PGLOCKD).read_bytes()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")


def test_no_program_that_it_runs_gains_rights(daemon):
    assert status_of(daemon.process.pid)["NoNewPrivs"] == "1"
    assert status_of(daemon.postmaster())["NoNewPrivs"] == "1"


def core_limit(pid):
    return next(line.split()[4] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
                if line.startswith("Max core file size"))


@pytest.mark.skipif(sanitized(), reason="sanitizers look into the process")
def test_a_crash_leaves_no_memory_behind(peer):
    assert core_limit(peer().process.pid) == "0"


@pytest.mark.skipif(sanitized(), reason="sanitizers look into the process")
@needs_root
def test_its_memory_is_closed_to_its_user(make_daemon):
    """What is not dumpable belongs to root in /proc."""
    uid = pwd.getpwnam(NOBODY).pw_uid
    closed = make_daemon("--user", NOBODY)
    assert os.stat(f"/proc/{closed.process.pid}/environ").st_uid == 0
    open_one = make_daemon("--user", NOBODY, "--core-dumps", "yes")
    assert os.stat(f"/proc/{open_one.process.pid}/environ").st_uid == uid


@needs_root
def test_root_is_given_up_for_good(make_daemon):
    user = pwd.getpwnam(NOBODY)
    daemon = make_daemon("--user", NOBODY)
    for pid in daemon.process.pid, daemon.postmaster():
        status = status_of(pid)
        assert status["Uid"].split() == [str(user.pw_uid)] * 4
        assert status["Gid"].split() == [str(user.pw_gid)] * 4
        assert {int(group) for group in status["Groups"].split()} <= set(
            os.getgrouplist(NOBODY, user.pw_gid))
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert stat.S_IMODE(daemon.directory.stat().st_mode) == 0o700
    assert daemon.directory.stat().st_uid == user.pw_uid
    with Lines(daemon.line) as client:
        client.lock("given/up")


@needs_root
def test_root_is_told_that_it_need_not_be(daemon):
    text = daemon.log_path.read_text()
    assert "runs_as_root" in text


@pytest.mark.parametrize("user,why", [("no-such-user", "there is no user"), ("root", "only root")])
def test_a_user_that_it_cannot_become(tmp_path, user, why):
    if os.geteuid() == 0 and user == "root":
        pytest.skip("root is root")
    done = subprocess.run([PGLOCKD, "--embedded", tmp_path / "db", "--user", user], timeout=60,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 78 and why in done.stderr
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
def test_the_mode_of_unix_sockets(peer, directory, mode):
    path = directory / f"mode-{mode}.sock"
    peer("--listen", f"unix:{path}", "--socket-mode", mode)
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)


READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro /
for dir in /tmp /run /var /home /root /work; do
    [ -d $dir ] || continue
    mountpoint -q $dir || mount --bind $dir $dir
    mount -o remount,bind,ro $dir
done
mount --bind "$1" "$1"
mount -o remount,bind,rw "$1"
! touch /tmp/written 2>/dev/null
shift
exec "$@"
"""


class ReadOnly(Daemon):
    """In a mount namespace where nothing can be written but its own directory."""

    @property
    def runs_in(self):
        return ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(self.directory)]


@needs_root
def test_a_read_only_root(directory):
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], check=False,
                                                     capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    one = ReadOnly(directory / "read-only", "--user", NOBODY)
    one.directory.mkdir(mode=0o700)
    shutil.chown(one.directory, NOBODY)
    one.start()
    with Lines(one.line) as client:
        client.lock("read/only")
    assert one.stop() == 0, one.log()
