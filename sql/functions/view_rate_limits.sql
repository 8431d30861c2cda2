-- View pglockd.rate_limits: every counter with what is used and left of it under the limit of today; as
-- pglockd.locks, for who may read its key.
create or replace view pglockd.rate_limits with (security_barrier) as
select r.key, coalesce(p.name, r.rule) as policy, l.quota as "limit",
       l.period_ns / 1000000 * interval '1 millisecond' as per, l.burst,
       l.burst - pglockd.rate_fit(l.burst_ns - greatest(l.level_ns - n.now_ns, 0), l.quota, l.period_ns) as used,
       pglockd.rate_fit(l.burst_ns - greatest(l.level_ns - n.now_ns, 0), l.quota, l.period_ns) as remaining,
       greatest(l.level_ns - n.now_ns, 0) / 1000 * interval '1 microsecond' as reset_in,
       p.mode, p.name is null and left(r.rule, 1) <> '=' as orphaned, r.rule
  from pglockd.rate_counter r
 cross join (select pglockd.rate_now_ns() as now_ns offset 0) n
  left join pglockd.rate_policy p on p.name = r.rule
 cross join lateral (
    select t.quota, t.period_ns, t.burst, t.burst_ns,
           pglockd.rate_level(r.tat_ns, r.quota, r.period_ns, t.quota, t.period_ns, t.burst_ns, n.now_ns) as level_ns
      from (select u.quota, u.period_ns, u.burst, pglockd.rate_cost_ns(u.burst, u.quota, u.period_ns) as burst_ns
              from (select coalesce(p.quota, r.quota) as quota,
                           coalesce((extract(epoch from p.per) * 1000000)::bigint * 1000, r.period_ns) as period_ns,
                           coalesce(p.burst, p.quota, r.burst) as burst) u) t) l
 where (select pglockd.may('read', '*')) or pglockd.may('read', r.key);
comment on view pglockd.rate_limits is 'Counters of rate limits: what each key has used and has left. Permits that daemons hold in advance count as used.';
comment on column pglockd.rate_limits.key is 'What is limited: a key, a resource or an owner; empty where one counter serves the whole policy.';
comment on column pglockd.rate_limits.policy is 'The policy, or the limit that the request named.';
comment on column pglockd.rate_limits."limit" is 'Permits for each period.';
comment on column pglockd.rate_limits.per is 'The period.';
comment on column pglockd.rate_limits.burst is 'Permits at once after a rest.';
comment on column pglockd.rate_limits.used is 'Permits of the burst that are used and have not come back yet.';
comment on column pglockd.rate_limits.remaining is 'Permits that could be taken now.';
comment on column pglockd.rate_limits.reset_in is 'Until the whole burst is there again.';
comment on column pglockd.rate_limits.mode is 'enforce or shadow; null for a limit that the request named.';
comment on column pglockd.rate_limits.orphaned is 'Its policy is gone; it will be pruned.';
comment on column pglockd.rate_limits.rule is 'What rate_reset() takes to tell the counters of a key apart.';
