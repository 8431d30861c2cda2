-- pglockd.guard_key(resource)
-- Purpose:    second number of the advisory lock that guards decisions about a resource; the first
--             is 0x50474C01. Two resources with one number only wait for each other.
-- Returns:    any 32-bit integer.
create or replace function pglockd.guard_key(p_resource text)
returns integer
language sql immutable parallel safe
as $$
    select pg_catalog.hashtext(p_resource collate "C")
$$;
comment on function pglockd.guard_key(text) is
    'Number of the advisory lock (class 1346849793 = 0x50474C01) that guards decisions about a resource.';
