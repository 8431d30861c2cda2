-- pglockd.break_deadlocks(after)
-- Purpose:    finds parties that wait for each other in a ring, and refuses the youngest request of each ring: it
--             leaves the queue, and its daemon answers DEADLOCK. In a ring there is somebody who holds what others wait
--             for, and waits: the search begins there, and mostly there is nobody.
-- Parameters: after   goes on behind this resource of those that are waited for; null: at the first
-- Returns:    instances   daemons that have requests to refuse, to be told after the commit
--             found       how many rings
--             resource    queues to be looked at, since the refused are gone, or have been passed over while they
--                         were looked at
--             after       where to go on; null: all have been looked at
-- Bounds:     2000 resources, or 100 ms
-- Tables:     waiter (read, delete), lease (read), refusal (insert)
create or replace function pglockd.break_deadlocks(
    p_after text, out o_instances integer[], out o_found integer, out o_resource text[], out o_after text)
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_resources_max constant integer := 2000;
    v_until constant timestamptz := clock_timestamp() + interval '100 ms';
    v_waited text[];
    v_at text;
    v_done record;
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
    foreach v_at in array coalesce(v_waited, '{}') loop
        for r in
            -- What those wait for who are in the way of others.
            select p.resource, p.ticket
              from (select distinct pglockd.party(l.session_id, l.instance_id, l.conn_id) as party
                      from pglockd.lease_conflicts(v_at, true, exists (select from pglockd.waiter w
                                                                        where w.resource = v_at and w.scope = 'tree')) l) h
             cross join lateral pglockd.party_waits(h.party) p
             where h.party is not null
        loop
            -- It may be in several rings.
            loop
                v_done := pglockd.break_cycle(r.resource, r.ticket);
                o_resource := o_resource || v_done.o_resource;
                exit when v_done.o_instance is null;
                o_found := o_found + 1;
                o_instances := o_instances || v_done.o_instance;
            end loop;
        end loop;
        if clock_timestamp() > v_until then
            o_after := v_at;
            exit;
        end if;
    end loop;
end
$$;
comment on function pglockd.break_deadlocks(text) is
    'Refuses the youngest request of each ring of those who wait for each other.';
