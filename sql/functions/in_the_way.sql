-- pglockd.in_the_way(resource, exclusive, tree, slots, weight, before_ticket, own_token, instance)
-- Purpose:    may this claim be granted, seen under its guards? The rule itself; what decides faster is a short cut
--             for a part of it.
-- Parameters: resource, exclusive, tree   one element a member of the claim
--             slots, weight   of a semaphore; null for other claims
--             before_ticket   waiters with smaller tickets go first; null: all that wait
--             own_token       a lease that is not in its own way: the one whose mode is to change; null: none
--             instance        the daemon that asks, which is alive
-- Returns:    verdict   f free   l a lease is in the way   w only waiters are   n the semaphore has another limit
--                       (only where before_ticket is null: who waits already waits until nobody has the other limit)
--             stale_resource, stale_token   leases that have ended, or may have, and are to be removed before the
--                       claim is looked at again: until then they are in the way, since somebody who has them
--                       locked may renew them
-- Tables:     lease, waiter, session, instance, clock (read)
create or replace function pglockd.in_the_way(
    p_resource text[], p_exclusive boolean[], p_tree boolean[], p_slots integer, p_weight integer,
    p_before_ticket bigint, p_own_token bigint, p_instance integer,
    out o_verdict "char", out o_stale_resource text[], out o_stale_token bigint[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_before constant bigint := coalesce(p_before_ticket, 9223372036854775807);
    v_trees constant boolean := true = any (p_tree) or (select c.trees from pglockd.clock c where c.one);
    -- Those that are wanted exclusively.
    v_alone constant text[] := array(select m.resource from unnest(p_resource, p_exclusive) m (resource, exclusive)
                                      where m.exclusive);
    v_found bigint;
    v_taken bigint;
    v_others bigint;
begin
    -- Where there is no tree, of this claim or of others, only the resources themselves need a look. One that comes now
    -- is met by the guards, as in pglockd.acquire_batch().
    if v_trees then
        select count(*), array_agg(c.resource) filter (where c.stale), array_agg(c.token) filter (where c.stale)
          into v_found, o_stale_resource, o_stale_token
          from (select l.resource, l.token,
                       l.hold_id is not null
                       or (l.session_id is not null or l.expires_us <= v_now_us)
                          and pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id) <= v_now_us as stale
                  from unnest(p_resource, p_exclusive, p_tree) m (resource, exclusive, tree)
                 cross join lateral pglockd.lease_conflicts(m.resource, m.exclusive, m.tree) l
                 where l.token is distinct from p_own_token) c;
    else
        select count(*), array_agg(c.resource) filter (where c.stale), array_agg(c.token) filter (where c.stale)
          into v_found, o_stale_resource, o_stale_token
          from (select l.resource, l.token,
                       l.hold_id is not null
                       or (l.session_id is not null or l.expires_us <= v_now_us)
                          and pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id) <= v_now_us as stale
                  from (select x.resource, x.token, x.hold_id, x.session_id, x.expires_us, x.grace_ms
                          from pglockd.lease_exclusive x where x.resource = any (p_resource)
                        union all
                        select x.resource, x.token, x.hold_id, x.session_id, x.expires_us, x.grace_ms
                          from pglockd.lease_shared x where x.resource = any (v_alone)) l
                 where l.token is distinct from p_own_token) c;
    end if;
    if p_slots is not null then
        select coalesce(sum(c.weight), 0), count(*) filter (where c.slots <> p_slots),
               o_stale_resource || array_agg(c.resource) filter (where c.stale),
               o_stale_token || array_agg(c.token) filter (where c.stale)
          into v_taken, v_others, o_stale_resource, o_stale_token
          from (select l.resource, l.token, l.weight, l.slots,
                       (l.session_id is not null or l.expires_us <= v_now_us)
                       and pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id) <= v_now_us as stale
                  from pglockd.lease_shared l
                 where l.resource = p_resource[1] and l.slots is not null) c;
        v_found := v_found + v_others + (v_taken + p_weight > p_slots)::integer;
    end if;
    if p_slots is not null and p_before_ticket is null
       and (v_others > 0 or exists (select from pglockd.waiter w
                                     where w.resource = p_resource[1] and w.slots <> p_slots)) then
        o_verdict := 'n';
    elsif v_found > 0 then
        o_verdict := 'l';
    elsif v_trees and exists (
            select from unnest(p_resource, p_exclusive, p_tree) m (resource, exclusive, tree)
             cross join lateral pglockd.waiter_conflicts(m.resource, m.exclusive, m.tree, p_slots) c
             where c.ticket < v_before
               and (c.instance_id = p_instance
                    or exists (select from pglockd.instance d
                                where d.instance_id = c.instance_id and d.heartbeat_us >= v_now_us - 3000000)))
          or not v_trees and exists (
            select from pglockd.waiter w
             where w.resource = any (p_resource) and w.ticket < v_before and w.absent_until_us is null
               and (w.mode = 'exclusive' or w.resource = any (v_alone) or p_slots is not null and w.slots is not null)
               and (w.instance_id = p_instance
                    or exists (select from pglockd.instance d
                                where d.instance_id = w.instance_id and d.heartbeat_us >= v_now_us - 3000000))) then
        o_verdict := 'w';
    else
        o_verdict := 'f';
    end if;
end
$$;
comment on function pglockd.in_the_way(text[], boolean[], boolean[], integer, integer, bigint, bigint, integer) is
    'May a claim be granted, seen under its guards?';
