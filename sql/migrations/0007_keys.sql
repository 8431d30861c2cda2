-- Names, what they have rights to, and the keys by which clients show that they are one of them.

create table pglockd.identity (
    name text collate "C"
        constraint identity_name check (name ~ '^[A-Za-z0-9_.@:/+-]{1,128}$'),
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null default session_user,
    revoked_at timestamptz,
    revoked_by text,
    note text,
    constraint identity_pkey primary key (name)
);
comment on table pglockd.identity is
    'Authenticated names. A name that stands here may do what its rights say, as a client of a daemon with auth = on, and as a database user of that name in SQL.';
comment on column pglockd.identity.name is 'The name: 1 to 128 letters, digits, _ . @ : / + or -.';
comment on column pglockd.identity.created_at is 'When it was made, or made anew after it was revoked.';
comment on column pglockd.identity.created_by is 'The database user who made it.';
comment on column pglockd.identity.revoked_at is 'Since when nobody can act under the name, by whatever means; null: it is valid.';
comment on column pglockd.identity.revoked_by is 'The database user who revoked it.';
comment on column pglockd.identity.note is 'Free text.';

create table pglockd.identity_right (
    name text collate "C" not null
        constraint identity_right_name_fkey references pglockd.identity on delete cascade,
    verb text not null
        constraint identity_right_verb check (verb in ('lock', 'rate', 'read', 'watch', 'force', 'admin')),
    pattern text collate "C" not null,
    constraint identity_right_pkey primary key (name, verb, pattern),
    constraint identity_right_pattern check (
        pattern = '*'
        or octet_length(pattern) between 1 and 514
           and pattern !~ '[\u0001-\u001f\u007f-\u009f]'
           and pattern !~ '\*.'
           and case when verb = 'rate' then pattern !~ '[^!-/:-@[-`{-~ ]\*$'
                    else pattern !~ '[^/]\*$' and pattern !~ '(^|/)(/|$)' and pattern !~ '(^|/)\.\.?(/|$)' end)
);
comment on table pglockd.identity_right is 'What each name may do, and where; what stands nowhere here it may not.';
comment on column pglockd.identity_right.name is 'The name.';
comment on column pglockd.identity_right.verb is 'lock: take, keep and release locks, and sessions. rate: take permits of rate limits. read: see who holds and who waits. watch: follow events. force: end leases of others, and see their tokens. admin: all of these, and names, keys and counters by SQL.';
comment on column pglockd.identity_right.pattern is 'Which resources, or keys of rate limits: * is everything, a/b/* what lies beneath a/b, anything else that name alone.';

create table pglockd.api_key (
    key_id text collate "C" generated always as (left(encode(sha256, 'hex'), 12)) stored,
    sha256 bytea not null
        constraint api_key_sha256 check (octet_length(sha256) = 32),
    name text collate "C" not null
        constraint api_key_name_fkey references pglockd.identity on delete cascade,
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null default session_user,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    note text,
    constraint api_key_pkey primary key (key_id)
);
comment on table pglockd.api_key is 'Keys by which clients show who they are. A key is shown once, when it is made, and kept nowhere.';
comment on column pglockd.api_key.key_id is 'How the key is called where it may not be shown: the first 12 digits of its SHA-256.';
comment on column pglockd.api_key.sha256 is 'SHA-256 of the key.';
comment on column pglockd.api_key.name is 'Whose key it is.';
comment on column pglockd.api_key.created_at is 'When it was made.';
comment on column pglockd.api_key.created_by is 'The database user who made it.';
comment on column pglockd.api_key.expires_at is 'From when on it is not valid; null: for ever.';
comment on column pglockd.api_key.revoked_at is 'Since when it is revoked; null: it is not.';
comment on column pglockd.api_key.revoked_by is 'The database user who revoked it.';
comment on column pglockd.api_key.last_used_at is 'When a daemon last had a client with it, to a minute; null: never.';
comment on column pglockd.api_key.note is 'Free text.';
create index api_key_name on pglockd.api_key (name);
comment on index pglockd.api_key_name is 'The keys of a name.';

create table pglockd.identity_epoch (
    one boolean primary key default true check (one),
    epoch bigint not null
) with (fillfactor = 10);
comment on table pglockd.identity_epoch is 'The version of names, rights and keys, one row: daemons read them anew when it changes.';
comment on column pglockd.identity_epoch.one is 'Always true: there is one row.';
comment on column pglockd.identity_epoch.epoch is 'Grows with every change.';
insert into pglockd.identity_epoch (epoch) values (1);

-- They have got parameters or columns.
drop function if exists pglockd.check_leases(text[], bigint[]);
drop function if exists pglockd.deadlock_cycle(integer, bigint);
drop function if exists pglockd.explain_lost(text, bigint);
drop function if exists pglockd.holders(text[], boolean[], integer);
drop function if exists pglockd.list_leases(text, text, text, bigint, integer, bigint);
drop function if exists pglockd.session_allow(bigint, text);
drop function if exists pglockd.session_close(bigint, text);
drop function if exists pglockd.session_renew(bigint, text);
drop function if exists pglockd.waiting(text[], integer);
