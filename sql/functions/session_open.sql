-- pglockd.session_open(ttl_ms, owner, identity, note, id, secret, sessions_max)
-- Purpose:    opens a session, or finds the living one that an earlier call with the same id, owner and
--             identity opened: that one is renewed and gets the new secret, since its first may never have
--             arrived.
-- Parameters: ttl_ms   shared by all locks of the session
--             id       null: not to be repeated
--             secret   what the client must show; only its SHA-256 is kept
--             sessions_max   how many its identity may have, or where that is empty its owner; null: any number
-- Returns:    session, repeated   the session, and whether it was there before; both null where there are as many
--             as there may be
-- Errors:     25001 outside of READ COMMITTED.
-- Tables:     session (insert, update), clock (read), longest_ttl (insert), and those of notice_server
create or replace function pglockd.session_open(
    p_ttl_ms bigint, p_owner text, p_identity text, p_note text, p_id text, p_secret text,
    p_sessions_max integer default null,
    out o_session bigint, out o_repeated boolean)
language plpgsql
as $$
declare
    v_name constant text := pglockd.charged_to(p_sessions_max, p_owner, p_identity);
begin
    perform pglockd.require_read_committed();
    -- On another server the numbers leap first.
    perform pglockd.notice_server();
    perform pglockd.note_ttl(array[p_ttl_ms]);
    if v_name is not null then
        -- One after the other, so that each sees those that the others have opened.
        perform pg_advisory_xact_lock(1346849804, pglockd.guard_key(v_name));
        if (select count(*) from (select from pglockd.session s
                                   where coalesce(nullif(s.identity, ''), s.owner) = v_name and s.ended_us is null
                                     and s.expires_us > pglockd.lease_now()
                                   limit p_sessions_max) living) >= p_sessions_max
           and not exists (select from pglockd.session s
                            where s.idempotency_key = p_id and s.owner = coalesce(p_owner, '')
                              and s.identity = coalesce(p_identity, '') and s.ended_us is null) then
            return;
        end if;
    end if;
    insert into pglockd.session as s (expires_us, check_us, ttl_ms, secret_sha256, owner, identity, note, idempotency_key)
    select n.end_us, n.end_us, p_ttl_ms, sha256(convert_to(p_secret, 'UTF8')), coalesce(p_owner, ''),
           coalesce(p_identity, ''), p_note, p_id
      from (select pglockd.lease_end(pglockd.lease_now(), p_ttl_ms) as end_us) n
        on conflict (idempotency_key, owner, identity) where idempotency_key is not null and ended_us is null
        do update set expires_us = excluded.expires_us, check_us = least(s.check_us, excluded.expires_us),
                      ttl_ms = excluded.ttl_ms, secret_sha256 = excluded.secret_sha256, note = excluded.note,
                      renewed_at = clock_timestamp()
    returning s.session_id, s.xmax <> 0 into o_session, o_repeated;
end
$$;
comment on function pglockd.session_open(bigint, text, text, text, text, text, integer) is 'Opens a session.';
