-- pglockd.acquire_one(instance, now_us, …)
-- Purpose:    decides one LOCK request whose guard the caller holds: a lease, a place in the queue, or
--             neither. This is the rule; the set-based statement in pglockd.acquire_batch() is a short cut
--             for the part of it that meets neither lease nor waiter.
--             A request is granted when no lease and no waiter of its resource conflicts with it; waiters
--             that pglockd.promote() passes over do not count. What
--             has expired is removed first, and the queue is served before the request.
-- Parameters: now_us   reading of the lease clock
--             else as one element of pglockd.acquire_batch()
-- Returns:    status, number   g, w or b: see pglockd.acquire_batch()
--             grant_request, grant_resource, grant_token, wake, more   as pglockd.promote(), where something had expired
-- Tables:     lease, waiter (insert, delete), tombstone (insert)
create or replace function pglockd.acquire_one(
    p_instance integer, p_now_us bigint, p_resource text, p_exclusive boolean, p_ttl_ms bigint, p_wait boolean,
    p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text, p_id text,
    out o_status "char", out o_number bigint,
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_more boolean)
language plpgsql
as $$
declare
    v_held pglockd.lock_mode;
    v_expires_us bigint;
    v_done record;
begin
    select l.mode, l.expires_us into v_held, v_expires_us
      from pglockd.lease l where l.resource = p_resource limit 1;
    if v_expires_us <= p_now_us
       or v_held = 'shared' and p_exclusive and exists (select from pglockd.lease l
                                                         where l.resource = p_resource and l.expires_us <= p_now_us) then
        perform pglockd.expire(p_resource);
        v_done := pglockd.promote(p_instance, p_resource, 0);
        o_grant_request := v_done.o_request;
        o_grant_resource := v_done.o_resource;
        o_grant_token := v_done.o_token;
        o_wake := v_done.o_wake;
        o_more := v_done.o_more;
        select l.mode into v_held
          from pglockd.lease l where l.resource = p_resource limit 1;
    end if;

    if (v_held is null or v_held = 'shared' and not p_exclusive)
       and not exists (select from pglockd.waiter w
                        where w.resource = p_resource and w.absent_until_us is null
                          and (w.instance_id = p_instance
                               or exists (select from pglockd.instance d
                                           where d.instance_id = w.instance_id
                                             and d.heartbeat_us >= p_now_us - 3000000))) then
        v_expires_us := pglockd.lease_end(p_now_us, p_ttl_ms);
        o_number := nextval('pglockd.token_seq');
        o_status := 'g';
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id,
                                   instance_id, mode, scope, delivered, resource, owner, identity, note,
                                   idempotency_key)
        values (o_number, v_expires_us, v_expires_us, p_ttl_ms, o_number, clock_timestamp(), p_conn, p_request,
                p_instance, case when p_exclusive then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node', true,
                p_resource, coalesce(p_owner, ''), coalesce(p_identity, ''), p_note, p_id);
    elsif p_wait then
        o_number := pglockd.enqueue(p_instance, p_resource, p_exclusive, p_ttl_ms, p_conn, p_request, p_owner, p_note,
            p_identity, p_id, true);
        o_status := 'w';
    else
        o_status := 'b';
    end if;
end
$$;
comment on function pglockd.acquire_one(integer, bigint, text, boolean, bigint, boolean, bigint, bigint, text, text,
    text, text) is 'Decides one LOCK request whose guard the caller holds.';
