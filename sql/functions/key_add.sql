-- pglockd.key_add(name, sha256, expires, note)
-- Purpose:    what key_create and key_rotate have in common: one more key of a name that is there and
--             valid. Forgets keys that have been dead for 90 days.
-- Parameters: sha256    of the key, which the caller has made and the database never sees
--             expires   for how long it is valid; null: for ever
-- Returns:    the id of the key.
-- Errors:     22023 for an expiry that is not ahead.
-- Tables:     api_key (insert, delete)
create or replace function pglockd.key_add(p_name text, p_sha256 bytea, p_expires interval, p_note text)
returns text
language plpgsql
as $$
declare
    v_id text;
begin
    if p_expires <= interval '0' then
        raise exception 'a key must expire later than now' using errcode = '22023';
    end if;
    delete from pglockd.api_key k
     where coalesce(k.revoked_at, k.expires_at) < clock_timestamp() - interval '90 days';
    insert into pglockd.api_key (sha256, name, expires_at, note)
    values (p_sha256, p_name, clock_timestamp() + p_expires, p_note)
    returning api_key.key_id into v_id;
    return v_id;
end
$$;
comment on function pglockd.key_add(text, bytea, interval, text) is 'One more key of a name.';
