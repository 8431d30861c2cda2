#!/bin/sh
# sql/generate.sh: what it refuses, and what it makes of odd texts. Speaks TAP.
set -u
generate=${SRCDIR:-.}/sql/generate.sh
sql=${SRCDIR:-.}/sql
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
count=0

# fresh: an SQL directory with one migration and one function
fresh()
{
    rm -rf "$dir/sql"
    mkdir -p "$dir/sql/migrations" "$dir/sql/functions"
    cp "$sql/roles.sql" "$sql/bootstrap.sql" "$dir/sql"
    echo 'create table pglockd.one (n int);' >"$dir/sql/migrations/0001_one.sql"
    echo 'select 1;' >"$dir/sql/functions/f.sql"
}

# result STATUS NAME
result()
{
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
        sed 's/^/# /' "$dir/err"
    fi
}

# refuses NAME WORDS
refuses()
{
    ! sh "$generate" c "$dir/sql" >"$dir/out" 2>"$dir/err" && grep -q -- "$2" "$dir/err"
    result $? "$1"
}

# makes MODE NAME WORDS
makes()
{
    sh "$generate" "$1" "$dir/sql" >"$dir/out" 2>"$dir/err" && grep -qF -- "$3" "$dir/out"
    result $? "$2"
}

fresh
mv "$dir/sql/migrations/0001_one.sql" "$dir/sql/migrations/0002_one.sql"
refuses 'a gap in the numbers' 'number 1 is expected'

fresh
cp "$dir/sql/migrations/0001_one.sql" "$dir/sql/migrations/0001_two.sql"
refuses 'a number that is there twice' 'number 2 is expected'

fresh
cp "$dir/sql/migrations/0001_one.sql" "$dir/sql/migrations/0002_it's.sql"
refuses 'a name that would need quoting' 'letters, digits'

fresh
echo '-- min_program: 2' >>"$dir/sql/migrations/0001_one.sql"
refuses 'a min_program above the version' 'from 1 to 1'

fresh
printf '%s\n' '-- "quoted" \back ??/ 100%' >"$dir/sql/functions/f.sql"
makes c 'text is escaped for C' '"-- \"quoted\" \\back ?\?/ 100%\n"'

fresh
cp "$dir/sql/migrations/0001_one.sql" "$dir/sql/migrations/0002_two.sql"
cp "$dir/sql/migrations/0001_one.sql" "$dir/sql/migrations/0003_three.sql"
sum=$(sha256sum <"$dir/sql/migrations/0001_one.sql" | cut -d ' ' -f 1)
makes c 'min_program is the version before' "\"$sum\", 3, 2}"
makes install 'psql writes the same record' "values (3, '0003_three.sql', '$sum', 2);"
echo '-- min_program: 1' >>"$dir/sql/migrations/0003_three.sql"
sum=$(sha256sum <"$dir/sql/migrations/0003_three.sql" | cut -d ' ' -f 1)
makes c 'unless the file says another' "\"$sum\", 3, 1}"

fresh
sh "$generate" upgrade "$dir/sql" >"$dir/before" 2>"$dir/err"
mv "$dir/sql/functions/f.sql" "$dir/sql/functions/g.sql"
sh "$generate" upgrade "$dir/sql" >"$dir/after" 2>>"$dir/err"
! cmp -s "$dir/before" "$dir/after"
result $? 'the checksum of the functions covers their names'

grep -q "^lock=$((0x50474C06))\$" "$generate"
result $? 'the lock is ADVISORY_MIGRATE'

echo "1..$count"
