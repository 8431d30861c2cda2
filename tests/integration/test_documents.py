"""Runs what the documents show: the psql sessions and the queries of docs/fencing.md, in their order."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg2
import pytest

from conftest import read_line
from lines import eventually
from schema import one

DOCS = Path(os.environ.get("SRCDIR", Path(__file__).parents[2])) / "docs"
PSQL = shutil.which("psql") or os.path.join(os.environ.get("PG_BINDIR", ""), "psql")
END = "-- end of a command --"
FREE = {"n": r"\d+", "any": r".*"}


class Psql:
    """A psql that is told one line after the other; what it prints is known to be all."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.process = subprocess.Popen(
            [PSQL, "-X", "-q", "-v", "SHOW_CONTEXT=never", "-d", dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=dict(os.environ, PAGER="cat", LC_ALL="C.UTF-8"))

    def tell(self, lines):
        """What it prints to a command of one or more lines."""
        if lines == ["\\q"]:
            self.end_session()
            return []
        self.process.stdin.write("\n".join(lines + [f"\\echo {END}", ""]).encode())
        self.process.stdin.flush()
        return list(iter(lambda: read_line(self.process.stdout, 60), END))

    def end_session(self):
        """Until the server has ended it, too: that is a little later, or more."""
        (pid,) = self.tell(["select pg_backend_pid() as pid \\gset", "\\echo :pid"])
        self.close()
        with contextlib.closing(psycopg2.connect(self.dsn)) as onlooker:
            onlooker.autocommit = True
            cursor = onlooker.cursor()
            eventually(lambda: not one(cursor, "select count(*) from pg_stat_activity where pid = %s", pid))

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def blocks(document):
    """(kind, name, lines) of each fenced block."""
    text = (DOCS / document).read_text()
    for match in re.finditer(r"^```(\w+) ?(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield match[1], match[2], match[3].splitlines()


def commands(lines):
    """(lines of a command, lines of its output)"""
    found = []
    for line in lines:
        if line.startswith("=> "):
            found.append(([line[3:]], []))
        elif line.startswith("-> "):
            found[-1][0].append(line[3:])
        else:
            found[-1][1].append(line)
    return found


def pattern(line):
    return "".join(FREE[part[1:-1]] if part[1:-1] in FREE and part[0] == "<" else re.escape(part)
                   for part in re.split(r"(<\w+>)", line))


# What the documents leave out: the empty result of a function that returns nothing.
NOTHING = r" \w+ \n-+\n \n\(1 row\)\n"


@pytest.fixture
def sessions(daemon):
    """A function that gives the psql of a name."""
    if not os.path.exists(PSQL):
        pytest.skip("psql is missing")
    opened = {}

    def of(name):
        if name not in opened:
            opened[name] = Psql(daemon.dsn)
        return opened[name]
    yield of
    for one in opened.values():
        if one.process.poll() is None:
            one.close()


def test_fencing(sessions, sql):
    cursor = sql().cursor()
    ran = 0
    for kind, name, lines in blocks("fencing.md"):
        if kind == "sql":
            cursor.execute("\n".join(lines))
            continue
        for command, wanted in commands(lines):
            got = "\n".join(sessions(name).tell(command))
            got = re.sub(f"^{NOTHING}$", "", got)
            assert re.fullmatch("\n".join(map(pattern, wanted)), got), \
                f"{name}: {command}\n  wanted: {wanted}\n  got:    {got!r}"
            ran += 1
    assert ran > 40
    cursor.execute("drop schema app cascade")
