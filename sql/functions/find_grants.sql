-- pglockd.find_grants(instance, resource, request)
-- Purpose:    after a lost connection: which of these requests got a lease? The caller holds the lane's
--             session lock, so that the old transaction has ended one way or the other.
-- Returns:    item, token   those that did; the others were surely not done
-- Tables:     lease (read)
create or replace function pglockd.find_grants(
    p_instance integer, p_resource text[], p_request bigint[],
    out o_item integer[], out o_token bigint[])
language sql
as $$
    select array_agg(i), array_agg(l.token)
      from generate_series(1, cardinality(p_resource)) i
      join pglockd.lease l on l.resource = p_resource[i] and l.instance_id = p_instance
                          and l.request_id = p_request[i]
$$;
comment on function pglockd.find_grants(integer, text[], bigint[]) is
    'Which of a daemon''s requests got a lease, asked after a lost connection.';
