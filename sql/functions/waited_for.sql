-- pglockd.waited_for(lease)
-- Purpose:    pglockd.is_waited_for() for many: one query, where a call for each would be most of what ending a lease costs.
-- Parameters: lease   rows of leases that have ended; null: none
-- Returns:    those of their resources that somebody may wait for, each once; null: none
-- Tables:     waiter (read)
create or replace function pglockd.waited_for(p_lease pglockd.lease[])
returns text[]
language plpgsql stable -- as pglockd.lease_now()
as $$
begin
    return (select array_agg(distinct l.resource)
              from unnest(p_lease) l
             where l.scope = 'tree'
                   or exists (select from pglockd.waiter w where w.resource = l.resource)
                   or (select exists (select from pglockd.waiter w where w.scope = 'tree')));
end
$$;
comment on function pglockd.waited_for(pglockd.lease[]) is 'Which resources of leases that have ended somebody may wait for.';
