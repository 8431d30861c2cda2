-- pglockd.session_end_leases(session, reason, leases_max)
-- Purpose:    removes leases of a session that was marked as ended in this transaction or before, leaves
--             tombstones, and takes its waiters out of the queue. Leases whose row is locked are left; those with a grace
--             keep their resources closed for it where the session has expired.
-- Returns:    ended       leases removed
--             resources   those that somebody waits for, to be handed over
--             wake        as pglockd.note_ends()
-- Tables:     lease, waiter (delete), tombstone (insert), session, clock (read), and those of note_ends
create or replace function pglockd.session_end_leases(
    p_session bigint, p_reason pglockd.end_reason, p_leases_max integer,
    out o_ended integer, out o_resources text[], out o_wake integer[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_withdrawn text[];
    v_gone pglockd.lease[];
begin
    with due as materialized (
        select l.resource, l.token, l.owner, l.identity, l.grace_ms is not null and p_reason = 'expired' as keeps_closed
          from pglockd.lease l
         where l.session_id = p_session
         limit p_leases_max
           for update skip locked
    ), closed as (
        -- A lease of its own from now on, which is in its grace.
        update pglockd.lease l
           set session_id = null, expires_us = s.expires_us, check_us = s.expires_us
          from due, pglockd.session s
         where l.resource = due.resource and l.token = due.token and due.keeps_closed and s.session_id = p_session
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token and not due.keeps_closed
        returning l as lease
    ), buried as (
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, detail, session_id)
        select d.token, v_now_us, clock_timestamp(), p_reason, d.resource, d.owner, d.identity, s.ended_detail, p_session
          from due d
          left join pglockd.session s on s.session_id = p_session
            on conflict do nothing
    )
    select (select count(*) from due), array_agg(g.lease)
      into o_ended, v_gone
      from gone g;
    if v_gone is not null then
        o_resources := pglockd.waited_for(v_gone);
        o_wake := pglockd.note_ends(v_gone, array_fill(p_reason, array[cardinality(v_gone)]),
            (select s.ended_detail from pglockd.session s where s.session_id = p_session));
    end if;
    -- All rows of a request, or none: their daemons withdraw those that somebody has locked now.
    with gone as (
        delete from pglockd.waiter w
         using (select q.ticket, pglockd.lock_waiter(min(q.resource), q.ticket, count(*)::integer) as resource
                  from pglockd.waiter q where q.session_id = p_session group by q.ticket) x
         where w.ticket = x.ticket and w.resource = any (x.resource)
        returning w.resource
    )
    select array_agg(distinct g.resource) into v_withdrawn from gone g;
    o_resources := o_resources || v_withdrawn;
end
$$;
comment on function pglockd.session_end_leases(bigint, pglockd.end_reason, integer) is
    'Removes leases of a session that has ended.';
