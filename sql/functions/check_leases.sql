-- pglockd.check_leases(resource, token, identity)
-- Purpose:    CHECK: do these tokens hold? Reads only.
-- Parameters: identity   authenticated names, may be shorter; empty ones are not compared
-- Returns:    item, number   those that hold, with their remaining time in ms (0 past the TTL, -1 without one)
--             own            whether it is that identity that holds
-- Tables:     lease, session, clock (read)
create or replace function pglockd.check_leases(
    p_resource text[], p_token bigint[], p_identity text[] default '{}',
    out o_item integer[], out o_number bigint[], out o_own boolean[])
language sql
as $$
    select array_agg(i),
           array_agg(case when l.hold_id is not null then -1
                          else pglockd.ttl_left_ms(coalesce((select s.expires_us from pglockd.session s
                                                              where s.session_id = l.session_id), l.expires_us),
                                                   c.now_us) end),
           array_agg(l.identity = '' or coalesce(p_identity[i], '') in ('', l.identity))
      from (select pglockd.lease_now() as now_us) c,
           generate_series(1, cardinality(p_resource)) i,
           -- Each by the index, whatever the planner thinks of joins: it must not pass all leases.
           lateral (select * from pglockd.lease x where x.resource = p_resource[i] and x.token = p_token[i] limit 1) l
     where l.grace_ms is null or l.expires_us > c.now_us
$$;
comment on function pglockd.check_leases(text[], bigint[], text[]) is 'Which of these tokens hold, and for how long yet.';
