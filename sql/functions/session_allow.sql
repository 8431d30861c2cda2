-- pglockd.session_allow(session, secret)
-- Purpose:    LOCK session=: may the client bind locks to this session? Reads only; that the session lives
--             when the lock is granted is pglockd.session_lives()'s to say.
-- Returns:    g yes   l it has ended or never was   d the secret is wrong
-- Tables:     session (read)
create or replace function pglockd.session_allow(p_session bigint, p_secret text)
returns text
language sql
as $$
    select coalesce((select case when s.secret_sha256 <> sha256(convert_to(p_secret, 'UTF8')) then 'd'
                                 when s.ended_us is not null then 'l'
                                 else 'g' end
                       from pglockd.session s where s.session_id = p_session), 'l')
$$;
comment on function pglockd.session_allow(bigint, text) is 'May a client bind locks to a session?';
