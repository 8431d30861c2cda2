-- View pglockd.queue: who waits, in which order, behind whom; as pglockd.locks, for who may read it. The costly columns
-- are outside of the joins, so that they are made only for the rows that a query asks for. Places are numbered from
-- the primary key alone: a query by owner or session numbers all lines, and passes no other rows. Not counted row by
-- row, which would be quicker for a few of many lines, and take minutes for one long line.
create or replace view pglockd.queue with (security_barrier) as
select q.resource, n.position, q.ticket, q.mode::text as mode, q.scope::text as scope, q.owner, q.identity, q.note,
       q.enqueued_at,
       clock_timestamp() - q.enqueued_at as waiting,
       q.absent_until_us is not null as absent,
       (select array_agg(f.blocking_owner order by f.blocking_since)
          from (select b.blocking_owner, b.blocking_since from pglockd.blockers b
                 where b.resource = q.resource and b.ticket = q.ticket and b.blocked_by = 'holder'
                 limit 10) f) as blocked_by_holders,
       (select array_agg(f.blocking_owner order by f.blocking_since)
          from (select b.blocking_owner, b.blocking_since from pglockd.blockers b
                 where b.resource = q.resource and b.ticket = q.ticket and b.blocked_by = 'waiter'
                 limit 10) f) as blocked_by_waiters,
       i.name as instance, q.conn_id, q.session_id as session, q.members,
       q.upgrade_token is not null as changes_mode,
       q.slots, q.weight
  from pglockd.waiter q
  join (select w.resource, w.ticket, row_number() over (partition by w.resource order by w.ticket) as position
          from pglockd.waiter w) n on n.resource = q.resource and n.ticket = q.ticket
  left join pglockd.instance i on i.instance_id = q.instance_id
 where (select pglockd.may('read', '*')) or pglockd.may('read', q.resource);
comment on view pglockd.queue is 'Who waits, in the order of service, and for whom: a row for every resource of every waiting request. pglockd.blockers has all that is known of whom.';
comment on column pglockd.queue.resource is 'What it waits for.';
comment on column pglockd.queue.position is 'Place in the queue of the resource, from 1.';
comment on column pglockd.queue.ticket is 'Number of the place: smaller ones are served first. Negative for a change of mode, which goes before the others. The rows of a request for several resources have one.';
comment on column pglockd.queue.mode is 'exclusive or shared; a slot of a semaphore is shared.';
comment on column pglockd.queue.scope is 'node (the resource alone) or tree (with all beneath it).';
comment on column pglockd.queue.owner is 'Label that the client sent.';
comment on column pglockd.queue.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.queue.note is 'Free text.';
comment on column pglockd.queue.enqueued_at is 'Wall clock of the server when it came.';
comment on column pglockd.queue.waiting is 'How long it has waited.';
comment on column pglockd.queue.absent is 'Its client went away and may come back with its id; it is passed over meanwhile.';
comment on column pglockd.queue.blocked_by_holders is 'Owners of leases that are in its way, 10 at most; null: none are.';
comment on column pglockd.queue.blocked_by_waiters is 'Owners of requests that are served before it and in its way, 10 at most: not those in whose way these are. Null: there are none.';
comment on column pglockd.queue.instance is 'Daemon whose client waits.';
comment on column pglockd.queue.conn_id is 'Connection of that daemon.';
comment on column pglockd.queue.session is 'Session that the lock is to be bound to; null for none.';
comment on column pglockd.queue.members is 'How many resources the request asks for at once: that many rows with this ticket.';
comment on column pglockd.queue.changes_mode is 'It holds a shared lease of the resource and wants an exclusive one instead.';
comment on column pglockd.queue.slots is 'How many slots the semaphore has; null where it is none.';
comment on column pglockd.queue.weight is 'How many of them it wants; null where it is no semaphore.';
