-- pglockd.force_owner(owner, reason, leases_max)
-- Purpose:    an administrator ends the leases of an owner, as pglockd.force() does one by one: over all daemons, those of
--             sessions, too. Its requests that wait stay in the queue, and its sessions stay open (pglockd.force_session()).
-- Parameters: owner        the label as pglockd.locks shows it; not empty
--             reason       why, kept and shown
--             leases_max   so many at once, 1 to 500. Call again while the call ends that many
-- Returns:    a row for every lease: status OK, it ended; FENCED, somebody's transaction keeps it locked and it stands.
--             No row where there is none.
-- Errors:     as pglockd.force_many()
-- Tables:     as pglockd.force_many()
create or replace function pglockd.force_owner(owner text, reason text default null, leases_max integer default 500)
returns table (status text, resource text, token bigint)
language sql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
    select * from pglockd.force_many(coalesce($1, ''), null, $2, $3)
$$;
comment on function pglockd.force_owner(text, text, integer) is
    'Ends the leases of an owner against its will, 500 at a time; for administrators.';
