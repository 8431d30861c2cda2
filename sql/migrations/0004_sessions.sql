-- Sessions: one TTL shared by any number of locks, one row renewed whatever their number.

create table pglockd.session (
    session_id bigint generated always as identity,
    expires_us bigint not null,
    check_us bigint not null,
    ttl_ms bigint not null,
    ended_us bigint,
    opened_at timestamptz not null default clock_timestamp(),
    renewed_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    ended_reason pglockd.end_reason,
    secret_sha256 bytea not null,
    owner text not null,
    identity text not null,
    note text,
    idempotency_key text,
    ended_detail text,
    constraint session_pkey primary key (session_id)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.session is
    'Sessions: leases that share one TTL. A session lives until it is marked as ended under its row lock, and its leases as long as it does; the row stays for an hour to say why it ended.';
comment on column pglockd.session.session_id is 'Number of the session; never used again.';
comment on column pglockd.session.expires_us is 'Lease clock reading from which on the janitor may end it. Not indexed, so that a renewal is a HOT update.';
comment on column pglockd.session.check_us is 'When the janitor looks at the row next; moved when it has looked.';
comment on column pglockd.session.ttl_ms is 'TTL, in milliseconds.';
comment on column pglockd.session.ended_us is 'Lease clock when it ended; null while it lives.';
comment on column pglockd.session.opened_at is 'Wall clock of the server when it was opened.';
comment on column pglockd.session.renewed_at is 'Wall clock of the server at the last sign of life.';
comment on column pglockd.session.ended_at is 'Wall clock of the server when it ended.';
comment on column pglockd.session.ended_reason is 'Why it ended.';
comment on column pglockd.session.secret_sha256 is 'SHA-256 of its secret, which is stored nowhere.';
comment on column pglockd.session.owner is 'Label that the client sent; decides nothing.';
comment on column pglockd.session.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.session.note is 'Free text of the client.';
comment on column pglockd.session.idempotency_key is 'The id=KEY of SESSION OPEN, by which a repeated one finds its session.';
comment on column pglockd.session.ended_detail is 'Who ended it and why, where somebody did against its client''s will.';
create index session_check on pglockd.session (check_us);
comment on index pglockd.session_check is 'The janitor''s way to what may have expired.';
create unique index session_idempotency on pglockd.session (idempotency_key, owner, identity)
    where idempotency_key is not null and ended_us is null;
comment on index pglockd.session_idempotency is 'SESSION OPEN by id=KEY.';
create index session_charged on pglockd.session ((coalesce(nullif(identity, ''), owner))) where ended_us is null;
comment on index pglockd.session_charged is 'How many sessions an owner has, where that is limited.';
