-- pglockd.tick_credit(elapsed_us, wall_at)
-- Purpose:    what a tick credits: what its caller saw pass, or where that is null the server's wall clock
--             since the last tick, at most 500 ms and never negative.
-- Returns:    microseconds.
create or replace function pglockd.tick_credit(p_elapsed_us bigint, p_wall_at timestamptz)
returns bigint
language sql volatile
as $$
    select coalesce(p_elapsed_us, greatest(0, least(500000,
               (extract(epoch from clock_timestamp() - p_wall_at) * 1000000)::bigint)))
$$;
comment on function pglockd.tick_credit(bigint, timestamptz) is 'What a tick credits, in microseconds.';
