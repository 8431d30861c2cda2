-- pglockd.check_resource(resource, tree)
-- Purpose:    the resource grammar for SQL callers; the daemon checks before it asks.
-- Errors:     22023 (invalid_parameter_value) that says which rule is broken.
create or replace function pglockd.check_resource(p_resource text, p_tree boolean default false)
returns void
language plpgsql immutable
as $$
declare
    v_wrong constant text := case
        when p_resource = '/' and p_tree then null
        when p_resource = '/' then '/ alone is the whole space, and goes with scope tree only'
        when p_resource is null or p_resource = '' then 'it is empty'
        when octet_length(p_resource) > 512 then 'it has more than 512 bytes'
        when p_resource ~ '[\u0001-\u001f\u007f-\u009f]' then 'it has a control character'
        when p_resource ~ '(^|/)(/|$)' then 'it has an empty segment, or a / at its start or end'
        when p_resource ~ '(^|/)\.\.?(/|$)' then 'it has a segment "." or ".."'
        when array_length(string_to_array(p_resource, '/'), 1) > 32 then 'it has more than 32 segments'
    end;
begin
    if v_wrong is not null then
        raise exception 'not a resource: %', v_wrong using errcode = '22023';
    end if;
end
$$;
comment on function pglockd.check_resource(text, boolean) is 'Raises 22023 unless the text is a resource name.';
