#!/bin/sh
# Runs every pytest suite under tests/ against the programs just built and prints TAP. make check
# calls it; by hand, from a build directory, with any arguments of pytest:
#     SRCDIR=../.. BUILDDIR=. ../../tests/run-integration.sh -k transfer
# Tests wait more than they work, so several run at a time (pytest-xdist), each worker with a daemon
# of its own; -n0 runs them one by one, as -s and --pdb need it.
#
# Environment: that of environment.sh; PGLOCKD_TESTS=unit skips everything here;
# PGLOCKD_REQUIRE_POSTGRES=1 makes it an error that something is missing, instead of a skip;
# PGLOCKD_REQUIRE_TOOLS=1 does so for promtool and chromium; PGLOCKD_TEST_WORKERS, how many tests at
# a time (default 4).
set -eu

skip()
{
    if [ "${PGLOCKD_REQUIRE_POSTGRES:-}" = 1 ]; then
        echo "1..1"
        echo "not ok 1 - $1"
        exit 1
    fi
    echo "1..0 # SKIP $1"
    exit 77
}

[ "${PGLOCKD_TESTS:-}" != unit ] || { echo "1..0 # SKIP PGLOCKD_TESTS=unit" && exit 77; }
# shellcheck source=tests/environment.sh
. "${SRCDIR:?}/tests/environment.sh"
"$PYTHON" -c 'import xdist' 2>/dev/null || skip "pytest-xdist is missing (package python3-pytest-xdist)"

# The limit is for a suite that hangs; it is far above what the suite takes.
exec timeout --kill-after=30 "${PGLOCKD_TEST_TIMEOUT:-1200}" \
    "$PYTHON" -m pytest -c "$SRCDIR/tests/pytest.ini" -p tap_plugin -p no:cacheprovider \
    -n "${PGLOCKD_TEST_WORKERS:-4}" --dist=loadgroup --max-worker-restart=0 \
    --junit-xml="$BUILDDIR/tests/integration.xml" "$@" "$SRCDIR/tests"
