-- View pglockd.queue: who waits, in which order, behind whom; as pglockd.locks, for who may read it.
create or replace view pglockd.queue with (security_barrier) as
select q.resource, row_number() over (partition by q.resource order by q.ticket) as position,
       q.ticket, q.mode::text as mode, q.scope::text as scope, q.owner, q.identity, q.note, q.enqueued_at,
       clock_timestamp() - q.enqueued_at as waiting,
       q.absent_until_us is not null as absent,
       (select array_agg(l.owner order by l.token) from pglockd.lease l
         where l.resource = q.resource and (l.mode = 'exclusive' or q.mode = 'exclusive')) as blocked_by_holders,
       (select count(*) from pglockd.waiter w
         where w.resource = q.resource and w.ticket < q.ticket and w.absent_until_us is null
           and (w.mode = 'exclusive' or q.mode = 'exclusive')) as blocked_by_waiters,
       i.name as instance, q.conn_id
  from pglockd.waiter q
  left join pglockd.instance i on i.instance_id = q.instance_id
 where (select pglockd.may('read', '*')) or pglockd.may('read', q.resource);
comment on view pglockd.queue is 'Who waits, in the order of service, and for whom.';
comment on column pglockd.queue.resource is 'What it waits for.';
comment on column pglockd.queue.position is 'Place in the queue of the resource, from 1.';
comment on column pglockd.queue.ticket is 'Number of the place: smaller ones are served first.';
comment on column pglockd.queue.mode is 'exclusive or shared.';
comment on column pglockd.queue.scope is 'node or tree.';
comment on column pglockd.queue.owner is 'Label that the client sent.';
comment on column pglockd.queue.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.queue.note is 'Free text.';
comment on column pglockd.queue.enqueued_at is 'Wall clock of the server when it came.';
comment on column pglockd.queue.waiting is 'How long it has waited.';
comment on column pglockd.queue.absent is 'Its client went away and may come back with its id; it is passed over meanwhile.';
comment on column pglockd.queue.blocked_by_holders is 'Owners of the leases that it waits for.';
comment on column pglockd.queue.blocked_by_waiters is 'How many conflicting waiters are served before it.';
comment on column pglockd.queue.instance is 'Daemon whose client waits.';
comment on column pglockd.queue.conn_id is 'Connection of that daemon.';
