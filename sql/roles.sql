-- The roles of pglockd. Run by migrate, by install.sql, or by an administrator on its own:
--
--     psql -f roles.sql
--
-- Roles belong to the whole cluster and may be there already (another database, an administrator):
-- those that exist are left as they are. None of them may log in; grant them to users who do:
--
--     grant pglockd_service to the_user_of_the_daemon;
--
-- Where the right to create roles is missing, this fails and its hint holds the statements that an
-- administrator has to run.

do $roles$
declare
    wanted constant text[] := array[
        'pglockd_service', 'pglockd_client', 'pglockd_reader', 'pglockd_admin'];
    purpose constant text[] := array[
        'pglockd: what the daemon needs to serve',
        'pglockd: lock, unlock, renew, hold, rate and assert_fence by SQL',
        'pglockd: read the views',
        'pglockd: read the views, force locks, change policies and keys'];
    may_create constant boolean := (
        select rolsuper or rolcreaterole from pg_catalog.pg_roles where rolname = current_user);
    statements text;
begin
    select pg_catalog.string_agg(pg_catalog.format('create role %I nologin;', name), ' ' order by n)
      into statements
      from pg_catalog.unnest(wanted) with ordinality as w(name, n)
     where not exists (select from pg_catalog.pg_roles where rolname = name);

    if statements is not null and not may_create then
        raise exception using
            errcode = 'insufficient_privilege',
            message = pg_catalog.format(
                'roles of pglockd are missing and user %I may not create roles', current_user),
            hint = 'An administrator must run: ' || statements;
    end if;

    for i in 1 .. pg_catalog.array_length(wanted, 1) loop
        continue when exists (select from pg_catalog.pg_roles where rolname = wanted[i]);
        begin
            execute pg_catalog.format('create role %I nologin', wanted[i]);
            execute pg_catalog.format('comment on role %I is %L', wanted[i], purpose[i]);
        exception
            -- Somebody else created it for another database of this cluster at the same moment.
            when duplicate_object or unique_violation then null;
        end;
    end loop;
end
$roles$;
