-- pglockd.release_batch(instance, resource, token, identity)
-- Purpose:    ends leases at their holders' wish and hands each resource over to those who wait, in
--             the same transaction. Releasing needs no guard, handing over does: where the guard is
--             held elsewhere the lease still ends and the resource is reported as pending.
-- Parameters: instance   the daemon that asks; null for SQL
--             resource, token   one element a lease; no pair twice
--             identity   authenticated names, may be shorter; empty ones are not compared
-- Returns:    item       position in the arrays, from 1
--             status     g gone: released (number: how long it was held, ms)
--                        l lost: that token holds no longer   d denied: another identity holds it
--                        r somebody's transaction keeps the row locked: nothing was done, ask again
--             number     see status
--             grant_request, grant_resource, grant_token, wake, pending   as acquire_batch
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     lease (delete), waiter (delete), clock (read)
create or replace function pglockd.release_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_identity text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_count constant integer := coalesce(cardinality(p_resource), 0);
    v_missed text[];
    v_waited text[];
    v_floor bigint[];
    v_free boolean[];
    v_done record;
    r record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    if v_count >= 4 then
        select array_agg(p_resource[k])
                   filter (where not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[k])))
          into v_missed
          from generate_series(1, v_count) k;
        -- By place (ctid): a row that moved meanwhile, by a renewal, is missed and answered r.
        -- A statement of its own: under the guards it sees every waiter that may count on this release.
        with due as materialized (
            select k, l.ctid as place
              from generate_series(1, v_count) k
              join pglockd.lease l on l.resource = p_resource[k] and l.token = p_token[k]
             where l.identity = '' or coalesce(p_identity[k], '') in ('', l.identity)
               for update of l skip locked
        ), gone as (
            delete from pglockd.lease l using due
             where l.ctid = due.place
            returning due.k, l.resource, l.granted_at, l.queue_floor, l.mode,
                      exists (select from pglockd.waiter w
                               where w.resource = l.resource and w.ticket > l.queue_floor)
                      or (select exists (select from pglockd.waiter w where w.early_resource is not null))
                      or l.resource = any (v_missed) as waited
        )
        select array_agg(g.k), array_agg('g'::"char"),
               array_agg(greatest(0, extract(epoch from clock_timestamp() - g.granted_at) * 1000)::bigint),
               array_agg(g.resource) filter (where g.waited), array_agg(g.queue_floor) filter (where g.waited),
               array_agg(g.mode = 'exclusive') filter (where g.waited)
          into o_item, o_status, o_number, v_waited, v_floor, v_free
          from gone g;
    else
        -- The same, one by one: for a few, simple statements cost less than one of sets. Here the guard
        -- is taken after the deletion, by hand_over(), and whether somebody waits is looked at after it.
        for i in 1 .. v_count loop
            with due as materialized (
                select l.ctid as place from pglockd.lease l
                 where l.resource = p_resource[i] and l.token = p_token[i]
                   and (l.identity = '' or coalesce(p_identity[i], '') in ('', l.identity))
                   for update skip locked
            )
            delete from pglockd.lease l using due
             where l.ctid = due.place
            returning l.granted_at, l.queue_floor, l.mode into r;
            if r.granted_at is not null then
                o_item := o_item || i;
                o_status := o_status || 'g'::"char";
                o_number := o_number
                    || greatest(0, extract(epoch from clock_timestamp() - r.granted_at) * 1000)::bigint;
                v_waited := v_waited || p_resource[i];
                v_floor := v_floor || r.queue_floor;
                v_free := v_free || (r.mode = 'exclusive');
            end if;
        end loop;
    end if;
    if v_waited is not null then
        v_done := pglockd.hand_over(p_instance, v_waited, v_floor, v_free);
        o_grant_request := v_done.o_request;
        o_grant_resource := v_done.o_resource;
        o_grant_token := v_done.o_token;
        o_wake := v_done.o_wake;
        o_pending := v_done.o_pending;
    end if;
    if coalesce(cardinality(o_item), 0) < v_count then
        v_done := pglockd.explain_missing(p_resource, p_token, p_identity, o_item);
        o_item := o_item || v_done.o_item;
        o_status := o_status || v_done.o_status;
        o_number := o_number || array_fill(null::bigint, array[cardinality(v_done.o_item)]);
    end if;
end
$$;
comment on function pglockd.release_batch(integer, text[], bigint[], text[]) is
    'Ends leases at their holders'' wish and hands over to those who wait, in one transaction.';
