-- pglockd.change_batch(instance, …)
-- Purpose:    changes the modes of leases, in their order, each by pglockd.change_claim().
-- Parameters: resource, token, exclusive, ttl_ms, wait, conn, request   one element a request
--             identity   may be shorter
-- Returns:    item, and else as pglockd.change_claim()
-- Errors:     25001 outside of READ COMMITTED. Everything that can be expected is a status.
-- Tables:     as pglockd.change_claim()
create or replace function pglockd.change_batch(
    p_instance integer, p_resource text[], p_token bigint[], p_exclusive boolean[], p_ttl_ms bigint[], p_wait boolean[],
    p_conn bigint[], p_request bigint[], p_identity text[],
    out o_item integer[], out o_status "char"[], out o_number bigint[],
    out o_grant_request bigint[], out o_grant_resource text[], out o_grant_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
#variable_conflict use_variable
declare
    v_one record;
begin
    perform pglockd.require_read_committed();
    for i in 1 .. cardinality(p_resource) loop
        v_one := pglockd.change_claim(p_instance, p_resource[i], p_token[i], p_exclusive[i], p_ttl_ms[i], p_wait[i],
            p_conn[i], p_request[i], coalesce(p_identity[i], ''));
        o_item := o_item || i;
        o_status := o_status || v_one.o_status;
        o_number := o_number || v_one.o_number;
        o_grant_request := o_grant_request || v_one.o_grant_request;
        o_grant_resource := o_grant_resource || v_one.o_grant_resource;
        o_grant_token := o_grant_token || v_one.o_grant_token;
        o_wake := o_wake || v_one.o_wake;
        o_pending := o_pending || v_one.o_pending;
    end loop;
    if 'w' = any (o_status) then
        o_status := pglockd.mark_told(p_resource, o_item, o_status);
    end if;
end
$$;
comment on function pglockd.change_batch(integer, text[], bigint[], boolean[], bigint[], boolean[], bigint[], bigint[],
    text[]) is 'Changes the modes of leases, in their order.';
