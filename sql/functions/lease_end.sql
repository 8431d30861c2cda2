-- pglockd.lease_end(now_us, ttl_ms)
-- Purpose:    when a lease of this TTL may be removed: its TTL and 750 ms of slack later. The slack is what
--             the lease clock can be wrong in the worst case over any time: 250 ms that a reading may run
--             ahead of the ticks, and twice the 250 ms that a tick credits at most: of the tick that was
--             on its way at the decision, and of the next, which counts from when that one was sent.
-- Parameters: now_us   reading of the lease clock at the decision
-- Returns:    reading of the lease clock, in microseconds.
create or replace function pglockd.lease_end(p_now_us bigint, p_ttl_ms bigint)
returns bigint
language sql immutable parallel safe
as $$
    select p_now_us + 750000 + 1000 * p_ttl_ms
$$;
comment on function pglockd.lease_end(bigint, bigint) is 'When a lease of this TTL may be removed, in microseconds of the lease clock.';
