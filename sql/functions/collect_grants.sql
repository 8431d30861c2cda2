-- pglockd.collect_grants(instance, grants_max)
-- Purpose:    a daemon accepts the grants that other daemons' transactions made for its waiters: each
--             gets its full TTL from now on. And it hears which of its requests were refused.
-- Returns:    request, resource, token   the grants; token 0: refused, since it would have
--                              waited for ever; -1: since the lease has ended whose mode it was to change
--             wake   the daemon itself, when there are others: call again
-- Tables:     lease, refusal (update), clock (read)
create or replace function pglockd.collect_grants(
    p_instance integer, p_grants_max integer default 500,
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
begin
    with found as materialized (
        select l.resource, l.token, l.request_id from pglockd.lease l
         where l.instance_id = p_instance and not l.delivered
         order by l.request_id
         limit p_grants_max
           for update skip locked
    ), mine as (
        -- Of a request for several resources all leases, or none of them now.
        select f.resource, f.token from found f
         where f.request_id not in (
            select x.request_id
              from (select l.request_id, l.token from pglockd.lease l where l.instance_id = p_instance and not l.delivered
                    except select g.request_id, g.token from found g) x)
    ), accepted as (
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(v_now_us, l.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(v_now_us, l.ttl_ms))
          from mine m
         where l.resource = m.resource and l.token = m.token
        returning l.request_id, l.resource, l.token
    ), refused as (
        update pglockd.refusal d set told = true
         where d.instance_id = p_instance and not d.told
        returning d.request_id, d.cycle is null as lost
    ), news as (
        select a.request_id, a.resource, a.token from accepted a
        union all
        select r.request_id, '', -r.lost::integer from refused r
    )
    select array_agg(n.request_id), array_agg(n.resource), array_agg(n.token),
           case when (select count(*) from found) >= p_grants_max then array[p_instance] end
      into o_request, o_resource, o_token, o_wake
      from news n;
end
$$;
comment on function pglockd.collect_grants(integer, integer) is
    'A daemon accepts the grants that others made for its waiters, and hears of refusals.';
