-- pglockd.session_close(session, secret, identity)
-- Purpose:    ends a session at its client's wish: all its locks at once, handed over in the same
--             transaction.
-- Parameters: secret     null where the asking connection has opened or resumed the session
--             identity   authenticated name of the client; an empty one is not compared
-- Returns:    status    g closed   l it has ended or never was   d the secret is wrong, or it is another
--                       identity's
--                       f somebody's transaction keeps it or one of its leases locked
--                       (pglockd.assert_fence()): nothing was done
--             released  how many locks it had
--             reason, lost_ms   why and since when it is lost
--             pending   resources that someone must promote later
-- Errors:     25001 outside of READ COMMITTED.
-- Tables:     session (update), and those of session_end_leases and hand_over
create or replace function pglockd.session_close(
    p_session bigint, p_secret text, p_identity text default '',
    out o_status text, out o_released integer, out o_reason text, out o_lost_ms bigint, out o_pending text[])
language plpgsql
as $$
declare
    c_hand_over_max constant integer := 500;
    -- Renewals of other sessions come over the same connection: they must not stand behind this for long.
    v_until constant timestamptz := clock_timestamp() + interval '50 ms';
    v_free bigint;
    v_all bigint;
    v_ended record;
    v_handed record;
    v_wake integer[];
    r record;
begin
    perform pglockd.require_read_committed();
    loop
        select s.ended_reason::text as reason, s.ended_at, s.ended_us,
               p_secret is not null and s.secret_sha256 <> sha256(convert_to(p_secret, 'UTF8'))
                 or not (s.identity = '' or p_identity in ('', s.identity)) as wrong
          into r
          from pglockd.session s where s.session_id = p_session for update skip locked;
        if found and r.wrong then
            o_status := 'd';
            return;
        elsif found and r.ended_us is not null then
            o_status := 'l';
            o_reason := r.reason;
            o_lost_ms := greatest(0, extract(epoch from clock_timestamp() - r.ended_at) * 1000)::bigint;
            return;
        elsif found then
            -- Nobody binds a lease any more: who did has committed. All of them or none.
            select count(*) into v_all from pglockd.lease l where l.session_id = p_session;
            select count(*) into v_free
              from (select from pglockd.lease l where l.session_id = p_session for update skip locked) f;
            exit when v_free >= v_all;
        elsif not exists (select from pglockd.session s where s.session_id = p_session) then
            o_status := 'l';
            o_reason := 'unknown';
            return;
        end if;
        if clock_timestamp() > v_until then
            o_status := 'f';
            return;
        end if;
        perform pg_sleep(0.01);
    end loop;
    update pglockd.session s
       set ended_us = pglockd.lease_now(), ended_at = clock_timestamp(), ended_reason = 'session_closed'
     where s.session_id = p_session;
    if exists (select from pglockd.listener) then
        perform pglockd.tell_listeners(array(select l.resource from pglockd.lease l where l.session_id = p_session));
    end if;
    v_ended := pglockd.session_end_leases(p_session, 'session_closed', v_all::integer);
    o_status := 'g';
    o_released := v_ended.o_ended;
    v_wake := v_ended.o_wake;
    if v_ended.o_resources is not null then
        v_handed := pglockd.hand_over(null, v_ended.o_resources[: c_hand_over_max]);
        o_pending := v_ended.o_resources[c_hand_over_max + 1 :] || v_handed.o_pending;
        v_wake := v_wake || v_handed.o_wake;
    end if;
    if v_wake is not null then
        perform pglockd.notify_instances(v_wake::bigint[]);
    end if;
end
$$;
comment on function pglockd.session_close(bigint, text, text) is 'Ends a session and all its locks at once.';
