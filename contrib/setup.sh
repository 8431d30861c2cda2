# What quickstart.sh and run-tests.sh share: packages, bootstrap, build. Sourced by bash, with
# $top set to the source tree.
# shellcheck shell=bash disable=SC2034

# Debian packages by what needs them; the one list of them.
packages_build="gcc libc6-dev make autoconf automake libtool pkg-config libpq-dev libev-dev
    libcjson-dev libmicrohttpd-dev libgnutls28-dev libinih-dev libutf8proc-dev postgresql-15
    postgresql-client-15"
packages_quickstart="netcat-openbsd"
packages_test="check git libfaketime netcat-openbsd python3 python3-pytest python3-pytest-xdist
    python3-psycopg2 spin"
# What full mode tests with and the others do without: promtool, a parser of OpenMetrics, a browser,
# systemd-analyze.
packages_full="prometheus python3-prometheus-client chromium systemd"
packages_lint="git clang-format-14 clang-tidy-14 cppcheck shellcheck"
packages_fuzz="clang-14 libclang-rt-14-dev"

die()
{
    echo "${0##*/}: $*" >&2
    exit 1
}

say()
{
    echo "== $*"
}

# Runs a command with its output in a log; shows the end of the log when it fails.
logged() # LOG NAME COMMAND...
{
    local log=$1 name=$2 start=$SECONDS status
    shift 2
    say "$name (log: $log)"
    "$@" >"$log" 2>&1
    status=$?
    if [ "$status" -eq 0 ]; then
        say "$name: done in $((SECONDS - start)) s"
    else
        tail -n 100 "$log"
        say "$name: FAILED"
    fi
    return "$status"
}

as_root()
{
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() # PACKAGE...
{
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            printf '%s ' "$package"
    done
}

# What is missing may be there without being a package, so that is for whoever reads it to judge.
tell_missing() # PACKAGE...
{
    local missing
    missing=$(command -v dpkg-query >/dev/null && missing_packages "$@")
    [ -z "$missing" ] || say "packages that are not installed, and will be missed: $missing"
}

# Debian makes and starts a cluster when it installs a server, unless this file says not to. The
# file stays: it is also what an administrator would write.
no_system_cluster()
{
    local conf=/etc/postgresql-common/createcluster.conf
    [ ! -e "$conf" ] || return 0
    say "writing $conf, so that installing PostgreSQL starts no system cluster"
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
}

# Installs those of the packages that are missing; does not touch the network when none is.
install_packages() # PACKAGE...
{
    local missing
    command -v apt-get >/dev/null ||
        die "apt-get is missing: on other systems than Debian 12 install the libraries by hand \
(README.md) and use --no-install"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die "packages are missing ($missing) and there is no sudo: run this as root once"
    say "installing $missing"
    case " $missing" in *" postgresql-15 "*) no_system_cluster ;; esac
    as_root apt-get update -qq || die "apt-get update failed: is the network up?"
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing ||
        die "apt-get could not install $missing"
}

# A tree that cannot be written is copied to one that can, which becomes $top.
writable_tree()
{
    local copy
    [ ! -w "$top" ] || return 0
    copy=$(mktemp -d "${TMPDIR:-/tmp}/pglockd-build.XXXXXX")
    say "$top is not writable: building a copy in $copy"
    (cd "$top" && tar -cf - --exclude=./.git --exclude=./build .) | tar -xf - -C "$copy"
    top=$copy
}

# Makes ./configure where it is missing or older than what it is made from.
bootstrap_tree()
{
    [ ! -e "$top/config.status" ] ||
        die "$top is configured in place: run 'make distclean' there first"
    if [ -x "$top/configure" ] && [ -z "$(find "$top/configure.ac" "$top/Makefile.am" \
        "$top/src" "$top/sql" "$top/tests" "$top/docs" "$top/contrib" \
        \( -name configure.ac -o -name Makefile.am -o -name local.mk \) \
        -newer "$top/Makefile.in" -print -quit)" ]; then
        return 0
    fi
    "$top/bootstrap"
}

# Configures DIR unless it was configured from this tree in the same way already.
configure_in() # DIR CONFIGURE-ARGUMENT...
{
    local dir=$1 how
    shift
    how="$top $*"
    if [ -e "$dir/Makefile" ] && [ "$(cat "$dir/.configured" 2>/dev/null)" = "$how" ]; then
        return 0
    fi
    rm -rf "$dir"
    mkdir -p "$dir"
    (cd "$dir" && "$top/configure" "$@" && echo "$how" >.configured)
}
