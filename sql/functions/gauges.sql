-- pglockd.gauges()
-- Purpose:    what the janitor's daemon shows of the state that all daemons share.
-- Returns:    locks_held, waiters   how many; oldest_wait_us   of the one that waits longest, else 0
-- Tables:     lease, waiter (read)
create or replace function pglockd.gauges(out locks_held bigint, out waiters bigint, out oldest_wait_us bigint)
language sql
as $$
    select (select count(*) from pglockd.lease), count(*),
           coalesce(greatest(0, extract(epoch from clock_timestamp() - min(w.enqueued_at)) * 1000000), 0)::bigint
      from pglockd.waiter w
$$;
comment on function pglockd.gauges() is 'What the janitor''s daemon shows of the state that all daemons share.';
