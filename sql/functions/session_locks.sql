-- pglockd.session_locks(session, locks_max)
-- Purpose:    SESSION RESUME: what a session holds, and what it has lost within the last hour.
-- Returns:    a row for every lease (reason null) in the order of the resources, then for every lease
--             that it lost; at most locks_max of each.
-- Tables:     lease, tombstone (read)
create or replace function pglockd.session_locks(p_session bigint, p_locks_max integer)
returns table (resource text, token bigint, mode text, scope text, reason text)
language sql
as $$
    (select l.resource, l.token, l.mode::text, l.scope::text, null
       from pglockd.lease l
      where l.session_id = p_session
      order by l.resource, l.token
      limit p_locks_max)
     union all
    (select t.resource, t.token, null, null, t.reason::text
       from pglockd.tombstone t
      where t.session_id = p_session
      order by t.resource, t.token
      limit p_locks_max)
$$;
comment on function pglockd.session_locks(bigint, integer) is 'What a session holds and what it has lost.';
