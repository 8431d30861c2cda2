-- pglockd.place_grants(request, granted)
-- Purpose:    of a batch of which some were granted together: which they are. By their numbers: of two requests for
--             one shared resource one may be granted here, and the other repeats an id.
-- Parameters: request    of each element
--             granted    requests of the grants, in the order of the elements
-- Returns:    item, status   as pglockd.acquire_batch(), one element for each grant
create or replace function pglockd.place_grants(
    p_request bigint[], p_granted bigint[], out o_item integer[], out o_status "char"[])
language plpgsql
as $$
declare
    v_next integer := 1;
begin
    for i in 1 .. cardinality(p_request) loop
        if p_request[i] = p_granted[v_next] then
            o_item := o_item || i;
            v_next := v_next + 1;
        end if;
    end loop;
    o_status := array_fill('g'::"char", array[v_next - 1]);
end
$$;
comment on function pglockd.place_grants(bigint[], bigint[]) is
    'Which requests of a batch were granted together.';
