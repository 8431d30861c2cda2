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
    -- Sorted when they are there: in that order an index has them only among all leases.
    (with held as materialized (
         select l.resource, l.token, l.mode, l.scope, l.bound from pglockd.lease l where l.session_id = p_session
     )
     select h.resource, h.token, h.mode::text, h.scope::text, null,
            pglockd.ttl_left_ms(s.expires_us, pglockd.lease_now()), h.bound
       from held h
      cross join pglockd.session s
      where s.session_id = p_session
      order by h.resource, h.token
      limit p_locks_max)
     union all
    (select t.resource, t.token, null, null, t.reason::text, null, null
       from pglockd.tombstone t
      where t.session_id = p_session
        -- A grant that its daemon heard of in its grace only has one, and lives.
        and not exists (select from pglockd.lease l where l.resource = t.resource and l.token = t.token)
      order by t.resource, t.token
      limit p_locks_max)
$$;
comment on function pglockd.session_locks(bigint, integer) is 'What a session holds and what it has lost.';
