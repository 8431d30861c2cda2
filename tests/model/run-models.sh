#!/bin/sh
# Checks the models in this directory by exhaustive search, each as it is and once for each SWITCH that
# takes a rule out: then a violation must be found. Prints TAP; `make check` calls it. By hand:
#     tests/model/run-models.sh [MODEL.pml …]
#
# Environment: PGLOCKD_REQUIRE_POSTGRES=1 makes it an error that spin or gcc is missing, instead of a
# skip; BUILDDIR, which is looked at since a sanitized build has nothing to add here.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
: "${CC_MODEL:=gcc}" "${SPIN:=spin}"

skip()
{
    echo "1..0 # SKIP $1"
    exit 77
}

[ "${PGLOCKD_TESTS:-}" != unit ] || skip "PGLOCKD_TESTS=unit"
! grep -q 'define PGLOCKD_SANITIZED' "${BUILDDIR:-.}/config.h" 2>/dev/null ||
    skip "the models were searched beside the plain build: they contain nothing of this one"
for program in "$SPIN" "$CC_MODEL"; do
    command -v "$program" >/dev/null && continue
    [ "${PGLOCKD_REQUIRE_POSTGRES:-}" = 1 ] || skip "$program is missing (package ${program##*/})"
    echo "1..1"
    echo "not ok 1 - $program is missing (package ${program##*/})"
    exit 1
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
failed=0

tap() # OK NAME
{
    count=$((count + 1))
    [ "$1" = ok ] || failed=1
    echo "$1 $count - $2"
}

# Runs one model; its report is in $work/report.
search() # MODEL [-DSWITCH]
{
    (cd "$work" && "$SPIN" -a ${2:+"$2"} "$1" >report 2>&1 &&
        "$CC_MODEL" -O2 -w -DSAFETY -DMEMLIM=2048 -o pan pan.c >>report 2>&1 &&
        ./pan -m1000000 >report 2>&1)
}

# All states were seen: the search was neither cut short nor too deep.
is_complete()
{
    ! grep -q -E 'max search depth too small|out of memory|Search not completed' "$work/report"
}

check_model() # MODEL
{
    name=$(basename "$1" .pml)
    if search "$1" && grep -q 'errors: 0$' "$work/report" && is_complete; then
        states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$work/report")
        tap ok "$name holds in all of its $states states"
    else
        sed 's/^/# /' "$work/report"
        tap "not ok" "$name holds"
    fi
    # shellcheck disable=SC2013 # they are words
    for switch in $(sed -n 's/^ \* SWITCH \([A-Z0-9_]*\) .*/\1/p' "$1"); do
        search "$1" "-D$switch" || true
        if grep -q -E 'errors: [1-9]' "$work/report"; then
            tap ok "$name without a rule ($switch): $(sed -n 's/^pan:1: //p' "$work/report")"
        else
            sed 's/^/# /' "$work/report"
            tap "not ok" "$name without a rule ($switch) is found out"
        fi
    done
}

[ "$#" -gt 0 ] || set -- "$here"/*.pml
for model; do
    check_model "$(cd "$(dirname "$model")" && pwd)/$(basename "$model")"
done
echo "1..$count"
exit "$failed"
