-- pglockd.release_others(instance, resource, token, identity, conn, request, missed, done)
-- Purpose:    pglockd.release_batch()'s part for shared leases and those of trees, fewer and simpler: rows that somebody
--             has locked are always passed over. Under the guards, which the caller has tried, it sees every waiter
--             that may count on it.
-- Parameters: as pglockd.release_batch()
--             missed   resources whose guard somebody else has: they count as waited for
--             done     positions in the other arrays that need nothing any more
-- Returns:    item, status, number   of those that were released
--             waited                 resources that somebody may wait for
--             ended                  those of them that may have to be noted
-- Tables:     lease (delete), waiter, clock (read)
create or replace function pglockd.release_others(
    p_instance integer, p_resource text[], p_token bigint[], p_identity text[], p_conn bigint[], p_request bigint[],
    p_missed text[], p_done integer[],
    out o_item integer[], out o_status "char"[], out o_number bigint[], out o_waited text[],
    out o_ended pglockd.lease[])
language plpgsql
as $$
declare
    -- Read here, since who calls has touched leases before: see pglockd.lease_writers().
    v_noted constant boolean := pglockd.history_level() <> 'off' or (select c.watched from pglockd.clock c where c.one);
begin
    with due as materialized (
        select k, l.resource, l.token
          from generate_series(1, cardinality(p_resource)) k
          join pglockd.lease l on l.resource = p_resource[k] and l.token = p_token[k]
         where k <> all (coalesce(p_done, '{}'))
           and (l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity))
           and (p_conn[k] is null or l.bound and l.conn_id = p_conn[k] and l.instance_id = p_instance)
           and (p_request[k] is null or l.request_id = p_request[k] and l.instance_id = p_instance)
           for update of l skip locked
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token
        returning due.k, l.resource, l.granted_at,
                  l.grace_ms is not null and l.expires_us <= pglockd.lease_now() as ended,
                  l.resource = any (p_missed) or pglockd.is_waited_for(l.resource, l.scope) as waited,
                  case when v_noted then l::pglockd.lease end as lease
    )
    select array_agg(g.k), array_agg(case when g.ended then 'l' else 'g' end::"char"),
           array_agg(greatest(0, extract(epoch from clock_timestamp() - g.granted_at) * 1000)::bigint),
           array_agg(g.resource) filter (where g.waited), array_agg(g.lease) filter (where v_noted)
      into o_item, o_status, o_number, o_waited, o_ended
      from gone g;
end
$$;
comment on function pglockd.release_others(integer, text[], bigint[], text[], bigint[], bigint[], text[], integer[]) is
    'Releases shared leases and those of trees.';
