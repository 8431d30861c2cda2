-- pglockd.sweep_sessions(leases_max)
-- Purpose:    the janitor's part for sessions, bounded: marks expired ones as ended and removes their
--             leases, as many as one round may; moves check_us of those that were renewed; forgets those
--             that ended an hour ago. A session that somebody has locked is looked at again: it is being
--             renewed, or a lock is being bound to it.
-- Parameters: leases_max   leases removed, and sessions looked at, at most
-- Returns:    ended        leases removed
--             more         there may be others due: call again soon
--             resources    those that somebody waits for, to be handed over
--             wake         as pglockd.note_ends()
-- Tables:     session (update, delete), and those of session_end_leases
create or replace function pglockd.sweep_sessions(
    p_leases_max integer, out o_ended integer, out o_more boolean, out o_resources text[],
    out o_wake integer[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_looked integer := 0;
    v_end record;
    r record;
begin
    o_ended := 0;
    o_more := false;
    for r in
        select s.session_id, s.expires_us, s.ended_us, s.ended_reason
          from pglockd.session s
         where s.check_us <= v_now_us
         order by s.check_us
         limit p_leases_max
           for update skip locked
    loop
        v_looked := v_looked + 1;
        if r.ended_us is null and r.expires_us > v_now_us then
            update pglockd.session s set check_us = s.expires_us where s.session_id = r.session_id;
            continue;
        elsif r.ended_us is null then
            update pglockd.session s
               set ended_us = v_now_us, ended_at = clock_timestamp(), ended_reason = 'expired'
             where s.session_id = r.session_id;
        end if;
        v_end := pglockd.session_end_leases(r.session_id, coalesce(r.ended_reason, 'expired'),
                                            p_leases_max - o_ended);
        o_ended := o_ended + v_end.o_ended;
        o_resources := o_resources || v_end.o_resources;
        o_wake := o_wake || v_end.o_wake;
        if o_ended >= p_leases_max then
            o_more := true;
            exit;
        elsif exists (select from pglockd.lease l where l.session_id = r.session_id) then
            -- Rows that somebody has locked.
            update pglockd.session s set check_us = v_now_us + 250000 where s.session_id = r.session_id;
        elsif r.ended_us < v_now_us - 3600000000 then
            delete from pglockd.session s where s.session_id = r.session_id;
        else
            update pglockd.session s set check_us = v_now_us + 3600000001 where s.session_id = r.session_id;
        end if;
    end loop;
    o_more := o_more or v_looked >= p_leases_max;
end
$$;
comment on function pglockd.sweep_sessions(integer) is 'The janitor''s round of the sessions.';
