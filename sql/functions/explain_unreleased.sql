-- pglockd.explain_unreleased(instance, resource, token, identity, conn, request, done)
-- Purpose:    why pglockd.release_batch() did not end some of its leases.
-- Parameters: instance, resource, token, identity, conn, request   as pglockd.release_batch()
--             done   positions in the other arrays that need no explanation; null: none
-- Returns:    item, status   the other positions: l lost (or in its grace, or not of that connection or request any more),
--                            d denied (another identity holds it), f fenced (pglockd.is_fenced()), r locked by
--                            somebody's transaction, or free by now
-- Tables:     lease (for update, for no key update), clock (read)
create or replace function pglockd.explain_unreleased(
    p_instance integer, p_resource text[], p_token bigint[], p_identity text[], p_conn bigint[], p_request bigint[],
    p_done integer[],
    out o_item integer[], out o_status "char"[])
language plpgsql
as $$
begin
    with missing as materialized (
        select k, l.resource, l.token,
               l.resource is null or l.grace_ms is not null and l.expires_us <= pglockd.lease_now()
               or p_conn[k] is not null and not (l.bound and l.conn_id is not distinct from p_conn[k]
                                                 and l.instance_id is not distinct from p_instance)
               or p_request[k] is not null and not (l.request_id is not distinct from p_request[k]
                                                    and l.instance_id is not distinct from p_instance) as lost,
               l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity) as own
          from generate_series(1, cardinality(p_resource)) k
          left join pglockd.lease l on l.resource = p_resource[k] and l.token = p_token[k]
         where k <> all (coalesce(p_done, '{}'))
    )
    select array_agg(m.k), array_agg(case when m.lost then 'l'
                                          when not m.own then 'd'
                                          when pglockd.is_fenced(m.resource, m.token) then 'f'
                                          else 'r' end::"char")
      into o_item, o_status
      from missing m;
end
$$;
comment on function pglockd.explain_unreleased(integer, text[], bigint[], text[], bigint[], bigint[], integer[]) is
    'Why a release did not end some of its leases.';
