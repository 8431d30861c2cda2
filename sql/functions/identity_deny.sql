-- pglockd.identity_deny(name, deny)
-- Purpose:    takes rights from a name. They are taken as they were given: a/b/* is not a part of * that
--             could be taken alone. What waits by them is answered DENIED; leases stand until their TTL.
-- Parameters: deny   as VERB:PATTERN
-- Returns:    how many it had.
-- Errors:     42704 (undefined_object) where there is no such name; 42501 without the right.
-- Tables:     identity (read), identity_right (delete)
create or replace function pglockd.identity_deny(name text, deny text[])
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    v_taken integer;
begin
    perform pglockd.require_right('admin', '*');
    perform pglockd.require_identity(name);
    delete from pglockd.identity_right r
     where r.name = identity_deny.name and r.verb || ':' || r.pattern = any (deny);
    get diagnostics v_taken = row_count;
    return v_taken;
end
$$;
comment on function pglockd.identity_deny(text, text[]) is 'Takes rights from a name.';
