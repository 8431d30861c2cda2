-- pglockd.break_cycle(resource, ticket)
-- Purpose:    where a waiting request waits, through others, for its own party: refuses the youngest request of that ring.
-- Parameters: resource, ticket   the request, by one of its resources
-- Returns:    instance   daemon that has a request to refuse; null: there is no ring, or somebody is about to break it
--             resource   what the requests of the ring wait for, since those who served meanwhile have passed them over
-- Tables:     waiter (read, delete), lease (read), refusal (insert)
create or replace function pglockd.break_cycle(
    p_resource text, p_ticket bigint, out o_instance integer, out o_resource text[])
language plpgsql
as $$
declare
    v_ring record;
    v_again record;
    w pglockd.waiter;
begin
    v_ring := pglockd.find_cycle(p_resource, p_ticket);
    if v_ring.o_ticket is null then
        return;
    end if;
    o_resource := array(select x.resource from pglockd.waiter x
                         where (x.resource, x.ticket) in (select * from unnest(v_ring.o_resource, v_ring.o_ticket)));
    if not pglockd.hold_cycle(v_ring.o_party, v_ring.o_resource, v_ring.o_ticket) then
        return;
    end if;
    v_again := pglockd.find_cycle(p_resource, p_ticket);
    if v_again is distinct from v_ring then
        return;
    end if;
    -- A change of mode has a negative ticket; also that grows with the time.
    select x.* into w
      from unnest(v_ring.o_resource, v_ring.o_ticket) u (resource, ticket)
      join pglockd.waiter x on x.resource = u.resource and x.ticket = u.ticket
     order by abs(x.ticket) desc
     limit 1;
    o_instance := w.instance_id;
    insert into pglockd.refusal (request_id, instance_id, cycle)
    select w.request_id, w.instance_id,
           jsonb_agg(jsonb_build_object('party', u.party, 'resource', u.resource, 'owner', q.owner) order by u.n)
      from unnest(v_ring.o_party, v_ring.o_resource, v_ring.o_ticket) with ordinality u (party, resource, ticket, n)
      left join pglockd.waiter q on q.resource = u.resource and q.ticket = u.ticket
        on conflict (instance_id, request_id) do update set cycle = excluded.cycle, told = false;
    o_resource := o_resource || pglockd.lock_waiter(w.resource, w.ticket, w.members);
    delete from pglockd.waiter q where q.resource = any (o_resource) and q.ticket = w.ticket;
end
$$;
comment on function pglockd.break_cycle(text, bigint) is
    'Refuses the youngest request of a ring of those who wait for each other.';
