-- pglockd.expire(resource, token)
-- Purpose:    removes those of the leases that have ended: expired with their grace, themselves or with their session,
--             or held by an SQL session that is gone. What somebody holds locked (a renewal in flight, or a fence) is
--             skipped: it still holds.
-- Parameters: resource, token   one element a lease
-- Returns:    gone      resources of the leases that were removed; null: none
--             wake      as pglockd.note_ends()
-- Tables:     session (update), lease (delete), tombstone (insert), clock (read), and those of note_ends
create or replace function pglockd.expire(p_resource text[], p_token bigint[], out o_gone text[], out o_wake integer[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_ended pglockd.lease[];
    v_reason pglockd.end_reason[];
begin
    -- The rest of such a session's leases is the sweep's.
    update pglockd.session s
       set ended_us = v_now_us, ended_at = clock_timestamp(), ended_reason = 'expired', check_us = v_now_us
     where s.session_id in (select x.session_id from pglockd.session x
                             where x.session_id in (select l.session_id
                                                      from unnest(p_resource, p_token) k (resource, token)
                                                      join pglockd.lease l on l.resource = k.resource and l.token = k.token)
                               and x.ended_us is null and x.expires_us <= v_now_us
                               for update skip locked);
    with due as materialized (
        select l.resource, l.token, l.hold_id is null as ran_out
          from unnest(p_resource, p_token) k (resource, token)
          join pglockd.lease l on l.resource = k.resource and l.token = k.token
         where case when l.hold_id is null
                    then pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id) <= v_now_us
                         and (l.expires_us <= v_now_us
                              or not exists (select from pglockd.session s
                                              where s.session_id = l.session_id and s.ended_us is null))
                    else l.hold_id is distinct from (select pglockd.hold_number())
                         and pg_try_advisory_xact_lock(1346849799, l.hold_id) end
           for update of l skip locked
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token
        returning l as lease, l.resource, l.token, l.owner, l.identity, l.session_id,
                  case when due.ran_out then 'expired'::pglockd.end_reason else 'connection_closed' end as reason
    ), buried as (
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, session_id)
        select g.token, v_now_us, clock_timestamp(), g.reason, g.resource, g.owner, g.identity, g.session_id
          from gone g
            on conflict do nothing
    )
    select array_agg(g.resource), array_agg(g.lease), array_agg(g.reason) into o_gone, v_ended, v_reason from gone g;
    if o_gone is not null then
        o_wake := pglockd.note_ends(v_ended, v_reason);
    end if;
end
$$;
comment on function pglockd.expire(text[], bigint[]) is 'Removes leases that have ended, leaving tombstones.';
