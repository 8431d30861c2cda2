#!/bin/sh
# bench.sh [BUILDDIR]
#
# The figures of docs/performance.md that pglockctl bench gives: starts a daemon of BUILDDIR (default:
# build) on a fresh embedded PostgreSQL, runs every workload REPS times in turn, and prints the median
# of each. Nothing else should run on the machine. Not a test: it asserts nothing.
#
# Knobs: REPS (3)  DURATION (4s)  LEASES (100000; held)  CLIENTS ("1 64 256"; uncontended)
set -eu

build=$(cd "${1:-build}" && pwd)
: "${REPS:=3}" "${DURATION:=4s}" "${LEASES:=100000}" "${CLIENTS:=1 64 256}"
dir=$(mktemp -d /var/tmp/pglockd-bench.XXXXXX)
chmod 711 "$dir"
pid=
stop() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || :
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || :
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

"$build/pglockd" --embedded "$dir/data" --listen 127.0.0.1:0 --http off \
    >"$dir/ready" 2>"$dir/log" &
pid=$!
i=0
until grep -q '^ready' "$dir/ready"; do
    i=$((i + 1))
    if [ $i -gt 300 ] || ! kill -0 "$pid" 2>/dev/null; then
        echo "bench.sh: the daemon does not start:" >&2
        tail -5 "$dir/log" >&2
        exit 1
    fi
    sleep 0.1
done
PGLOCKCTL_CONNECT=tcp://$(sed 's/^ready line=\([^ ]*\) .*/\1/' "$dir/ready")
export PGLOCKCTL_CONNECT

bench() { # NAME ARGUMENT...
    name=$1
    shift
    "$build/pglockctl" bench --json --duration "$DURATION" --server-pid "$pid" "$@" |
        sed "s/^{/{\"point\":\"$name\",/" >>"$dir/points"
}
rep=0
while [ $rep -lt "$REPS" ]; do
    rep=$((rep + 1))
    for c in $CLIENTS; do
        bench "uncontended $c" -c "$c" uncontended
    done
    bench "contended 64" -c 64 contended
    bench "readers 64" -c 64 readers
done
bench "held $LEASES" -c 64 --leases "$LEASES" held

/usr/bin/python3 - "$dir/points" <<'P'
import collections, json, statistics, sys

points = collections.defaultdict(list)
for line in open(sys.argv[1]):
    point = json.loads(line)
    points[point.pop("point")].append(point)

def median(values):
    return round(statistics.median(values), 4)

for name, runs in points.items():
    print(name)
    for key, value in runs[0].items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            print(f"    {key:32} {median([run[key] for run in runs])}")
        elif isinstance(value, dict):
            for inner, number in value.items():
                if isinstance(number, (int, float)):
                    print(f"    {key + '.' + inner:32} {median([run[key][inner] for run in runs])}")
P
