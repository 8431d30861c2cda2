-- pglockd.closed_until(expires_us, grace_ms, session)
-- Purpose:    until when a lease that is not renewed keeps its resource closed: its end or that of its session, and
--             its grace. Its own end counts in a session, too: it is far away, except of a grant that has not been
--             delivered.
-- Returns:    reading of the lease clock, in microseconds; no later than its grace
--             for a lease of a session that was closed.
-- Tables:     session (read)
create or replace function pglockd.closed_until(p_expires_us bigint, p_grace_ms bigint, p_session bigint)
returns bigint
language plpgsql stable -- as pglockd.lease_now()
as $$
begin
    if p_session is null then -- apart: without a query it costs a tenth
        return p_expires_us + 1000 * coalesce(p_grace_ms, 0);
    end if;
    return coalesce((select least(p_expires_us, s.expires_us) from pglockd.session s
                      where s.session_id = p_session
                        and (s.ended_us is null or s.ended_reason = 'expired')), 0)
           + 1000 * coalesce(p_grace_ms, 0);
end
$$;
comment on function pglockd.closed_until(bigint, bigint, bigint) is
    'Until when a lease that is not renewed keeps its resource closed, in microseconds of the lease clock.';
