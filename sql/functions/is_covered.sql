-- pglockd.is_covered(resource, exclusive)
-- Purpose:    does a tree of the resource, or of one above it, have a lease or a waiter that is in the way?
-- Returns:    true also for expired ones and for waiters that are away: then the rule has to look closer.
-- Tables:     lease, waiter (read)
create or replace function pglockd.is_covered(p_resource text, p_exclusive boolean)
returns boolean
language plpgsql
as $$
declare
    v_above constant text[] := p_resource || pglockd.above(p_resource);
begin
    return exists (select from pglockd.lease_tree l
                    where l.resource = any (v_above) and (p_exclusive or l.mode = 'exclusive'))
        or exists (select from pglockd.waiter w
                    where w.scope = 'tree' and w.resource = any (v_above) and (p_exclusive or w.mode = 'exclusive'));
end
$$;
comment on function pglockd.is_covered(text, boolean) is 'Is a tree above a resource in the way of a claim?';
