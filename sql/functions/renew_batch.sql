-- pglockd.renew_batch(instance, resource, token, ttl_ms, identity, conn)
-- Purpose:    sets the remaining time of leases to a TTL (never adds to it). A lease ends only when its
--             row is removed, so renewing needs no guard. Nothing that changes is indexed unless the
--             TTL shrinks: the update is HOT.
--             A lease that is bound to a session keeps the session's time: it is told what is left of it. One of
--             pglockd.hold() has no TTL, and gets none.
-- Parameters: as release_batch; ttl_ms null keeps the lease's TTL
--             conn   connections that ask: a lease that is bound to a connection is bound to this one from now on
-- Returns:    item, status   g renewed (number: ttl_ms; -1: it has none)   G the same, and it is bound to the connection
--                            l lost   d denied   r locked: ask again
-- Tables:     lease (update), longest_ttl (insert), clock (read)
create or replace function pglockd.renew_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_ttl_ms bigint[], p_identity text[], p_conn bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[])
language plpgsql
as $$
declare
    v_count constant integer := coalesce(cardinality(p_resource), 0);
    v_now_us constant bigint := pglockd.lease_now();
    v_known boolean;
    v_done record;
begin
    -- In an expression: see there.
    v_known := pglockd.note_ttl(p_ttl_ms);
    with due as materialized (
        select k, l.resource, l.token,
               case when l.session_id is null and l.hold_id is null then coalesce(p_ttl_ms[k], l.ttl_ms)
                    else l.ttl_ms end as ttl_ms
          from generate_series(1, v_count) k
          join pglockd.lease l on l.resource = p_resource[k] and l.token = p_token[k]
         where (l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity))
           and (l.grace_ms is null or l.expires_us > v_now_us)
           for no key update of l skip locked
    ), renewed as (
        update pglockd.lease l
           set expires_us = pglockd.lease_end(v_now_us, due.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(v_now_us, due.ttl_ms)),
               ttl_ms = due.ttl_ms,
               conn_id = case when l.bound then coalesce(p_conn[due.k], l.conn_id) else l.conn_id end,
               instance_id = case when l.bound then coalesce(p_instance, l.instance_id) else l.instance_id end
          from due
         where l.resource = due.resource and l.token = due.token
        returning due.k, l.bound,
                  case when l.hold_id is not null then -1
                       when l.session_id is null then l.ttl_ms
                       else (select pglockd.ttl_left_ms(s.expires_us, v_now_us) from pglockd.session s
                              where s.session_id = l.session_id) end as ttl_ms
    )
    select array_agg(r.k), array_agg(case when r.bound then 'G' else 'g' end::"char"), array_agg(r.ttl_ms) into o_item, o_status, o_number from renewed r;
    if coalesce(cardinality(o_item), 0) < v_count then
        v_done := pglockd.explain_missing(p_resource, p_token, p_identity, o_item);
        o_item := o_item || v_done.o_item;
        o_status := o_status || v_done.o_status;
        o_number := o_number || array_fill(null::bigint, array[cardinality(v_done.o_item)]);
    end if;
end
$$;
comment on function pglockd.renew_batch(integer, text[], bigint[], bigint[], text[], bigint[]) is
    'Sets the remaining time of leases to their TTL.';
