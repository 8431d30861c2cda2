-- pglockd.rate_fit(room_ns, quota, period_ns)
-- Purpose:    how many permits fit into a room: the most whose rate_cost_ns() is not above it.
-- Parameters: room_ns    nanoseconds; none fit into what is negative
--             quota, period_ns  as in rate_cost_ns
-- Returns:    permits.
create or replace function pglockd.rate_fit(p_room_ns bigint, p_quota bigint, p_period_ns bigint)
returns bigint
language sql immutable parallel safe
as $$
    select case when p_room_ns <= 0 then 0
                when p_room_ns <= 9223372036854775807 / p_quota then p_room_ns * p_quota / p_period_ns
                else div(p_room_ns::numeric * p_quota, p_period_ns)::bigint end
$$;
comment on function pglockd.rate_fit(bigint, bigint, bigint) is 'How many permits fit into a room of nanoseconds.';
