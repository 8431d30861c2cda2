-- View pglockd.keys: the keys, without what could be used in their place.
create or replace view pglockd.keys as
select k.key_id as key, k.name,
       case when i.revoked_at is not null or k.revoked_at is not null then 'revoked'
            when k.expires_at <= clock_timestamp() then 'expired'
            else 'valid' end as state,
       k.created_at, k.created_by, k.expires_at, k.last_used_at, k.revoked_at, k.revoked_by, k.note
  from pglockd.api_key k
  join pglockd.identity i on i.name = k.name;
comment on view pglockd.keys is 'The keys by which clients show who they are.';
comment on column pglockd.keys.key is 'How the key is called: the first 12 digits of its SHA-256.';
comment on column pglockd.keys.name is 'Whose key it is.';
comment on column pglockd.keys.state is 'valid, expired or revoked.';
comment on column pglockd.keys.created_at is 'When it was made.';
comment on column pglockd.keys.created_by is 'The database user who made it.';
comment on column pglockd.keys.expires_at is 'From when on it is not valid; null: for ever.';
comment on column pglockd.keys.last_used_at is 'When a daemon last had a client with it, to a minute.';
comment on column pglockd.keys.revoked_at is 'When it was revoked.';
comment on column pglockd.keys.revoked_by is 'The database user who revoked it.';
comment on column pglockd.keys.note is 'Free text.';
