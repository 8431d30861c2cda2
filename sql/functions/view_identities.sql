-- View pglockd.identities: the authenticated names and what they may do.
create or replace view pglockd.identities as
select i.name, i.revoked_at is null as valid,
       array(select r.verb || ':' || r.pattern from pglockd.identity_right r where r.name = i.name
              order by r.verb, r.pattern) as rights,
       (select count(*) from pglockd.api_key k
         where k.name = i.name and k.revoked_at is null
           and (k.expires_at is null or k.expires_at > clock_timestamp())) as keys,
       i.created_at, i.created_by, i.revoked_at, i.revoked_by, i.note
  from pglockd.identity i;
comment on view pglockd.identities is 'The authenticated names and what they may do.';
comment on column pglockd.identities.name is 'The name.';
comment on column pglockd.identities.valid is 'False: it was revoked, nobody can act under it.';
comment on column pglockd.identities.rights is 'What it may do, as VERB:PATTERN.';
comment on column pglockd.identities.keys is 'How many valid keys it has.';
comment on column pglockd.identities.created_at is 'When it was made, or made anew.';
comment on column pglockd.identities.created_by is 'The database user who made it.';
comment on column pglockd.identities.revoked_at is 'When it was revoked.';
comment on column pglockd.identities.revoked_by is 'The database user who revoked it.';
comment on column pglockd.identities.note is 'Free text.';
