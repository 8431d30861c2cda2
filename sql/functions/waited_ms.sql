-- pglockd.waited_ms(enqueued_at)
-- Purpose:    how long a request has stood in the queue. Plain arithmetic, so that the planner inlines it.
-- Returns:    milliseconds, at most what an integer holds
create or replace function pglockd.waited_ms(p_enqueued_at timestamptz)
returns integer
language sql volatile parallel safe
as $$
    select greatest(0, least(2147483647, extract(epoch from clock_timestamp() - p_enqueued_at) * 1000))::integer
$$;
comment on function pglockd.waited_ms(timestamptz) is 'How long a request has stood in the queue, in milliseconds.';
