-- pglockd.force_prefix(prefix, reason, leases_max)
-- Purpose:    an administrator ends the leases of a resource and of all that lies beneath it, as pglockd.force() does
--             one by one. Trees above it are left alone.
-- Parameters: prefix       a resource, or / for all there is
--             reason       why, kept and shown
--             leases_max   so many at once, 1 to 500. Call again while the call ends that many
-- Returns:    a row for every lease: status OK, it ended; FENCED, somebody's transaction keeps it locked and it stands.
--             No row where there is none.
-- Errors:     as pglockd.force_many()
-- Tables:     as pglockd.force_many()
create or replace function pglockd.force_prefix(prefix text, reason text default null, leases_max integer default 500)
returns table (status text, resource text, token bigint)
language sql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
    select * from pglockd.force_many(null, coalesce($1, ''), $2, $3)
$$;
comment on function pglockd.force_prefix(text, text, integer) is
    'Ends the leases of a resource and of all beneath it, 500 at a time; for administrators.';
