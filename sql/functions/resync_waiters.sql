-- pglockd.resync_waiters(instance, …)
-- Purpose:    a daemon says which of its requests wait. After a crash of the server, or when a
--             notification was lost, this puts missing waiters back with their old tickets and finds
--             the grants that the daemon has not heard of.
-- Parameters: as for pglockd.acquire_claims(); ticket: of each waiting request; upgrade: token of the lease that it
--             wants to change, may be shorter
-- Returns:    item, status   w it waits   a it was granted (number: token; of a request for several resources as
--                              pglockd.withdraw_batch())
--                            l another request took its place over, or its session has ended
--             grant_request, grant_resource, grant_token   see status
--             pending        resources to promote
-- Tables:     waiter (insert, update, delete), lease (update), longest_ttl (insert), clock (read)
create or replace function pglockd.resync_waiters(
    p_instance integer, p_item integer[], p_resource text[], p_exclusive boolean[], p_tree boolean[],
    p_slots integer[], p_weight integer[], p_ttl_ms bigint[], p_ticket bigint[], p_conn bigint[], p_request bigint[],
    p_owner text[], p_note text[], p_identity text[], p_id text[], p_session bigint[], p_grace_ms bigint[],
    p_bound boolean[], p_upgrade bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_first integer := 1;
    v_last integer := 0;
    v_resource text[];
    v_status "char";
    v_grant record;
    v_own record;
begin
    perform pglockd.check_server();
    -- They are granted later without another word about that, and the record of it may be lost.
    perform pglockd.note_ttl(p_ttl_ms, p_grace_ms);
    for i in 1 .. cardinality(p_request) loop
        while p_item[v_last + 1] = i loop
            v_last := v_last + 1;
        end loop;
        v_resource := p_resource[v_first : v_last];
        if true = any (p_tree[v_first : v_last]) then
            perform pglockd.note_trees();
        end if;
        if (p_session[i] is null or pglockd.session_lives(p_session[i]))
           and not exists (select from pglockd.waiter w where w.resource = v_resource[1] and w.ticket = p_ticket[i]) then
            select l.owner, l.note, l.identity, l.idempotency_key, l.session_id, l.grace_ms, l.bound into v_own
              from pglockd.lease l where l.resource = v_resource[1] and l.token = p_upgrade[i];
            perform pglockd.queue_claim(p_ticket[i], false, p_instance, v_resource, p_exclusive[v_first : v_last],
                        p_tree[v_first : v_last], p_slots[i], p_weight[i], p_ttl_ms[i], p_conn[i], p_request[i],
                        coalesce(v_own.owner, p_owner[i], ''), coalesce(v_own.note, p_note[i]),
                        coalesce(v_own.identity, p_identity[i], ''), coalesce(v_own.idempotency_key, p_id[i]),
                        coalesce(v_own.session_id, p_session[i]), coalesce(v_own.grace_ms, p_grace_ms[i]),
                        coalesce(v_own.bound, p_bound[i], false), p_upgrade[i]);
        end if;
        -- A row that somebody keeps locked is left as it is; the next heartbeat asks again.
        update pglockd.waiter w set absent_until_us = null, early_resource = w.resource
         where (w.resource, w.ticket) in (select x.resource, x.ticket from pglockd.waiter x
                                           where x.resource = any (v_resource) and x.ticket = p_ticket[i]
                                             and x.instance_id = p_instance and x.request_id = p_request[i]
                                             for update skip locked);
        -- After the insert: who promoted the waiter meanwhile has deleted its rows before.
        v_grant := pglockd.accept_grant(p_instance, v_resource, p_request[i]);
        v_status := v_grant.o_status;
        if v_status = 'a' then
            delete from pglockd.waiter w
             where w.resource = any (v_resource) and w.ticket = p_ticket[i]
               and w.instance_id = p_instance and w.request_id = p_request[i];
            if cardinality(v_resource) > 1 then
                o_grant_request := o_grant_request || array_fill(p_request[i], array[cardinality(v_resource)]);
                o_grant_resource := o_grant_resource || v_resource;
                o_grant_token := o_grant_token || v_grant.o_token;
            end if;
        else
            v_status := case when v_status = 'r' or exists (
                select from pglockd.waiter w
                 where w.resource = v_resource[1] and w.ticket = p_ticket[i]
                   and w.instance_id = p_instance and w.request_id = p_request[i]) then 'w' else 'l' end;
            o_pending := o_pending || v_resource;
        end if;
        o_item := o_item || i;
        o_status := o_status || v_status;
        o_number := o_number || v_grant.o_token[1];
        v_first := v_last + 1;
    end loop;
    o_pending := array(select distinct u from unnest(o_pending) u);
end
$$;
comment on function pglockd.resync_waiters(integer, integer[], text[], boolean[], boolean[], integer[], integer[], bigint[],
    bigint[], bigint[], bigint[], text[], text[], text[], text[], bigint[], bigint[], boolean[], bigint[]) is
    'Puts a daemon''s waiters back into the queue and finds their grants.';
