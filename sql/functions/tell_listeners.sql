-- pglockd.tell_listeners(resource)
-- Purpose:    tells the daemons whose clients asked for events that something has happened to what they
--             hold: somebody waits for it, or took it away. They look for themselves (pglockd.listen()).
--             Daemons call it in a transaction of its own after their commit; only SQL callers do so
--             inside their transaction, which has no other end.
-- Parameters: resource   what it happened to. Who holds something above it, or beneath a tree that somebody waits
--                        for there, is told, too
-- Bounds:     1000 holders beneath a tree; the others' daemons look anyway, every few seconds.
-- Tables:     listener, waiter (read)
create or replace function pglockd.tell_listeners(p_resource text[])
returns void
language sql
as $$
    select pg_notify('pglockd_instance_' || d.instance_id, d.resource)
      from (select distinct n.instance_id, n.resource
              from unnest(p_resource) r (resource)
             cross join lateral (
                select x.instance_id, x.resource from pglockd.listener x
                 where x.resource = any (r.resource || pglockd.above(r.resource))
                union all
                (select x.instance_id, x.resource from pglockd.listener x
                  where x.resource > pglockd.beneath_low(r.resource) and x.resource < pglockd.beneath_high(r.resource)
                    and exists (select from pglockd.waiter w where w.resource = r.resource and w.scope = 'tree')
                  limit 1000)) n) d
$$;
comment on function pglockd.tell_listeners(text[]) is
    'Tells daemons that something has happened to what their clients hold.';
