-- pglockd.explain_missing(resource, token, identity, done)
-- Purpose:    why a renewal did not find some of its leases.
-- Parameters: done   positions in the other arrays that need no explanation; null: none
-- Returns:    item, status   the other positions: l lost (or in its grace), d denied (another identity holds it), r locked by
--                            somebody's transaction
-- Tables:     lease, clock (read)
create or replace function pglockd.explain_missing(
    p_resource text[], p_token bigint[], p_identity text[], p_done integer[],
    out o_item integer[], out o_status "char"[])
language sql
as $$
    select array_agg(k), array_agg(case when l.resource is null
                                             or l.grace_ms is not null and l.expires_us <= pglockd.lease_now() then 'l'
                                        when l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity) then 'r'
                                        else 'd' end::"char")
      from generate_series(1, cardinality(p_resource)) k
      left join pglockd.lease l on l.resource = p_resource[k] and l.token = p_token[k]
     where k <> all (coalesce(p_done, '{}'))
$$;
comment on function pglockd.explain_missing(text[], bigint[], text[], integer[]) is
    'Why a renewal did not find some of its leases.';
