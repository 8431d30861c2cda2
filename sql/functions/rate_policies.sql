-- pglockd.rate_policies()
-- Purpose:    the policies and their version in one snapshot, for a daemon to remember.
-- Returns:    one row for each policy in the order of names; one row with a null name where there is
--             none. quota, period_ns, burst as rate_decide wants them.
-- Tables:     rate_epoch, rate_policy (read)
create or replace function pglockd.rate_policies()
returns table (epoch bigint, name text, for_lock boolean, prefix boolean, pattern text, counter text, quota bigint,
               period_ns bigint, burst bigint, shadow boolean, away text, away_percent integer, on_grant boolean,
               borrow boolean)
language sql stable
as $$
    select e.epoch, p.name, p.applies_to = 'lock', p.match = 'prefix', p.pattern, p.counter, p.quota,
           (extract(epoch from p.per) * 1000000)::bigint * 1000, coalesce(p.burst, p.quota), p.mode = 'shadow',
           p.away, p.away_percent, p.charge = 'grant', p.borrow
      from pglockd.rate_epoch e
      left join pglockd.rate_policy p on true
     where e.one
     order by p.name
$$;
comment on function pglockd.rate_policies() is 'The policies of rate limits and their version.';
