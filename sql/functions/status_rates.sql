-- pglockd.status_rates(prefix, rows_max)
-- Purpose:    the counters of rate limits, for who looks at the whole service.
-- Parameters: prefix     null for all; else that key and all beneath it
--             rows_max   at most so many
-- Returns:    a row for every counter, in the order of their keys; see the view pglockd.rate_limits
-- Tables:     rate_counter, rate_policy (read)
create or replace function pglockd.status_rates(p_prefix text, p_rows_max integer)
returns table (key text, policy text, "limit" bigint, per_ms bigint, burst bigint, remaining bigint, reset_ms bigint,
               mode text)
language sql stable
as $$
    select r.key, r.policy, r."limit", (extract(epoch from r.per) * 1000)::bigint, r.burst, r.remaining,
           (extract(epoch from r.reset_in) * 1000)::bigint, r.mode
      from pglockd.rate_limits r
     where r.key >= coalesce(p_prefix, '')
       and r.key < pglockd.beneath_high(coalesce(p_prefix, '/'))
       and (p_prefix is null or r.key = p_prefix or r.key > pglockd.beneath_low(p_prefix))
     order by r.key, r.rule
     limit p_rows_max
$$;
comment on function pglockd.status_rates(text, integer) is 'The counters of rate limits, for who looks at the whole service.';
