-- View pglockd.locks: what is locked now, for people. It reads the clock itself: who may look has no
-- right on the table, which lease_now() would need. A database user whose name stands in
-- pglockd.identity sees what that name has the right to read; security_barrier, so that no function in
-- a query of theirs is given the other rows before they are left out.
create or replace view pglockd.locks with (security_barrier) as
select l.resource, l.mode::text as mode, l.scope::text as scope, l.owner, l.identity, l.note,
       case when l.identity = session_user::text
                 or (select pglockd.shows_tokens())
                    and ((select pglockd.may('force', '*')) or pglockd.may('force', l.resource))
            then l.token end as token,
       l.granted_at,
       clock_timestamp() - l.granted_at as held,
       case when l.hold_id is null
            then pglockd.ttl_left_ms(coalesce(s.expires_us, l.expires_us), c.now_us) * interval '1 millisecond'
       end as ttl_left,
       coalesce(s.expires_us, l.expires_us) <= c.now_us as expired,
       i.name as instance, l.conn_id, l.session_id as session,
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
 where (select pglockd.may('read', '*')) or pglockd.may('read', l.resource);
comment on view pglockd.locks is 'What is locked now: one row for every lease.';
comment on column pglockd.locks.resource is 'What is locked.';
comment on column pglockd.locks.mode is 'exclusive or shared.';
comment on column pglockd.locks.scope is 'node (the resource alone) or tree (with all beneath it).';
comment on column pglockd.locks.owner is 'Label that the holder sent.';
comment on column pglockd.locks.identity is 'Authenticated name of the holder; empty where nobody was authenticated.';
comment on column pglockd.locks.note is 'Free text of the holder.';
comment on column pglockd.locks.token is 'Fencing token; null for who neither holds the lease nor may force it.';
comment on column pglockd.locks.granted_at is 'Wall clock of the server at the grant.';
comment on column pglockd.locks.held is 'How long it has been held.';
comment on column pglockd.locks.ttl_left is 'What is left of its TTL in lease time; 0 in the moment before it may be removed; null where it has none: it ends with the SQL session that called pglockd.hold().';
comment on column pglockd.locks.expired is 'It may be removed by anyone and blocks no new request.';
comment on column pglockd.locks.instance is 'Daemon through which it was granted; null for SQL and for daemons that are gone.';
comment on column pglockd.locks.conn_id is 'Connection of that daemon.';
comment on column pglockd.locks.session is 'Session that it is bound to; null for a lock of its own.';
comment on column pglockd.locks.held_by_pid is 'Process of the SQL session that holds it by pglockd.hold(), as in pg_stat_activity; null for other locks, and in the moment after that session has ended.';
