-- pglockd.retire_instance(instance, keep_ms)
-- Purpose:    removes a daemon that stopped or died, and its waiters; those with an id keep their
--             places for their clients. Leases stand until their TTL.
-- Parameters: instance  who
--             keep_ms   how long places are kept, in lease time
-- Returns:    request, token, wake, pending   as acquire_batch
-- Tables:     instance, listener (delete), waiter (delete, update), lease (insert), clock (read)
create or replace function pglockd.retire_instance(
    p_instance integer, p_keep_ms bigint,
    out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_resources text[];
begin
    with gone as (
        delete from pglockd.waiter w where w.instance_id = p_instance and w.idempotency_key is null
        returning w.resource
    ), kept as (
        update pglockd.waiter w set absent_until_us = v_now_us + 1000 * p_keep_ms
         where w.instance_id = p_instance and w.idempotency_key is not null and w.absent_until_us is null
        returning w.resource
    )
    select array_agg(distinct f.resource) into v_resources
      from (select resource from gone union all select resource from kept) f;
    delete from pglockd.listener n where n.instance_id = p_instance;
    delete from pglockd.instance n where n.instance_id = p_instance;
    if v_resources is not null then
        select h.o_wake, h.o_pending into o_wake, o_pending from pglockd.hand_over(null, v_resources) h;
    end if;
end
$$;
comment on function pglockd.retire_instance(integer, bigint) is 'Removes a daemon that stopped or died, and its waiters.';
