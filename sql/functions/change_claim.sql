-- pglockd.change_claim(instance, resource, token, exclusive, ttl_ms, wait, conn, request, identity)
-- Purpose:    LOCK with token=: changes the mode of a lease. To shared at once, letting those in who may share it now;
--             to exclusive when nobody else is in the way, as a new lease with a new token, waiting at the head of the
--             queue. Two that both want to become exclusive would wait for each other: the second is refused.
-- Parameters: instance, conn, request   as pglockd.acquire_batch()
--             resource, token   the lease          identity   authenticated name; an empty one is not compared
--             ttl_ms   null: as it is
-- Returns:    status    g done (number: token)   w waits (number: ticket)   b somebody is in the way   q quiet period
--                       l that token holds no longer   d another identity holds it   D deadlock (number: token of the
--                       other lease)   m it is a slot of a semaphore   f fenced, r guarded or locked: ask again
--             number, grant_request, grant_resource, grant_token, wake, pending   as pglockd.acquire_batch()
-- Tables:     lease, waiter (insert, update, delete), tombstone, longest_ttl (insert), clock (read)
create or replace function pglockd.change_claim(
    p_instance integer, p_resource text, p_token bigint, p_exclusive boolean, p_ttl_ms bigint, p_wait boolean,
    p_conn bigint, p_request bigint, p_identity text,
    out o_status "char", out o_number bigint,
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_verdict "char" := 'q';
    v_stale_resource text[];
    v_stale_token bigint[];
    v_rival bigint;
    v_expired text[];
    v_done record;
    l pglockd.lease;
begin
    select x.* into l from pglockd.lease x where x.resource = p_resource and x.token = p_token;
    if l.token is null or l.grace_ms is not null and l.expires_us <= v_now_us then
        o_status := 'l';
    elsif not (l.identity = '' or p_identity in ('', l.identity)) then
        o_status := 'd';
    elsif l.slots is not null then
        o_status := 'm';
    elsif not pglockd.try_guards(array[p_resource], array[l.scope = 'tree']) or pglockd.lock_leases(array[p_resource], array[p_token]) = '{null}' then
        o_status := case when not exists (select from pglockd.lease x where x.resource = p_resource and x.token = p_token)
                         then 'l' when pglockd.is_fenced(p_resource, p_token) then 'f' else 'r' end;
    end if;
    if o_status is not null then
        return;
    end if;
    p_ttl_ms := case when l.session_id is null and l.hold_id is null then coalesce(p_ttl_ms, l.ttl_ms)
                     else l.ttl_ms end;
    perform pglockd.note_ttl(array[p_ttl_ms]);

    if not p_exclusive or l.mode = 'exclusive' then
        if not p_exclusive and l.mode = 'exclusive' then
            o_wake := pglockd.note_ends(array[l], '{superseded}', 'changed to shared');
        end if;
        update pglockd.lease x
           set mode = case when p_exclusive then x.mode else 'shared' end,
               granted_at = case when p_exclusive = (x.mode = 'exclusive') then x.granted_at else clock_timestamp() end,
               granted_us = case when p_exclusive = (x.mode = 'exclusive') then x.granted_us else v_now_us end,
               conn_id = coalesce(p_conn, x.conn_id),
               instance_id = coalesce(p_instance, x.instance_id), request_id = coalesce(p_request, x.request_id),
               ttl_ms = p_ttl_ms, expires_us = pglockd.lease_end(v_now_us, p_ttl_ms),
               check_us = least(x.check_us, pglockd.lease_end(v_now_us, p_ttl_ms))
         where x.resource = p_resource and x.token = p_token;
        o_status := 'g';
        o_number := p_token;
        if l.mode = 'exclusive' and not p_exclusive and (select c.watched from pglockd.clock c where c.one) then
            o_wake := o_wake || pglockd.note_grants(array[p_resource], array[p_token]);
        end if;
        if l.mode = 'exclusive' and not p_exclusive and pglockd.is_waited_for(p_resource, l.scope) then
            v_done := pglockd.hand_over(p_instance, array[p_resource]);
            o_grant_request := v_done.o_request;
            o_grant_resource := v_done.o_resource;
            o_grant_token := v_done.o_token;
            o_wake := o_wake || v_done.o_wake;
            o_pending := v_done.o_pending;
        end if;
        return;
    end if;

    select w.upgrade_token into v_rival from pglockd.waiter w
     where w.resource = p_resource and w.upgrade_token is not null and w.upgrade_token <> p_token
       -- Of a lease that has ended it is refused as soon as somebody looks at it, and is no rival.
       and exists (select from pglockd.lease o where o.resource = p_resource and o.token = w.upgrade_token)
     limit 1;
    if v_rival is not null then
        o_status := 'D';
        o_number := v_rival;
        insert into pglockd.refusal (request_id, instance_id, told, cycle)
        select p_request, p_instance, true,
               jsonb_build_array(
                   jsonb_build_object('party', pglockd.party(l.session_id, p_instance, p_conn), 'resource', p_resource,
                                      'owner', l.owner),
                   jsonb_build_object('party', pglockd.party(o.session_id, o.instance_id, o.conn_id),
                                      'resource', p_resource, 'owner', o.owner))
          from pglockd.lease o
         where o.resource = p_resource and o.token = v_rival and p_request is not null
            on conflict do nothing;
        return;
    end if;
    if not exists (select from pglockd.clock c where c.one and v_now_us < c.quiet_until_us) then
        select w.o_verdict, w.o_stale_resource, w.o_stale_token into v_verdict, v_stale_resource, v_stale_token
          from pglockd.in_the_way(array[p_resource], '{t}', array[l.scope = 'tree'], null, null, 0, p_token, p_instance) w;
        if v_stale_resource is not null then
            select e.o_gone, e.o_wake into v_expired, o_wake from pglockd.expire(v_stale_resource, v_stale_token) e;
        end if;
        if v_expired is not null then
            select w.o_verdict into v_verdict
              from pglockd.in_the_way(array[p_resource], '{t}', array[l.scope = 'tree'], null, null, 0, p_token, p_instance) w;
        end if;
    end if;
    if v_verdict = 'f' then
        delete from pglockd.lease x where x.resource = p_resource and x.token = p_token;
        o_wake := o_wake || pglockd.note_ends(array[l], '{superseded}', 'changed to exclusive');
        o_status := 'g';
        v_done := pglockd.grant_leases(p_instance, array[p_resource], '{t}', array[l.scope = 'tree'], null, null, p_ttl_ms,
            p_conn, p_request, l.owner, l.note, l.identity, l.idempotency_key, l.session_id, l.grace_ms, l.bound,
            true, 0, null, l.charged_to);
        o_number := v_done.o_token[1];
        o_wake := o_wake || v_done.o_wake;
        update pglockd.lease x set hold_id = l.hold_id
         where l.hold_id is not null and x.resource = p_resource and x.token = o_number;
    elsif p_wait then
        o_status := 'w';
        -- Before all others.
        o_number := pglockd.queue_claim(-nextval('pglockd.token_seq'), true, p_instance, array[p_resource], '{t}',
                        array[l.scope = 'tree'], null, null, p_ttl_ms, p_conn, p_request, l.owner, l.note, l.identity,
                        l.idempotency_key, l.session_id, l.grace_ms, l.bound, p_token, null);
    else
        o_status := case when v_verdict = 'q' then 'q' else 'b' end;
    end if;
end
$$;
comment on function pglockd.change_claim(integer, text, bigint, boolean, bigint, boolean, bigint, bigint, text) is
    'Changes the mode of a lease.';
