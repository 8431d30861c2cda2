-- pglockd.rate_now_ns()
-- Purpose:    the clock of rate limits: the server's wall clock, which runs also where no daemon
--             does. Where it is set back, counters are cut to what a full burst is worth, so that a
--             limit is never exceeded for it; where it is set forward, one more burst is admitted.
-- Returns:    nanoseconds since 1970, in whole microseconds.
create or replace function pglockd.rate_now_ns()
returns bigint
language sql volatile parallel safe
as $$
    select (extract(epoch from clock_timestamp()) * 1000000)::bigint * 1000
$$;
comment on function pglockd.rate_now_ns() is 'The clock of rate limits, in nanoseconds since 1970.';
