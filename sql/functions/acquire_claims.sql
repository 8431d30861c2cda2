-- pglockd.acquire_claims(instance, …)
-- Purpose:    decides LOCK requests for trees, semaphores and several resources, in their order, each by
--             pglockd.acquire_claim().
-- Parameters: instance   the daemon that asks; null for SQL, which cannot wait
--             item       for each member: position of its request; a request's members lie together
--             resource, exclusive, tree   one element a member
--             slots, weight, ttl_ms, wait, conn, request   one element a request
--             owner, note, identity, id, session, grace_ms, bound, leases_max   may be shorter arrays: what is missing is
--                       null
-- Returns:    as pglockd.acquire_batch(); and n for a semaphore with another limit. The tokens of what was granted are
--             among grant_request, grant_resource, grant_token, one for each member.
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     as pglockd.acquire_claim(), longest_ttl (insert)
create or replace function pglockd.acquire_claims(
    p_instance integer, p_item integer[], p_resource text[], p_exclusive boolean[], p_tree boolean[],
    p_slots integer[], p_weight integer[], p_ttl_ms bigint[], p_wait boolean[], p_conn bigint[], p_request bigint[],
    p_owner text[], p_note text[], p_identity text[], p_id text[], p_session bigint[], p_grace_ms bigint[], p_bound boolean[],
    p_leases_max integer[] default '{}',
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_first integer := 1;
    v_last integer := 0;
    v_one record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    if p_instance is null then
        perform pglockd.check_server();
    end if;
    perform pglockd.note_ttl(p_ttl_ms, p_grace_ms);
    for i in 1 .. cardinality(p_request) loop
        while p_item[v_last + 1] = i loop
            v_last := v_last + 1;
        end loop;
        v_one := pglockd.acquire_claim(p_instance, p_resource[v_first : v_last], p_exclusive[v_first : v_last],
            p_tree[v_first : v_last], p_slots[i], p_weight[i], p_ttl_ms[i], p_wait[i], p_conn[i], p_request[i],
            coalesce(p_owner[i], ''), p_note[i], coalesce(p_identity[i], ''), p_id[i], p_session[i], p_grace_ms[i],
            coalesce(p_bound[i], false), p_leases_max[i]);
        o_item := o_item || i;
        o_status := o_status || case when v_one.o_status = 'w' and pglockd.is_listened_to(p_resource[v_first : v_last])
                                     then 'W' else v_one.o_status end;
        o_number := o_number || v_one.o_number;
        o_grant_request := o_grant_request || v_one.o_grant_request;
        o_grant_resource := o_grant_resource || v_one.o_grant_resource;
        o_grant_token := o_grant_token || v_one.o_grant_token;
        if v_one.o_token is not null then
            o_grant_request := o_grant_request || array_fill(p_request[i], array[cardinality(v_one.o_token)]);
            o_grant_resource := o_grant_resource || p_resource[v_first : v_last];
            o_grant_token := o_grant_token || v_one.o_token;
        end if;
        o_wake := o_wake || v_one.o_wake;
        o_pending := o_pending || v_one.o_pending;
        v_first := v_last + 1;
    end loop;
end
$$;
comment on function pglockd.acquire_claims(integer, integer[], text[], boolean[], boolean[], integer[], integer[], bigint[],
    boolean[], bigint[], bigint[], text[], text[], text[], text[], bigint[], bigint[], boolean[], integer[]) is
    'Decides LOCK requests for trees, semaphores and several resources, in their order.';
