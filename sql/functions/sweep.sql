-- pglockd.sweep(leases_max, keep_ms, look, after)
-- Purpose:    the janitor's round, bounded: removes expired leases and sessions and hands their resources over,
--             moves check_us of those that were renewed, forgets old tombstones and places in the queue
--             whose clients did not come back, retires dead daemons, and promotes what a lost
--             notification or a failed guard left behind.
-- Parameters: leases_max   leases looked at, at most; also sessions, and old tombstones
--             look         also look for resources that someone waits for though nobody holds them
--             keep_ms      how long the places of a dead daemon's clients are kept, in lease time
-- Returns:    expired      leases removed
--             more         there may be others due: call again soon
--             instances    dead daemons retired
--             wake         daemons with new grants or refusals, and as pglockd.note_ends()
--             pending      resources to promote
--             deadlocks    rings that were broken
--             after        see pglockd.break_deadlocks()
--             holds        leases removed that SQL sessions held
-- Tables:     session, lease, waiter, instance, tombstone (delete, update), clock (read)
create or replace function pglockd.sweep(
    p_leases_max integer, p_keep_ms bigint, p_look boolean, p_after text,
    out o_expired integer, out o_more boolean, out o_instances integer, out o_wake integer[], out o_pending text[],
    out o_deadlocks integer, out o_after text, out o_holds integer)
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_due integer;
    v_resources text[];
    v_stale text[];
    v_ended pglockd.lease[];
    r record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    with due as materialized (
        select l.resource, l.token, l.owner, l.identity, l.session_id, l.expires_us <= v_now_us as ended,
               greatest(l.expires_us, case when l.expires_us <= v_now_us
                                           then pglockd.closed_until(l.expires_us, l.grace_ms, l.session_id)
                                           else 0 end) as next_us
          from pglockd.lease l
         where l.check_us <= v_now_us
         order by l.check_us
         limit p_leases_max
           for update skip locked
    ), moved as (
        update pglockd.lease l set check_us = due.next_us
          from due
         where l.resource = due.resource and l.token = due.token and due.next_us > v_now_us
    ), gone as (
        delete from pglockd.lease l using due
         where l.resource = due.resource and l.token = due.token and due.next_us <= v_now_us
        returning l as lease
    ), buried as (
        -- Also of one whose grace begins now; when that is over there is a tombstone already.
        insert into pglockd.tombstone (token, ended_us, ended_at, reason, resource, owner, identity, session_id)
        select d.token, v_now_us, clock_timestamp(), 'expired', d.resource, d.owner, d.identity, d.session_id
          from due d where d.ended
            on conflict do nothing
        returning 1
    )
    select (select count(*) from due), (select count(*) from buried), array_agg(g.lease)
      into v_due, o_expired, v_ended
      from gone g;
    if v_ended is not null then
        v_resources := pglockd.waited_for(v_ended);
        o_wake := pglockd.note_ends(v_ended, array_fill('expired'::pglockd.end_reason, array[cardinality(v_ended)]));
    end if;
    o_more := v_due >= p_leases_max;

    r := pglockd.sweep_sessions(p_leases_max);
    o_expired := o_expired + r.o_ended;
    o_more := o_more or r.o_more;
    o_wake := o_wake || r.o_wake;
    v_resources := v_resources || r.o_resources;

    r := pglockd.sweep_holds(p_leases_max);
    o_holds := r.o_ended;
    o_more := o_more or r.o_more;
    o_wake := o_wake || r.o_wake;
    v_resources := v_resources || r.o_resources;

    with stale as (
        delete from pglockd.waiter w where w.absent_until_us <= v_now_us returning w.resource
    )
    select array_agg(distinct s.resource) into v_stale from stale s;
    v_resources := v_resources || v_stale;
    delete from pglockd.tombstone t
     where (t.resource, t.token) in (select x.resource, x.token from pglockd.tombstone x
                                      where x.ended_us < v_now_us - 3600000000
                                      order by x.ended_us limit p_leases_max);
    get diagnostics v_due = row_count;
    o_more := o_more or v_due >= p_leases_max;

    o_instances := 0;
    for r in
        select n.instance_id from pglockd.instance n where n.heartbeat_us < v_now_us - 5000000
    loop
        if pg_try_advisory_xact_lock(1346849795, r.instance_id) then
            select o_wake || d.o_wake, o_pending || d.o_pending into o_wake, o_pending
              from pglockd.retire_instance(r.instance_id, p_keep_ms) d;
            o_instances := o_instances + 1;
        end if;
    end loop;

    if p_look then
        delete from pglockd.refusal d where d.found_at < clock_timestamp() - interval '1 hour';
        perform pglockd.forget_trees();
        perform pglockd.forget_watches();
        -- Changes of mode whose lease has ended: who serves them in their turn comes by them only when all before them
        -- have gone.
        for r in
            select w.resource, w.ticket
              from pglockd.waiter w
             where w.upgrade_token is not null
               and not exists (select from pglockd.lease l
                                where l.resource = w.resource and l.token = w.upgrade_token
                                  and (l.grace_ms is null or l.expires_us > v_now_us))
             limit 500
        loop
            o_wake := o_wake || (pglockd.serve_waiter(null, r.resource, r.ticket)).o_wake;
            v_resources := v_resources || r.resource;
        end loop;
        -- Not every release knows of those who wait for trees or several resources, or to change a mode. Some of
        -- them, by chance, so that everybody's turn comes.
        v_resources := v_resources || array(
            select w.resource from pglockd.waiter w
             where (w.scope = 'tree' or w.members > 1 or w.ticket < 0) and w.absent_until_us is null
             order by random() limit 500);
        -- Resources that someone waits for though nobody holds them.
        with recursive queued as (
            (select w.resource from pglockd.waiter w order by w.resource limit 1)
            union all
            select (select w.resource from pglockd.waiter w where w.resource > q.resource order by w.resource limit 1)
              from queued q where q.resource is not null
        )
        select v_resources || array_agg(q.resource) into v_resources
          from queued q
         where q.resource is not null
           and not exists (select from pglockd.lease l where l.resource = q.resource and l.mode = 'exclusive')
           and (not exists (select from pglockd.lease l where l.resource = q.resource)
                or (select w.mode from pglockd.waiter w
                     where w.resource = q.resource and w.absent_until_us is null
                     order by w.ticket limit 1) = 'shared');
    end if;
    r := pglockd.break_deadlocks(p_after);
    o_deadlocks := r.o_found;
    o_wake := o_wake || r.o_instances;
    v_resources := v_resources || r.o_resource;
    o_after := r.o_after;
    if v_resources is not null then
        select o_wake || h.o_wake, o_pending || h.o_pending into o_wake, o_pending
          from pglockd.hand_over(null, v_resources) h;
    end if;
end
$$;
comment on function pglockd.sweep(integer, bigint, boolean, text) is 'The janitor''s round: expired leases, stale waiters, dead daemons, forgotten resources.';
