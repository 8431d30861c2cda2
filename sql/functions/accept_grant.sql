-- pglockd.accept_grant(instance, resource, request)
-- Purpose:    a daemon that asks about one of its waiting requests finds the leases that it was granted
--             meanwhile, and accepts them with their full TTL. Of a request for several resources some may have ended
--             already: it was granted all or nothing, so the others are given back, and it has none.
-- Parameters: resource   all of the request's
-- Returns:    status     a it has leases   r it has some whose rows are locked: ask again   l it has none
--             token      of a: one for each lease, in the order of the resources
-- Tables:     lease (update, delete), clock (read)
create or replace function pglockd.accept_grant(
    p_instance integer, p_resource text[], p_request bigint, out o_status "char", out o_token bigint[])
language plpgsql
as $$
declare
    v_now_us constant bigint := pglockd.lease_now();
    v_all bigint;
    v_gone pglockd.lease[];
begin
    select count(*) into v_all from pglockd.lease l
     where l.resource = any (p_resource) and l.instance_id = p_instance and l.request_id = p_request;
    if v_all < cardinality(p_resource) then
        o_status := 'l';
        if v_all > 0 then
            with gone as (
                delete from pglockd.lease l
                 where l.resource = any (p_resource) and l.instance_id = p_instance and l.request_id = p_request
                returning l as lease
            )
            select array_agg(g.lease) into v_gone from gone g;
            perform pglockd.note_ends(v_gone, array_fill('released'::pglockd.end_reason, array[cardinality(v_gone)]));
        end if;
        return;
    end if;
    with mine as materialized (
        select l.resource, l.token from pglockd.lease l
         where l.resource = any (p_resource) and l.instance_id = p_instance and l.request_id = p_request
           for no key update skip locked
    ), accepted as (
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(v_now_us, l.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(v_now_us, l.ttl_ms))
          from mine
         where l.resource = mine.resource and l.token = mine.token
        returning l.resource, l.token
    )
    select array_agg(a.token order by array_position(p_resource, a.resource)) into o_token from accepted a;
    o_status := 'a';
    if coalesce(cardinality(o_token), 0) < v_all then
        o_status := 'r';
        o_token := null;
    end if;
end
$$;
comment on function pglockd.accept_grant(integer, text[], bigint) is
    'The leases that a waiting request of a daemon was granted meanwhile.';
