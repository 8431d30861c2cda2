-- View pglockd.metric_history: every sample that is kept, for plots. Name a metric and a time.
create or replace view pglockd.metric_history as
select m.sampled_at, s.name, s.labels,
       case when s.kind <> 'histogram' then m.cells[s.first]::double precision / s.per_unit end as value,
       case when s.kind = 'histogram'
            then (select sum(c) from unnest(m.cells[s.first : s.first + s.width - 2]) c)::bigint end as count,
       case when s.kind = 'histogram'
            then m.cells[s.first + s.width - 1]::double precision / s.per_unit end as sum,
       m.instance_id, m.instance, m.started_at
  from pglockd.metric_sample m
  join pglockd.metric_series s on s.layout_id = m.layout_id
 where m.cells[s.first] is not null;
comment on view pglockd.metric_history is
    'All samples of the metrics that are kept (setting metrics_retention), of daemons that are gone, too. Ask for one name and a time.';
comment on column pglockd.metric_history.sampled_at is 'When it was counted.';
comment on column pglockd.metric_history.name is 'The metric.';
comment on column pglockd.metric_history.labels is 'Its labels.';
comment on column pglockd.metric_history.value is 'Of a counter or a gauge; null for a histogram.';
comment on column pglockd.metric_history.count is 'How much a histogram had counted; null for others.';
comment on column pglockd.metric_history.sum is 'The sum of it; null for others.';
comment on column pglockd.metric_history.instance_id is 'Number of the daemon: another one after each start.';
comment on column pglockd.metric_history.instance is 'Host name and process id of the daemon.';
comment on column pglockd.metric_history.started_at is 'When its process started, by its own clock.';
