-- pglockd.force_session(session, reason)
-- Purpose:    an administrator ends a session and all its leases against its client's will, which learns it at its next
--             KEEPALIVE, RESUME or RENEW, and by an event. Its requests that wait are withdrawn.
-- Parameters: session   as pglockd.sessions shows it
--             reason    why, kept and shown
-- Returns:    one row. status OK: it ended, with so many locks. LOST: there is no such session, or it has ended before.
--             FENCED: somebody's transaction keeps it or one of its leases locked, and nothing was done.
-- Errors:     25001 outside of READ COMMITTED; 42501 for a name without the right to force each of its locks.
-- Tables:     session (for update), and those of lock_session_leases and end_session
create or replace function pglockd.force_session(session bigint, reason text default null)
returns table (status text, locks bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
    v_until constant timestamptz := clock_timestamp() + interval '500 ms';
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
            locks := pglockd.lock_session_leases(session);
            exit when locks is not null;
        end if;
        if clock_timestamp() > v_until then
            status := 'FENCED';
            return next;
            return;
        end if;
        perform pg_sleep(0.01);
    end loop;
    if locks = 0 then
        perform pglockd.require_right('force', '*');
    end if;
    perform pglockd.require_right('force', l.resource) from pglockd.lease l where l.session_id = session;
    perform pglockd.end_session(session, 'forced', 'by ' || session_user || coalesce(': ' || reason, ''), locks::integer);
    status := 'OK';
    return next;
end
$$;
comment on function pglockd.force_session(bigint, text) is
    'Ends a session and all its leases against its client''s will; for administrators.';
