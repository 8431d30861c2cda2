-- pglockd.transfer_lease(resource, token, owner, session, identity, ttl_ms)
-- Purpose:    TRANSFER: gives a lease to another owner or into a session, as a new lease with a new token; the old
--             token is fenced off.
-- Parameters: owner      null: as it is           session    not null: bound to that session from now on
--             identity   authenticated name of who asks; an empty one is not compared
--             ttl_ms     for a lease that leaves its session, or the SQL session that held it
-- Returns:    status    g done (token)   l that token holds no longer   d another identity holds it
--                       s the session has ended or never was   f fenced, r guarded or locked: nothing was done
--             token     the new one
-- Errors:     25001 outside of READ COMMITTED, 57P03 as pglockd.check_server().
-- Tables:     lease (insert, delete), waiter (delete), refusal, tombstone, longest_ttl (insert), session (lock), clock (read)
create or replace function pglockd.transfer_lease(
    p_resource text, p_token bigint, p_owner text, p_session bigint, p_identity text, p_ttl_ms bigint,
    out o_status text, out o_token bigint)
language plpgsql
as $$
declare
    v_until constant timestamptz := clock_timestamp() + interval '200 ms';
    v_ttl_ms bigint;
    v_identity text;
    v_detail text;
    v_wake integer[];
    v_granted record;
    l pglockd.lease;
begin
    perform pglockd.require_read_committed();
    perform pglockd.check_server();
    perform pglockd.note_ttl(array[p_ttl_ms]);
    select x.* into l from pglockd.lease x where x.resource = p_resource and x.token = p_token;
    if l.token is null or l.grace_ms is not null and l.expires_us <= pglockd.lease_now() then
        o_status := 'l';
        return;
    elsif not (l.identity = '' or p_identity in ('', l.identity)) then
        o_status := 'd';
        return;
    end if;
    while not pglockd.try_guards(array[p_resource], array[l.scope = 'tree']) loop
        if clock_timestamp() > v_until then
            o_status := 'r';
            return;
        end if;
        perform pg_sleep(0.005);
    end loop;
    if p_session is not null and not pglockd.session_lives(p_session) then
        o_status := 's';
        return;
    end if;
    v_identity := coalesce((select s.identity from pglockd.session s where s.session_id = p_session), l.identity);
    if pglockd.lock_leases(array[p_resource], array[p_token]) = '{null}' then
        o_status := case when exists (select from pglockd.lease x where x.resource = p_resource and x.token = p_token)
                         then case when pglockd.is_fenced(p_resource, p_token) then 'f' else 'r' end
                         else 'l' end;
        return;
    end if;
    v_detail := 'given to ' || coalesce(p_owner, 'session ' || p_session);
    delete from pglockd.lease x where x.resource = p_resource and x.token = p_token returning x.* into l;
    v_wake := pglockd.note_ends(array[l], '{superseded}', v_detail);
    insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, detail, session_id)
    values (l.token, pglockd.lease_now(), clock_timestamp(), 'superseded', l.resource, l.owner, l.identity,
            v_detail, l.session_id)
        -- There is one of a grant that its daemon heard of in its grace only.
        on conflict (resource, token) do update
        set ended_us = excluded.ended_us, ended_at = excluded.ended_at, reason = excluded.reason, detail = excluded.detail;
    v_ttl_ms := case when p_session is not null then 9000000000000
                     when l.session_id is not null or l.hold_id is not null then p_ttl_ms else l.ttl_ms end;
    v_granted := pglockd.grant_leases(null, array[l.resource], array[l.mode = 'exclusive'], array[l.scope = 'tree'], l.slots,
        l.weight, v_ttl_ms, null, null, coalesce(p_owner, l.owner), l.note, v_identity, null, p_session, l.grace_ms,
        false, true, l.queue_floor, null, l.charged_to);
    o_token := v_granted.o_token[1];
    o_status := 'g';
    perform pglockd.tell_listeners(array[p_resource]);
    v_wake := v_wake || v_granted.o_wake;
    if exists (select from pglockd.waiter w where w.resource = p_resource and w.upgrade_token = p_token) then
        -- Its lease has gone to somebody else: it is refused.
        v_wake := v_wake || (select h.o_wake from pglockd.hand_over(null, array[p_resource]) h);
    end if;
    if v_wake is not null then
        perform pglockd.notify_instances(v_wake::bigint[]);
    end if;
end
$$;
comment on function pglockd.transfer_lease(text, bigint, text, bigint, text, bigint) is
    'Gives a lease to another owner or into a session, with a new token.';
