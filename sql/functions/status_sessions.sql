-- pglockd.status_sessions(rows_max)
-- Purpose:    the sessions that live, for who looks at the whole service.
-- Returns:    a row for every session, the newest first
--             locks      that it holds, counted up to 1000
-- Tables:     session, lease, clock (read)
create or replace function pglockd.status_sessions(p_rows_max integer)
returns table (session bigint, owner text, identity text, note text, open_ms bigint, ttl_ms bigint, locks bigint)
language sql stable
as $$
    select s.session_id, s.owner, s.identity, s.note,
           greatest(0, extract(epoch from clock_timestamp() - s.opened_at) * 1000)::bigint,
           pglockd.ttl_left_ms(s.expires_us, c.now_us),
           (select count(*) from (select from pglockd.lease l where l.session_id = s.session_id limit 1000) x)
      from (select pglockd.lease_now() as now_us offset 0) c
     cross join lateral (
        select x.* from pglockd.session x where x.ended_us is null order by x.session_id desc limit p_rows_max) s
     order by s.session_id desc
$$;
comment on function pglockd.status_sessions(integer) is 'The sessions that live, for who looks at the whole service.';
