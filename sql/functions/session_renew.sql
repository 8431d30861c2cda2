-- pglockd.session_renew(session, secret, identity)
-- Purpose:    sets the remaining time of a session, and with it of all its locks, to its TTL: one row,
--             a HOT update, whatever the number of locks.
-- Parameters: secret     null where the asking connection has opened or resumed the session
--             identity   authenticated name of the client; an empty one is not compared
-- Returns:    status   g renewed   l it has ended or never was   d the secret is wrong, or it is another
--                      identity's
--             ttl_ms   its TTL, when renewed
--             locks    how many locks it has
--             reason, lost_ms   why and since when it is lost
-- Tables:     session (update), lease, clock (read)
create or replace function pglockd.session_renew(
    p_session bigint, p_secret text, p_identity text default '',
    out o_status text, out o_ttl_ms bigint, out o_locks bigint, out o_reason text, out o_lost_ms bigint)
language plpgsql
as $$
declare
    v_sha256 constant bytea := sha256(convert_to(p_secret, 'UTF8'));
begin
    -- Waits for whoever is ending the session, and sees then that it has ended.
    update pglockd.session s
       set expires_us = pglockd.lease_end(pglockd.lease_now(), s.ttl_ms), renewed_at = clock_timestamp()
     where s.session_id = p_session and s.ended_us is null
       and (p_secret is null or s.secret_sha256 = v_sha256)
       and (s.identity = '' or p_identity in ('', s.identity))
    returning s.ttl_ms into o_ttl_ms;
    if found then
        o_status := 'g';
        select count(*) into o_locks from pglockd.lease l where l.session_id = p_session;
        return;
    end if;
    select case when p_secret is not null and s.secret_sha256 <> v_sha256
                  or not (s.identity = '' or p_identity in ('', s.identity)) then 'd' else 'l' end,
           s.ended_reason::text, greatest(0, extract(epoch from clock_timestamp() - s.ended_at) * 1000)::bigint
      into o_status, o_reason, o_lost_ms
      from pglockd.session s where s.session_id = p_session;
    if not found then
        o_status := 'l';
        o_reason := 'unknown';
    elsif o_status = 'd' then
        o_reason := null;
        o_lost_ms := null;
    end if;
end
$$;
comment on function pglockd.session_renew(bigint, text, text) is 'Renews a session and all its locks.';
