-- pglockd.lease_conflicts(resource, exclusive, tree)
-- Purpose:    the rule of who is in whose way, for leases: two claims conflict where what they cover has
--             something in common and either is exclusive. A node covers its resource, a tree all beneath it, too.
--             A slot of a semaphore counts as shared here; its own limit is pglockd.in_the_way()'s to check.
--             Plain enough for the planner to put it into the query that calls it.
-- Parameters: resource, exclusive, tree   the claim
-- Returns:    leases in the way, those that have ended, too; at most 100 of each partition beneath a tree.
-- Tables:     lease (read)
create or replace function pglockd.lease_conflicts(p_resource text, p_exclusive boolean, p_tree boolean)
returns setof pglockd.lease
language sql stable
as $$
    select l.* from pglockd.lease_exclusive l where l.resource = p_resource
    union all
    select l.* from pglockd.lease_shared l where p_exclusive and l.resource = p_resource
    union all
    select l.* from pglockd.lease_tree l
     where l.resource = any (p_resource || pglockd.above(p_resource)) and (p_exclusive or l.mode = 'exclusive')
    union all
    (select l.* from pglockd.lease_exclusive l
      where p_tree and l.resource > pglockd.beneath_low(p_resource) and l.resource < pglockd.beneath_high(p_resource)
      limit 100)
    union all
    (select l.* from pglockd.lease_shared l
      where p_tree and p_exclusive
        and l.resource > pglockd.beneath_low(p_resource) and l.resource < pglockd.beneath_high(p_resource)
      limit 100)
    union all
    (select l.* from pglockd.lease_tree l
      where p_tree and (p_exclusive or l.mode = 'exclusive')
        and l.resource > pglockd.beneath_low(p_resource) and l.resource < pglockd.beneath_high(p_resource)
        and l.resource <> p_resource
      limit 100)
$$;
comment on function pglockd.lease_conflicts(text, boolean, boolean) is
    'Leases that are in the way of a claim, those that have ended, too.';
