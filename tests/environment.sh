# shellcheck shell=sh
# What tests in Python find in their environment; sourced by the scripts that run them, which say skip().
#
# Environment: SRCDIR, BUILDDIR; PGLOCKD and PGLOCKCTL, the programs (default: those of BUILDDIR);
# PG_BINDIR, where initdb is (default: found); PYTHON (default: Debian's).

: "${SRCDIR:?}" "${BUILDDIR:?}"
SRCDIR=$(cd "$SRCDIR" && pwd)
BUILDDIR=$(cd "$BUILDDIR" && pwd)
: "${PGLOCKD:=$BUILDDIR/pglockd}" "${PGLOCKCTL:=$BUILDDIR/pglockctl}"
: "${PYTHON:=/usr/bin/python3}"

find_pg_bindir()
{
    for dir in "${PG_BINDIR:-}" "$(pg_config --bindir 2>/dev/null)" \
        "$(dirname "$(command -v initdb || echo /)")" /usr/lib/postgresql/15/bin; do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && echo "$dir" && return
    done
    return 1
}

PG_BINDIR=$(find_pg_bindir) || skip "PostgreSQL's initdb is missing (package postgresql-15)"
"$PYTHON" -c 'import pytest' 2>/dev/null || skip "pytest is missing (package python3-pytest)"
"$PYTHON" -c 'import psycopg2' 2>/dev/null || skip "psycopg2 is missing (package python3-psycopg2)"

export SRCDIR BUILDDIR PGLOCKD PGLOCKCTL PG_BINDIR
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$SRCDIR/tests:$SRCDIR/tests/integration${PYTHONPATH:+:$PYTHONPATH}"
