-- pglockd.is_listened_to(resource)
-- Purpose:    does the holder of a lease that somebody who waits for these resources may wait for want to hear of it?
-- Parameters: resource   of a request that is in the queue
-- Returns:    true also where a closer look finds no such lease in the way; pglockd.listen() looks.
-- Tables:     listener, waiter (read)
create or replace function pglockd.is_listened_to(p_resource text[])
returns boolean
language plpgsql stable
as $$
begin
    -- Mostly nobody asked for events.
    if not exists (select from pglockd.listener) then
        return false;
    end if;
    return exists (
        select from unnest(p_resource) r (resource)
         where exists (select from pglockd.listener n where n.resource = any (r.resource || pglockd.above(r.resource)))
            or exists (select from pglockd.waiter w where w.resource = r.resource and w.scope = 'tree')
               and exists (select from pglockd.listener n
                            where n.resource > pglockd.beneath_low(r.resource)
                              and n.resource < pglockd.beneath_high(r.resource)));
end
$$;
comment on function pglockd.is_listened_to(text[]) is
    'Does a holder whom somebody waits for want to hear of it?';
