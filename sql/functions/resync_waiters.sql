-- pglockd.resync_waiters(instance, …)
-- Purpose:    a daemon says which of its requests wait. After a crash of the server, or when a
--             notification was lost, this puts missing waiters back with their old tickets and finds
--             the grants that the daemon has not heard of.
-- Parameters: one element a waiting request, as for acquire_batch, and its ticket
-- Returns:    item, status   w it waits   a it was granted (number: token)
--                            l another request took its place over
--             pending        resources to promote
-- Tables:     waiter (insert), lease (update), clock (read)
create or replace function pglockd.resync_waiters(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_ttl_ms bigint[], p_ticket bigint[],
    p_conn bigint[], p_request bigint[], p_owner text[], p_note text[], p_identity text[], p_id text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[], out o_pending text[])
language plpgsql
as $$
declare
    v_token bigint;
    v_waits boolean;
begin
    if not exists (select from pglockd.queue_epoch) then
        perform pglockd.open_queue_epoch();
    end if;
    for i in 1 .. cardinality(p_resource) loop
        insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, early_resource, instance_id, mode,
                                    scope, resource, owner, identity, note, idempotency_key)
        values (p_ticket[i], p_request[i], p_conn[i], p_ttl_ms[i], clock_timestamp(), p_resource[i], p_instance,
                case when p_exclusive[i] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node',
                p_resource[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_note[i], p_id[i])
            on conflict (resource, ticket) do update
            set absent_until_us = null, early_resource = excluded.early_resource
          where waiter.request_id = excluded.request_id and waiter.instance_id = excluded.instance_id;
        v_waits := found;
        -- After the insert: who promoted the waiter meanwhile has deleted its row before.
        v_token := null;
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(pglockd.lease_now(), l.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(pglockd.lease_now(), l.ttl_ms))
         where l.resource = p_resource[i] and l.instance_id = p_instance and l.request_id = p_request[i]
        returning l.token into v_token;
        o_item := o_item || i;
        o_number := o_number || v_token;
        if v_token is not null then
            delete from pglockd.waiter w
             where w.resource = p_resource[i] and w.ticket = p_ticket[i]
               and w.instance_id = p_instance and w.request_id = p_request[i];
            o_status := o_status || 'a'::"char";
            continue;
        end if;
        o_status := o_status || case when v_waits then 'w' else 'l' end::"char";
        if not p_resource[i] = any (coalesce(o_pending, '{}')) then
            o_pending := o_pending || p_resource[i];
        end if;
    end loop;
end
$$;
comment on function pglockd.resync_waiters(integer, text[], boolean[], bigint[], bigint[], bigint[], bigint[],
    text[], text[], text[], text[]) is 'Puts a daemon''s waiters back into the queue and finds their grants.';
