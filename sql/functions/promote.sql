-- pglockd.promote(instance, resource, floor, run_max)
-- Purpose:    hands a resource over to the waiters at the head of its queue: one exclusive, or all shared
--             ones up to the first exclusive. The caller holds the guard of the resource.
--             Passed over, keeping their tickets: waiters that are away (absent_until_us), that are being
--             withdrawn (row locked), and those of daemons without a sign of life for 3 s.
-- Parameters: instance  the daemon that calls; null for SQL. Grants to its own waiters are complete; those
--                       for other daemons get a TTL of 5 s until that daemon accepts them
--             resource  what may be free now
--             floor     nobody but marked ones (early_resource) waits with a ticket up to it; 0 when that is
--                       not known
--             run_max   grants at most
-- Returns:    request, resource, token   grants to waiters of this daemon
--             wake             other daemons that got a grant, to be notified after the commit
--             more             something is left to grant: call again
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.promote(
    p_instance integer, p_resource text, p_floor bigint, p_run_max integer default 200,
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_more boolean)
language plpgsql
as $$
declare
    v_floor bigint := case when exists (select from pglockd.waiter q where q.early_resource = p_resource)
                           then 0 else p_floor end;
    v_held pglockd.lock_mode;
    v_now_us bigint;
    v_quiet_us bigint;
    v_expires_us bigint;
    v_token bigint;
    v_own boolean;
    v_granted integer := 0;
    w pglockd.waiter;
begin
    o_more := false;
    loop
        select q.* into w
          from pglockd.waiter q
         where q.resource = p_resource and q.ticket > v_floor and q.absent_until_us is null
         order by q.ticket
         limit 1
           for update skip locked;
        if w.ticket is null then
            return;
        end if;
        if v_now_us is null then
            select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at),
                   case when exists (select from pglockd.queue_epoch) then c.quiet_until_us end,
                   (select l.mode from pglockd.lease l where l.resource = p_resource limit 1)
              into v_now_us, v_quiet_us, v_held
              from pglockd.clock c where c.one;
            if v_quiet_us is null then
                v_quiet_us := pglockd.open_queue_epoch();
            end if;
        end if;
        if v_held = 'exclusive' or v_held is not null and w.mode = 'exclusive' then
            return;
        elsif v_now_us < v_quiet_us or v_granted >= p_run_max then
            o_more := true;
            return;
        end if;
        v_floor := w.ticket;
        v_own := w.instance_id = p_instance;
        if v_own is not true and not exists (select from pglockd.instance d
                                              where d.instance_id = w.instance_id
                                                and d.heartbeat_us >= v_now_us - 3000000) then
            -- It may come back: releases must find it below the floors of those served before it.
            update pglockd.waiter q set early_resource = p_resource
             where q.resource = p_resource and q.ticket = w.ticket and q.early_resource is null;
            continue;
        end if;
        delete from pglockd.waiter q where q.resource = p_resource and q.ticket = w.ticket;
        v_expires_us := pglockd.lease_end(v_now_us, case when v_own then w.ttl_ms else 5000 end);
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id,
                                   instance_id, mode, scope, delivered, resource, owner, identity, note,
                                   idempotency_key)
        values (nextval('pglockd.token_seq'), v_expires_us, v_expires_us, w.ttl_ms, w.ticket, clock_timestamp(),
                w.conn_id, w.request_id, w.instance_id, w.mode, w.scope, coalesce(v_own, false), w.resource, w.owner,
                w.identity, w.note, w.idempotency_key)
        returning lease.token into v_token;
        if v_own then
            o_request := o_request || w.request_id;
            o_resource := o_resource || p_resource;
            o_token := o_token || v_token;
        else
            o_wake := o_wake || w.instance_id;
        end if;
        if w.mode = 'exclusive' then
            return;
        end if;
        v_held := w.mode;
        v_granted := v_granted + 1;
    end loop;
end
$$;
comment on function pglockd.promote(integer, text, bigint, integer) is
    'Grants a free resource to the waiters at the head of its queue; the caller holds its guard.';
