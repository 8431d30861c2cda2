-- View pglockd.lost_locks: the tombstones, for people; as pglockd.locks, for who may read them.
create or replace view pglockd.lost_locks with (security_barrier) as
select t.resource, t.token, t.owner, t.identity, t.reason::text as reason, t.detail, t.ended_at,
       clock_timestamp() - t.ended_at as ago,
       t.session_id as session
  from pglockd.tombstone t
 where (select pglockd.may('read', '*')) or pglockd.may('read', t.resource);
comment on view pglockd.lost_locks is 'Leases that ended against their holders'' will, for an hour: one row each.';
comment on column pglockd.lost_locks.resource is 'What was locked.';
comment on column pglockd.lost_locks.token is 'Fencing token, which holds no longer.';
comment on column pglockd.lost_locks.owner is 'Label that the holder sent.';
comment on column pglockd.lost_locks.identity is 'Authenticated name of the holder; empty where nobody was authenticated.';
comment on column pglockd.lost_locks.reason is 'Why it ended.';
comment on column pglockd.lost_locks.detail is 'Who forced it, and the reason that was given; null where nobody did.';
comment on column pglockd.lost_locks.ended_at is 'Wall clock of the server when it ended.';
comment on column pglockd.lost_locks.ago is 'How long ago that was.';
comment on column pglockd.lost_locks.session is 'Session that it was bound to; null for a lock of its own.';
