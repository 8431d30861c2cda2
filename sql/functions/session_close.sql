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
-- Tables:     session (for update), and those of lock_session_leases and end_session
create or replace function pglockd.session_close(
    p_session bigint, p_secret text, p_identity text default '',
    out o_status text, out o_released integer, out o_reason text, out o_lost_ms bigint, out o_pending text[])
language plpgsql
as $$
declare
    -- Renewals of other sessions come over the same connection: they must not stand behind this for long.
    v_until constant timestamptz := clock_timestamp() + interval '50 ms';
    v_locks bigint;
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
            -- All of them or none.
            v_locks := pglockd.lock_session_leases(p_session);
            exit when v_locks is not null;
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
    o_status := 'g';
    select e.o_released, e.o_pending into o_released, o_pending
      from pglockd.end_session(p_session, 'session_closed', null, v_locks::integer) e;
end
$$;
comment on function pglockd.session_close(bigint, text, text) is 'Ends a session and all its locks at once.';
