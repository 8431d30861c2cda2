-- pglockd.expire(resource, now_us)
-- Purpose:    removes the expired leases of a resource and leaves tombstones. A lease that somebody
--             holds locked (a renewal in flight) is skipped: it still holds.
-- Parameters: resource  whose leases
--             now_us    reading of the lease clock
-- Returns:    how many were removed.
-- Tables:     lease (delete), tombstone (insert)
create or replace function pglockd.expire(p_resource text, p_now_us bigint)
returns integer
language plpgsql
as $$
declare
    v_removed integer;
begin
    with due as (
        select l.resource, l.token from pglockd.lease l
         where l.resource = p_resource and l.expires_us <= p_now_us
           for update skip locked
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token
        returning l.resource, l.token, l.owner, l.identity
    )
    insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity)
    select g.token, p_now_us, clock_timestamp(), 'expired', g.resource, g.owner, g.identity
      from gone g
        on conflict do nothing;
    get diagnostics v_removed = row_count;
    return v_removed;
end
$$;
comment on function pglockd.expire(text, bigint) is 'Removes expired leases of one resource, leaving tombstones.';
