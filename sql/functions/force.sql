-- pglockd.force(resource, token, reason)
-- Purpose:    an administrator ends leases against their holders' will. The holders learn it at their
--             next RENEW, CHECK or UNLOCK: LOST, reason forced, with the reason given here.
-- Parameters: token    which lease; null: all of the resource
--             reason   why, kept and shown
-- Returns:    a row for every lease that ended (status OK, its token); one row LOST when there was none,
--             or FENCED when somebody's transaction keeps one of them
--             (pglockd.assert_fence()): then nothing was done.
-- Errors:     25001 outside of READ COMMITTED, 42501 without the right, 57P03 as pglockd.check_server().
-- Tables:     as force_leases
create or replace function pglockd.force(resource text, token bigint default null, reason text default null)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language sql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
    select * from pglockd.force_lease($1, $2, $3)
$$;
comment on function pglockd.force(text, bigint, text) is 'Ends leases against their holders'' will; for administrators.';
