-- pglockd.accept_grant(instance, resource, request)
-- Purpose:    a daemon that asks about one of its waiting requests finds the lease that it was granted
--             meanwhile, and accepts it with its full TTL.
-- Returns:    status   a it has a lease (number: token)   r it has one whose row is locked: ask again
--                      l it has none
--             number   see status
-- Tables:     lease (update), clock (read)
create or replace function pglockd.accept_grant(
    p_instance integer, p_resource text, p_request bigint, out o_status "char", out o_number bigint)
language plpgsql
as $$
declare
    v_ttl_ms bigint;
begin
    select l.token, l.ttl_ms into o_number, v_ttl_ms
      from pglockd.lease l
     where l.resource = p_resource and l.instance_id = p_instance and l.request_id = p_request
       for no key update skip locked;
    if o_number is not null then
        o_status := 'a';
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(pglockd.lease_now(), v_ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(pglockd.lease_now(), v_ttl_ms))
         where l.resource = p_resource and l.token = o_number;
    elsif exists (select from pglockd.lease l
                   where l.resource = p_resource and l.instance_id = p_instance and l.request_id = p_request) then
        o_status := 'r';
    else
        o_status := 'l';
    end if;
end
$$;
comment on function pglockd.accept_grant(integer, text, bigint) is
    'The lease that a waiting request of a daemon was granted meanwhile.';
