-- View pglockd.history: who held what, from when to when, and how it ended. Which leases are in it says the setting
-- pglockd.history; which of them somebody sees, the right to read, as in pglockd.locks.
create or replace view pglockd.history with (security_barrier) as
select h.resource, h.mode::text as mode, h.scope::text as scope, h.owner, h.identity, h.note, h.token, h.held,
       lower(h.held) as granted_at, h.ended_at,
       upper(h.held) - lower(h.held) as held_for,
       h.reason::text as reason, h.detail,
       h.waited_ms * interval '1 millisecond' as waited,
       h.waited_by, h.gave_up, h.slots, h.weight, h.instance_id, h.conn_id, h.session_id as session
  from pglockd.lease_history h
 where (select pglockd.may('read', '*')) or pglockd.may('read', h.resource);
comment on view pglockd.history is 'Who held what, from when to when, and how it ended: one row for every lease that has ended and was noted.';
comment on column pglockd.history.resource is 'What was locked.';
comment on column pglockd.history.mode is 'exclusive or shared. A lease whose mode was changed has a row for each.';
comment on column pglockd.history.scope is 'node (the resource alone) or tree (with all beneath it).';
comment on column pglockd.history.owner is 'Label that the holder sent.';
comment on column pglockd.history.identity is 'Authenticated name of the holder; empty where nobody was authenticated.';
comment on column pglockd.history.note is 'Free text of the holder.';
comment on column pglockd.history.token is 'Fencing token.';
comment on column pglockd.history.held is 'From when to when, by the wall clock of the server.';
comment on column pglockd.history.granted_at is 'When it was granted.';
comment on column pglockd.history.ended_at is 'When it ended; partitions and indexes go by it.';
comment on column pglockd.history.held_for is 'How long it was held.';
comment on column pglockd.history.reason is 'How it ended: released, expired, forced, connection_closed, session_closed, superseded, failover or unknown.';
comment on column pglockd.history.detail is 'Who ended it and why, where somebody did; what became of it where it went on as another.';
comment on column pglockd.history.waited is 'How long its request stood in the queue; null: it was granted at once.';
comment on column pglockd.history.waited_by is 'Owners of the first 10 requests that waited for it when it ended.';
comment on column pglockd.history.gave_up is 'Owners of the last 10 requests that gave up waiting for it.';
comment on column pglockd.history.slots is 'How many slots the semaphore had; null where it was none.';
comment on column pglockd.history.weight is 'How many of them it took.';
comment on column pglockd.history.instance_id is 'Daemon through which it was granted; null for SQL.';
comment on column pglockd.history.conn_id is 'Connection of that daemon.';
comment on column pglockd.history.session is 'Session that it was bound to; null for a lock of its own.';
