-- pglockd.identity_allow(name, allow)
-- Purpose:    gives rights to a name that is there.
-- Parameters: allow   as VERB:PATTERN
-- Returns:    how many it did not have before.
-- Errors:     42704 (undefined_object) where there is no such name; as identity_add_rights; 42501 without
--             the right.
-- Tables:     identity (read), identity_right (insert)
create or replace function pglockd.identity_allow(name text, allow text[])
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform pglockd.require_right('admin', '*');
    perform pglockd.require_identity(name);
    return pglockd.identity_add_rights(name, allow);
end
$$;
comment on function pglockd.identity_allow(text, text[]) is 'Gives rights to a name.';
