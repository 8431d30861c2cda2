-- pglockd.break_deadlocks(after)
-- Purpose:    finds parties that wait for each other in a ring, and refuses the youngest request of each ring: it
--             leaves the queue, and its daemon answers DEADLOCK. In a ring there is somebody who holds what others wait
--             for, and waits: the search begins there, and mostly there is nobody.
-- Parameters: after   goes on behind this resource of those that are waited for; null: at the first
-- Returns:    instances   daemons that have requests to refuse, to be told after the commit
--             found       how many rings
--             resource    queues to be looked at, since the refused are gone
--             after       where to go on; null: all have been looked at
-- Bounds:     2000 resources
-- Tables:     waiter (read, delete), lease (read), refusal (insert)
create or replace function pglockd.break_deadlocks(
    p_after text, out o_instances integer[], out o_found integer, out o_resource text[], out o_after text)
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_resources_max constant integer := 2000;
    v_rows text[];
    v_waited text[];
    v_ring record;
    v_last record;
    r record;
begin
    o_found := 0;
    with recursive queued as (
        (select w.resource, 1 as n from pglockd.waiter w where w.resource > coalesce(p_after, '') order by w.resource limit 1)
        union all
        select (select w.resource from pglockd.waiter w where w.resource > q.resource order by w.resource limit 1), q.n + 1
          from queued q where q.resource is not null and q.n < c_resources_max
    )
    select array_agg(q.resource) filter (where q.resource is not null) into v_waited from queued q;
    if cardinality(v_waited) >= c_resources_max then
        o_after := v_waited[c_resources_max];
    end if;
    for r in
        -- What those wait for who are in the way of others.
        select p.resource, p.ticket
          from unnest(v_waited) u (resource)
         cross join lateral (select bool_or(q.mode = 'exclusive' or q.slots is not null) as exclusive,
                                    bool_or(q.scope = 'tree') as tree
                               from (select x.mode, x.slots, x.scope from pglockd.waiter x
                                      where x.resource = u.resource limit 100) q) k
         cross join lateral (select distinct pglockd.party(l.session_id, l.instance_id, l.conn_id) as party
                               from pglockd.lease_conflicts(u.resource, k.exclusive, k.tree) l) h
         cross join lateral pglockd.party_waits(h.party) p
         where h.party is not null
         order by p.ticket desc
    loop
        v_ring := pglockd.find_cycle(r.resource, r.ticket);
        continue when v_ring.o_ticket is null;
        -- A change of mode has the number of its lease's place.
        select q.ticket, q.resource, q.members, q.instance_id, q.request_id into v_last
          from unnest(v_ring.o_resource, v_ring.o_ticket) u (resource, ticket)
          join pglockd.waiter q on q.resource = u.resource and q.ticket = u.ticket
         order by abs(q.ticket) desc
         limit 1;
        v_rows := pglockd.lock_waiter(v_last.resource, v_last.ticket, v_last.members);
        continue when v_rows is null or not pglockd.is_cycle(v_ring.o_party, v_ring.o_resource, v_ring.o_ticket);
        o_found := o_found + 1;
        insert into pglockd.refusal (request_id, instance_id, cycle)
        select v_last.request_id, v_last.instance_id,
               jsonb_agg(jsonb_build_object('party', u.party, 'resource', u.resource, 'owner', q.owner) order by u.n)
          from unnest(v_ring.o_party, v_ring.o_resource, v_ring.o_ticket) with ordinality u (party, resource, ticket, n)
          left join pglockd.waiter q on q.resource = u.resource and q.ticket = u.ticket
            on conflict do nothing;
        delete from pglockd.waiter q where q.resource = any (v_rows) and q.ticket = v_last.ticket;
        o_instances := o_instances || v_last.instance_id;
        o_resource := o_resource || v_rows;
    end loop;
end
$$;
comment on function pglockd.break_deadlocks(text) is
    'Refuses the youngest request of each ring of those who wait for each other.';
