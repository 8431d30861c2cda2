-- pglockd.is_waited_for(resource, scope)
-- Purpose:    may somebody wait for what a lease of this resource and scope has been in the way of?
-- Returns:    true also where a closer look finds nobody: for trees, which it does not look beneath or above of.
-- Tables:     waiter (read)
create or replace function pglockd.is_waited_for(p_resource text, p_scope pglockd.lock_scope)
returns boolean
language plpgsql stable -- as pglockd.lease_now()
as $$
begin
    return p_scope = 'tree'
           or exists (select from pglockd.waiter w where w.resource = p_resource)
           or exists (select from pglockd.waiter w where w.scope = 'tree');
end
$$;
comment on function pglockd.is_waited_for(text, pglockd.lock_scope) is
    'May somebody wait for what a lease has been in the way of?';
