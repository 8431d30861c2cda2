-- pglockd.above(resource)
-- Purpose:    the resources that a resource lies beneath, the top of all (/) last: those whose trees cover it.
-- Returns:    an array, empty for the top itself.
create or replace function pglockd.above(p_resource text)
returns text[]
language plpgsql immutable parallel safe -- as pglockd.lease_now(), and without a query at all
as $$
declare
    v_parts constant text[] := string_to_array(p_resource, '/');
    v_path text := v_parts[1];
    v_above text[] := '{}';
begin
    if p_resource = '/' then
        return v_above;
    end if;
    for n in 2 .. coalesce(cardinality(v_parts), 0) loop
        v_above := v_above || v_path;
        v_path := v_path || '/' || v_parts[n];
    end loop;
    return v_above || '/'::text;
end
$$;
comment on function pglockd.above(text) is 'The resources whose trees cover a resource, besides itself.';
