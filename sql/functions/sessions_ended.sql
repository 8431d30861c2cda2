-- pglockd.sessions_ended(session)
-- Purpose:    a daemon asks for which of its waiting requests the session has ended.
-- Returns:    those that have ended or are gone.
-- Tables:     session (read)
create or replace function pglockd.sessions_ended(p_session bigint[])
returns table (session bigint)
language sql
as $$
    select distinct u.session from unnest(p_session) u (session)
     where not exists (select from pglockd.session s where s.session_id = u.session and s.ended_us is null)
$$;
comment on function pglockd.sessions_ended(bigint[]) is 'Which of these sessions have ended.';
