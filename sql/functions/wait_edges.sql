-- pglockd.wait_edges(resource, ticket)
-- Purpose:    whom does a waiting request wait for? Those whose leases are in its way, and those who wait before it and
--             are in its way. Of the latter not all: whoever waits behind an exclusive request for the same resource
--             waits, through it, for all that that one waits for. That a party waits for itself does not count, nor
--             does a lease that has ended: it goes by itself, when it is swept or its grace is over. Nor do those who
--             are passed over: who is away, or whose daemon gives no sign of life.
--             Who wants slots of a semaphore does not wait for each of those who have some, or will have when it is
--             their turn, but for as many as give it what is missing; and until those before it have been served.
-- Parameters: resource, ticket   one of its rows
-- Returns:    meets      the one of its resources where they meet
--             party      whom it waits for, as pglockd.party() names them; null: an SQL caller, who never waits
--             units      null; of a semaphore how many slots that one has, or waits for before it
--             missing    null; of a semaphore how many of those must come free
--             behind     null; of a semaphore the ticket of the request for slots before it
--             resource   of what is in the way
--             token      of the lease that is; null: a waiter is
--             ticket     that waiter's
-- Bounds:     10000 leases beneath a tree
-- Tables:     waiter, lease, instance, clock (read)
create or replace function pglockd.wait_edges(p_resource text, p_ticket bigint)
returns table (meets text, party text, units integer, missing bigint, behind bigint, resource text, token bigint,
               ticket bigint)
language sql stable
as $$
    with there as materialized (
        select array_agg(d.instance_id) as instances
          from pglockd.instance d where d.heartbeat_us >= pglockd.lease_now() - 3000000
    ), claim as materialized (
        select w.resource, w.ticket, w.mode = 'exclusive' as exclusive, w.scope = 'tree' as tree, w.slots, w.weight,
               w.upgrade_token, pglockd.party(w.session_id, w.instance_id, w.conn_id) as party,
               (select pglockd.lease_now()) as now_us
          from pglockd.waiter w
         where w.resource = p_resource and w.ticket = p_ticket
            or w.members > 1 and w.ticket = p_ticket
    ), others as (
        select c.resource as meets, pglockd.party(l.session_id, l.instance_id, l.conn_id) as party, null::integer as units,
               l.resource, l.token, null::bigint as ticket
          from claim c
         cross join lateral pglockd.lease_conflicts(c.resource, c.exclusive, false) l
         where l.token is distinct from c.upgrade_token and (l.expires_us > c.now_us or l.session_id is not null)
        union all
        select c.resource, pglockd.party(l.session_id, l.instance_id, l.conn_id), null, l.resource, l.token, null
          from claim c
         cross join lateral (
            select x.session_id, x.instance_id, x.conn_id, x.resource, x.token from pglockd.lease x
             where c.tree and x.resource > pglockd.beneath_low(c.resource) and x.resource < pglockd.beneath_high(c.resource)
               and x.resource <> c.resource and (c.exclusive or x.mode = 'exclusive')
               and (x.expires_us > c.now_us or x.session_id is not null)
             limit 10000) l
        union all
        select c.resource, pglockd.party(q.session_id, q.instance_id, q.conn_id), null, q.resource, null, q.ticket
          from claim c
         cross join lateral pglockd.waiter_conflicts(c.resource, c.exclusive, c.tree, null) q
         where q.ticket < c.ticket and q.instance_id = any ((select t.instances from there t)::integer[])
           and q.ticket >= coalesce((select max(e.ticket) from pglockd.waiter e
                                      where e.resource = c.resource and e.ticket < c.ticket and e.mode = 'exclusive'
                                        and e.absent_until_us is null and not c.tree
                                        and e.instance_id = any ((select t.instances from there t)::integer[])), q.ticket)
        union all
        select c.resource, pglockd.party(l.session_id, l.instance_id, l.conn_id), l.weight, l.resource, l.token, null
          from claim c
          join pglockd.lease_shared l on l.resource = c.resource and l.slots is not null
                                     and (l.expires_us > c.now_us or l.session_id is not null)
         where c.slots is not null
        union all
        select c.resource, pglockd.party(q.session_id, q.instance_id, q.conn_id), q.weight, q.resource, null, q.ticket
          from claim c
          join pglockd.waiter q on q.resource = c.resource and q.slots is not null and q.ticket < c.ticket
                               and q.absent_until_us is null
                               and q.instance_id = any ((select t.instances from there t)::integer[])
         where c.slots is not null
    )
    select o.meets, o.party, o.units, sum(o.units) over () + o.weight - o.slots,
           max(o.ticket) filter (where o.units is not null) over (), o.resource, o.token, o.ticket
      from (select x.*, c.weight, c.slots
              from others x
             cross join (select k.party, k.weight, k.slots from claim k limit 1) c
             where x.party is distinct from c.party) o
$$;
comment on function pglockd.wait_edges(text, bigint) is 'Whom a waiting request waits for.';
