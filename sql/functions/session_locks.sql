-- pglockd.session_locks(session, locks_max)
-- Purpose:    SESSION RESUME: what a session holds, and what it has lost within the last hour.
-- Returns:    a row for every lease (reason null) in the order of the resources, with what is left of its TTL, which is
--             the session's, and whether it is bound to a connection; then one for every lease that it lost. At most
--             locks_max of each.
-- Tables:     lease, session, tombstone, clock (read)
create or replace function pglockd.session_locks(p_session bigint, p_locks_max integer)
returns table (resource text, token bigint, mode text, scope text, reason text, ttl_ms bigint, bound boolean)
language sql
as $$
    (select l.resource, l.token, l.mode::text, l.scope::text, null, s.ttl_ms, l.bound
       from (select pglockd.ttl_left_ms(x.expires_us, pglockd.lease_now()) as ttl_ms
               from pglockd.session x where x.session_id = p_session) s
      cross join pglockd.lease l
      where l.session_id = p_session
      order by l.resource, l.token
      limit p_locks_max)
     union all
    (select t.resource, t.token, null, null, t.reason::text, null, null
       from pglockd.tombstone t
      where t.session_id = p_session
      order by t.resource, t.token
      limit p_locks_max)
$$;
comment on function pglockd.session_locks(bigint, integer) is 'What a session holds and what it has lost.';
