-- pglockd.wait_edges(ticket)
-- Purpose:    whom does a waiting request wait for? Those whose leases are in its way, and those who wait before it and
--             are in its way. Of the latter not all: whoever waits behind an exclusive request for the same resource
--             waits, through it, for all that that one waits for.
-- Parameters: ticket     of the request
-- Returns:    resource   the one of its members where they meet
--             party      whom it waits for, as pglockd.party() names them
-- Tables:     waiter, lease (read)
create or replace function pglockd.wait_edges(p_resource text, p_ticket bigint)
returns table (resource text, party text)
language sql stable
as $$
    with claim as materialized (
        select w.resource, w.ticket, w.mode = 'exclusive' as exclusive, w.scope = 'tree' as tree, w.slots, w.upgrade_token
          from pglockd.waiter w where w.resource = p_resource and w.ticket = p_ticket
        union
        select w.resource, w.ticket, w.mode = 'exclusive', w.scope = 'tree', w.slots, w.upgrade_token
          from pglockd.waiter w where w.members > 1 and w.ticket = p_ticket
    )
    select c.resource, pglockd.party(l.session_id, l.instance_id, l.conn_id)
      from claim c
     cross join lateral (
        select x.* from pglockd.lease_conflicts(c.resource, c.exclusive, c.tree) x where x.token is distinct from c.upgrade_token
        union all
        select x.* from pglockd.lease_shared x where x.resource = c.resource and x.slots = c.slots) l
    union
    select c.resource, pglockd.party(q.session_id, q.instance_id, q.conn_id)
      from claim c
     cross join lateral pglockd.waiter_conflicts(c.resource, c.exclusive, c.tree, c.slots) q
     where q.ticket < c.ticket
       and q.ticket >= coalesce((select max(e.ticket) from pglockd.waiter e
                                  where e.resource = c.resource and e.ticket < c.ticket and e.mode = 'exclusive'
                                    and e.absent_until_us is null and not c.tree), q.ticket)
$$;
comment on function pglockd.wait_edges(text, bigint) is 'Whom a waiting request waits for.';
