-- pglockd.collect_grants(instance, grants_max)
-- Purpose:    a daemon accepts the grants that other daemons' transactions made for its waiters: each
--             gets its full TTL from now on.
-- Returns:    request, token   the grants
--             more             there are others: call again
-- Tables:     lease (update), clock (read)
create or replace function pglockd.collect_grants(
    p_instance integer, p_grants_max integer default 500,
    out o_request bigint[], out o_token bigint[], out o_more boolean)
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
begin
    with mine as (
        select l.resource, l.token from pglockd.lease l
         where l.instance_id = p_instance and not l.delivered
         limit p_grants_max
           for update skip locked
    ), accepted as (
        update pglockd.lease l
           set delivered = true, expires_us = v_now_us + 1000000 + 1000 * l.ttl_ms
          from mine m
         where l.resource = m.resource and l.token = m.token
        returning l.request_id, l.token
    )
    select array_agg(a.request_id), array_agg(a.token), count(*) >= p_grants_max
      into o_request, o_token, o_more
      from accepted a;
end
$$;
comment on function pglockd.collect_grants(integer, integer) is
    'A daemon accepts the grants that others made for its waiters.';
