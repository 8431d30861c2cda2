-- pglockd.acquire_one(instance, …)
-- Purpose:    decides one LOCK request: a lease, a place in the queue, or neither. This is the rule; the
--             set-based statement in pglockd.acquire_batch() is a short cut for the part of it that meets
--             neither lease nor waiter.
--             A request is granted when no lease and no waiter of its resource conflicts with it; waiters
--             that pglockd.hand_over() passes over do not count. What has expired is removed first, and
--             the queue is served before the request.
-- Parameters: as one element of pglockd.acquire_batch()
-- Returns:    status, number   see pglockd.acquire_batch()
--             grant_request, grant_resource, grant_token, wake, pending   as pglockd.acquire_batch()
-- Tables:     lease, waiter (insert, delete), tombstone (insert), clock, instance (read)
create or replace function pglockd.acquire_one(
    p_instance integer, p_resource text, p_exclusive boolean, p_ttl_ms bigint, p_wait boolean,
    p_conn bigint, p_request bigint, p_owner text, p_note text, p_identity text, p_id text, p_session bigint default null,
    out o_status "char", out o_number bigint,
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_guarded constant boolean := pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource));
    v_mode constant pglockd.lock_mode := case when p_exclusive then 'exclusive' else 'shared' end;
    v_now_us bigint;
    v_quiet boolean := false;
    v_held pglockd.lock_mode;
    v_expires_us bigint;
    v_expired boolean;
    v_queued boolean;
    v_free boolean := false;
    v_end_us bigint;
begin
    if not v_guarded and (p_id is not null or not p_wait) then
        o_status := 'r';
        return;
    elsif p_id is not null then
        select f.o_status, f.o_number into o_status, o_number
          from pglockd.find_repeated(p_instance, p_resource, p_exclusive, p_ttl_ms, p_wait, p_conn, p_request,
                   coalesce(p_owner, ''), coalesce(p_identity, ''), p_id, p_session) f;
        if o_status is not null then
            o_pending := case when o_status = 'w' then array[p_resource] end;
            return;
        end if;
    end if;

    while v_guarded loop
        select now.us, now.us < now.quiet_until_us, held.mode, held.expires_us,
               -- Not where it does not matter: on a busy resource this passes many dead entries.
               case when held.mode is null or held.mode = 'shared' and not p_exclusive
                    then exists (select from pglockd.waiter w
                                  where w.resource = p_resource and w.absent_until_us is null) end
          into v_now_us, v_quiet, v_held, v_expires_us, v_queued
          from (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us, c.quiet_until_us
                  from pglockd.clock c where c.one offset 0) now
          left join lateral (select l.mode, l.expires_us from pglockd.lease l
                              where l.resource = p_resource order by l.token desc limit 1) held on true;
        exit when v_held is null or v_quiet or v_expired;
        v_expired := v_expires_us <= v_now_us;
        if v_held = 'shared' and p_exclusive and not v_expired then
            v_expired := exists (select from pglockd.lease l
                                  where l.resource = p_resource and l.expires_us <= v_now_us);
        end if;
        exit when v_expired is not true;
        -- Once: what has expired and is left then is locked by somebody, and held.
        perform pglockd.expire(p_resource);
        select h.o_request, h.o_resource, h.o_token, h.o_wake, h.o_pending
          into o_grant_request, o_grant_resource, o_grant_token, o_wake, o_pending
          from pglockd.hand_over(p_instance, array[p_resource]) h;
    end loop;
    if v_guarded and not v_quiet and (v_held is null or v_held = 'shared' and not p_exclusive) then
        v_free := not v_queued;
        if v_queued then
            v_free := not exists (select from pglockd.waiter w
                                   where w.resource = p_resource and w.absent_until_us is null
                                     and (w.instance_id = p_instance
                                          or exists (select from pglockd.instance d
                                                      where d.instance_id = w.instance_id
                                                        and d.heartbeat_us >= v_now_us - 3000000)));
        end if;
    end if;

    if v_free then
        v_end_us := pglockd.lease_end(v_now_us, p_ttl_ms);
        o_status := 'g';
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id,
                                   instance_id, mode, scope, delivered, resource, owner, identity, note,
                                   idempotency_key, session_id)
        select t.token, v_end_us, v_end_us, p_ttl_ms, t.token, clock_timestamp(), p_conn, p_request, p_instance,
               v_mode, 'node', true, p_resource, coalesce(p_owner, ''), coalesce(p_identity, ''), p_note, p_id, p_session
          from (select nextval('pglockd.token_seq') as token) t
        returning token into o_number;
    elsif p_wait then
        -- Also without the guard, so that newcomers line up behind it; marked then, since its ticket may lie
        -- below a queue_floor.
        o_status := 'w';
        insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, early_resource, instance_id,
                                    mode, scope, resource, owner, identity, note, idempotency_key, session_id)
        values (nextval('pglockd.token_seq'), p_request, p_conn, p_ttl_ms, clock_timestamp(),
                case when not v_guarded then p_resource end, p_instance, v_mode, 'node', p_resource,
                coalesce(p_owner, ''), coalesce(p_identity, ''), p_note, p_id, p_session)
        returning ticket into o_number;
        if not v_guarded or v_quiet then
            o_pending := o_pending || p_resource;
        end if;
    elsif v_quiet then
        o_status := 'q';
    else
        o_status := 'b';
    end if;
end
$$;
comment on function pglockd.acquire_one(integer, text, boolean, bigint, boolean, bigint, bigint, text, text, text,
    text, bigint) is 'Decides one LOCK request: a lease, a place in the queue, or neither.';
