-- View pglockd.metric_quantiles: of the last hour; another time with metric_quantiles_between().
create or replace view pglockd.metric_quantiles as
select q.name, q.labels, q.count, q.mean, q.p50, q.p90, q.p99
  from pglockd.metric_quantiles_between(clock_timestamp() - interval '1 hour', clock_timestamp()) q;
comment on view pglockd.metric_quantiles is
    'Quantiles of what the histograms of all daemons counted in the last hour, such as waits and holds; interpolated in their buckets.';
comment on column pglockd.metric_quantiles.name is 'The metric.';
comment on column pglockd.metric_quantiles.labels is 'Its labels.';
comment on column pglockd.metric_quantiles.count is 'How much was counted.';
comment on column pglockd.metric_quantiles.mean is 'The mean, exact.';
comment on column pglockd.metric_quantiles.p50 is 'Half of it was at most this.';
comment on column pglockd.metric_quantiles.p90 is 'Nine of ten were at most this.';
comment on column pglockd.metric_quantiles.p99 is '99 of a hundred were at most this.';
