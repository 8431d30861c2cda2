-- View pglockd.blockers: who is in whose way, by the rule of pglockd.lease_conflicts() and
-- pglockd.waiter_conflicts(). Written out here and not by those functions: who may look has no right on
-- the tables, which a function of the reader's would need. As pglockd.locks, for who may read what is waited for; of
-- what is in the way it shows no more than where, unless they may read that, too.
create or replace view pglockd.blockers with (security_barrier) as
select q.resource, q.ticket, q.mode::text as mode, q.scope::text as scope, q.owner,
       pglockd.party(q.session_id, q.instance_id, q.conn_id) as party,
       q.enqueued_at as waiting_since,
       b.kind as blocked_by, b.resource as blocking_resource, b.mode::text as blocking_mode,
       b.scope::text as blocking_scope, case when r.readable then b.owner end as blocking_owner,
       case when r.readable then b.note end as blocking_note,
       pglockd.party(b.session_id, b.instance_id, b.conn_id) as blocking_party,
       b.since as blocking_since
  from pglockd.waiter q
 cross join lateral (
    -- Leases of the resource itself.
    select 'holder' as kind, h.* from (
        select l.resource, l.mode, l.scope, l.owner, l.note, l.session_id, l.instance_id, l.conn_id, l.granted_at as since
          from pglockd.lease_exclusive l
         where l.resource = q.resource) h
    union all
    -- Shared ones, where an exclusive one is wanted; slots that are taken, where too few are free or they are
    -- of another limit.
    select 'holder', h.* from (
        select l.resource, l.mode, l.scope, l.owner, l.note, l.session_id, l.instance_id, l.conn_id, l.granted_at
          from pglockd.lease_shared l
         where l.resource = q.resource and l.token is distinct from q.upgrade_token
           and (q.mode = 'exclusive' or l.slots <> q.slots
                or q.slots < q.weight + (select sum(x.weight) from pglockd.lease_shared x
                                          where x.resource = q.resource and x.slots is not null))
         limit 100) h
    union all
    -- Trees of the resource and of those above it.
    select 'holder', h.* from (
        select l.resource, l.mode, l.scope, l.owner, l.note, l.session_id, l.instance_id, l.conn_id, l.granted_at
          from pglockd.lease_tree l
         where l.resource = any (q.resource || pglockd.above(q.resource))
           and (q.mode = 'exclusive' or l.mode = 'exclusive') and l.token is distinct from q.upgrade_token
         limit 100) h
    union all
    -- What lies beneath, where a tree is waited for.
    select 'holder', h.* from (
        select l.resource, l.mode, l.scope, l.owner, l.note, l.session_id, l.instance_id, l.conn_id, l.granted_at
          from pglockd.lease l
         where q.scope = 'tree' and l.resource <> q.resource and (q.mode = 'exclusive' or l.mode = 'exclusive')
           and l.resource > pglockd.beneath_low(q.resource) and l.resource < pglockd.beneath_high(q.resource)
         limit 100) h
    union all
    -- Waiters for the resource: the last exclusive one before it, and who came after that one.
    select 'waiter', w.* from (
        select w.resource, w.mode, w.scope, w.owner, w.note, w.session_id, w.instance_id, w.conn_id, w.enqueued_at
          from pglockd.waiter w
         where w.resource = q.resource and w.ticket < q.ticket and w.absent_until_us is null
           and (q.mode = 'exclusive' or w.mode = 'exclusive' or q.slots is not null and w.slots is not null)
           and w.ticket >= coalesce((select e.ticket from pglockd.waiter e
                                      where e.resource = q.resource and e.ticket < q.ticket and e.mode = 'exclusive'
                                        and e.absent_until_us is null
                                      order by e.ticket desc limit 1), w.ticket)
         limit 100) w
    union all
    -- Waiters for trees that cover it.
    select 'waiter', w.* from (
        select w.resource, w.mode, w.scope, w.owner, w.note, w.session_id, w.instance_id, w.conn_id, w.enqueued_at
          from pglockd.waiter w
         where w.scope = 'tree' and w.resource = any (pglockd.above(q.resource)) and w.ticket < q.ticket
           and w.absent_until_us is null and (q.mode = 'exclusive' or w.mode = 'exclusive')
         limit 100) w
    union all
    -- Waiters for what lies beneath.
    select 'waiter', w.* from (
        select w.resource, w.mode, w.scope, w.owner, w.note, w.session_id, w.instance_id, w.conn_id, w.enqueued_at
          from pglockd.waiter w
         where q.scope = 'tree' and w.ticket < q.ticket and w.resource <> q.resource
           and w.resource > pglockd.beneath_low(q.resource) and w.resource < pglockd.beneath_high(q.resource)
           and w.absent_until_us is null and (q.mode = 'exclusive' or w.mode = 'exclusive')
         limit 100) w) b
 cross join lateral (select (select pglockd.may('read', '*')) or pglockd.may('read', b.resource) as readable) r
 where (select pglockd.may('read', '*')) or pglockd.may('read', q.resource);
comment on view pglockd.blockers is 'Who blocks whom: for each waiting request, the leases and the requests before it that are in its way, a row each; of leases of one kind, and of requests, 100 at most. Who waits behind an exclusive request waits, through it, for all that that one waits for. Follow party and blocking_party for chains.';
comment on column pglockd.blockers.resource is 'What it waits for.';
comment on column pglockd.blockers.ticket is 'Number of its place in the queue, as in pglockd.queue.';
comment on column pglockd.blockers.mode is 'exclusive or shared.';
comment on column pglockd.blockers.scope is 'node or tree.';
comment on column pglockd.blockers.owner is 'Label of who waits.';
comment on column pglockd.blockers.party is 'Who waits: session N, or connection N of daemon D (connection D/N). Two jobs may share an owner''s label, but never this.';
comment on column pglockd.blockers.waiting_since is 'Wall clock of the server when it came.';
comment on column pglockd.blockers.blocked_by is 'holder: somebody has a lease that is in the way. waiter: somebody came before, and would be in the way.';
comment on column pglockd.blockers.blocking_resource is 'What that one holds or waits for: the resource, one above it, or one beneath it.';
comment on column pglockd.blockers.blocking_mode is 'exclusive or shared.';
comment on column pglockd.blockers.blocking_scope is 'node or tree.';
comment on column pglockd.blockers.blocking_owner is 'Label of who is in the way; null for who may not read that resource, like the note.';
comment on column pglockd.blockers.blocking_note is 'Free text of who is in the way.';
comment on column pglockd.blockers.blocking_party is 'Who is in the way, as party; null for SQL callers.';
comment on column pglockd.blockers.blocking_since is 'Wall clock of the server when that one was granted, or came to wait.';
