-- pglockd.promote(instance, resource, grants_max)
-- Purpose:    hands a free resource over to the waiters at the head of its queue: one exclusive, or
--             all shared ones up to the first exclusive. The caller holds the guard of the resource.
--             Waiters that are away (absent_until_us) and those of daemons without a sign of life
--             for 3 s are passed over; they keep their tickets.
-- Parameters: instance    the daemon that calls; null for SQL. Grants to its own waiters are complete;
--                         those for other daemons get a TTL of 5 s until that daemon accepts them
--             resource    what was freed
--             grants_max  grants at most; the rest stays for the next call
-- Returns:    request, token   grants to waiters of this daemon
--             wake             other daemons that got a grant, to be notified after the commit
--             more             something is left to grant: call again
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.promote(p_instance integer, p_resource text, p_grants_max integer default 200,
    out o_request bigint[], out o_token bigint[], out o_wake integer[], out o_more boolean)
language plpgsql
as $$
declare
    v_now_us bigint;
    v_quiet_us bigint;
    v_held pglockd.lock_mode;
    v_granted integer := 0;
    v_instance integer;
    v_request bigint;
    v_token bigint;
    w record;
begin
    o_more := false;
    select l.mode into v_held from pglockd.lease l where l.resource = p_resource limit 1;
    if v_held = 'exclusive' then
        return;
    end if;
    select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at), c.quiet_until_us
      into v_now_us, v_quiet_us from pglockd.clock c where c.one;
    if v_now_us < v_quiet_us then
        o_more := true;
        return;
    end if;
    for w in
        select q.ticket, q.mode, q.instance_id, q.request_id, q.ttl_ms, d.heartbeat_us
          from pglockd.waiter q
          left join pglockd.instance d on d.instance_id = q.instance_id
         where q.resource = p_resource and q.absent_until_us is null
         order by q.ticket
    loop
        if w.instance_id is distinct from p_instance
           and coalesce(w.heartbeat_us, 0) < v_now_us - 3000000 then
            continue;
        end if;
        exit when w.mode = 'exclusive' and v_held is not null;
        if v_granted >= p_grants_max then
            o_more := true;
            return;
        end if;
        with gone as (
            delete from pglockd.waiter q
             where q.resource = p_resource and q.ticket = w.ticket
            returning q.*
        )
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, granted_at, conn_id, request_id,
                                   instance_id, mode, scope, delivered, resource, owner, identity, note,
                                   idempotency_key)
        select nextval('pglockd.token_seq'), e.expires_us, e.expires_us, g.ttl_ms, clock_timestamp(),
               g.conn_id, g.request_id, g.instance_id, g.mode, g.scope, e.own, g.resource, g.owner,
               g.identity, g.note, g.idempotency_key
          from gone g,
               lateral (select g.instance_id is not distinct from p_instance as own) o,
               lateral (select o.own,
                               v_now_us + 1000000 + 1000 * case when o.own then g.ttl_ms else 5000 end
                               as expires_us) e
        returning lease.instance_id, lease.request_id, lease.token
             into v_instance, v_request, v_token;
        if found then
            if v_instance is not distinct from p_instance then
                o_request := o_request || v_request;
                o_token := o_token || v_token;
            else
                o_wake := o_wake || v_instance;
            end if;
            v_granted := v_granted + 1;
            v_held := w.mode;
            exit when w.mode = 'exclusive';
        end if;
    end loop;
end
$$;
comment on function pglockd.promote(integer, text, integer) is
    'Grants a free resource to the waiters at the head of its queue; the caller holds its guard.';
