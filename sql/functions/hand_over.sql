-- pglockd.hand_over(instance, resource)
-- Purpose:    promotes the waiters of many resources, each under its guard. A resource whose guard is
--             held elsewhere, or which has more to grant than one call does, is reported as pending.
-- Returns:    request, token   grants to waiters of this daemon
--             wake             other daemons with new grants, to be notified after the commit
--             pending          resources to call again for
-- Tables:     waiter (delete), lease (insert), instance, clock (read)
create or replace function pglockd.hand_over(
    p_instance integer, p_resource text[],
    out o_request bigint[], out o_token bigint[], out o_wake integer[], out o_pending text[])
language plpgsql
as $$
declare
    v_resource text;
    v_guarded text[];
    v_done record;
begin
    perform pglockd.require_read_committed();
    -- A statement of its own: promote() must see what the last holder of a guard committed.
    select array_agg(g.resource) filter (where g.held), array_agg(g.resource) filter (where not g.held)
      into v_guarded, o_pending
      from (select u.resource, pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(u.resource)) as held
              from unnest(p_resource) u (resource)) g;
    foreach v_resource in array coalesce(v_guarded, '{}') loop
        select * into v_done from pglockd.promote(p_instance, v_resource);
        o_request := o_request || v_done.o_request;
        o_token := o_token || v_done.o_token;
        o_wake := o_wake || v_done.o_wake;
        if v_done.o_more then
            o_pending := o_pending || v_resource;
        end if;
    end loop;
end
$$;
comment on function pglockd.hand_over(integer, text[]) is 'Promotes the waiters of many resources, each under its guard.';
