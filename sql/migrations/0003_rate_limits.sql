-- Rate limits: policies, counters, and the requests that were named with an id.
-- Times that decide anything are nanoseconds of the database's wall clock since 1970 (`…_ns`).

create table pglockd.rate_policy (
    name text collate "C" primary key
        constraint rate_policy_name check (name ~ '^[A-Za-z0-9_.-]{1,64}$'),
    applies_to text not null default 'rate'
        constraint rate_policy_applies_to check (applies_to in ('rate', 'lock')),
    match text not null default 'prefix'
        constraint rate_policy_match check (match in ('exact', 'prefix')),
    pattern text collate "C" not null
        constraint rate_policy_pattern check (octet_length(pattern) <= 512 and (match = 'prefix' or pattern <> '')),
    counter text not null default 'key'
        constraint rate_policy_counter check (counter in ('key', 'pattern', 'owner')),
    quota bigint not null
        constraint rate_policy_quota check (quota between 1 and 1000000000),
    per interval not null
        constraint rate_policy_per check (per between interval '1 ms' and interval '366 days'
                                          and extract(epoch from per) <= 366 * 86400),
    burst bigint
        constraint rate_policy_burst check (burst between 1 and 1000000000),
    mode text not null default 'enforce'
        constraint rate_policy_mode check (mode in ('enforce', 'shadow')),
    away text not null default 'deny'
        constraint rate_policy_away check (away in ('deny', 'allow', 'local')),
    away_percent integer not null default 10
        constraint rate_policy_away_percent check (away_percent between 1 and 100),
    charge text not null default 'attempt'
        constraint rate_policy_charge check (charge in ('attempt', 'grant')),
    borrow boolean not null default true,
    note text,
    constraint rate_policy_full_in_time check (
        coalesce(burst, quota) * extract(epoch from per) <= quota * 3650 * 86400::numeric),
    constraint rate_policy_owner_needs_lock check (counter <> 'owner' or applies_to = 'lock'),
    constraint rate_policy_grant_needs_lock check (charge = 'attempt' or applies_to = 'lock')
);
comment on table pglockd.rate_policy is
    'Limits by policy. A change is in force on every daemon within a second; a policy that is removed leaves its counters to be pruned.';
comment on column pglockd.rate_policy.name is 'Name of the policy: 1 to 64 letters, digits, _ . or -.';
comment on column pglockd.rate_policy.applies_to is 'rate: RATE requests without policy= or limit=, by their key. lock: LOCK requests, by their resource.';
comment on column pglockd.rate_policy.match is 'exact: the pattern itself. prefix: the pattern and all beneath it; it ends at a / in the key, or with a punctuation mark of its own.';
comment on column pglockd.rate_policy.pattern is 'Key or resource, or prefix of it; the empty prefix matches everything.';
comment on column pglockd.rate_policy.counter is 'key: each key (or resource) that matches has a counter of its own. pattern: all that matches shares one. owner: each owner has one (lock only).';
comment on column pglockd.rate_policy.quota is 'How many permits the period gives.';
comment on column pglockd.rate_policy.per is 'The period.';
comment on column pglockd.rate_policy.burst is 'How many permits may be taken at once after a rest; null: as many as the quota.';
comment on column pglockd.rate_policy.mode is 'enforce: requests over the limit are refused. shadow: they are allowed, and counted as shadow_denied.';
comment on column pglockd.rate_policy.away is 'What a daemon does while it cannot ask PostgreSQL. deny: refuses. allow: allows and counts. local: allows away_percent of the limit, in this daemon.';
comment on column pglockd.rate_policy.away_percent is 'Which part of quota and burst a daemon gives by itself where away is local.';
comment on column pglockd.rate_policy.charge is 'attempt: a LOCK costs a permit whatever becomes of it. grant: it costs one only where it is granted (lock only).';
comment on column pglockd.rate_policy.borrow is 'Daemons may take permits of hot keys in advance, for at most 400 ms. false: every decision is one of the database.';
comment on column pglockd.rate_policy.note is 'Free text.';

create table pglockd.rate_epoch (
    one boolean primary key default true check (one),
    epoch bigint not null
) with (fillfactor = 10);
comment on table pglockd.rate_epoch is 'The version of the policies, one row: daemons forget what they remember when it changes.';
comment on column pglockd.rate_epoch.one is 'Always true: there is one row.';
comment on column pglockd.rate_epoch.epoch is 'Grows with every change of a policy and every reset of a counter.';
insert into pglockd.rate_epoch (epoch) values (1);

create table pglockd.rate_counter (
    tat_ns bigint not null,
    quota bigint not null,
    period_ns bigint not null,
    burst bigint not null,
    key text collate "C" not null,
    rule text collate "C" not null,
    constraint rate_counter_pkey primary key (key, rule)
) with (fillfactor = 70, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.rate_counter is
    'Counters of rate limits by the generic cell rate algorithm: the limit is used up to the point in time tat_ns. A counter whose tat_ns has passed is as good as none, and is pruned later.';
comment on column pglockd.rate_counter.tat_ns is 'Theoretical arrival time: nanoseconds since 1970. Each permit adds period_ns / quota, rounded up; it is at most the time of day plus what the burst is worth. Not indexed, so that a charge is a HOT update.';
comment on column pglockd.rate_counter.quota is 'Permits for each period, when it was charged last; tat_ns is scaled where the policy says otherwise now.';
comment on column pglockd.rate_counter.period_ns is 'The period in nanoseconds, when it was charged last.';
comment on column pglockd.rate_counter.burst is 'Permits at once, when it was charged last.';
comment on column pglockd.rate_counter.key is 'What is limited: a key, a resource, an owner, or empty where one counter serves the whole policy.';
comment on column pglockd.rate_counter.rule is 'Name of the policy, or =LIMIT/MILLISECONDS/BURST for a limit that the request named itself.';

create table pglockd.rate_request (
    created_at timestamptz not null default clock_timestamp(),
    cost bigint not null,
    request_id text collate "C" not null,
    identity text collate "C" not null,
    key text collate "C" not null,
    rules text not null,
    constraint rate_request_pkey primary key (request_id, identity)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.rate_request is 'Requests with id= that were allowed, kept for ten minutes: repeating one is not charged again.';
comment on column pglockd.rate_request.created_at is 'Wall clock of the server when it was allowed.';
comment on column pglockd.rate_request.cost is 'Permits that it took.';
comment on column pglockd.rate_request.request_id is 'The id=KEY of the request.';
comment on column pglockd.rate_request.identity is 'Authenticated name; empty where nobody was authenticated.';
comment on column pglockd.rate_request.key is 'What was limited.';
comment on column pglockd.rate_request.rules is 'The counters that it charged: another use of the id is an error.';
create index rate_request_created on pglockd.rate_request (created_at);
comment on index pglockd.rate_request_created is 'The janitor''s way to old rows.';
