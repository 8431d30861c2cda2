-- View pglockd.sessions: the sessions that live, for people. A database user whose name stands in
-- pglockd.identity sees its own, and all where it may read everything.
create or replace view pglockd.sessions with (security_barrier) as
select s.session_id as session, s.owner, s.identity, s.note, s.opened_at, s.renewed_at,
       s.ttl_ms * interval '1 millisecond' as ttl,
       pglockd.ttl_left_ms(s.expires_us, c.now_us) * interval '1 millisecond' as ttl_left,
       (select count(*) from pglockd.lease l where l.session_id = s.session_id) as locks,
       (select count(*) from pglockd.waiter w where w.session_id = s.session_id) as waiting
  from pglockd.session s
 cross join (select pglockd.lease_reading(k.floor_us, k.base_us, k.wall_at) as now_us
               from pglockd.clock k where k.one) c
 where s.ended_us is null
   and ((select pglockd.may('read', '*')) or s.identity = session_user::text);
comment on view pglockd.sessions is 'Sessions that live: one row each.';
comment on column pglockd.sessions.session is 'Number of the session, as the protocol names it.';
comment on column pglockd.sessions.owner is 'Label that the client sent.';
comment on column pglockd.sessions.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.sessions.note is 'Free text of the client.';
comment on column pglockd.sessions.opened_at is 'Wall clock of the server when it was opened.';
comment on column pglockd.sessions.renewed_at is 'Wall clock of the server at the last sign of life.';
comment on column pglockd.sessions.ttl is 'TTL that all its locks share.';
comment on column pglockd.sessions.ttl_left is 'What is left of it in lease time; 0 in the moment before the session is ended.';
comment on column pglockd.sessions.locks is 'Locks that are bound to it.';
comment on column pglockd.sessions.waiting is 'Requests that wait to be bound to it.';
