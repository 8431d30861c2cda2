-- View pglockd.locks: what is locked now, for people. It reads the clock itself: who may look has no
-- right on the table, which lease_now() would need. A database user whose name stands in
-- pglockd.identity sees what that name has the right to read; security_barrier, so that no function in
-- a query of theirs is given the other rows before they are left out. Plain enough for the planner to
-- reach an index by what a query asks of resource, owner or session.
create or replace view pglockd.locks with (security_barrier) as
select l.resource, l.mode::text as mode, l.scope::text as scope, l.owner, l.identity, l.note,
       case when l.identity = session_user::text
                 or (select pglockd.shows_tokens())
                    and ((select pglockd.may('force', '*')) or pglockd.may('force', l.resource))
            then l.token end as token,
       l.granted_at,
       clock_timestamp() - l.granted_at as held,
       case when l.hold_id is null then pglockd.ttl_left_ms(e.end_us, c.now_us) * interval '1 millisecond' end as ttl_left,
       e.end_us + 1000 * coalesce(l.grace_ms, 0) <= c.now_us as expired,
       i.name as instance, l.conn_id, l.session_id as session,
       case when l.hold_id is null then coalesce(s.ttl_ms, l.ttl_ms) * interval '1 millisecond' end as ttl,
       l.slots, l.weight,
       l.grace_ms * interval '1 millisecond' as grace,
       l.bound,
       not l.delivered as undelivered,
       case when l.hold_id is not null
            then (select k.pid from pg_catalog.pg_locks k
                   where k.locktype = 'advisory' and k.classid = 1346849799 and k.objid = l.hold_id
                     and k.objsubid = 2 and k.mode = 'ShareLock' and k.granted
                     and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
                   limit 1) end as held_by_pid
  from pglockd.lease l
 cross join (select pglockd.lease_reading(k.floor_us, k.base_us, k.wall_at) as now_us
               from pglockd.clock k where k.one) c
  left join pglockd.instance i on i.instance_id = l.instance_id
  left join pglockd.session s on s.session_id = l.session_id
 cross join lateral (
    select case when l.session_id is null then l.expires_us
                when s.ended_us is null or s.ended_reason = 'expired' then coalesce(least(l.expires_us, s.expires_us), 0)
                else 0 end as end_us) e
 where (select pglockd.may('read', '*')) or pglockd.may('read', l.resource);
comment on view pglockd.locks is 'What is locked now: one row for every lease. Ask for what lies beneath a resource with pglockd.is_beneath().';
comment on column pglockd.locks.resource is 'What is locked.';
comment on column pglockd.locks.mode is 'exclusive or shared; a slot of a semaphore is shared.';
comment on column pglockd.locks.scope is 'node (the resource alone) or tree (with all beneath it).';
comment on column pglockd.locks.owner is 'Label that the holder sent.';
comment on column pglockd.locks.identity is 'Authenticated name of the holder; empty where nobody was authenticated.';
comment on column pglockd.locks.note is 'Free text of the holder.';
comment on column pglockd.locks.token is 'Fencing token; null for who neither holds the lease nor may force it.';
comment on column pglockd.locks.granted_at is 'Wall clock of the server at the grant.';
comment on column pglockd.locks.held is 'How long it has been held.';
comment on column pglockd.locks.ttl_left is 'What is left of its TTL, or of its session''s, in lease time; 0 in the moment before it may be removed, and in its grace; null where it has none: it ends with the SQL session that called pglockd.hold().';
comment on column pglockd.locks.expired is 'Its TTL is over, and its grace: it may be removed by anyone and blocks no new request.';
comment on column pglockd.locks.instance is 'Daemon through which it was granted; null for SQL and for daemons that are gone.';
comment on column pglockd.locks.conn_id is 'Connection of that daemon.';
comment on column pglockd.locks.session is 'Session that it is bound to; null for a lock of its own.';
comment on column pglockd.locks.ttl is 'The TTL that was asked for last; that of its session where it is bound to one.';
comment on column pglockd.locks.slots is 'How many slots the resource has, where it is a counting semaphore; null where it is not.';
comment on column pglockd.locks.weight is 'How many of the slots it takes; null where it is no semaphore.';
comment on column pglockd.locks.grace is 'How long the resource stays closed when its TTL is over; null: not at all.';
comment on column pglockd.locks.bound is 'It is released at once when its client''s connection to the daemon closes.';
comment on column pglockd.locks.undelivered is 'The transaction of another daemon has granted it, and its own has not accepted it yet; until then its TTL is short.';
comment on column pglockd.locks.held_by_pid is 'Process of the SQL session that holds it by pglockd.hold(), as in pg_stat_activity; null for other locks, and in the moment after that session has ended.';
