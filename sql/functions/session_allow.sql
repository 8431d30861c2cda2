-- pglockd.session_allow(session, secret, identity)
-- Purpose:    LOCK session=: may the client bind locks to this session? Reads only; that the session lives
--             when the lock is granted is pglockd.session_lives()'s to say.
-- Parameters: identity   authenticated name of the client; an empty one is not compared
-- Returns:    g yes   l it has ended or never was   d the secret is wrong, or it is another identity's
-- Tables:     session (read)
create or replace function pglockd.session_allow(p_session bigint, p_secret text, p_identity text default '')
returns text
language sql
as $$
    select coalesce((select case when s.secret_sha256 <> sha256(convert_to(p_secret, 'UTF8'))
                                   or not (s.identity = '' or p_identity in ('', s.identity)) then 'd'
                                 when s.ended_us is not null then 'l'
                                 else 'g' end
                       from pglockd.session s where s.session_id = p_session), 'l')
$$;
comment on function pglockd.session_allow(bigint, text, text) is 'May a client bind locks to a session?';
