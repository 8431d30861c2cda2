-- pglockd.status_behind(resource, ticket)
-- Purpose:    whom a waiting request waits for, to be shown: at most three whose leases are in its way, and of those
--             who wait before it the last one, which in turn waits for the others. So that a look at a long queue stays
--             cheap; pglockd.wait_edges() finds all.
-- Returns:    holds      it has a lease; else it waits, too
--             resource   where they meet
-- Tables:     waiter, lease (read)
create or replace function pglockd.status_behind(p_resource text, p_ticket bigint)
returns table (holds boolean, owner text, resource text, mode text, scope text)
language sql stable
as $$
    with claim as materialized (
        select w.resource, w.ticket, w.mode = 'exclusive' as exclusive, w.scope = 'tree' as tree, w.slots, w.upgrade_token
          from pglockd.waiter w where w.resource = p_resource and w.ticket = p_ticket)
    (select true, h.owner, h.resource, h.mode::text, h.scope::text
       from claim c
      cross join lateral (
         select x.* from pglockd.lease_conflicts(c.resource, c.exclusive, c.tree) x
          where x.token is distinct from c.upgrade_token
         union all
         select x.* from pglockd.lease_shared x where x.resource = c.resource and x.slots = c.slots and not c.exclusive) h
      limit 3)
    union all
    (select false, q.owner, q.resource, q.mode::text, q.scope::text
       from claim c
      cross join lateral (
         (select x.* from pglockd.waiter x
           where x.resource = c.resource and x.ticket < c.ticket and x.absent_until_us is null
             and (c.exclusive or x.mode = 'exclusive' or c.slots is not null and x.slots is not null)
           order by x.ticket desc
           limit 1)
         union all
         select x.* from pglockd.waiter x
          where x.scope = 'tree' and x.resource = any (pglockd.above(c.resource)) and x.ticket < c.ticket
            and x.absent_until_us is null and (c.exclusive or x.mode = 'exclusive')
         union all
         (select x.* from pglockd.waiter x
           where c.tree and x.resource > pglockd.beneath_low(c.resource) and x.resource < pglockd.beneath_high(c.resource)
             and x.ticket < c.ticket and x.absent_until_us is null and (c.exclusive or x.mode = 'exclusive')
           limit 100)) q
      order by q.ticket desc
      limit 1)
$$;
comment on function pglockd.status_behind(text, bigint) is 'Whom a waiting request waits for, to be shown.';
