-- pglockd.waiting_owners(resource, scope)
-- Purpose:    who waits for what a lease of this resource and scope is in the way of, where trees are concerned. Without
--             them pglockd.note_ends() looks for itself.
-- Returns:    owners of at most 10 requests; never null
-- Tables:     waiter (read)
create or replace function pglockd.waiting_owners(p_resource text, p_scope pglockd.lock_scope)
returns text[]
language sql stable
as $$
    select coalesce((array_agg(w.owner order by w.ticket))[:10], '{}')
      from ((select q.ticket, q.owner from pglockd.waiter q
              where q.resource = p_resource and q.absent_until_us is null
              order by q.ticket limit 10)
            union all
            (select q.ticket, q.owner from pglockd.waiter q
              where q.scope = 'tree' and q.resource = any (pglockd.above(p_resource)) and q.absent_until_us is null
              limit 10)
            union all
            (select q.ticket, q.owner from pglockd.waiter q
              where p_scope = 'tree' and q.resource > pglockd.beneath_low(p_resource)
                and q.resource < pglockd.beneath_high(p_resource) and q.resource <> p_resource
                and q.absent_until_us is null
              limit 10)) w
$$;
comment on function pglockd.waiting_owners(text, pglockd.lock_scope) is
    'Owners of those who wait for what a lease is in the way of, where trees are concerned.';
