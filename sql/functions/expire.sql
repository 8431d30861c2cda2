-- pglockd.expire(resource)
-- Purpose:    removes the expired leases of a resource and leaves tombstones. A lease that somebody
--             holds locked (a renewal in flight) is skipped: it still holds.
-- Returns:    a row with the resource for every lease that was removed.
-- Tables:     lease (delete), tombstone (insert), clock (read)
create or replace function pglockd.expire(p_resource text)
returns table (resource text)
language sql
as $$
    with now as materialized (
        select pglockd.lease_now() as us
    ), due as materialized (
        select l.resource, l.token from now, pglockd.lease l
         where l.resource = p_resource and l.expires_us <= now.us
           for update of l skip locked
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token
        returning l.resource, l.token, l.owner, l.identity
    ), buried as (
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity)
        select g.token, now.us, clock_timestamp(), 'expired', g.resource, g.owner, g.identity
          from now, gone g
            on conflict do nothing
    )
    select g.resource from gone g
$$;
comment on function pglockd.expire(text) is 'Removes expired leases of one resource, leaving tombstones.';
