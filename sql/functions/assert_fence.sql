-- pglockd.assert_fence(resource, token)
-- Purpose:    lets the calling transaction go on only while this token holds the resource, and keeps it from being lost
--             until that transaction ends: its row, and that of its session, are locked so that renewals pass and
--             nothing ends them. Expiry passes over them; who asks to end them is refused (fenced).
--             For whatever stands in this database; a store elsewhere compares tokens.
-- Parameters: token   of a lease, a lock in a session, or a hold
-- Errors:     PL001 (not_held) when the token does not hold: never given, released, lost, in its grace, or past its end
--             though nobody has removed it yet. 40001 (serialization_failure) in an isolation level above READ COMMITTED
--             where the lease has ended since the transaction's snapshot: try again.
--             42501 (insufficient_privilege) as pglockd.require_right(), for lock.
-- Tables:     as fence_lease
create or replace function pglockd.assert_fence(resource text, token bigint)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
    perform pglockd.require_right('lock', assert_fence.resource);
    perform pglockd.fence_lease(assert_fence.resource, assert_fence.token);
end
$$;
comment on function pglockd.assert_fence(text, bigint) is
    'Raises PL001 unless that token holds the resource, and keeps it from being lost until the transaction ends.';
