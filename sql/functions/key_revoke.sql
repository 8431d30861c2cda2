-- pglockd.key_revoke(key)
-- Purpose:    makes a key invalid for ever. Within a second no daemon takes it, and connections that were
--             made with it end. Leases and sessions of its name stand until their TTL.
-- Parameters: key   its id
-- Returns:    whether there was such a key that was not revoked before.
-- Errors:     42501 without the right.
-- Tables:     api_key (update)
create or replace function pglockd.key_revoke(key text)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pglockd.require_right('admin', '*');
    update pglockd.api_key k
       set revoked_at = clock_timestamp(), revoked_by = session_user
     where k.key_id = key_revoke.key and k.revoked_at is null;
    return found;
end
$$;
comment on function pglockd.key_revoke(text) is 'Makes a key invalid for ever.';
