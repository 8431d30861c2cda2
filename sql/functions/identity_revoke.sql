-- pglockd.identity_revoke(name)
-- Purpose:    makes a name invalid, by whatever means somebody would show it, and all its keys. Within a
--             second its connections end. Its leases and sessions stand until their TTL: who wants them
--             gone forces them.
-- Returns:    whether there was such a name that was not revoked before.
-- Errors:     42501 without the right.
-- Tables:     identity, api_key (update)
create or replace function pglockd.identity_revoke(name text)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    v_revoked boolean;
begin
    perform pglockd.require_right('admin', '*');
    update pglockd.identity i
       set revoked_at = clock_timestamp(), revoked_by = session_user
     where i.name = identity_revoke.name and i.revoked_at is null;
    v_revoked := found;
    update pglockd.api_key k
       set revoked_at = clock_timestamp(), revoked_by = session_user
     where k.name = identity_revoke.name and k.revoked_at is null;
    return v_revoked;
end
$$;
comment on function pglockd.identity_revoke(text) is 'Makes a name and all its keys invalid.';
