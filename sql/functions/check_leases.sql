-- pglockd.check_leases(resource, token)
-- Purpose:    CHECK: do these tokens hold? Reads only.
-- Returns:    item, number   those that hold, with their remaining time in ms (0 past the TTL)
-- Tables:     lease, session, clock (read)
create or replace function pglockd.check_leases(
    p_resource text[], p_token bigint[],
    out o_item integer[], out o_number bigint[])
language sql
as $$
    select array_agg(i), array_agg(pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s where s.session_id = l.session_id), l.expires_us),
                                         c.now_us))
      from (select pglockd.lease_now() as now_us) c,
           generate_series(1, cardinality(p_resource)) i
      join pglockd.lease l on l.resource = p_resource[i] and l.token = p_token[i]
     where l.grace_ms is null or l.expires_us > c.now_us
$$;
comment on function pglockd.check_leases(text[], bigint[]) is 'Which of these tokens hold, and for how long yet.';
