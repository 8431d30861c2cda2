-- Notes of what happened to leases: history for people, a proof that nobody overlapped, and events for
-- those who watch. What is noted is decided by pglockd.note_ends() and pglockd.note_grants().

create table pglockd.lease_history (
    ended_at timestamptz not null,
    held tstzrange not null,
    token bigint not null,
    session_id bigint,
    conn_id bigint,
    instance_id integer,
    waited_ms integer,
    slots integer,
    weight integer,
    mode pglockd.lock_mode not null,
    scope pglockd.lock_scope not null,
    reason pglockd.end_reason not null,
    resource text collate "C" not null,
    owner text collate "C" not null,
    identity text not null,
    note text,
    detail text,
    waited_by text[] not null,
    gave_up text[] not null
) partition by range (ended_at);
comment on table pglockd.lease_history is
    'Leases that have ended, a row each, written in the transaction that ended them; which ones says the setting pglockd.history. A partition a day (UTC), made ahead and dropped by the daemon that is the janitor.';
comment on column pglockd.lease_history.ended_at is 'Wall clock of the server when it ended.';
comment on column pglockd.lease_history.held is 'From when to when it was held, by the wall clock of the server.';
comment on column pglockd.lease_history.token is 'Fencing token.';
comment on column pglockd.lease_history.session_id is 'Session that it was bound to; null for a lease of its own.';
comment on column pglockd.lease_history.conn_id is 'Connection of the daemon that asked; null for SQL.';
comment on column pglockd.lease_history.instance_id is 'Daemon that asked; null for SQL.';
comment on column pglockd.lease_history.waited_ms is 'How long its request stood in the queue, in milliseconds; null: it was granted at once.';
comment on column pglockd.lease_history.slots is 'How many slots the semaphore had; null where it was none.';
comment on column pglockd.lease_history.weight is 'How many of them it took; null where it was no semaphore.';
comment on column pglockd.lease_history.mode is 'Shared or exclusive. A lease whose mode was changed has a row for each.';
comment on column pglockd.lease_history.scope is 'The resource alone (node), or with all beneath it (tree).';
comment on column pglockd.lease_history.reason is 'How it ended.';
comment on column pglockd.lease_history.resource is 'What was locked.';
comment on column pglockd.lease_history.owner is 'Label of the holder.';
comment on column pglockd.lease_history.identity is 'Authenticated name of the holder; empty where nobody was authenticated.';
comment on column pglockd.lease_history.note is 'Free text of the holder.';
comment on column pglockd.lease_history.detail is 'Who ended it and why, where somebody did; what became of it where it went on as another.';
comment on column pglockd.lease_history.waited_by is 'Owners of the first 10 requests that waited for it when it ended.';
comment on column pglockd.lease_history.gave_up is 'Owners of the last 10 requests that gave up waiting for it.';
create index lease_history_resource on pglockd.lease_history (resource, ended_at);
comment on index pglockd.lease_history_resource is 'Who held a resource, or what lies beneath it.';
create index lease_history_owner on pglockd.lease_history (owner, ended_at);
comment on index pglockd.lease_history_owner is 'What an owner held.';
create index lease_history_ended on pglockd.lease_history using brin (ended_at) with (autosummarize = on);
comment on index pglockd.lease_history_ended is 'The last hour. Rows lie in the order of their end.';

create table pglockd.lease_history_rest partition of pglockd.lease_history default;
comment on table pglockd.lease_history_rest is
    'Leases that ended on a day whose partition was not made ahead, because no daemon was the janitor for days. They stay here until they are too old.';
-- The first ones, as pglockd.day_partitions() makes the others.
do $days$
declare
    v_today constant date := (clock_timestamp() at time zone 'UTC')::date;
begin
    for n in 0 .. 2 loop
        execute format('create table pglockd.%I partition of pglockd.lease_history for values from (%L) to (%L)',
                       to_char(v_today + n, '"lease_history_"YYYYMMDD'), (v_today + n)::timestamp at time zone 'UTC',
                       (v_today + n + 1)::timestamp at time zone 'UTC');
        execute format('comment on table pglockd.%I is %L', to_char(v_today + n, '"lease_history_"YYYYMMDD'),
                       'Rows of ' || v_today + n || ' (UTC) of lease_history.');
    end loop;
end
$days$;

