-- pglockd.renew(resource, token, ttl)
-- Purpose:    sets the remaining time of a lease to ttl.
-- Parameters: ttl   100 ms to 10 minutes; null: the lease's own
-- Returns:    one row: status OK and ttl_ms; LOST when that token holds no longer; DENIED when another
--             user took it; BUSY when somebody's transaction keeps the row locked.
-- Tables:     lease (update)
create or replace function pglockd.renew(resource text, token bigint, ttl interval default null)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language sql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
    select * from pglockd.renew_lease($1, $2, $3)
$$;
comment on function pglockd.renew(text, bigint, interval) is
    'Sets the remaining time of a lease: one row with status OK, LOST or DENIED.';
