-- View pglockd.contention: the 100 resources and the 100 owners that had most to do with waiting in the last hour, by
-- history; of those leases that whoever looks may read.
create or replace view pglockd.contention with (security_barrier) as
with hour as materialized (
    select h.resource, h.owner, h.waited_ms, h.held, h.waited_by <> '{}' or h.gave_up <> '{}' as wanted,
           cardinality(h.gave_up) as gave_up
      from pglockd.lease_history h
     where h.ended_at > clock_timestamp() - interval '1 hour'
       and ((select pglockd.may('read', '*')) or pglockd.may('read', h.resource))
), sums as (
    select case when grouping(h.owner) = 1 then 'resource' else 'owner' end as of, coalesce(h.resource, h.owner) as name,
           count(*) as leases, count(h.waited_ms) as waits,
           coalesce(sum(h.waited_ms), 0) * interval '1 millisecond' as waited,
           coalesce(max(h.waited_ms), 0) * interval '1 millisecond' as waited_longest,
           count(*) filter (where h.wanted) as wanted,
           coalesce(sum(upper(h.held) - lower(h.held)) filter (where h.wanted), interval '0') as held_wanted,
           sum(h.gave_up) as gave_up
      from hour h
     group by grouping sets ((h.resource), (h.owner))
), ranked as (
    select s.*, row_number() over (partition by s.of order by s.waited + s.held_wanted desc, s.name) as place
      from sums s
     where s.waits > 0 or s.wanted > 0
)
select r.of, r.place, r.name, r.leases, r.waits, r.waited, r.waited_longest, r.wanted, r.held_wanted, r.gave_up
  from ranked r
 where r.place <= 100
 order by r.of desc, r.place;
comment on view pglockd.contention is 'What was waited for most in the last hour, and who waited and was waited for: the first 100 resources and the first 100 owners. Counts leases that have ended and were noted in history.';
comment on column pglockd.contention.of is 'resource or owner.';
comment on column pglockd.contention.place is 'Place in its list, by the time that was waited and was held while others waited.';
comment on column pglockd.contention.name is 'The resource, or the label of the owner.';
comment on column pglockd.contention.leases is 'Leases of it in history.';
comment on column pglockd.contention.waits is 'How many of them had stood in the queue before.';
comment on column pglockd.contention.waited is 'How long, all together.';
comment on column pglockd.contention.waited_longest is 'The longest wait of one.';
comment on column pglockd.contention.wanted is 'How many of the leases others waited for.';
comment on column pglockd.contention.held_wanted is 'How long those were held, all together.';
comment on column pglockd.contention.gave_up is 'How many requests gave up waiting for them, at most 10 of each lease.';
