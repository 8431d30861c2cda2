-- pglockd.place_grants(resource, free, granted)
-- Purpose:    of a batch of which some were granted together: which they are.
-- Parameters: resource   of each request
--             free       positions of those that might be granted together; null: all
--             granted    resources of the grants, in the order of the requests
-- Returns:    item, status   as pglockd.acquire_batch(), one element for each grant
create or replace function pglockd.place_grants(
    p_resource text[], p_free integer[], p_granted text[], out o_item integer[], out o_status "char"[])
language plpgsql
as $$
declare
    v_next integer := 1;
begin
    -- Requests for one resource are granted together or not at all here, so both go up in step.
    for i in 1 .. cardinality(p_resource) loop
        if p_resource[i] = p_granted[v_next] and (p_free is null or i = any (p_free)) then
            o_item := o_item || i;
            v_next := v_next + 1;
        end if;
    end loop;
    o_status := array_fill('g'::"char", array[v_next - 1]);
end
$$;
comment on function pglockd.place_grants(text[], integer[], text[]) is
    'Which requests of a batch were granted together.';
