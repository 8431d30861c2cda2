-- pglockd.key_rotate(name, sha256, expires, overlap)
-- Purpose:    gives a name a new key, beside which its older ones are valid for a while yet.
-- Parameters: sha256    of the new key
--             expires   for how long it is valid; null: for ever
--             overlap   how long the older ones are valid at most
-- Returns:    the id of the new key.
-- Errors:     42704 (undefined_object) where there is no such name; 22023; 42501 without the right.
-- Tables:     identity (read), api_key (insert, update, delete)
create or replace function pglockd.key_rotate(
    name text, sha256 bytea, expires interval default null, overlap interval default '1 day')
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform pglockd.require_right('admin', '*');
    perform pglockd.require_identity(name);
    if overlap is null or overlap < interval '0' then
        raise exception 'overlap must not be negative' using errcode = '22023';
    end if;
    update pglockd.api_key k
       set expires_at = clock_timestamp() + overlap
     where k.name = key_rotate.name and k.revoked_at is null
       and (k.expires_at is null or k.expires_at > clock_timestamp() + overlap);
    return pglockd.key_add(name, sha256, expires, null);
end
$$;
comment on function pglockd.key_rotate(text, bytea, interval, interval) is 'Gives a name a new key.';
