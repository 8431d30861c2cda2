-- pglockd.lock_waiter(resource, ticket, members)
-- Purpose:    locks all rows of a waiter, without waiting.
-- Parameters: resource, ticket   one of its rows
--             members            how many it has
-- Returns:    its resources, in order; null where somebody has one of the rows locked, or they are gone.
-- Tables:     waiter (for update)
create or replace function pglockd.lock_waiter(p_resource text, p_ticket bigint, p_members integer)
returns text[]
language plpgsql
as $$
declare
    v_rows text[];
begin
    if p_members = 1 then
        perform from pglockd.waiter q where q.resource = p_resource and q.ticket = p_ticket for update skip locked;
        return case when found then array[p_resource] end;
    end if;
    select array_agg(x.resource order by x.resource) into v_rows
      from (select q.resource from pglockd.waiter q
             where q.ticket = p_ticket and q.members > 1
               for update skip locked) x;
    return case when cardinality(v_rows) = p_members then v_rows end;
end
$$;
comment on function pglockd.lock_waiter(text, bigint, integer) is 'Locks all rows of a waiter, without waiting.';
