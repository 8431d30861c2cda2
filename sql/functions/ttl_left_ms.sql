-- pglockd.ttl_left_ms(expires_us, now_us)
-- Purpose:    what a holder is told is left of its TTL: without the slack of pglockd.lease_end().
-- Returns:    milliseconds, 0 when the TTL has passed.
create or replace function pglockd.ttl_left_ms(p_expires_us bigint, p_now_us bigint)
returns bigint
language sql immutable parallel safe
as $$
    select greatest(0, (p_expires_us - 750000 - p_now_us) / 1000)
$$;
comment on function pglockd.ttl_left_ms(bigint, bigint) is 'What is left of a TTL, in milliseconds.';
