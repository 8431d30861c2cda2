-- Failover and restored backups: the servers that this database has lived on, and what the lease clock
-- has to wait for where one of them may have lost commits. Besides, the janitor's term.

create table pglockd.server (
    server_id integer generated always as identity,
    system_identifier bigint not null,
    timeline integer not null,
    database_oid oid not null,
    clock_oid oid not null,
    started_at timestamptz not null,
    noticed_at timestamptz not null default clock_timestamp(),
    tokens_from bigint not null,
    tokens_to bigint not null,
    quiet_ms bigint not null,
    reason text not null
        constraint server_reason check (reason in ('first', 'restart', 'failover', 'moved', 'lost', 'announced')),
    detail text,
    constraint server_pkey primary key (server_id)
) with (autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);
comment on table pglockd.server is
    'The lives of servers that this database was served by, the newest 100; the last row is the recorded one. Nothing is granted on a server that is not: whoever notices first records it, and lets the tokens leap.';
comment on column pglockd.server.server_id is 'Number of the row.';
comment on column pglockd.server.system_identifier is 'Of the cluster: the same on a primary and its standbys.';
comment on column pglockd.server.timeline is 'Timeline: another after each promotion of a standby and each point-in-time recovery.';
comment on column pglockd.server.database_oid is 'Oid of the database: another in a copy.';
comment on column pglockd.server.clock_oid is 'Oid of pglockd.clock: another where a dump was restored.';
comment on column pglockd.server.started_at is 'When the server was started.';
comment on column pglockd.server.noticed_at is 'Wall clock of the server when the row was made.';
comment on column pglockd.server.tokens_from is 'The token sequence before the leap.';
comment on column pglockd.server.tokens_to is 'The token sequence after the leap. No token between the two was ever drawn here: who has seen one was granted it by a server whose last commits are not in this database.';
comment on column pglockd.server.quiet_ms is 'Length of the quiet period that was opened; 0: none.';
comment on column pglockd.server.reason is
    'first: of a new database. restart: the same timeline, nothing is lost. failover: a standby was promoted. moved: a dump or a copy, or another cluster. lost: a daemon had seen tokens that were not drawn here. announced: pglockd.after_restore().';
comment on column pglockd.server.detail is 'Who announced it and why.';

create table pglockd.longest_ttl (
    ttl_ms bigint not null,
    grace_ms bigint not null
) with (autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);
comment on table pglockd.longest_ttl is
    'The longest TTL and the longest grace that were ever asked for: the greatest of each among the rows, of which there are few. So long may a grant keep its resource closed that a promoted standby missed. A row is added where that becomes longer, in the transaction of the grant, and smaller ones go; nobody waits for a row, since the transaction may be a user''s.';
comment on column pglockd.longest_ttl.ttl_ms is 'TTL in milliseconds, the longest when the row was added.';
comment on column pglockd.longest_ttl.grace_ms is 'Grace in milliseconds, the longest when the row was added.';
create index longest_ttl_greatest on pglockd.longest_ttl (ttl_ms, grace_ms);
comment on index pglockd.longest_ttl_greatest is 'All there is to read, without the table.';

alter table pglockd.clock
    add column quiet_left_us bigint not null default 0,
    add column synchronous boolean not null default false,
    add column janitor_term integer not null default 0;
comment on column pglockd.clock.quiet_left_us is
    'What is left of a quiet period in which the clock stands still: ticks are credited here first, and nothing is granted. 0 where there is none.';
comment on column pglockd.clock.synchronous is
    'At the last tick every standby that was connected had to confirm each commit, so that its promotion loses nothing that was acknowledged. False: some need not, or it is not known.';
comment on column pglockd.clock.janitor_term is
    'Number of the janitor in office: its session holds the advisory lock (class 0x50474C05, janitor_term), and ticks of another term are not credited.';

-- They have got parameters or other results.
drop function if exists pglockd.claim_lane(integer);
drop function if exists pglockd.heartbeat(integer);
drop function if exists pglockd.register_instance(text, text, integer);
drop function if exists pglockd.take_janitor();
