-- View pglockd.metrics: what the daemons counted last.
create or replace view pglockd.metrics as
select s.name, s.labels,
       case when s.kind <> 'histogram' then m.cells[s.first]::double precision / s.per_unit end as value,
       case when s.kind = 'histogram'
            then (select sum(c) from unnest(m.cells[s.first : s.first + s.width - 2]) c)::bigint end as count,
       case when s.kind = 'histogram'
            then m.cells[s.first + s.width - 1]::double precision / s.per_unit end as sum,
       s.kind, s.unit, i.instance_id, m.instance, m.started_at, m.sampled_at, s.help
  from pglockd.instance i
 cross join lateral (select m.* from pglockd.metric_sample m
                      where m.instance_id = i.instance_id order by m.sampled_at desc limit 1) m
  join pglockd.metric_series s on s.layout_id = m.layout_id
 where m.cells[s.first] is not null;
comment on view pglockd.metrics is
    'What each daemon that serves counted last, at most metrics_flush ago: a row for each series, as docs/metrics.md lists them. Sum counters over the daemons.';
comment on column pglockd.metrics.name is 'The metric.';
comment on column pglockd.metrics.labels is 'Its labels.';
comment on column pglockd.metrics.value is 'Of a counter or a gauge; null for a histogram.';
comment on column pglockd.metrics.count is 'How much a histogram has counted; null for others.';
comment on column pglockd.metrics.sum is 'The sum of it; null for others.';
comment on column pglockd.metrics.kind is 'counter (since the process started), gauge or histogram.';
comment on column pglockd.metrics.unit is 'seconds, bytes, or empty.';
comment on column pglockd.metrics.instance_id is 'Number of the daemon.';
comment on column pglockd.metrics.instance is 'Host name and process id of the daemon.';
comment on column pglockd.metrics.started_at is 'When its process started, by its own clock.';
comment on column pglockd.metrics.sampled_at is 'When it counted this.';
comment on column pglockd.metrics.help is 'What it means.';
