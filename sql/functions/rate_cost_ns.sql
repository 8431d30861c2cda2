-- pglockd.rate_cost_ns(permits, quota, period_ns)
-- Purpose:    how far permits move a counter: permits * period / quota, rounded up.
-- Parameters: permits    1 to 10^9
--             quota      permits for each period, 1 to 10^9
--             period_ns  nanoseconds
-- Returns:    nanoseconds. The parts are multiplied so that none leaves 64 bits as long as the
--             result is below ten years.
create or replace function pglockd.rate_cost_ns(p_permits bigint, p_quota bigint, p_period_ns bigint)
returns bigint
language sql immutable parallel safe
as $$
    select p_permits * (p_period_ns / p_quota) + (p_permits * (p_period_ns % p_quota) + p_quota - 1) / p_quota
$$;
comment on function pglockd.rate_cost_ns(bigint, bigint, bigint) is 'How far permits move a counter, in nanoseconds.';
