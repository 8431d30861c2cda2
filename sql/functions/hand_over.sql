-- pglockd.hand_over(instance, resource, floor)
-- Purpose:    promotes the waiters of resources, each under its guard. A resource whose guard is held
--             elsewhere, or which has more to grant than one call does, is reported as pending.
-- Parameters: floor   for each resource, as pglockd.promote(); null or missing: not known
-- Returns:    request, resource, token   grants to waiters of this daemon
--             wake             other daemons with new grants, to be notified after the commit
--             pending          resources to call again for
-- Errors:     25001 outside of READ COMMITTED.
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.hand_over(
    p_instance integer, p_resource text[], p_floor bigint[] default '{}',
    out o_request bigint[], out o_resource text[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_done record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform pglockd.require_read_committed();
    end if;
    for i in 1 .. coalesce(cardinality(p_resource), 0) loop
        if pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            v_done := pglockd.promote(p_instance, p_resource[i], coalesce(p_floor[i], 0));
            o_request := o_request || v_done.o_request;
            o_resource := o_resource || v_done.o_resource;
            o_token := o_token || v_done.o_token;
            o_wake := o_wake || v_done.o_wake;
            continue when not v_done.o_more;
        end if;
        o_pending := o_pending || p_resource[i];
    end loop;
end
$$;
comment on function pglockd.hand_over(integer, text[], bigint[]) is 'Promotes the waiters of resources, each under its guard.';
