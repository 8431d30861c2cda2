-- pglockd.note_given_up(resource, ticket)
-- Purpose:    a request gives up waiting: what stood in its way keeps its owner's name for history, which would not
--             know of it otherwise. To be called before its rows are removed, unless history is off.
-- Parameters: resource, ticket   the rows of the request
-- Bounds:     10 leases of each resource; those that somebody has locked are passed over
-- Tables:     waiter (read), lease (update)
create or replace function pglockd.note_given_up(p_resource text[], p_ticket bigint)
returns void
language sql
as $$
    update pglockd.lease l
       set gave_up = (l.gave_up || b.owner)[greatest(1, cardinality(l.gave_up) - 8) :]
      from (select x.resource, x.token, x.mode, min(k.owner) as owner
              from (select w.owner, c.resource, c.token
                      from pglockd.waiter w
                     cross join lateral (select v.resource, v.token
                                           from pglockd.lease_conflicts(w.resource, w.mode = 'exclusive', w.scope = 'tree') v
                                          limit 10) c
                     where w.resource = any (p_resource) and w.ticket = p_ticket) k
             cross join lateral (select y.resource, y.token, y.mode from pglockd.lease y
                                  where y.resource = k.resource and y.token = k.token
                                    for no key update skip locked) x
             group by x.resource, x.token, x.mode) b
     where l.resource = b.resource and l.token = b.token
$$;
comment on function pglockd.note_given_up(text[], bigint) is 'What stood in the way of a request that gives up keeps its owner''s name.';
