-- pglockd.identity_list()
-- Purpose:    the names that are valid, with their rights and keys, and the version of all of it, in one
--             snapshot: what a daemon keeps in memory.
-- Returns:    a row for each name; one row with a null name where there is none
--             rights       as VERB:PATTERN
--             keys         SHA-256 of each valid key, in hexadecimal digits
--             expires_ms   for how long each of them is valid yet; -1: for ever
-- Tables:     identity_epoch, identity, identity_right, api_key (read)
create or replace function pglockd.identity_list()
returns table (epoch bigint, name text, rights text[], keys text[], expires_ms bigint[])
language sql stable
as $$
    select e.epoch, i.name,
           (select array_agg(r.verb || ':' || r.pattern) from pglockd.identity_right r where r.name = i.name),
           k.keys, k.expires_ms
      from pglockd.identity_epoch e
      left join pglockd.identity i on i.revoked_at is null
      left join lateral (
               select array_agg(encode(x.sha256, 'hex')) as keys,
                      array_agg(case when x.expires_at is null then -1
                                     else greatest(0, extract(epoch from x.expires_at - clock_timestamp()) * 1000)::bigint
                                end) as expires_ms
                 from pglockd.api_key x
                where x.name = i.name and x.revoked_at is null
                  and (x.expires_at is null or x.expires_at > clock_timestamp())) k on true
     where e.one
$$;
comment on function pglockd.identity_list() is 'The valid names with their rights and keys, for a daemon to keep.';
