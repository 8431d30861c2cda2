-- pglockd.lease_reading(floor_us, base_us, wall_at)
-- Purpose:    the lease clock's reading from the columns of pglockd.clock: time credited by ticks plus
--             what has passed since the last tick, at most 250 ms and never negative, and never
--             behind an earlier reading. Plain arithmetic, so that the planner inlines it.
-- Parameters: the columns of that name.
-- Returns:    microseconds.
create or replace function pglockd.lease_reading(p_floor_us bigint, p_base_us bigint, p_wall_at timestamptz)
returns bigint
language sql volatile parallel safe
as $$
    select greatest(p_floor_us, p_base_us + greatest(0, least(250000,
        (extract(epoch from clock_timestamp() - p_wall_at) * 1000000)::bigint)))
$$;
comment on function pglockd.lease_reading(bigint, bigint, timestamptz) is
    'Reading of the lease clock, in microseconds, from the columns of pglockd.clock.';
