-- View pglockd.metric_rates: the last hour by minutes; another time with metric_rates_between().
create or replace view pglockd.metric_rates as
select r.minute, r.name, r.labels, r.increase, r.per_second, r.instance_id, r.instance
  from pglockd.metric_rates_between(clock_timestamp() - interval '1 hour', clock_timestamp()) r;
comment on view pglockd.metric_rates is
    'How much each counter, and the count of each histogram, grew in each minute of the last hour. Restarts of daemons neither hide nor double anything; what did not grow has no row.';
comment on column pglockd.metric_rates.minute is 'The minute that begins then.';
comment on column pglockd.metric_rates.name is 'The metric.';
comment on column pglockd.metric_rates.labels is 'Its labels.';
comment on column pglockd.metric_rates.increase is 'By how much it grew.';
comment on column pglockd.metric_rates.per_second is 'The same for each second between the samples.';
comment on column pglockd.metric_rates.instance_id is 'Number of the daemon: another one after each start.';
comment on column pglockd.metric_rates.instance is 'Host name and process id of the daemon.';
