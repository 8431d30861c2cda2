-- pglockd.session_open(ttl_ms, owner, identity, note, id, secret)
-- Purpose:    opens a session, or finds the living one that an earlier call with the same id, owner and
--             identity opened: that one is renewed and gets the new secret, since its first may never have
--             arrived.
-- Parameters: ttl_ms   shared by all locks of the session
--             id       null: not to be repeated
--             secret   what the client must show; only its SHA-256 is kept
-- Returns:    session, repeated   the session, and whether it was there before
-- Tables:     session (insert, update), clock (read), longest_ttl (insert), and those of notice_server
create or replace function pglockd.session_open(
    p_ttl_ms bigint, p_owner text, p_identity text, p_note text, p_id text, p_secret text,
    out o_session bigint, out o_repeated boolean)
language sql
as $$
    -- On another server the numbers leap first.
    select pglockd.notice_server();
    select pglockd.note_ttl(array[p_ttl_ms]);
    insert into pglockd.session as s (expires_us, check_us, ttl_ms, secret_sha256, owner, identity, note, idempotency_key)
    select n.end_us, n.end_us, p_ttl_ms, sha256(convert_to(p_secret, 'UTF8')), coalesce(p_owner, ''),
           coalesce(p_identity, ''), p_note, p_id
      from (select pglockd.lease_end(pglockd.lease_now(), p_ttl_ms) as end_us) n
        on conflict (idempotency_key, owner, identity) where idempotency_key is not null and ended_us is null
        do update set expires_us = excluded.expires_us, check_us = least(s.check_us, excluded.expires_us),
                      ttl_ms = excluded.ttl_ms, secret_sha256 = excluded.secret_sha256, note = excluded.note,
                      renewed_at = clock_timestamp()
    returning s.session_id, s.xmax <> 0
$$;
comment on function pglockd.session_open(bigint, text, text, text, text, text) is 'Opens a session.';
