-- pglockd.session_end_leases(session, reason, leases_max)
-- Purpose:    removes leases of a session that was marked as ended in this transaction or before, leaves
--             tombstones, and takes its waiters out of the queue. Leases whose row is locked are left.
-- Returns:    ended       leases removed
--             resources   those that somebody waits for, to be handed over
-- Tables:     lease, waiter (delete), tombstone (insert), clock (read)
create or replace function pglockd.session_end_leases(
    p_session bigint, p_reason pglockd.end_reason, p_leases_max integer,
    out o_ended integer, out o_resources text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_withdrawn text[];
begin
    with due as materialized (
        select l.ctid as place from pglockd.lease l
         where l.session_id = p_session
         limit p_leases_max
           for update skip locked
    ), gone as (
        delete from pglockd.lease l using due
         where l.ctid = due.place
        returning l.resource, l.token, l.owner, l.identity
    ), buried as (
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, session_id)
        select g.token, v_now_us, clock_timestamp(), p_reason, g.resource, g.owner, g.identity, p_session from gone g
            on conflict do nothing
    )
    select count(*), array_agg(distinct g.resource)
           filter (where exists (select from pglockd.waiter w where w.resource = g.resource))
      into o_ended, o_resources
      from gone g;
    with gone as (
        delete from pglockd.waiter w
         where (w.resource, w.ticket) in (select x.resource, x.ticket from pglockd.waiter x
                                           where x.session_id = p_session
                                             for update skip locked)
        returning w.resource
    )
    select array_agg(distinct g.resource) into v_withdrawn from gone g;
    o_resources := o_resources || v_withdrawn;
end
$$;
comment on function pglockd.session_end_leases(bigint, pglockd.end_reason, integer) is
    'Removes leases of a session that has ended.';
