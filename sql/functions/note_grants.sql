-- pglockd.note_grants(resource, token)
-- Purpose:    leases were granted in this transaction: notes events for those who watch. To be called only where
--             there is a row of pglockd.watch.
-- Parameters: resource, token   one element a lease
-- Returns:    as pglockd.note_ends()
-- Tables:     event_outbox (insert), watch, lease (read)
create or replace function pglockd.note_grants(p_resource text[], p_token bigint[])
returns integer[]
language plpgsql
as $$
declare
    v_stems constant text[] := pglockd.watched_stems();
    v_closer constant boolean := v_stems = '{""}' and not pglockd.is_watched('/');
begin
    insert into pglockd.event_outbox (token, event, mode, scope, resource, owner, identity)
    select l.token, 'granted', l.mode, l.scope, l.resource, l.owner, l.identity
      from unnest(p_resource, p_token) k (resource, token)
     cross join lateral (select x.token, x.mode, x.scope, x.resource, x.owner, x.identity from pglockd.lease x
                          where x.resource = k.resource and x.token = k.token offset 0) l
     where (k.resource || '/') ^@ any (v_stems) and (not v_closer or pglockd.is_watched(k.resource));
    return case when found then '{0}'::integer[] end;
end
$$;
comment on function pglockd.note_grants(text[], bigint[]) is 'Notes leases that were granted, for those who watch.';
