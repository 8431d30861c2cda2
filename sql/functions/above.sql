-- pglockd.above(resource)
-- Purpose:    the resources that a resource lies beneath, the top of all (/) last: those whose trees cover it.
-- Returns:    an array, empty for the top itself.
create or replace function pglockd.above(p_resource text)
returns text[]
language sql immutable parallel safe
as $$
    select case when p_resource = '/' then '{}'::text[]
                else array(select array_to_string((string_to_array(p_resource, '/'))[1:n], '/')
                             from generate_series(1, cardinality(string_to_array(p_resource, '/')) - 1) n) || '/'::text
           end
$$;
comment on function pglockd.above(text) is 'The resources whose trees cover a resource, besides itself.';
