-- The lock service: the lease clock, daemon instances, leases, the queue of waiters, tombstones.
-- Times that decide anything are readings of the lease clock in microseconds (`…_us`); times that
-- people read are timestamps (`…_at`).

create type pglockd.lock_mode as enum ('shared', 'exclusive');
comment on type pglockd.lock_mode is 'How a lease shares its resource: any number of shared ones, or one exclusive one.';

create type pglockd.lock_scope as enum ('node', 'tree');
comment on type pglockd.lock_scope is 'What a lease covers: the resource alone (node), or the resource and all beneath it (tree).';

create type pglockd.end_reason as enum ('released', 'expired', 'forced', 'connection_closed',
    'session_closed', 'superseded', 'failover', 'unknown');
comment on type pglockd.end_reason is 'Why a lease ended; the one list for replies, events and history.';

create sequence pglockd.token_seq as bigint cache 1;
comment on sequence pglockd.token_seq is
    'Fencing tokens, and tickets of the queue. A token is drawn only while the guard of its resource is held, so that the tokens of a resource grow in the order of its grants; a ticket drawn after a token is greater, which lease.queue_floor relies on. Cache 1: a cached block would be handed out late.';

create table pglockd.clock (
    one boolean primary key default true check (one),
    base_us bigint not null,
    floor_us bigint not null,
    wall_at timestamptz not null,
    ticks_total bigint not null default 0,
    quiet_until_us bigint not null default 0,
    trees boolean not null default false
) with (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
comment on table pglockd.clock is
    'The lease clock, one row. It is advanced by the janitor''s own elapsed time and read through pglockd.lease_now(); it stands still while nobody ticks and never runs faster than real time.';
comment on column pglockd.clock.one is 'Always true: there is one row.';
comment on column pglockd.clock.base_us is 'Time credited by ticks, in microseconds since the clock was made.';
comment on column pglockd.clock.floor_us is 'The highest reading at the last tick: the clock never goes back behind it.';
comment on column pglockd.clock.wall_at is 'The server''s wall clock at the last tick; readings add at most 250 ms to base_us from it.';
comment on column pglockd.clock.ticks_total is 'Ticks so far.';
comment on column pglockd.clock.quiet_until_us is 'Until this reading nothing is granted: requests that may wait queue, others get BUSY with code quiet.';
comment on column pglockd.clock.trees is 'Somebody may hold or want a tree (pglockd.note_trees()): false spares all others a look. Here because everybody reads this row.';
insert into pglockd.clock (base_us, floor_us, wall_at) values (0, 0, clock_timestamp());

create table pglockd.instance (
    instance_id integer generated always as identity primary key,
    name text not null,
    version text not null,
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_us bigint not null,
    heartbeat_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
comment on table pglockd.instance is
    'Daemons that serve, one row each. A daemon is alive while it holds the session advisory lock (class 0x50474C03, instance_id).';
comment on column pglockd.instance.instance_id is 'Number of the daemon; never used again.';
comment on column pglockd.instance.name is 'Host name and process id of the daemon.';
comment on column pglockd.instance.version is 'Program version.';
comment on column pglockd.instance.started_at is 'When it registered.';
comment on column pglockd.instance.heartbeat_us is 'Lease clock at its last sign of life.';
comment on column pglockd.instance.heartbeat_at is 'Wall clock of the server at its last sign of life.';

create table pglockd.lease (
    token bigint not null,
    expires_us bigint not null,
    check_us bigint not null,
    ttl_ms bigint not null,
    queue_floor bigint not null,
    granted_at timestamptz not null,
    granted_us bigint,
    conn_id bigint,
    request_id bigint,
    session_id bigint,
    grace_ms bigint,
    instance_id integer,
    slots integer,
    weight integer,
    hold_id integer,
    waited_ms integer,
    mode pglockd.lock_mode not null,
    scope pglockd.lock_scope not null,
    delivered boolean not null,
    bound boolean not null default false,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    note text,
    idempotency_key text,
    gave_up text[],
    charged_to text
) partition by range (scope, mode);
comment on table pglockd.lease is 'The locks: a row is a lease, and a resource is locked exactly while a row says so. Partitions, so that who asks finds the few without passing the many: trees that cover a resource, and exclusive leases beneath a tree.';
comment on column pglockd.lease.token is 'Fencing token: grows with every grant of the resource.';
comment on column pglockd.lease.expires_us is 'Lease clock reading from which on the lease has ended: pglockd.lease_end() of the grant or renewal. Not indexed, so that a renewal is a HOT update.';
comment on column pglockd.lease.check_us is 'When the janitor looks at the row next; at most expires_us until it has looked, moved at most once a TTL.';
comment on column pglockd.lease.ttl_ms is 'The TTL that was asked for last, in milliseconds.';
comment on column pglockd.lease.queue_floor is 'Who waits for the resource has a greater ticket, or is marked: where a release begins to look for the next, past the dead index entries of those served before. The ticket of a lease that waited, else its token; waiters that may break this rule are marked with early_resource.';
comment on column pglockd.lease.granted_at is 'Wall clock of the server at the grant.';
comment on column pglockd.lease.granted_us is 'Lease clock at the grant; null where it is not known.';
comment on column pglockd.lease.conn_id is 'Connection of the daemon that asked; null for SQL.';
comment on column pglockd.lease.request_id is 'Request of the daemon that asked: how it finds its own grant again; null for SQL.';
comment on column pglockd.lease.session_id is 'Session that it is bound to: it ends with the session, and its own TTL is one that never runs out. Null for a lease of its own.';
comment on column pglockd.lease.grace_ms is 'How long the resource stays closed after the lease has expired, in milliseconds; null: not at all. A release opens it at once.';
comment on column pglockd.lease.instance_id is 'Daemon that asked; null for SQL.';
comment on column pglockd.lease.slots is 'How many slots the resource has, where it is a counting semaphore; null where it is not.';
comment on column pglockd.lease.weight is 'How many of the slots the lease takes; null where it is no semaphore.';
comment on column pglockd.lease.hold_id is 'Where pglockd.hold() made it: number of the session advisory lock (class 0x50474C07) of the SQL session that holds; null for leases with a TTL.';
comment on column pglockd.lease.waited_ms is 'How long its request stood in the queue, in milliseconds; null: it was granted at once.';
comment on column pglockd.lease.mode is 'Shared or exclusive; a slot of a semaphore is shared.';
comment on column pglockd.lease.scope is 'The resource alone (node), or with all beneath it (tree).';
comment on column pglockd.lease.delivered is 'False while a grant that another daemon''s transaction made waits for its own daemon to accept it; it then has a short TTL.';
comment on column pglockd.lease.bound is 'It is released at once when its client''s connection to the daemon closes.';
comment on column pglockd.lease.resource is 'What is locked.';
comment on column pglockd.lease.owner is 'Label that the client sent; decides nothing.';
comment on column pglockd.lease.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.lease.note is 'Free text of the holder.';
comment on column pglockd.lease.idempotency_key is 'The id=KEY of the LOCK, by which a repeated LOCK finds its grant.';
comment on column pglockd.lease.gave_up is 'Owners of the last 10 requests that gave up waiting for it; null: nobody has.';
comment on column pglockd.lease.charged_to is 'Under which name it counts for max_leases_per_owner: that of who locked it, also when it was given to somebody else. Null where its daemon had no such limit.';

create table pglockd.lease_exclusive partition of pglockd.lease (
    constraint lease_exclusive_pkey primary key (resource, token)
) for values from ('node', 'exclusive') to ('tree', minvalue)
  with (fillfactor = 85, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5);
comment on table pglockd.lease_exclusive is 'The exclusive leases of single resources.';
create table pglockd.lease_shared partition of pglockd.lease (
    constraint lease_shared_pkey primary key (resource, token)
) for values from ('node', 'shared') to ('node', 'exclusive')
  with (fillfactor = 85, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5);
comment on table pglockd.lease_shared is 'The shared leases of single resources, and the slots of semaphores.';
create table pglockd.lease_tree partition of pglockd.lease (
    constraint lease_tree_pkey primary key (resource, token)
) for values from ('tree', minvalue) to ('tree', maxvalue)
  with (fillfactor = 85, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5);
comment on table pglockd.lease_tree is 'The leases of trees, shared and exclusive.';
create index lease_check on pglockd.lease (check_us);
comment on index pglockd.lease_check is 'The janitor''s way to what may have expired.';
create index lease_idempotency on pglockd.lease (idempotency_key, owner, identity) where idempotency_key is not null;
comment on index pglockd.lease_idempotency is 'LOCK, UNLOCK and RENEW by id=KEY.';
create index lease_undelivered on pglockd.lease (instance_id) where not delivered;
comment on index pglockd.lease_undelivered is 'A daemon''s way to grants that other daemons made for it.';
create index lease_session on pglockd.lease (session_id) where session_id is not null;
comment on index pglockd.lease_session is 'Leases of a session.';
create index lease_owner on pglockd.lease (owner, resource) where owner <> '';
comment on index pglockd.lease_owner is 'What an owner holds.';
create index lease_hold on pglockd.lease (hold_id) where hold_id is not null;
comment on index pglockd.lease_hold is 'Leases that live as long as an SQL session.';
create index lease_charged on pglockd.lease (charged_to) where charged_to is not null;
comment on index pglockd.lease_charged is 'How much an owner holds, where that is limited; else empty.';

create unlogged table pglockd.waiter (
    ticket bigint not null,
    request_id bigint not null,
    conn_id bigint not null,
    ttl_ms bigint not null,
    enqueued_at timestamptz not null,
    absent_until_us bigint,
    session_id bigint,
    grace_ms bigint,
    upgrade_token bigint,
    early_resource text collate "C",
    instance_id integer not null,
    slots integer,
    weight integer,
    members smallint not null default 1,
    mode pglockd.lock_mode not null,
    scope pglockd.lock_scope not null,
    bound boolean not null default false,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    note text,
    idempotency_key text,
    charged_to text,
    constraint waiter_pkey primary key (resource, ticket)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.waiter is
    'The queue: requests that wait, over all daemons, served by ticket; a request for several resources has a row for each. Unlogged: after a crash of the server the daemons put their waiters back with their old tickets.';
comment on column pglockd.waiter.ticket is 'Place in the queue. Negative for a change of mode, which goes first.';
comment on column pglockd.waiter.request_id is 'Request of the daemon that waits.';
comment on column pglockd.waiter.conn_id is 'Connection of the daemon that waits.';
comment on column pglockd.waiter.ttl_ms is 'TTL of the lease to be granted, in milliseconds.';
comment on column pglockd.waiter.enqueued_at is 'Wall clock of the server when it came.';
comment on column pglockd.waiter.absent_until_us is 'Lease clock reading until which a client that went away keeps its place (it is passed over meanwhile); null while it is there.';
comment on column pglockd.waiter.session_id is 'Session that the lease is to be bound to; null for none.';
comment on column pglockd.waiter.grace_ms is 'The lease''s grace_ms.';
comment on column pglockd.waiter.upgrade_token is 'The shared lease that is to become an exclusive one; null for a request of a new lease.';
comment on column pglockd.waiter.early_resource is 'The resource, where the ticket may lie below a queue_floor: it was drawn without the guard, or its waiter came back to the place. Releases look for these besides those above the floor.';
comment on column pglockd.waiter.instance_id is 'Daemon whose client waits.';
comment on column pglockd.waiter.slots is 'How many slots the semaphore has; null where it is none.';
comment on column pglockd.waiter.weight is 'How many of them it wants; null where it is no semaphore.';
comment on column pglockd.waiter.members is 'How many rows the request has, one for each of its resources.';
comment on column pglockd.waiter.mode is 'Shared or exclusive; a slot of a semaphore is shared.';
comment on column pglockd.waiter.scope is 'The resource alone (node), or with all beneath it (tree).';
comment on column pglockd.waiter.bound is 'The lease''s bound.';
comment on column pglockd.waiter.resource is 'What it waits for.';
comment on column pglockd.waiter.owner is 'Label that the client sent.';
comment on column pglockd.waiter.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.waiter.note is 'Free text.';
comment on column pglockd.waiter.idempotency_key is 'The id=KEY of the LOCK, by which a client finds its place again.';
comment on column pglockd.waiter.charged_to is 'The lease''s charged_to: who waits counts as if it held already.';
create index waiter_idempotency on pglockd.waiter (idempotency_key, owner, identity) where idempotency_key is not null;
comment on index pglockd.waiter_idempotency is 'LOCK by id=KEY.';
create index waiter_early on pglockd.waiter (early_resource) where early_resource is not null;
comment on index pglockd.waiter_early is 'Waiters whose ticket may lie below a queue_floor; mostly none.';
create index waiter_absent on pglockd.waiter (absent_until_us) where absent_until_us is not null;
comment on index pglockd.waiter_absent is 'Places whose clients did not come back in time; mostly none.';
create index waiter_instance on pglockd.waiter (instance_id, conn_id);
comment on index pglockd.waiter_instance is 'Waiters of one daemon, and of one of its connections.';
create index waiter_session on pglockd.waiter (session_id) where session_id is not null;
comment on index pglockd.waiter_session is 'Waiters of a session.';
create index waiter_tree on pglockd.waiter (resource) where scope = 'tree';
comment on index pglockd.waiter_tree is 'Waiters for trees: whether there are any, and which cover a resource.';
create index waiter_shared on pglockd.waiter (resource, ticket) where mode = 'shared' and slots is null;
comment on index pglockd.waiter_shared is 'Waiters who may be served though others for slots of the resource cannot.';
create index waiter_set on pglockd.waiter (ticket) where members > 1;
comment on index pglockd.waiter_set is 'The rows of a request for several resources.';
create index waiter_charged on pglockd.waiter (charged_to) where charged_to is not null;
comment on index pglockd.waiter_charged is 'How much an owner waits for, where that is limited; else empty.';

create unlogged table pglockd.queue_epoch (
    one boolean primary key default true check (one),
    since_at timestamptz not null default clock_timestamp()
);
comment on table pglockd.queue_epoch is 'One row as long as the unlogged queue is whole. A crash of the server empties both; whoever finds the row missing opens a short quiet period, in which the daemons put their waiters back.';
comment on column pglockd.queue_epoch.one is 'Always true: there is one row at most.';
comment on column pglockd.queue_epoch.since_at is 'When the queue was found empty.';
insert into pglockd.queue_epoch default values;

create table pglockd.tombstone (
    token bigint not null,
    ended_us bigint not null,
    ended_at timestamptz not null,
    reason pglockd.end_reason not null,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    detail text,
    session_id bigint,
    constraint tombstone_pkey primary key (resource, token)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.tombstone is 'Leases that ended against their holder''s will, kept for a while so that LOST can say why.';
comment on column pglockd.tombstone.token is 'Fencing token of the lease.';
comment on column pglockd.tombstone.ended_us is 'Lease clock when it ended; old rows are removed by it.';
comment on column pglockd.tombstone.ended_at is 'Wall clock of the server when it ended.';
comment on column pglockd.tombstone.reason is 'Why it ended.';
comment on column pglockd.tombstone.resource is 'What was locked.';
comment on column pglockd.tombstone.owner is 'Label of the holder.';
comment on column pglockd.tombstone.identity is 'Authenticated name of the holder.';
comment on column pglockd.tombstone.detail is 'Who forced it and why, where somebody did.';
create index tombstone_ended on pglockd.tombstone (ended_us);
comment on index pglockd.tombstone_ended is 'The janitor''s way to old rows.';
comment on column pglockd.tombstone.session_id is 'Session that it was bound to; null for none.';
create index tombstone_session on pglockd.tombstone (session_id) where session_id is not null;
comment on index pglockd.tombstone_session is 'What a session has lost.';

create unlogged table pglockd.refusal (
    request_id bigint not null,
    found_at timestamptz not null default clock_timestamp(),
    instance_id integer not null,
    told boolean not null default false,
    cycle jsonb,
    constraint refusal_pkey primary key (instance_id, request_id)
) with (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.refusal is
    'Requests that waited and cannot be served any more, for an hour: they would have waited for ever, or were to change the mode of a lease that has ended. Unlogged: their daemons answer them at once.';
comment on column pglockd.refusal.request_id is 'Request of the daemon.';
comment on column pglockd.refusal.found_at is 'Wall clock of the server when it was found.';
comment on column pglockd.refusal.instance_id is 'Daemon whose client waited.';
comment on column pglockd.refusal.told is 'Its daemon knows.';
comment on column pglockd.refusal.cycle is 'Where it would have waited for ever, who waited for whom: an array of objects with owner, resource (what it waits for) and session or connection; each waits for the next, the last for the first.';
