#!/usr/bin/env bash
# Builds pglockd and runs all of its tests.
set -uo pipefail

usage()
{
    cat <<'EOF'
usage: ./run-tests.sh [--fast | --full] [--no-install]

Installs the Debian packages that are missing (as root or with sudo), builds in ./build, and runs
every test: on a plain build, then on one with AddressSanitizer and UndefinedBehaviorSanitizer.

  --fast        the plain build only
  --full        also the linters, a minute of fuzzing and make distcheck; CI=true in the
                environment means this
  --no-install  install nothing; what is missing is an error, or skips the tests that need it
  --help        this text

The last lines say how many tests ran on each build, and what failed; the very last is "N passed, N
failed" (with ", N skipped" if any), over all builds. A build, a linter or distcheck that fails
counts as one failed test. The exit status is 0 when nothing failed.
EOF
}

top=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=contrib/setup.sh
. "$top/contrib/setup.sh"

mode=default
[ "${CI:-}" = true ] && mode=full
install=yes
for arg in "$@"; do
    case $arg in
    --fast) mode=fast ;;
    --full) mode=full ;;
    --no-install) install=no ;;
    --help) usage && exit 0 ;;
    *) die "unknown option $arg (see --help)" ;;
    esac
done

passed=0
skipped=0
summary=()  # a line for each build
failures=() # a line for each test or step that failed
beside=     # the process that works beside the tests

finish()
{
    wait_beside
    local line
    for line in "${summary[@]}" "${failures[@]/#/failed: }"; do say "$line"; done
    say "total time $((SECONDS / 60)) min $((SECONDS % 60)) s"
    printf '%d passed, %d failed' "$passed" "${#failures[@]}"
    [ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
    echo
    [ "${#failures[@]}" -eq 0 ]
    exit
}

step() # NAME COMMAND...
{
    logged "$logs/${1//[^a-z0-9]/-}.log" "$@" && return 0
    failures+=("$1")
    return 1
}

# Adds up the single results that make check left in DIR.
count_results() # DIR
{
    local results name=${1##*/}
    results=$(find "$1/tests" -name '*.trs' -exec sed -n 's/^:test-result: //p' {} +)
    count() { printf '%s\n' "$results" | grep -c -x -E "($1)( .*)?"; }
    local ok skip bad
    ok=$(count 'PASS|XFAIL')
    skip=$(count SKIP)
    # Their names are in the log alone.
    mapfile -t bad < <(sed -n -E "s/^(FAIL|ERROR|XPASS): (tests\/.*)/$name: \2/p" "$logs/$name-check.log")
    summary+=("$name: $((ok + ${#bad[@]})) tests ran, $ok passed, ${#bad[@]} failed, $skip skipped")
    passed=$((passed + ok))
    skipped=$((skipped + skip))
    failures+=("${bad[@]}")
}

# Shows every result but PASS as it comes, and the logs of what failed at the end.
run_check() # DIR
{
    local dir=$1 status start=$SECONDS known=${#failures[@]}
    say "${dir##*/}: make check (log: $logs/${dir##*/}-check.log)"
    find "$dir/tests" -name '*.trs' -delete
    make -C "$dir" -j "$jobs" -k check 2>&1 | tee "$logs/${dir##*/}-check.log" |
        grep -E '^(FAIL|ERROR|SKIP|XPASS|XFAIL):|\*\*\*|error:'
    status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || tail -n 200 "$dir/test-suite.log" 2>/dev/null
    count_results "$dir"
    say "${summary[-1]}; make check took $((SECONDS - start)) s"
    if [ "$status" -ne 0 ] && [ "${#failures[@]}" -eq "$known" ]; then
        failures+=("${dir##*/}: make check, before or beside the tests")
    fi
}

build() # NAME CONFIGURE-ARGUMENT...
{
    local dir=$work/$1
    shift
    step "${dir##*/}: configure" configure_in "$dir" --enable-werror "$@" || return 1
    step "${dir##*/}: make" make -C "$dir" -j "$jobs"
}

# Sanitizers report into files, so that a report from any process that a test starts is seen even
# if the test does not look.
check_sanitized()
{
    local reports=$work/sanitizer-reports report
    rm -rf "$reports"
    mkdir -m 1777 "$reports"
    export ASAN_OPTIONS="log_path=$reports/report:detect_stack_use_after_return=1"
    export UBSAN_OPTIONS="log_path=$reports/report:print_stacktrace=1"
    # The long histories are about what SQL decides, which no sanitizer sees.
    export PGLOCKD_TEST_HISTORIES=${PGLOCKD_TEST_HISTORIES:-1}
    build sanitized --enable-asan --enable-ubsan && run_check "$work/sanitized"
    unset ASAN_OPTIONS UBSAN_OPTIONS PGLOCKD_TEST_HISTORIES
    for report in "$reports"/*; do
        [ -e "$report" ] || continue
        say "sanitizer report $report"
        head -n 60 "$report"
        failures+=("sanitizer report $report")
    done
}

# What full mode does with the plain build beside its tests: those wait for most of their time.
steps_beside()
{
    failures=()
    step lint nice make -C "$work/plain" lint
    step fuzz nice make -C "$work/plain" check-fuzz
    # The tests that need PostgreSQL run twice without this.
    step distcheck env PGLOCKD_TESTS=unit nice make -C "$work/plain" -j "$jobs" distcheck \
        DISTCHECK_CONFIGURE_FLAGS=--enable-werror &&
        step tarball "$top/contrib/check-dist" "$top" "$work/plain"/pglockd-*.tar.gz
    printf '%s\n' "${failures[@]}" >"$logs/failed-beside"
}

# In a process group of its own, so that it can be ended with all that it has started.
start_beside()
{
    set -m
    steps_beside &
    beside=$!
    set +m
    trap '[ -z "$beside" ] || kill -- "-$beside"' EXIT
    trap 'exit 130' INT TERM HUP
}

wait_beside()
{
    [ -n "$beside" ] || return 0
    local failed
    if wait "$beside"; then
        mapfile -t failed < <(grep . "$logs/failed-beside")
        failures+=("${failed[@]}")
    else
        failures+=("what runs beside the tests ended early")
    fi
    beside=
}

packages="$packages_build $packages_test"
[ "$mode" != full ] || packages="$packages $packages_full $packages_lint $packages_fuzz"
# shellcheck disable=SC2086
if [ "$install" = yes ]; then install_packages $packages; else tell_missing $packages; fi
# Whoever runs this wants the tests that need PostgreSQL to run: skipping them is a failure.
[ "$install" = no ] || export PGLOCKD_REQUIRE_POSTGRES=1
if [ "$install" = yes ] && [ "$mode" = full ]; then export PGLOCKD_REQUIRE_TOOLS=1; fi

writable_tree
work=$top/build
logs=$work/logs
mkdir -p "$logs"
jobs=$(nproc)

step bootstrap bootstrap_tree || finish
build plain || finish
if [ "$mode" = full ]; then start_beside; fi
run_check "$work/plain"
if [ "$mode" != fast ]; then check_sanitized; fi
finish
