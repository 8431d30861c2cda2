-- pglockd.withdraw_batch(instance, item, resource, ticket, request, keep_ms)
-- Purpose:    takes waiters out of the queue (their wait ran out, was cancelled, or their client went
--             away) and grants what they held up.
-- Parameters: item, resource   all resources of the requests, and for each the position of its request; those of a
--                        request lie together
--             ticket, request   one element a request: which waiter; request guards against one that took the place
--                        over since
--             keep_ms    not null: the client may come back with its id, so the place is kept for that
--                        long in lease time and passed over meanwhile
-- Returns:    item       position of the request
--             status     g gone from the queue      k kept for its client
--                        a already granted (number: token; now delivered, with its full TTL; of a request for several
--                          resources the tokens are among grant_request, grant_resource, grant_token)
--                        l neither: it is not in the queue any more
--                        r somebody's transaction keeps a row locked: nothing was done, ask again
--             number     see status
--             grant_request, grant_resource, grant_token, wake, pending   as acquire_batch
-- Tables:     waiter (delete, update), lease (update), clock (read)
create or replace function pglockd.withdraw_batch(
    p_instance integer, p_item integer[], p_resource text[], p_ticket bigint[], p_request bigint[], p_keep_ms bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_noted constant boolean := pglockd.history_level() <> 'off';
    v_resource text[];
    v_freed text[];
    v_rows text[];
    v_status "char";
    v_number bigint;
    v_done record;
    w record;
    i integer;
begin
    -- In one order everywhere, so that two withdrawals never wait for each other.
    for i, v_resource in
        select u.item, array_agg(u.resource order by u.n) from unnest(p_item, p_resource) with ordinality u (item, resource, n)
         group by u.item order by min(u.resource), u.item
    loop
        v_rows := null;
        select q.ticket, q.members into w from pglockd.waiter q
         where q.resource = v_resource[1] and q.ticket = p_ticket[i]
           and q.instance_id = p_instance and q.request_id = p_request[i];
        if w.ticket is not null then
            v_rows := pglockd.lock_waiter(v_resource[1], w.ticket, w.members);
        end if;
        v_number := null;
        if w.ticket is null then
            v_done := pglockd.accept_grant(p_instance, v_resource, p_request[i]);
            v_status := v_done.o_status;
            v_number := case when v_status = 'a' then v_done.o_token[1] end;
            if v_status = 'a' and cardinality(v_resource) > 1 then
                o_grant_request := o_grant_request || array_fill(p_request[i], array[cardinality(v_resource)]);
                o_grant_resource := o_grant_resource || v_resource;
                o_grant_token := o_grant_token || v_done.o_token;
            end if;
        elsif v_rows is null then
            v_status := 'r';
        elsif p_keep_ms[i] is null then
            if v_noted then
                perform pglockd.note_given_up(v_rows, w.ticket);
            end if;
            delete from pglockd.waiter q where q.resource = any (v_rows) and q.ticket = w.ticket;
            v_status := 'g';
        else
            update pglockd.waiter q set absent_until_us = v_now_us + 1000 * p_keep_ms[i]
             where q.resource = any (v_rows) and q.ticket = w.ticket;
            v_status := 'k';
        end if;
        o_item := o_item || i;
        o_status := o_status || v_status;
        o_number := o_number || v_number;
        -- Also where some leases of a set have been given back.
        v_freed := v_freed || case when v_status = 'l' and cardinality(v_resource) > 1 then v_resource else v_rows end;
    end loop;
    if v_freed is not null then
        v_freed := array(select distinct f from unnest(v_freed) f);
        v_done := pglockd.hand_over(p_instance, v_freed);
        o_grant_request := o_grant_request || v_done.o_request;
        o_grant_resource := o_grant_resource || v_done.o_resource;
        o_grant_token := o_grant_token || v_done.o_token;
        o_wake := v_done.o_wake;
        o_pending := v_done.o_pending;
    end if;
end
$$;
comment on function pglockd.withdraw_batch(integer, integer[], text[], bigint[], bigint[], bigint[]) is
    'Takes waiters out of the queue and grants what they held up.';
