-- pglockd.charged_to(leases_max, owner, identity)
-- Purpose:    under which name a LOCK counts for max_leases_per_owner. Who is authenticated counts by that name,
--             whatever owner it gives.
-- Parameters: leases_max   the limit; null: there is none
-- Returns:    null where there is no limit: it counts for nobody.
create or replace function pglockd.charged_to(p_leases_max integer, p_owner text, p_identity text)
returns text
language sql immutable parallel safe
as $$
    select case when p_leases_max is not null then coalesce(nullif(p_identity, ''), p_owner, '') end
$$;
comment on function pglockd.charged_to(integer, text, text) is
    'Under which name a LOCK counts for max_leases_per_owner; null where there is no such limit.';
