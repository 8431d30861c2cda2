#!/bin/sh
# make installcheck: what was installed runs, and a foreign program builds against the library with
# nothing but pkg-config. Environment from the makefile: CC SRCDIR DESTDIR VERSION and directories.
set -eu
: "${CC:?}" "${SRCDIR:?}" "${VERSION:?}" "${bindir:?}" "${libdir:?}" "${sqldir:?}"
root=${DESTDIR:-}

fail()
{
    echo "installcheck: $*" >&2
    exit 1
}

LD_LIBRARY_PATH=$root$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
PKG_CONFIG_PATH=$root$libdir/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
export LD_LIBRARY_PATH PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for program in pglockd pglockctl; do
    "$root$bindir/$program" --version | grep -q -F -x "$program $VERSION" ||
        fail "$program --version does not say '$program $VERSION'"
done

[ "$(pkg-config --modversion pglockd)" = "$VERSION" ] || fail "pglockd.pc has another version"
# shellcheck disable=SC2046
$CC $(pkg-config --cflags pglockd) -o "$work/example" "$SRCDIR/src/client/example.c" \
    $(pkg-config --libs pglockd) || fail "the example does not build with pkg-config alone"

others=$(nm -D --defined-only "$root$libdir/libpglockd.so" | awk '$2 != "A" { print $3 }' |
    grep -v '^pglockd_' || true)
[ -z "$others" ] || fail "libpglockd exports more than pglockd_*: $others"

for file in install.sql upgrade.sql roles.sql; do
    [ -s "$root$sqldir/$file" ] || fail "$sqldir/$file is missing or empty"
done
for file in prometheus/pglockd.rules.yml grafana/pglockd.json; do
    [ -s "$root${sqldir%/sql}/$file" ] || fail "${sqldir%/sql}/$file is missing or empty"
done
echo "installcheck: programs, library and SQL are in place"
