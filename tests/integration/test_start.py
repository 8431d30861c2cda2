"""A daemon that cannot start says why in one sentence, and ends with a status of sysexits.h."""

import os
import socket
import subprocess

import pytest

from conftest import PGLOCKD

UNAVAILABLE, CONFIGURATION = os.EX_UNAVAILABLE, os.EX_CONFIG


def refused(status, *arguments):
    """What it says on its standard error, but for the log."""
    done = subprocess.run([PGLOCKD, "--http", "off", *map(str, arguments)], text=True, capture_output=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("pglockd: ")]
    return sentence


@pytest.mark.parametrize("dsn, status, words", [
    ("host=127.0.0.1 port=1", UNAVAILABLE, ["port 1", "refused"]),
    ("host=/nowhere", UNAVAILABLE, ["/nowhere", "No such file or directory"]),
    ("host=127.0.0.1 prot=5432", CONFIGURATION, ["connection string (dsn)", "key=value"]),
])
def test_a_wrong_dsn(dsn, status, words):
    said = refused(status, "--dsn", dsn, "--listen", "127.0.0.1:0")
    assert all(word in said for word in words), said


def test_a_database_that_is_not_there(daemon):
    said = refused(UNAVAILABLE, "--dsn", daemon.dsn.replace("dbname=pglockd", "dbname=missing"), "--listen", "127.0.0.1:0")
    assert '"missing" does not exist' in said


def test_no_database():
    assert "set one of embedded" in refused(CONFIGURATION, "--listen", "127.0.0.1:0")


def test_a_port_that_is_taken(daemon):
    said = refused(UNAVAILABLE, "--dsn", daemon.dsn, "--listen", daemon.line)
    assert f"cannot listen on {daemon.line}: Address already in use" in said and "--listen" in said


def test_a_socket_that_is_another_file(daemon, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    said = refused(UNAVAILABLE, "--dsn", daemon.dsn, "--listen", f"unix:{path}")
    assert "is no socket" in said and path.read_text() == "precious"


def test_a_socket_that_somebody_serves(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "socket"))
        taken.listen()
        said = refused(UNAVAILABLE, "--dsn", daemon.dsn, "--listen", f"unix:{tmp_path}/socket")
        assert f"cannot listen on unix:{tmp_path}/socket" in said
