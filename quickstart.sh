#!/usr/bin/env bash
# From a fresh checkout to a running pglockd on its own PostgreSQL.
set -uo pipefail

usage()
{
    cat <<'EOF'
usage: ./quickstart.sh [--no-install]

Installs the Debian packages that are missing (as root or with sudo), builds in ./build, starts
pglockd with a private PostgreSQL in ./pglockd-data, takes and releases a lock, says how to go on,
and leaves the daemon running until Ctrl-C. Run it again and the data is still there.

  --no-install  install nothing; what is missing is an error
  --help        this text
EOF
}

top=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=contrib/setup.sh
. "$top/contrib/setup.sh"

install=yes
for arg in "$@"; do
    case $arg in
    --no-install) install=no ;;
    --help) usage && exit 0 ;;
    *) die "unknown option $arg (see --help)" ;;
    esac
done

build()
{
    logged "$work/bootstrap.log" bootstrap bootstrap_tree &&
        logged "$work/configure.log" configure configure_in "$work/quickstart" &&
        logged "$work/make.log" make make -C "$work/quickstart" -j "$(nproc)"
}

# Root's PostgreSQL runs as another user, who has to get to the data.
postgres_reaches() # DIRECTORY
{
    local user
    [ "$(id -u)" = 0 ] || return 0
    for user in postgres nobody; do
        runuser -u "$user" -- test -x "$1" 2>/dev/null && return 0
    done
    return 1
}

# Sets $data. A path of a Unix socket has at most 107 bytes, of which PostgreSQL wants 22.
choose_data()
{
    data=$top/pglockd-data
    if postgres_reaches "$top" && [ "${#data}" -le 80 ]; then return; fi
    if [ "$(id -u)" = 0 ]; then
        data=/var/lib/pglockd/quickstart
        mkdir -p "$data"
    else
        data=$HOME/.pglockd-quickstart
    fi
    say "$top cannot hold the data (closed to PostgreSQL's user, or too long a path): using $data"
}

# The port when nobody listens on it, else 0: any.
free_port() # PORT
{
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        say "port $1 is taken: using another" >&2
        echo 0
    else
        echo "$1"
    fi
}

# The daemon gets a session of its own, so that Ctrl-C reaches it once, through stop_daemon.
# Sets $ready to its ready line.
start_daemon()
{
    local fifo=$work/ready.fifo log=$work/pglockd.log
    say "starting pglockd on its own PostgreSQL in $data (log: $log)"
    rm -f "$fifo"
    mkfifo "$fifo"
    setsid "$bin/pglockd" --embedded "$data" --listen "127.0.0.1:$(free_port 7432)" \
        --http "127.0.0.1:$(free_port 7433)" >"$fifo" 2>"$log" &
    daemon=$!
    trap stop_daemon EXIT
    trap 'exit 0' INT TERM HUP
    exec {ready_fd}<"$fifo"
    rm -f "$fifo"
    if ! read -r ready <&"$ready_fd"; then
        tail -n 20 "$log" >&2
        die "pglockd did not start"
    fi
    echo "$ready"
}

# shellcheck disable=SC2317
stop_daemon()
{
    trap '' INT TERM HUP
    kill -TERM "$daemon" 2>/dev/null && echo && say "stopping pglockd"
    wait "$daemon"
}

show() # COMMAND...
{
    echo "\$ $*"
    "$@"
}

show_a_lock()
{
    local token
    export PGLOCKCTL_CONNECT=tcp://$line PATH=$bin:$PATH
    say "a lock, taken and released"
    echo "\$ pglockctl lock demo/hello ttl=30s owner=quickstart"
    token=$(pglockctl lock demo/hello ttl=30s owner=quickstart) ||
        die "pglockctl could not take a lock"
    echo "$token"
    show pglockctl ls || die "pglockctl could not list the locks"
    show pglockctl --json unlock demo/hello "token=$token" ||
        die "pglockctl could not release the lock"
}

show_how_to_go_on()
{
    local http=${ready##*http=}
    say "pglockd runs until Ctrl-C; from another terminal:"
    cat <<EOF
  with nc:    printf 'LOCK repo/a.ts ttl=30s owner=me\\n' | nc -N ${line%:*} ${line##*:}
              nc ${line%:*} ${line##*:}        then type HELP
  with psql:  psql -h $data/run -U pglockd pglockd
              select * from pglockd.lock('repo/a.ts', ttl => '30 s');
              select * from pglockd.locks;
  with the command line:
              export PATH=$bin:\$PATH PGLOCKCTL_CONNECT=tcp://$line
              pglockctl run repo/a.ts -- make deploy
EOF
    [ "$http" = off ] || echo "  metrics:    http://$http/metrics"
}

# shellcheck disable=SC2086
[ "$install" = no ] || install_packages $packages_build $packages_quickstart
writable_tree
work=$top/build
bin=$work/quickstart
mkdir -p "$work"
build || exit 1
choose_data
start_daemon
line=${ready#*line=}
line=${line%% *}
show_a_lock
show_how_to_go_on
wait "$daemon"
status=$?
tail -n 20 "$work/pglockd.log" >&2
echo "pglockd ended by itself (status $status)" >&2
exit "$status"
