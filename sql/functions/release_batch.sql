-- pglockd.release_batch(instance, resource, token, identity, conn, request, careful)
-- Purpose:    ends leases at their holders' wish and hands each resource over to those who wait, in
--             the same transaction. Releasing needs no guard, handing over does: where the guard is
--             held elsewhere the lease still ends and the resource is reported as pending.
-- Parameters: instance   the daemon that asks; null for SQL
--             resource, token   one element a lease; no token twice
--             identity   authenticated names, may be shorter; empty ones are not compared
--             conn       may be shorter; not null: the connection has closed, and the lease ends (reason
--                        connection_closed) only if it is still bound to it
--             request    likewise; not null: nobody took what was granted to that request, and it ends only if no LOCK
--                        with the same id has been given it since, nor a connection that it is bound to by now
--             careful    leases whose rows somebody has locked are passed over. Without it the statement waits for
--                        them (lock_timeout ends that, and the caller asks again, carefully): testing each row costs
--                        more than the rare wait
-- Returns:    item       position in the arrays, from 1
--             status     g gone: released (number: how long it was held, ms)
--                        l lost: that token holds no longer (in its grace: the resource is open now)
--                        d denied: another identity holds it
--                        r somebody's transaction keeps the row locked: nothing was done, ask again
--                        f the same, by pglockd.assert_fence()
--             number     see status
--             grant_request, grant_resource, grant_token, wake, pending   as acquire_batch
-- Errors:     25001 outside of READ COMMITTED; 55P03 after lock_timeout. Everything else that can be expected is a status.
-- Tables:     lease (delete), waiter (delete), clock, watch (read), and those of note_releases
create or replace function pglockd.release_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_identity text[], p_conn bigint[], p_request bigint[],
    p_careful boolean,
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_count constant integer := coalesce(cardinality(p_resource), 0);
    v_missed text[];
    v_token bigint[] := p_token;
    v_gone bigint[];
    v_waited text[];
    v_floor bigint[];
    v_free boolean[];
    v_level constant text := pglockd.history_level();
    v_ended pglockd.lease[];
    v_done record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    for i in 1 .. v_count loop
        if not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            v_missed := v_missed || p_resource[i];
        end if;
    end loop;
    if p_careful then
        v_token := pglockd.lock_leases(p_resource, p_token);
    end if;

    -- By place (ctid), which the planner cannot get wrong: a row that moved meanwhile, by a renewal, is missed and
    -- answered r. A statement of its own: under the guards it sees every waiter that may count on this release.
    with due as materialized (
        select k, x.place, x.token, x.queue_floor,
               x.grace_ms is not null and x.expires_us <= pglockd.lease_now() as ended,
               greatest(0, extract(epoch from clock_timestamp() - x.granted_at) * 1000)::bigint as held_ms,
               exists (select from pglockd.waiter w where w.resource = p_resource[k] and w.ticket > x.queue_floor offset 0)
               or (select exists (select from pglockd.waiter w where w.early_resource is not null))
                  and exists (select from pglockd.waiter w where w.early_resource = p_resource[k] offset 0)
               or (select exists (select from pglockd.waiter w where w.scope = 'tree'))
               or p_resource[k] = any (v_missed) as waited
          from generate_series(1, v_count) k
         cross join lateral (select l.ctid as place, l.token, l.queue_floor, l.granted_at, l.grace_ms, l.expires_us
                               from pglockd.lease_exclusive l
                              where l.resource = p_resource[k] and l.token = v_token[k]
                                and (l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity))
                                and (p_conn[k] is null or l.bound and l.conn_id = p_conn[k] and l.instance_id = p_instance)
                                and (p_request[k] is null or l.request_id = p_request[k] and l.instance_id = p_instance)
                             offset 0) x
    ), gone as (
        delete from pglockd.lease_exclusive l where l.ctid = any (array(select d.place from due d))
        -- Whole rows only where somebody may want them; pglockd.note_ends() leaves out what nobody does.
        returning l.token,
                  case when v_level = 'all'
                         or (select c.watched from pglockd.clock c where c.one)
                            and (l.resource || '/') ^@ any ((select pglockd.watched_stems())::text[])
                         or v_level = 'contended'
                            and (l.waited_ms is not null or l.gave_up is not null
                                 or l.ctid = any (array(select d.place from due d
                                                         where d.waited or d.ended or p_conn[d.k] is not null)))
                       then l::pglockd.lease end as lease
    )
    select array_agg(d.k), array_agg(case when d.ended then 'l' else 'g' end::"char"), array_agg(d.held_ms),
           (select array_agg(g.token) from gone g),
           array_agg(p_resource[d.k]) filter (where d.waited), array_agg(d.queue_floor) filter (where d.waited),
           array_agg(true) filter (where d.waited),
           (select array_agg(g.lease) from gone g where g.lease is distinct from null)
      into o_item, o_status, o_number, v_gone, v_waited, v_floor, v_free, v_ended
      from due d;
    if cardinality(v_gone) is distinct from cardinality(o_item) then
        select array_agg(u.item), array_agg(u.status), array_agg(u.number) into o_item, o_status, o_number
          from unnest(o_item, o_status, o_number) u (item, status, number)
         where v_token[u.item] = any (v_gone);
        -- What was not deleted has been renewed, or has ended and been granted to somebody else.
        v_free := null;
    end if;

    if coalesce(cardinality(o_item), 0) < v_count then
        v_done := pglockd.release_others(p_instance, p_resource, v_token, p_identity, p_conn, p_request, v_missed, o_item);
        o_item := o_item || v_done.o_item;
        o_status := o_status || v_done.o_status;
        o_number := o_number || v_done.o_number;
        v_waited := v_waited || v_done.o_waited;
        v_ended := v_ended || v_done.o_ended;
    end if;
    if v_ended is not null then
        o_wake := pglockd.note_releases(v_ended, p_token, p_conn);
    end if;
    if v_waited is not null then
        v_done := pglockd.hand_over(p_instance, v_waited, v_floor, v_free);
        o_grant_request := v_done.o_request;
        o_grant_resource := v_done.o_resource;
        o_grant_token := v_done.o_token;
        o_wake := o_wake || v_done.o_wake;
        o_pending := v_done.o_pending;
    end if;
    if coalesce(cardinality(o_item), 0) < v_count then
        v_done := pglockd.explain_unreleased(p_instance, p_resource, p_token, p_identity, p_conn, p_request, o_item);
        o_item := o_item || v_done.o_item;
        o_status := o_status || v_done.o_status;
        o_number := o_number || array_fill(null::bigint, array[cardinality(v_done.o_item)]);
    end if;
end
$$;
comment on function pglockd.release_batch(integer, text[], bigint[], text[], bigint[], bigint[], boolean) is
    'Ends leases at their holders'' wish and hands over to those who wait, in one transaction.';
