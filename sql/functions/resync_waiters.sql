-- pglockd.resync_waiters(instance, …)
-- Purpose:    a daemon says which of its requests wait. After a crash of the server, or when a
--             notification was lost, this puts missing waiters back with their old tickets and finds
--             the grants that the daemon has not heard of.
-- Parameters: one element a waiting request, as for acquire_batch, and its ticket
-- Returns:    item, status   w it waits   a it was granted (number: token)
--                            l another request took its place over, or its session has ended
--             pending        resources to promote
-- Tables:     waiter (insert), lease (update), clock (read)
create or replace function pglockd.resync_waiters(
    p_instance integer, p_resource text[], p_exclusive boolean[], p_ttl_ms bigint[], p_ticket bigint[],
    p_conn bigint[], p_request bigint[], p_owner text[], p_note text[], p_identity text[], p_id text[],
    p_session bigint[] default '{}',
    out o_item integer[], out o_status "char"[], out o_number bigint[], out o_pending text[])
language plpgsql
as $$
declare
    v_grant record;
begin
    if not exists (select from pglockd.queue_epoch) then
        perform pglockd.open_queue_epoch();
    end if;
    for i in 1 .. cardinality(p_resource) loop
        if (p_session[i] is null or pglockd.session_lives(p_session[i])) and not exists (select from pglockd.waiter w where w.resource = p_resource[i] and w.ticket = p_ticket[i]) then
            insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, early_resource, instance_id,
                                        mode, scope, resource, owner, identity, note, idempotency_key, session_id)
            values (p_ticket[i], p_request[i], p_conn[i], p_ttl_ms[i], clock_timestamp(), p_resource[i], p_instance,
                    case when p_exclusive[i] then 'exclusive'::pglockd.lock_mode else 'shared' end, 'node',
                    p_resource[i], coalesce(p_owner[i], ''), coalesce(p_identity[i], ''), p_note[i], p_id[i],
                    p_session[i])
                on conflict (resource, ticket) do nothing;
        end if;
        -- A row that somebody keeps locked is left as it is; the next heartbeat asks again.
        update pglockd.waiter w set absent_until_us = null, early_resource = w.resource
         where (w.resource, w.ticket) in (select x.resource, x.ticket from pglockd.waiter x
                                           where x.resource = p_resource[i] and x.ticket = p_ticket[i]
                                             and x.instance_id = p_instance and x.request_id = p_request[i]
                                             for update skip locked);
        -- After the insert: who promoted the waiter meanwhile has deleted its row before.
        v_grant := pglockd.accept_grant(p_instance, p_resource[i], p_request[i]);
        o_item := o_item || i;
        o_number := o_number || v_grant.o_number;
        if v_grant.o_status = 'a' then
            delete from pglockd.waiter w
             where w.resource = p_resource[i] and w.ticket = p_ticket[i]
               and w.instance_id = p_instance and w.request_id = p_request[i];
            o_status := o_status || 'a'::"char";
            continue;
        end if;
        o_status := o_status || case when v_grant.o_status = 'r' or exists (
                select from pglockd.waiter w
                 where w.resource = p_resource[i] and w.ticket = p_ticket[i]
                   and w.instance_id = p_instance and w.request_id = p_request[i]) then 'w' else 'l' end::"char";
        if not p_resource[i] = any (coalesce(o_pending, '{}')) then
            o_pending := o_pending || p_resource[i];
        end if;
    end loop;
end
$$;
comment on function pglockd.resync_waiters(integer, text[], boolean[], bigint[], bigint[], bigint[], bigint[],
    text[], text[], text[], text[], bigint[]) is 'Puts a daemon''s waiters back into the queue and finds their grants.';
