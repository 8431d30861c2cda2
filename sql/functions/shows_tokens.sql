-- pglockd.shows_tokens()
-- Purpose:    may the database user see fencing tokens of others at all? Members of pglockd_admin and of
--             the owner of the tables may, who could end any lease; which ones, the right force says.
-- Returns:    whether it may.
-- Tables:     none
create or replace function pglockd.shows_tokens()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_has_role(session_user, 'pglockd_admin', 'member')
        or pg_has_role(session_user, (select c.relowner from pg_class c where c.oid = 'pglockd.lease'::regclass), 'member')
$$;
comment on function pglockd.shows_tokens() is 'May the database user see fencing tokens of others?';
