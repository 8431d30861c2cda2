#!/bin/sh
# Turns the SQL files into what is embedded and installed; writes to standard output.
#
#     generate.sh c       SQLDIR    C source of sql_embedded (src/pg/sql_files.h)
#     generate.sh install SQLDIR    one file for psql -f: roles, schema and functions
#     generate.sh upgrade SQLDIR    the same for a database that has pglockd already
#
# SQLDIR holds roles.sql, bootstrap.sql, migrations/NNNN_name.sql (from 0001, no gaps) and
# functions/NAME.sql. A migration may say "-- min_program: N" on a line of its own: the oldest
# schema version whose programs still run after it; without it that is the version before.
set -eu
LC_ALL=C
export LC_ALL

fail()
{
    echo "generate.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: generate.sh c|install|upgrade SQLDIR"
mode=$1
dir=$2

# ADVISORY_MIGRATE of src/pg/advisory.h
lock=1346849798

if command -v sha256sum >/dev/null 2>&1; then
    sha256() { sha256sum | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null 2>&1; then
    sha256() { shasum -a 256 | cut -d ' ' -f 1; }
else
    fail "sha256sum (coreutils) or shasum is needed"
fi

# --- what there is ---

migrations=
version=0
for file in "$dir"/migrations/*.sql; do
    [ -e "$file" ] || continue
    name=${file##*/}
    version=$((version + 1))
    case $name in
        *[!A-Za-z0-9_.]*) fail "$file: the name may have letters, digits, _ and . only" ;;
        "$(printf '%04d_' $version)"?*.sql) ;;
        *) fail "$file: migrations are NNNN_name.sql without gaps; number $version is expected" ;;
    esac
    migrations="$migrations $name"
done
functions=
for file in "$dir"/functions/*.sql; do
    [ -e "$file" ] || continue
    name=${file##*/}
    case $name in
        *[!A-Za-z0-9_.]*) fail "$file: the name may have letters, digits, _ and . only" ;;
    esac
    functions="$functions $name"
done

# min_program VERSION FILE
min_program()
{
    said=$(sed -n 's/^-- min_program: *\([0-9][0-9]*\) *$/\1/p' "$2")
    if [ -z "$said" ]; then
        said=$(($1 > 1 ? $1 - 1 : 1))
    fi
    if [ "$said" -lt 1 ] || [ "$said" -gt "$1" ]; then
        fail "$2: min_program must be one number from 1 to $1"
    fi
    echo "$said"
}

# The checksum of all function files, which may only be a checksum of names and contents.
functions_sha256=$(
    for name in $functions; do
        echo "$(sha256 <"$dir/functions/$name")  $name"
    done | sha256
)

# --- C ---

# c_text IDENTIFIER FILE
c_text()
{
    printf 'static const char %s[] =\n' "$1"
    # Backslashes and quotes are escaped; ?? too, lest it begin a trigraph.
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/??/?\\?/g' -e 's/^/    "/' -e 's/$/\\n"/' "$2"
    printf '    "";\n\n'
}

# c_file IDENTIFIER FILE VERSION MIN_PROGRAM
c_file()
{
    printf '{"%s", %s, sizeof(%s) - 1,\n     "%s", %d, %d}' \
        "${2##*/}" "$1" "$1" "$(sha256 <"$2")" "$3" "$4"
}

generate_c()
{
    echo '/* Generated from sql/ by sql/generate.sh. Do not edit. */'
    echo
    echo '#include "pg/sql_files.h"'
    echo
    c_text roles "$dir/roles.sql"
    c_text bootstrap "$dir/bootstrap.sql"
    n=0
    for name in $migrations; do
        n=$((n + 1))
        c_text "migration_$n" "$dir/migrations/$name"
    done
    i=0
    for name in $functions; do
        i=$((i + 1))
        c_text "function_$i" "$dir/functions/$name"
    done

    echo 'static const struct sql_file migrations[] = {'
    n=0
    for name in $migrations; do
        n=$((n + 1))
        file=$dir/migrations/$name
        min=$(min_program $n "$file")
        printf '    %s,\n' "$(c_file "migration_$n" "$file" $n "$min")"
    done
    # C has no empty arrays.
    [ $n -gt 0 ] || echo '    {0},'
    echo '};'
    echo
    echo 'static const struct sql_file functions[] = {'
    i=0
    for name in $functions; do
        i=$((i + 1))
        printf '    %s,\n' "$(c_file "function_$i" "$dir/functions/$name" 0 0)"
    done
    [ $i -gt 0 ] || echo '    {0},'
    echo '};'
    echo
    echo 'const struct sql_set sql_embedded = {'
    printf '    .roles = %s,\n' "$(c_file roles "$dir/roles.sql" 0 0)"
    printf '    .bootstrap = %s,\n' "$(c_file bootstrap "$dir/bootstrap.sql" 0 0)"
    echo '    .migrations = migrations,'
    printf '    .n_migrations = %d,\n' $n
    echo '    .functions = functions,'
    printf '    .n_functions = %d,\n' $i
    printf '    .functions_sha256 =\n        "%s",\n' "$functions_sha256"
    echo '};'
}

