-- What migrate itself keeps: which migrations a database has, and which functions. Run once, in
-- one transaction, in a database that has no pglockd.schema_info; later changes to these objects
-- are migrations like any other.

do $bootstrap$
begin
    -- Not "if not exists": that asks for the right to create schemas even where an administrator
    -- has made this one.
    if not exists (select from pg_catalog.pg_namespace where nspname = 'pglockd') then
        create schema pglockd;
    end if;
end
$bootstrap$;

comment on schema pglockd is 'pglockd: locks with leases, fencing tokens and rate limits';

create table pglockd.migration (
    version     integer     not null primary key check (version > 0),
    name        text        not null unique,
    checksum    text        not null check (checksum ~ '^[0-9a-f]{64}$'),
    min_program integer     not null check (min_program between 1 and version),
    applied_at  timestamptz not null default pg_catalog.clock_timestamp(),
    applied_by  text        not null default session_user
);

comment on table pglockd.migration is
    'The migrations that this database has; one row a file, written in the transaction of the file';
comment on column pglockd.migration.version is 'Number of the file, from 1 without gaps';
comment on column pglockd.migration.name is 'Name of the file, such as 0001_core.sql';
comment on column pglockd.migration.checksum is
    'SHA-256 of the file; a released file never changes';
comment on column pglockd.migration.min_program is
    'The oldest schema version for which a program may be made and still run after this migration';
comment on column pglockd.migration.applied_at is 'When it was applied';
comment on column pglockd.migration.applied_by is 'The database user that applied it';

create table pglockd.function_set (
    one          boolean     not null default true primary key check (one),
    version      integer     not null check (version > 0),
    checksum     text        not null check (checksum ~ '^[0-9a-f]{64}$'),
    installed_at timestamptz not null default pg_catalog.clock_timestamp(),
    installed_by text        not null default session_user
);

comment on table pglockd.function_set is
    'The set of functions that is installed; one row, written in the transaction that installs them';
comment on column pglockd.function_set.one is 'Always true: there is one row at most';
comment on column pglockd.function_set.version is
    'Schema version for which the functions were written';
comment on column pglockd.function_set.checksum is 'SHA-256 over the names and texts of the files';
comment on column pglockd.function_set.installed_at is 'When they were installed last';
comment on column pglockd.function_set.installed_by is 'The database user that installed them';

create view pglockd.schema_info as
select coalesce(m.version, 0)     as version,
       coalesce(m.min_program, 0) as min_program,
       f.version                  as functions_version,
       f.checksum                 as functions_checksum
  from (select pg_catalog.max(version)     as version,
               pg_catalog.max(min_program) as min_program
          from pglockd.migration) as m
  left join pglockd.function_set as f on f.one;

comment on view pglockd.schema_info is
    'One row: what this database is, and which programs may use it';
comment on column pglockd.schema_info.version is
    'Version of the schema: the number of the last migration, 0 before the first';
comment on column pglockd.schema_info.min_program is
    'The oldest schema version for which a program may be made and still run here';
comment on column pglockd.schema_info.functions_version is
    'Schema version for which the functions were written; null before they are installed';
comment on column pglockd.schema_info.functions_checksum is
    'SHA-256 over the names and texts of the function files; null before they are installed';

grant usage on schema pglockd
    to pglockd_service, pglockd_client, pglockd_reader, pglockd_admin;
grant select on pglockd.migration, pglockd.function_set
    to pglockd_service, pglockd_reader, pglockd_admin;
grant select on pglockd.schema_info
    to pglockd_service, pglockd_client, pglockd_reader, pglockd_admin;
