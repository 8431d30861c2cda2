-- pglockd.resync_waiters(instance, …)
-- Purpose:    a daemon says which of its requests wait. After a crash of the server, or when a
--             notification was lost, this puts missing waiters back with their old tickets and finds
--             the grants that the daemon has not heard of.
-- Parameters: as for pglockd.acquire_claims(); ticket: of each waiting request; upgrade: token of the lease that it
--             wants to change, may be shorter
-- Returns:    item, status   w it waits   a it was granted (number: token; of a request for several resources as
--                              pglockd.withdraw_batch())   D it was refused, since it would have waited for ever
--                            l another request took its place over, or the lease that it was to change has ended
--                            s its session has ended
--             grant_request, grant_resource, grant_token   see status
--             pending        resources to promote
-- Tables:     those of pglockd.resync_waiter(), longest_ttl (insert)
create or replace function pglockd.resync_waiters(
    p_instance integer, p_item integer[], p_resource text[], p_exclusive boolean[], p_tree boolean[],
    p_slots integer[], p_weight integer[], p_ttl_ms bigint[], p_ticket bigint[], p_conn bigint[], p_request bigint[],
    p_owner text[], p_note text[], p_identity text[], p_id text[], p_session bigint[], p_grace_ms bigint[],
    p_bound boolean[], p_upgrade bigint[], p_leases_max integer[] default '{}',
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_first integer := 1;
    v_last integer := 0;
    v_resource text[];
    v_one record;
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
        v_one := pglockd.resync_waiter(p_instance, v_resource, p_exclusive[v_first : v_last], p_tree[v_first : v_last],
            p_slots[i], p_weight[i], p_ttl_ms[i], p_ticket[i], p_conn[i], p_request[i], coalesce(p_owner[i], ''), p_note[i],
            coalesce(p_identity[i], ''), p_id[i], p_session[i], p_grace_ms[i], coalesce(p_bound[i], false), p_upgrade[i],
            p_leases_max[i]);
        if v_one.o_status <> 'a' then
            o_pending := o_pending || v_resource;
        elsif cardinality(v_resource) > 1 then
            o_grant_request := o_grant_request || array_fill(p_request[i], array[cardinality(v_resource)]);
            o_grant_resource := o_grant_resource || v_resource;
            o_grant_token := o_grant_token || v_one.o_token;
        end if;
        o_item := o_item || i;
        o_status := o_status || case when v_one.o_status = 'r' then 'w' else v_one.o_status end;
        o_number := o_number || case when v_one.o_status = 'a' then v_one.o_token[1] end;
        v_first := v_last + 1;
    end loop;
    o_pending := array(select distinct u from unnest(o_pending) u);
end
$$;
comment on function pglockd.resync_waiters(integer, integer[], text[], boolean[], boolean[], integer[], integer[], bigint[],
    bigint[], bigint[], bigint[], text[], text[], text[], text[], bigint[], bigint[], boolean[], bigint[], integer[]) is
    'Puts a daemon''s waiters back into the queue and finds their grants.';
