-- pglockd.withdraw_batch(instance, resource, ticket, request, keep_ms)
-- Purpose:    takes waiters out of the queue (their wait ran out, was cancelled, or their client went
--             away) and grants what they held up.
-- Parameters: instance, resource, ticket, request   which waiter; request guards against one that took
--                        the place over since
--             keep_ms    not null: the client may come back with its id, so the place is kept for that
--                        long in lease time and passed over meanwhile
-- Returns:    item       position in the arrays
--             status     g gone from the queue      k kept for its client
--                        a already granted (number: token; now delivered, with its full TTL)
--                        l neither: it is not in the queue any more
--                        r somebody's transaction keeps the row locked: nothing was done, ask again
--             number     see status
--             grant_request, grant_resource, grant_token, wake, pending   as acquire_batch
-- Tables:     waiter (delete, update), lease (update), clock (read)
create or replace function pglockd.withdraw_batch(
    p_instance integer, p_resource text[], p_ticket bigint[], p_request bigint[], p_keep_ms bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_freed text[];
    v_found bigint;
    v_grant record;
    i integer;
begin
    -- In one order everywhere, so that two withdrawals never wait for each other.
    for i in select k from generate_series(1, cardinality(p_resource)) k order by p_resource[k], p_ticket[k] loop
        o_item := o_item || i;
        v_found := null;
        select w.ticket into v_found
          from pglockd.waiter w
         where w.resource = p_resource[i] and w.ticket = p_ticket[i]
           and w.instance_id = p_instance and w.request_id = p_request[i]
           for update skip locked;
        if v_found is null and exists (select from pglockd.waiter w
                                        where w.resource = p_resource[i] and w.ticket = p_ticket[i]
                                          and w.instance_id = p_instance and w.request_id = p_request[i]) then
            o_status := o_status || 'r'::"char";
            o_number := o_number || null::bigint;
        elsif v_found is null then
            v_grant := pglockd.accept_grant(p_instance, p_resource[i], p_request[i]);
            o_status := o_status || v_grant.o_status;
            o_number := o_number || v_grant.o_number;
        elsif p_keep_ms[i] is null then
            delete from pglockd.waiter w where w.resource = p_resource[i] and w.ticket = p_ticket[i];
            o_status := o_status || 'g'::"char";
            o_number := o_number || null::bigint;
        else
            update pglockd.waiter w set absent_until_us = v_now_us + 1000 * p_keep_ms[i]
             where w.resource = p_resource[i] and w.ticket = p_ticket[i];
            o_status := o_status || 'k'::"char";
            o_number := o_number || null::bigint;
        end if;
        if o_status[cardinality(o_status)] in ('g', 'k') and v_freed[cardinality(v_freed)] is distinct from p_resource[i] then
            v_freed := v_freed || p_resource[i];
        end if;
    end loop;
    if v_freed is not null then
        select h.o_request, h.o_resource, h.o_token, h.o_wake, h.o_pending
          into o_grant_request, o_grant_resource, o_grant_token, o_wake, o_pending
          from pglockd.hand_over(p_instance, v_freed) h;
    end if;
end
$$;
comment on function pglockd.withdraw_batch(integer, text[], bigint[], bigint[], bigint[]) is
    'Takes waiters out of the queue and grants what they held up.';
