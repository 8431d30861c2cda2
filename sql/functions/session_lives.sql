-- pglockd.session_lives(session)
-- Purpose:    keeps a session from ending until the calling transaction does, so that what is granted to
--             it is granted to a living one. Renewals pass.
-- Returns:    false when it has ended or is being ended.
-- Tables:     session (for key share)
create or replace function pglockd.session_lives(p_session bigint)
returns boolean
language plpgsql
as $$
begin
    perform from pglockd.session s
      where s.session_id = p_session and s.ended_us is null
        for key share skip locked;
    return found;
end
$$;
comment on function pglockd.session_lives(bigint) is 'Keeps a living session from ending until the transaction ends.';
