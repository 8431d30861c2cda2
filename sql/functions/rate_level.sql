-- pglockd.rate_level(tat_ns, old_quota, old_period_ns, quota, period_ns, burst_ns, now_ns)
-- Purpose:    a counter's theoretical arrival time as it counts under the limit of today: where the
--             limit was another one when it was charged, as many permits are used as then, so that a
--             raised limit frees at once; and never above a full burst, which also mends a clock
--             that was set back.
-- Parameters: the columns of the counter (tat_ns null: there is none), the limit, the time
-- Returns:    nanoseconds since 1970.
create or replace function pglockd.rate_level(
    p_tat_ns bigint, p_old_quota bigint, p_old_period_ns bigint,
    p_quota bigint, p_period_ns bigint, p_burst_ns bigint, p_now_ns bigint)
returns bigint
language sql immutable parallel safe
as $$
    select case when p_tat_ns is null or p_tat_ns <= p_now_ns then 0
                when p_old_quota = p_quota and p_old_period_ns = p_period_ns
                then least(p_tat_ns, p_now_ns + p_burst_ns)
                else p_now_ns + least(p_burst_ns, ceil((p_tat_ns - p_now_ns)::numeric * p_old_quota * p_period_ns
                                                       / (p_old_period_ns::numeric * p_quota)))::bigint end
$$;
comment on function pglockd.rate_level(bigint, bigint, bigint, bigint, bigint, bigint, bigint) is
    'A counter''s theoretical arrival time under the limit of today, in nanoseconds since 1970.';
