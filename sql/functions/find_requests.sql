-- pglockd.find_requests(instance, resource, request)
-- Purpose:    after a lost connection: what became of these LOCK requests? The caller holds the lane's
--             session lock, so that the old transaction has ended one way or the other. Grants that
--             another daemon made meanwhile are accepted: their clients are about to be told. What is left of one for
--             several resources, of which some have ended, is given back.
-- Returns:    item, status   g it has a lease (number: token), w it waits (number: ticket); the others were
--                            surely not done
--             number         see status; a request for several resources has an item for each
-- Tables:     lease (update, delete), waiter, clock (read)
create or replace function pglockd.find_requests(
    p_instance integer, p_resource text[], p_request bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[])
language sql
as $$
    with now as materialized (
        select pglockd.lease_now() as us
    ), asked as (
        select k, p_resource[k] as resource, p_request[k] as request,
               count(*) over (partition by p_request[k]) as members
          from generate_series(1, cardinality(p_resource)) k
    ), held as materialized (
        select a.k, l.resource, l.token, count(*) over (partition by a.request) = a.members as whole
          from asked a
          join pglockd.lease l on l.resource = a.resource and l.instance_id = p_instance and l.request_id = a.request
    ), accepted as (
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(now.us, l.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(now.us, l.ttl_ms))
          from now, held h
         where h.whole and l.resource = h.resource and l.token = h.token and not l.delivered
        returning l.token
    ), given_back as (
        delete from pglockd.lease l
         using held h
         where not h.whole and l.resource = h.resource and l.token = h.token
    )
    select array_agg(f.k), array_agg(f.status), array_agg(f.number)
      from (select h.k, 'g'::"char" as status, h.token as number from held h where h.whole
            union all
            select a.k, 'w', w.ticket
              from asked a
              join pglockd.waiter w on w.resource = a.resource and w.instance_id = p_instance
                                   and w.request_id = a.request) f
$$;
comment on function pglockd.find_requests(integer, text[], bigint[]) is
    'What became of a daemon''s LOCK requests, asked after a lost connection.';
