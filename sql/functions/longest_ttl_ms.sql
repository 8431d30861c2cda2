-- pglockd.longest_ttl_ms()
-- Purpose:    how long a lease that was granted once may keep its resource closed: the longest TTL and the
--             longest grace that were ever asked for.
-- Returns:    milliseconds; 0 when nothing was.
-- Tables:     longest_ttl (read)
create or replace function pglockd.longest_ttl_ms()
returns bigint
language sql stable
as $$
    select coalesce(max(t.ttl_ms) + max(t.grace_ms), 0) from pglockd.longest_ttl t
$$;
comment on function pglockd.longest_ttl_ms() is 'How long a lease may keep its resource closed, in milliseconds.';