# --- psql ---

# The settings under which the program runs the files, too (src/pg/migrate.c).
psql_head()
{
    cat <<END
-- pglockd: $mode the schema, version $version. Generated from sql/; do not edit.
--
--     psql -X -d DATABASE -f $mode.sql
--
-- Does what "pglockctl migrate up" does and keeps the same records, so that either may be used at
-- any time. May be run again. Every migration is one transaction. Do not run it with psql -1.

\\set ON_ERROR_STOP on
\\set AUTOCOMMIT on
\\set QUIET on
\\encoding UTF8
set client_min_messages = warning;
set search_path = '';
set lock_timeout = '10min';
select 'locked' as pglockd_lock from pg_catalog.pg_advisory_lock($lock, 0) \\gset
set lock_timeout = '10s';

do \$check\$
begin
    if pg_catalog.current_setting('server_version_num')::int < 140000 then
        raise exception 'pglockd needs PostgreSQL 14 or newer; this server is %',
            pg_catalog.current_setting('server_version');
    end if;
end
\$check\$;

select pg_catalog.count(*) = 0 as pglockd_missing
  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
 where n.nspname = 'pglockd' and c.relname = 'schema_info' \\gset

END
}

psql_install_base()
{
    cat "$dir/roles.sql"
    echo
    cat <<'END'
\if :pglockd_missing
\echo creating schema pglockd
begin;
END
    cat "$dir/bootstrap.sql"
    cat <<'END'
commit;
\endif

END
}

psql_upgrade_base()
{
    cat <<'END'
\if :pglockd_missing
do $check$
begin
    raise exception 'there is no pglockd in database % to upgrade: run install.sql',
        pg_catalog.current_database();
end
$check$;
\endif

END
    cat "$dir/roles.sql"
    echo
}

# Refuses a newer database, a changed migration, and one that was left out.
psql_check()
{
    cat <<END
do \$check\$
declare
    have constant int := (select version from pglockd.schema_info);
    bad text;
begin
    if have > $version then
        raise exception 'the database is at schema version %, newer than version $version of this file: use the files of that pglockd', have;
    end if;
END
    if [ "$version" -gt 0 ]; then
        cat <<END
    select pg_catalog.min(m.name)
      into bad
      from pglockd.migration as m
      join (values
END
        n=0
        for name in $migrations; do
            n=$((n + 1))
            comma=$([ $n -eq "$version" ] || echo ,)
            echo "                ($n, '$name', '$(sha256 <"$dir/migrations/$name")')$comma"
        done
        cat <<END
           ) as f (version, name, checksum) using (version)
     where m.checksum <> f.checksum or m.name <> f.name;
    if bad is not null then
        raise exception 'migration % was applied to this database in another form than this file has: a released migration never changes', bad;
    end if;
END
    fi
    cat <<END
    if have <> (select pg_catalog.count(*) from pglockd.migration) then
        raise exception 'a migration below version % is missing in pglockd.migration', have;
    end if;
end
\$check\$;

END
}

psql_migrations()
{
    n=0
    for name in $migrations; do
        n=$((n + 1))
        file=$dir/migrations/$name
        min=$(min_program $n "$file")
        cat <<END
select pg_catalog.count(*) = 0 as pglockd_pending
  from pglockd.migration where version = $n \\gset
\\if :pglockd_pending
\\echo applying $name
begin;
END
        cat "$file"
        cat <<END

insert into pglockd.migration (version, name, checksum, min_program)
    values ($n, '$name', '$(sha256 <"$file")', $min);
commit;
\\endif

END
    done
}

psql_functions()
{
    cat <<END
select pg_catalog.count(*) = 0 as pglockd_pending
  from pglockd.function_set where checksum = '$functions_sha256' \\gset
\\if :pglockd_pending
\\echo installing functions
begin;
set local check_function_bodies = off;
END
    for name in $functions; do
        cat "$dir/functions/$name"
        echo
    done
    cat <<END
insert into pglockd.function_set (version, checksum)
    values ($version, '$functions_sha256')
    on conflict (one) do update
        set version = excluded.version, checksum = excluded.checksum,
            installed_at = excluded.installed_at, installed_by = excluded.installed_by;
commit;
\\endif

END
}

psql_tail()
{
    cat <<END
select 'unlocked' as pglockd_lock from pg_catalog.pg_advisory_unlock($lock, 0) \\gset
reset lock_timeout;
reset search_path;
reset client_min_messages;
\\echo pglockd: schema version $version is in place
END
}

case $mode in
    c) generate_c ;;
    install | upgrade)
        psql_head
        "psql_${mode}_base"
        psql_check
        psql_migrations
        psql_functions
        psql_tail
        ;;
    *) fail "unknown mode $mode" ;;
esac
