-- pglockd.force_session(session, reason)
-- Purpose:    an administrator ends a session and all its leases against its client's will, which learns it at its next
--             KEEPALIVE, RESUME or RENEW, and by an event. Its requests that wait are withdrawn.
-- Parameters: session   as pglockd.sessions shows it
--             reason    why, kept and shown
-- Returns:    one row. status OK: it ended, with so many locks. LOST: there is no such session, or it has ended before.
--             FENCED: somebody's transaction keeps it or one of its leases locked, and nothing was done.
-- Errors:     25001 outside of READ COMMITTED; 42501 for a name without the right to force each of its locks.
-- Tables:     session (update), lease (for update), and those of session_end_leases and hand_over
create or replace function pglockd.force_session(session bigint, reason text default null)
returns table (status text, locks bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
    c_hand_over_max constant integer := 500;
    v_until constant timestamptz := clock_timestamp() + interval '500 ms';
    v_free bigint;
    v_ended record;
    v_handed record;
begin
    perform pglockd.require_read_committed();
    -- Not as a setting of the function: that would be undone before the commit.
    perform set_config('synchronous_commit', 'on', true);
    -- The session first: then nobody binds a lease any more. All of them or none.
    loop
        if not exists (select from pglockd.session s where s.session_id = session and s.ended_us is null) then
            status := 'LOST';
            return next;
            return;
        end if;
        perform from pglockd.session s where s.session_id = session and s.ended_us is null for update skip locked;
        if found then
            select count(*) into locks from pglockd.lease l where l.session_id = session;
            select count(*) into v_free
              from (select from pglockd.lease l where l.session_id = session for update skip locked) f;
            exit when v_free >= locks;
        end if;
        if clock_timestamp() > v_until then
            status := 'FENCED';
            locks := null;
            return next;
            return;
        end if;
        perform pg_sleep(0.01);
    end loop;
    if locks = 0 then
        perform pglockd.require_right('force', '*');
    end if;
    perform pglockd.require_right('force', l.resource) from pglockd.lease l where l.session_id = session;
    update pglockd.session s
       set ended_us = pglockd.lease_now(), ended_at = clock_timestamp(), ended_reason = 'forced',
           ended_detail = 'by ' || session_user || coalesce(': ' || reason, '')
     where s.session_id = session;
    if exists (select from pglockd.listener) then
        perform pglockd.tell_listeners(array(select l.resource from pglockd.lease l where l.session_id = session));
    end if;
    v_ended := pglockd.session_end_leases(session, 'forced', locks::integer);
    -- What is left of a long list is the sweep's, which looks for what somebody waits for and nobody holds.
    v_handed := pglockd.hand_over(null, v_ended.o_resources[: c_hand_over_max]);
    if v_ended.o_wake is not null or v_handed.o_wake is not null then
        perform pglockd.notify_instances((v_ended.o_wake || v_handed.o_wake)::bigint[]);
    end if;
    status := 'OK';
    return next;
end
$$;
comment on function pglockd.force_session(bigint, text) is
    'Ends a session and all its leases against its client''s will; for administrators.';
