-- pglockd.find_requests(instance, resource, request)
-- Purpose:    after a lost connection: what became of these LOCK requests? The caller holds the lane's
--             session lock, so that the old transaction has ended one way or the other. Grants that
--             another daemon made meanwhile are accepted: their clients are about to be told.
-- Returns:    item, status   g it has a lease (number: token), w it waits (number: ticket); the others were
--                            surely not done
--             number         see status
-- Tables:     lease (update), waiter, clock (read)
create or replace function pglockd.find_requests(
    p_instance integer, p_resource text[], p_request bigint[],
    out o_item integer[], out o_status "char"[], out o_number bigint[])
language sql
as $$
    with now as materialized (
        select pglockd.lease_now() as us
    ), accepted as (
        update pglockd.lease l
           set delivered = true, expires_us = pglockd.lease_end(now.us, l.ttl_ms),
               check_us = least(l.check_us, pglockd.lease_end(now.us, l.ttl_ms))
          from now, generate_series(1, cardinality(p_resource)) k
         where l.resource = p_resource[k] and l.instance_id = p_instance and l.request_id = p_request[k]
           and not l.delivered
        returning l.token
    )
    select array_agg(f.k), array_agg(f.status), array_agg(f.number)
      from (select k, 'g'::"char" as status, l.token as number
              from generate_series(1, cardinality(p_resource)) k
              join pglockd.lease l on l.resource = p_resource[k] and l.instance_id = p_instance
                                  and l.request_id = p_request[k]
            union all
            select k, 'w', w.ticket
              from generate_series(1, cardinality(p_resource)) k
              join pglockd.waiter w on w.resource = p_resource[k] and w.instance_id = p_instance
                                   and w.request_id = p_request[k]) f
$$;
comment on function pglockd.find_requests(integer, text[], bigint[]) is
    'What became of a daemon''s LOCK requests, asked after a lost connection.';
