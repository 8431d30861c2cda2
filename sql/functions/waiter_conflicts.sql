-- pglockd.waiter_conflicts(resource, exclusive, tree, slots)
-- Purpose:    the same rule for those who wait: who comes later may not be served before them. Slots of one
--             semaphore are served in order, so waiters for them are in each other's way.
-- Parameters: resource, exclusive, tree   the claim, as for pglockd.lease_conflicts()
--             slots    not null: it is for a slot of a semaphore
-- Returns:    waiters in the way that are there, in any order
-- Tables:     waiter (read)
create or replace function pglockd.waiter_conflicts(p_resource text, p_exclusive boolean, p_tree boolean, p_slots integer)
returns setof pglockd.waiter
language sql stable
as $$
    select w.*
      from pglockd.waiter w
     where w.resource = p_resource and w.absent_until_us is null
       and (p_exclusive or w.mode = 'exclusive' or p_slots is not null and w.slots is not null)
    union all
    select w.*
      from pglockd.waiter w
     where w.scope = 'tree' and w.resource = any (pglockd.above(p_resource)) and w.absent_until_us is null
       and (p_exclusive or w.mode = 'exclusive')
    union all
    select w.*
      from pglockd.waiter w
     where p_tree and w.resource > pglockd.beneath_low(p_resource) and w.resource < pglockd.beneath_high(p_resource)
       and w.absent_until_us is null and (p_exclusive or w.mode = 'exclusive')
$$;
comment on function pglockd.waiter_conflicts(text, boolean, boolean, integer) is 'Waiters that are in the way of a claim.';