create table pglockd.lease_proof (
    ended_us bigint not null,
    token bigint not null,
    held_us int8range not null,
    ended_seq bigint not null,
    instance_id integer,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    constraint lease_proof_pkey primary key (ended_us, token)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.lease_proof is
    'Exclusive leases that have ended at level all of the setting pglockd.history, in lease time, for a day. A constraint keeps two of one resource from overlapping: what it refuses is looked at by pglockd.prove_holds().';
comment on column pglockd.lease_proof.ended_us is 'Lease clock when it ended; old rows are removed by it.';
comment on column pglockd.lease_proof.token is 'Fencing token.';
comment on column pglockd.lease_proof.held_us is 'From when to when it was held, in readings of the lease clock.';
comment on column pglockd.lease_proof.ended_seq is 'The last token of all when it ended: one that was granted after it has a greater one. Two sessions'' readings of the lease clock may differ by 250 ms; their tokens tell then who came first.';
comment on column pglockd.lease_proof.instance_id is 'Daemon that asked; null for SQL.';
comment on column pglockd.lease_proof.resource is 'What was locked.';
comment on column pglockd.lease_proof.owner is 'Label of the holder.';
comment on column pglockd.lease_proof.identity is 'Authenticated name of the holder.';

-- Needs an extension that is trusted since PostgreSQL 13: who may create objects in the database may
-- install it. Without it pglockd.add_proof() comes back to this, and nothing but the proof is missing.
do $proof$
begin
    create extension if not exists btree_gist schema public;
    alter table pglockd.lease_proof add constraint lease_proof_no_overlap
        exclude using gist (hashtextextended(resource, 0) with =, held_us with &&);
exception
    when insufficient_privilege or undefined_file or invalid_schema_name or feature_not_supported or undefined_object then
        raise warning 'extension btree_gist could not be installed: history at level all will have no proof that leases do not overlap'
            using detail = sqlerrm;
end
$proof$;

create table pglockd.violation (
    violation_id bigint generated always as identity,
    found_at timestamptz not null default clock_timestamp(),
    resource text collate "C" not null,
    token bigint not null,
    held_us int8range not null,
    instance_id integer,
    owner text not null,
    identity text not null,
    other_token bigint not null,
    other_held_us int8range not null,
    other_instance_id integer,
    other_owner text not null,
    other_identity text not null,
    constraint violation_pkey primary key (violation_id)
);
comment on table pglockd.violation is
    'Exclusive leases of one resource that overlapped in lease time, which must not happen: a fault of pglockd or of who wrote to its tables. At most 10000; rows stay until an administrator deletes them, and the metric pglockd_violations counts them.';
comment on column pglockd.violation.violation_id is 'Number of the finding.';
comment on column pglockd.violation.found_at is 'Wall clock of the server when the later of the two ended.';
comment on column pglockd.violation.resource is 'What was locked.';
comment on column pglockd.violation.token is 'Fencing token of the lease that ended later.';
comment on column pglockd.violation.held_us is 'From when to when it was held, in readings of the lease clock.';
comment on column pglockd.violation.instance_id is 'Daemon that asked for it; null for SQL.';
comment on column pglockd.violation.owner is 'Label of its holder.';
comment on column pglockd.violation.identity is 'Authenticated name of its holder.';
comment on column pglockd.violation.other_token is 'Fencing token of the lease that it overlapped.';
comment on column pglockd.violation.other_held_us is 'From when to when that one was held.';
comment on column pglockd.violation.other_instance_id is 'Daemon that asked for that one; null for SQL.';
comment on column pglockd.violation.other_owner is 'Label of its holder.';
comment on column pglockd.violation.other_identity is 'Authenticated name of its holder.';

-- Events. Four things that are empty after a crash of the server, all at once: then nobody is watched for
-- any more, and who comes back with a resume point is told that there is a gap.

create unlogged table pglockd.watch (
    prefix text collate "C" not null,
    stem text collate "C" not null generated always as (case when prefix = '/' then '' else prefix || '/' end) stored,
    since_seq bigint,
    until_at timestamptz not null,
    constraint watch_pkey primary key (prefix)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.watch is
    'Prefixes that are watched: as long as the row is there, what happens to the leases of the prefix and of all beneath it is noted. Kept for a while after the last who watched has gone, so that nothing is lost if they come back.';
comment on column pglockd.watch.prefix is 'Resource whose leases are watched, with those of all beneath it; / for all that there is.';
comment on column pglockd.watch.stem is 'What a resource that it covers begins with, when a slash is put behind it.';
comment on column pglockd.watch.since_seq is 'All events of the prefix with greater numbers have been noted; null: transactions that began before the row was there may still be at work.';
comment on column pglockd.watch.until_at is 'Wall clock of the server when it may be forgotten.';

alter table pglockd.clock add column watched boolean not null default false;
comment on column pglockd.clock.watched is 'Prefixes may be watched (pglockd.watch_prefixes()): false spares who decides about leases the look for them. Here because everybody reads this row.';

create sequence pglockd.note_seq as bigint cache 1;
comment on sequence pglockd.note_seq is 'Order in which events were noted.';

create unlogged table pglockd.event_outbox (
    note bigint not null default nextval('pglockd.note_seq'),
    at timestamptz not null default clock_timestamp(),
    token bigint not null,
    event text not null,
    mode pglockd.lock_mode not null,
    scope pglockd.lock_scope not null,
    reason pglockd.end_reason,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    detail text,
    constraint event_outbox_pkey primary key (note)
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.event_outbox is
    'Events as transactions note them. Their order is known when those have committed: pglockd.publish_events() moves them to pglockd.event.';
comment on column pglockd.event_outbox.note is 'Order in which they were noted: right for events of one resource that are visible together.';
comment on column pglockd.event_outbox.at is 'Wall clock of the server when it happened.';
comment on column pglockd.event_outbox.token is 'Fencing token of the lease.';
comment on column pglockd.event_outbox.event is 'What happened: granted, released, expired, forced or lost.';
comment on column pglockd.event_outbox.mode is 'Mode of the lease.';
comment on column pglockd.event_outbox.scope is 'Scope of the lease.';
comment on column pglockd.event_outbox.reason is 'Why it ended; null for a grant.';
comment on column pglockd.event_outbox.resource is 'What was locked.';
comment on column pglockd.event_outbox.owner is 'Label of the holder.';
comment on column pglockd.event_outbox.identity is 'Authenticated name of the holder.';
comment on column pglockd.event_outbox.detail is 'Who ended it and why, where somebody did.';

create sequence pglockd.event_seq as bigint cache 1;
do $$ begin perform setval('pglockd.event_seq', 1); end $$; -- last_value is the last one drawn, always
comment on sequence pglockd.event_seq is 'Numbers of events, in the order in which they are told. Never goes back, also where the events are lost.';

create unlogged table pglockd.event (
    seq bigint not null,
    published_at timestamptz not null,
    at timestamptz not null,
    token bigint not null,
    event text not null,
    mode pglockd.lock_mode not null,
    scope pglockd.lock_scope not null,
    reason pglockd.end_reason,
    resource text collate "C" not null,
    owner text not null,
    identity text not null,
    detail text,
    constraint event_pkey primary key (seq)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.event is
    'What happened to leases that are watched, in the order of the commits of each resource, for a while (setting watch_keep).';
comment on column pglockd.event.seq is 'Number of the event: a point to resume from. Greater ones were published later.';
comment on column pglockd.event.published_at is 'Wall clock of the server when it got its number; old rows are removed by it.';
comment on column pglockd.event.at is 'Wall clock of the server when it happened.';
comment on column pglockd.event.token is 'Fencing token of the lease.';
comment on column pglockd.event.event is 'What happened: granted, released, expired, forced or lost.';
comment on column pglockd.event.mode is 'Mode of the lease.';
comment on column pglockd.event.scope is 'Scope of the lease.';
comment on column pglockd.event.reason is 'Why it ended; null for a grant.';
comment on column pglockd.event.resource is 'What was locked.';
comment on column pglockd.event.owner is 'Label of the holder.';
comment on column pglockd.event.identity is 'Authenticated name of the holder.';
comment on column pglockd.event.detail is 'Who ended it and why, where somebody did.';

create unlogged table pglockd.event_floor (
    one boolean not null default true check (one),
    seq bigint not null,
    constraint event_floor_pkey primary key (one)
);
comment on table pglockd.event_floor is 'Which events are gone, one row. Where a crash has emptied it, all that came before are.';
comment on column pglockd.event_floor.one is 'Always true: there is one row at most.';
comment on column pglockd.event_floor.seq is 'Events up to this number have been removed.';

-- They have got results, or arguments.
drop function if exists pglockd.gauges();
drop function if exists pglockd.metric_partition(date);
drop function if exists pglockd.expire(text[], bigint[]);
drop function if exists pglockd.session_end_leases(bigint, pglockd.end_reason, integer);
drop function if exists pglockd.sweep_sessions(integer);
drop function if exists pglockd.release_others(integer, text[], bigint[], text[], bigint[], text[], integer[]);
drop function if exists pglockd.grant_leases(integer, text[], boolean[], boolean[], integer, integer, bigint, bigint, bigint,
    text, text, text, text, bigint, bigint, boolean, boolean, bigint);
