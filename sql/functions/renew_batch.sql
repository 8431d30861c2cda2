-- pglockd.renew_batch(instance, resource, token, ttl_ms, identity)
-- Purpose:    sets the remaining time of leases to a TTL (never adds to it). A lease ends only when its
--             row is removed, so renewing needs no guard. Nothing that changes is indexed unless the
--             TTL shrinks: the update is HOT.
-- Parameters: as release_batch; ttl_ms null keeps the lease's TTL
-- Returns:    item, status   g renewed (number: ttl_ms)   l lost   d denied
-- Tables:     lease (update), clock (read)
create or replace function pglockd.renew_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_ttl_ms bigint[], p_identity text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[])
language plpgsql
as $$
declare
    v_count constant integer := cardinality(p_resource);
    v_now_us constant bigint := pglockd.lease_now();
begin
    with renewed as (
        update pglockd.lease l
           set expires_us = v_now_us + 1000000 + 1000 * coalesce(p_ttl_ms[i], l.ttl_ms),
               check_us = least(l.check_us, v_now_us + 1000000 + 1000 * coalesce(p_ttl_ms[i], l.ttl_ms)),
               ttl_ms = coalesce(p_ttl_ms[i], l.ttl_ms)
          from generate_series(1, v_count) i
         where l.resource = p_resource[i] and l.token = p_token[i]
           and (l.identity = '' or coalesce(p_identity[i], '') in ('', l.identity))
        returning i, l.ttl_ms
    )
    select array_agg(r.i), array_agg('g'::"char"), array_agg(r.ttl_ms) into o_item, o_status, o_number from renewed r;
    if o_item is null or cardinality(o_item) < v_count then
        select o_item || array_agg(i), o_number || array_agg(null::bigint),
               o_status || array_agg(case when exists (select from pglockd.lease l
                                                        where l.resource = p_resource[i] and l.token = p_token[i])
                                          then 'd' else 'l' end::"char")
          into o_item, o_number, o_status
          from generate_series(1, v_count) i
         where i <> all (coalesce(o_item, '{}'));
    end if;
end
$$;
comment on function pglockd.renew_batch(integer, text[], bigint[], bigint[], text[]) is
    'Sets the remaining time of leases to their TTL.';
