-- pglockd.listen(instance, resource, token, gone_resource, gone_token, anew)
-- Purpose:    how do the leases stand whose holders asked for events? And from now on tell this daemon
--             when somebody comes to wait for them, or takes them away.
-- Parameters: instance   the daemon that asks
--             resource, token             one element a lease
--             gone_resource, gone_token   leases that nobody needs to be told of any more
--             anew       forget what this daemon listened to before
-- Returns:    a row for each lease, in any order
--             item       position in the arrays, from 1
--             owner, mode, ttl_ms, left_ms   of a lease that holds: its TTL, and what is left of it
--             session    of a lease in a session, whose TTL it has
--             waiting    how many requests wait that it stands in the way of
--             ticket, by_owner, by_mode, waiting_ms   of the first of them
--             reason, lost_ms, detail, held_by        as pglockd.explain_lost(), of one that does not hold
-- Tables:     listener (insert, delete), lease, session, waiter, tombstone, clock (read)
create or replace function pglockd.listen(
    p_instance integer, p_resource text[], p_token bigint[], p_gone_resource text[], p_gone_token bigint[],
    p_anew boolean)
returns table (item integer, owner text, mode text, ttl_ms bigint, left_ms bigint, waiting bigint, ticket bigint,
               by_owner text, by_mode text, waiting_ms bigint, reason text, lost_ms bigint, detail text, held_by text,
               session bigint)
language plpgsql
as $$
#variable_conflict use_column
begin
    if p_anew then
        delete from pglockd.listener n where n.instance_id = p_instance;
    end if;
    delete from pglockd.listener n using unnest(p_gone_resource, p_gone_token) g (resource, token)
     where n.resource = g.resource and n.token = g.token and n.instance_id = p_instance;
    insert into pglockd.listener (token, instance_id, resource)
    select l.token, p_instance, l.resource
      from unnest(p_resource, p_token) k (resource, token)
      join pglockd.lease l on l.resource = k.resource and l.token = k.token
     where not exists (select from pglockd.listener n
                        where n.resource = l.resource and n.token = l.token and n.instance_id = p_instance)
        on conflict do nothing;
    return query
        select k.item::integer, l.owner, l.mode::text, coalesce(s.ttl_ms, l.ttl_ms),
               pglockd.ttl_left_ms(coalesce(s.expires_us, l.expires_us), now.us), q.total,
               w.ticket, w.owner, w.mode::text,
               greatest(0, extract(epoch from clock_timestamp() - w.enqueued_at) * 1000)::bigint,
               x.reason, x.lost_ms, x.detail, x.held_by, l.session_id
          from unnest(p_resource, p_token) with ordinality k (resource, token, item)
         cross join (select pglockd.lease_now() as us) now
          -- One in its grace is lost.
          left join pglockd.lease l on l.resource = k.resource and l.token = k.token
                                   and (l.grace_ms is null or l.expires_us > now.us)
          left join pglockd.session s on s.session_id = l.session_id
          left join lateral (
              -- A change of its own mode it does not stand in the way of.
              select count(distinct v.ticket) as total, min(v.ticket) as first
                from pglockd.waiter_conflicts(l.resource, l.mode = 'exclusive', l.scope = 'tree', l.slots) v
               where v.upgrade_token is distinct from l.token) q on l.token is not null
          left join lateral (
              select v.ticket, v.owner, v.mode, v.enqueued_at
                from pglockd.waiter_conflicts(l.resource, l.mode = 'exclusive', l.scope = 'tree', l.slots) v
               where v.ticket = q.first limit 1) w on true
          left join lateral (select * from pglockd.explain_lost(k.resource, k.token)) x on l.token is null;
    -- A lease that has ended meanwhile, or before.
    delete from pglockd.listener n using unnest(p_resource, p_token) k (resource, token)
     where n.resource = k.resource and n.token = k.token and n.instance_id = p_instance
       and not exists (select from pglockd.lease l
                        where l.resource = k.resource and l.token = k.token
                          and (l.grace_ms is null or l.expires_us > pglockd.lease_now()));
end
$$;
comment on function pglockd.listen(integer, text[], bigint[], text[], bigint[], boolean) is
    'How the leases of holders that asked for events stand; has their daemon told of what comes.';
