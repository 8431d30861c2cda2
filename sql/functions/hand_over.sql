-- pglockd.hand_over(instance, resource, floor, free)
-- Purpose:    hands resources over to the waiters at the heads of their queues, each under its guard: one
--             exclusive, or all shared ones up to the first exclusive. A resource whose guard is held
--             elsewhere, or which has more to grant than one call does, is reported as pending.
--             Passed over, keeping their tickets: waiters that are away (absent_until_us), that are being
--             withdrawn (row locked), and those of daemons without a sign of life for 3 s.
-- Parameters: instance   the daemon that calls; null for SQL. Grants to its own waiters are complete; those
--                        for other daemons get a TTL of 5 s until that daemon accepts them
--             resource   what may be free now
--             floor      for each resource: nobody but marked ones (early_resource) waits with a ticket up to
--                        it; null or missing when that is not known
--             free       for each resource: nobody holds it, the caller knows; null or missing when it does not
-- Returns:    request, resource, token   grants to waiters of this daemon
--             wake             other daemons with new grants, to be notified after the commit
--             pending          resources to call again for
-- Errors:     25001 outside of READ COMMITTED.
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.hand_over(
    p_instance integer, p_resource text[], p_floor bigint[] default '{}', p_free boolean[] default '{}',
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    c_run_max constant integer := 200;
    v_after bigint;
    v_granted integer;
    v_held pglockd.lock_mode;
    v_own boolean;
    v_expires_us bigint;
    v_token bigint;
    w record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    -- A daemon's connection has looked when it was made.
    if p_instance is null and not exists (select from pglockd.queue_epoch) then
        perform pglockd.open_queue_epoch();
    end if;
    for i in 1 .. coalesce(cardinality(p_resource), 0) loop
        if not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            o_pending := o_pending || p_resource[i];
            continue;
        end if;
        v_after := null;
        v_held := null;
        v_granted := 0;
        loop
            select q.*, now.us as now_us, now.quiet_until_us as quiet_us into w
              from (select x.ctid as place, x.* from pglockd.waiter x
                     where x.resource = p_resource[i] and x.absent_until_us is null
                       and x.ticket > coalesce(v_after,
                               case when not exists (select from pglockd.waiter e where e.early_resource = p_resource[i])
                                    then p_floor[i] end, 0)
                     order by x.ticket
                     limit 1
                       for update skip locked) q
             cross join (select pglockd.lease_reading(c.floor_us, c.base_us, c.wall_at) as us, c.quiet_until_us
                           from pglockd.clock c where c.one offset 0) now;
            exit when w.place is null;
            if v_granted = 0 and p_free[i] is not true then
                select l.mode into v_held from pglockd.lease l
                 where l.resource = p_resource[i] order by l.token desc limit 1;
            end if;
            exit when v_held = 'exclusive' or v_held is not null and w.mode = 'exclusive';
            if w.now_us < w.quiet_us or v_granted >= c_run_max then
                o_pending := o_pending || p_resource[i];
                exit;
            end if;
            v_after := w.ticket;
            v_own := w.instance_id = p_instance;
            if v_own is not true
               and not exists (select from pglockd.instance d
                                where d.instance_id = w.instance_id and d.heartbeat_us >= w.now_us - 3000000) then
                -- It may come back: releases must find it below the floors of those served before it.
                update pglockd.waiter q set early_resource = p_resource[i]
                 where q.ctid = w.place and q.early_resource is null;
                continue;
            end if;
            -- One that has ended takes its waiters out of the queue itself.
            continue when w.session_id is not null and not pglockd.session_lives(w.session_id);
            v_expires_us := pglockd.lease_end(w.now_us, case when v_own then w.ttl_ms else 5000 end);
            with served as (
                delete from pglockd.waiter q where q.ctid = w.place
            )
            insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, request_id,
                                       instance_id, mode, scope, delivered, resource, owner, identity, note,
                                       idempotency_key, session_id)
            values (nextval('pglockd.token_seq'), v_expires_us, v_expires_us, w.ttl_ms, w.ticket, clock_timestamp(),
                    w.conn_id, w.request_id, w.instance_id, w.mode, w.scope, coalesce(v_own, false), w.resource, w.owner, w.identity,
                    w.note, w.idempotency_key, w.session_id)
            returning lease.token into v_token;
            if v_own then
                o_request := o_request || w.request_id;
                o_resource := o_resource || p_resource[i];
                o_token := o_token || v_token;
            else
                o_wake := o_wake || w.instance_id;
            end if;
            exit when w.mode = 'exclusive';
            v_held := w.mode;
            v_granted := v_granted + 1;
        end loop;
    end loop;
end
$$;
comment on function pglockd.hand_over(integer, text[], bigint[], boolean[]) is
    'Grants resources to the waiters at the heads of their queues, each under its guard.';
