-- pglockd.end_session(session, reason, detail, leases_max)
-- Purpose:    ends a session at somebody's wish, with its leases, whose rows the caller has locked: holders are told,
--             resources handed over, and daemons woken after the commit.
-- Parameters: reason       session_closed or forced
--             detail       by whom and why; null: not said
--             leases_max   how many leases it has
-- Returns:    released     leases that ended
--             pending      resources that someone must promote later; where nobody does, the sweep finds them
-- Tables:     session (update), and those of session_end_leases and hand_over
create or replace function pglockd.end_session(
    p_session bigint, p_reason pglockd.end_reason, p_detail text, p_leases_max integer,
    out o_released integer, out o_pending text[])
language plpgsql
as $$
declare
    c_hand_over_max constant integer := 500;
    v_ended record;
    v_handed record;
    v_wake integer[];
begin
    update pglockd.session s
       set ended_us = pglockd.lease_now(), ended_at = clock_timestamp(), ended_reason = p_reason, ended_detail = p_detail
     where s.session_id = p_session;
    if exists (select from pglockd.listener) then
        perform pglockd.tell_listeners(array(select l.resource from pglockd.lease l where l.session_id = p_session));
    end if;
    v_ended := pglockd.session_end_leases(p_session, p_reason, p_leases_max);
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
comment on function pglockd.end_session(bigint, pglockd.end_reason, text, integer) is
    'Ends a session at somebody''s wish, with its leases.';
