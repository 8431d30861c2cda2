-- pglockd.mark_told(resource, item, status)
-- Purpose:    of the requests of a batch that have come to wait: which of them a holder wants to hear of.
-- Parameters: resource       of each request
--             item, status   the answers so far
-- Returns:    status, with W for such a w.
-- Tables:     listener, waiter (read)
create or replace function pglockd.mark_told(p_resource text[], p_item integer[], p_status "char"[])
returns "char"[]
language plpgsql
as $$
begin
    if not exists (select from pglockd.listener) then
        return p_status;
    end if;
    return (select array_agg(case when u.status = 'w' and pglockd.is_listened_to(array[p_resource[u.item]])
                                  then 'W' else u.status end order by u.place)
              from unnest(p_item, p_status) with ordinality u (item, status, place));
end
$$;
comment on function pglockd.mark_told(text[], integer[], "char"[]) is
    'Marks the requests that wait of which a holder wants to hear.';
