-- pglockd.status_totals()
-- Purpose:    how much there is of what, for who looks at the whole service, and often: leases
--             above 10000 are no longer counted, but taken from PostgreSQL's statistics.
-- Returns:    locks, waiting, sessions   how many; sessions are counted up to 10000
--             oldest_wait_ms   of the one that waits longest, else 0
--             tick_ms          since the janitor ticked last
--             quiet_ms         until locks are granted again, of quiet periods; else 0
-- Tables:     lease, waiter, session, clock (read)
create or replace function pglockd.status_totals(
    out locks bigint, out waiting bigint, out sessions bigint, out oldest_wait_ms bigint, out tick_ms bigint,
    out quiet_ms bigint)
language sql stable
as $$
    select case when l.n <= 10000 then l.n
                else greatest(l.n, (select sum(pg_catalog.pg_stat_get_live_tuples(i.inhrelid))::bigint
                                      from pg_catalog.pg_inherits i where i.inhparent = 'pglockd.lease'::regclass)) end,
           q.n, s.n,
           greatest(0, extract(epoch from clock_timestamp() - q.since) * 1000)::bigint,
           greatest(0, extract(epoch from clock_timestamp() - c.wall_at) * 1000)::bigint,
           pglockd.quiet_left_ms()
      from (select count(*) as n from (select from pglockd.lease limit 10001) x) l
     cross join (select count(*) as n, coalesce(min(w.enqueued_at), clock_timestamp()) as since from pglockd.waiter w) q
     cross join (select count(*) as n
                   from (select from pglockd.session x where x.ended_us is null limit 10000) y) s
     cross join pglockd.clock c
$$;
comment on function pglockd.status_totals() is 'How much there is of what, for who looks at the whole service.';
