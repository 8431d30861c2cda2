-- pglockd.party(session, instance, conn)
-- Purpose:    who holds or waits, for the search for deadlocks: a session, or a connection of a daemon. Not an owner's
--             name: two jobs may share one.
-- Returns:    a text that two have in common only if they are the same; null for SQL callers, who do not wait.
create or replace function pglockd.party(p_session bigint, p_instance integer, p_conn bigint)
returns text
language sql immutable parallel safe
as $$
    select coalesce('session ' || p_session::text, 'connection ' || p_instance::text || '/' || p_conn::text)
$$;
comment on function pglockd.party(bigint, integer, bigint) is 'Who holds or waits, for the search for deadlocks.';
