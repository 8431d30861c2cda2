#!/bin/sh
# Injects faults into two daemons, their PostgreSQL and their clients, and checks what was promised; prints a
# report, and fails where something is violated. make check-faults calls it; by hand, from a build directory:
#     SRCDIR=.. BUILDDIR=. ../tests/check-faults.sh --seconds 600 --seed 7
#
# Environment: FAULT_SECONDS (90), FAULT_SEED (random), and that of environment.sh.
set -eu

skip()
{
    echo "check-faults.sh: $1" >&2
    exit 1
}

# shellcheck source=tests/environment.sh
. "${SRCDIR:?}/tests/environment.sh"
exec "$PYTHON" "$SRCDIR/tests/integration/fault_harness.py" "$@"
