-- pglockd.unlock(resource, token)
-- Purpose:    ends a lease and hands the resource over to whoever waits.
-- Returns:    one row: status OK; LOST when that token holds no longer; DENIED when another user took it;
--             FENCED when somebody's transaction keeps the lease (pglockd.assert_fence()), BUSY when it keeps the row
--             locked for something else: nothing was done.
-- Errors:     57P03 where somebody waits, as pglockd.check_server().
-- Tables:     as release_batch
create or replace function pglockd.unlock(resource text, token bigint)
returns table (status text, token bigint, ttl_ms bigint, holders jsonb)
language sql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
    select * from pglockd.unlock_lease($1, $2)
$$;
comment on function pglockd.unlock(text, bigint) is 'Ends a lease: one row with status OK, LOST, DENIED or FENCED.';
