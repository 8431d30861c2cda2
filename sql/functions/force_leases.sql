-- pglockd.force_leases(resource, token, reason, by)
-- Purpose:    ends leases against their holders' will, leaves tombstones that say who did it and why, tells
--             holders that asked for events, and hands over to those who wait.
-- Parameters: token    which lease; null: all of the resource
--             reason   why; null: not said
--             by       who
-- Returns:    status    g they ended   l there was none   f somebody's transaction keeps one of them
--                       (pglockd.assert_fence()): nothing was done
--             token, owner, identity, held_ms   of each that ended
--             pending   resources that someone must promote later
-- Errors:     25001 outside of READ COMMITTED, 57P03 as pglockd.check_server().
-- Tables:     lease (delete), tombstone (insert), and those of hand_over and note_ends
create or replace function pglockd.force_leases(
    p_resource text, p_token bigint, p_reason text, p_by text,
    out o_status "char", out o_token bigint[], out o_owner text[], out o_identity text[], out o_held_ms bigint[],
    out o_pending text[])
language plpgsql
as $$
declare
    v_until constant timestamptz := clock_timestamp() + interval '200 ms';
    v_free bigint;
    v_all bigint;
    v_detail constant text := 'by ' || p_by || coalesce(': ' || p_reason, '');
    v_leases pglockd.lease[];
    v_wake integer[];
    r record;
begin
    perform pglockd.require_read_committed();
    loop
        select count(*) into v_all from pglockd.lease l
         where l.resource = p_resource and (p_token is null or l.token = p_token);
        select count(*) into v_free
          from (select from pglockd.lease l
                 where l.resource = p_resource and (p_token is null or l.token = p_token)
                   for update skip locked) x;
        exit when v_free >= v_all;
        if clock_timestamp() > v_until then
            o_status := 'f';
            return;
        end if;
        perform pg_sleep(0.005);
    end loop;
    with gone as (
        delete from pglockd.lease l where l.resource = p_resource and (p_token is null or l.token = p_token)
        returning l as lease, l.*
    ), buried as (
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, detail, session_id)
        select g.token, pglockd.lease_now(), clock_timestamp(), 'forced', g.resource, g.owner, g.identity,
               v_detail, g.session_id
          from gone g
            -- Of one in its grace there is one already, of its end.
            on conflict (resource, token) do update
            set ended_us = excluded.ended_us, ended_at = excluded.ended_at, reason = excluded.reason,
                detail = excluded.detail
    )
    select array_agg(g.token order by g.token), array_agg(g.owner order by g.token),
           array_agg(g.identity order by g.token),
           array_agg(greatest(0, extract(epoch from clock_timestamp() - g.granted_at) * 1000)::bigint order by g.token),
           array_agg(g.lease)
      into o_token, o_owner, o_identity, o_held_ms, v_leases
      from gone g;
    if o_token is null then
        o_status := 'l';
        return;
    end if;
    o_status := 'g';
    perform pglockd.tell_listeners(array[p_resource]);
    v_wake := pglockd.note_ends(v_leases, array_fill('forced'::pglockd.end_reason, array[cardinality(v_leases)]), v_detail);
    select h.o_wake, h.o_pending into r from pglockd.hand_over(null, array[p_resource]) h;
    o_pending := r.o_pending;
    v_wake := v_wake || r.o_wake;
    if v_wake is not null then
        perform pglockd.notify_instances(v_wake::bigint[]);
    end if;
end
$$;
comment on function pglockd.force_leases(text, bigint, text, text) is 'Ends leases against their holders'' will.';
