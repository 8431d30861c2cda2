-- Metrics: what every daemon counts, a row each time it tells (setting metrics_flush), and what stands
-- where in a row.

create table pglockd.metric_layout (
    layout_id integer generated always as identity primary key,
    used_on date not null,
    fingerprint bytea not null unique
);
comment on table pglockd.metric_layout is
    'Orders of values in samples: one for each set of metrics and label values that daemons have. Daemons of one version share one until their rate policies differ.';
comment on column pglockd.metric_layout.layout_id is 'Number of the layout.';
comment on column pglockd.metric_layout.used_on is 'Last day (UTC) on which a sample came with it; one whose samples are gone is removed.';
comment on column pglockd.metric_layout.fingerprint is 'SHA-256 of its series, by which daemons find it.';

create table pglockd.metric_series (
    layout_id integer not null references pglockd.metric_layout on delete cascade,
    first integer not null,
    width integer not null,
    per_unit bigint not null,
    kind text collate "C" not null
        constraint metric_series_kind check (kind in ('counter', 'gauge', 'histogram')),
    unit text collate "C" not null,
    name text collate "C" not null,
    labels jsonb not null,
    bounds bigint[],
    help text not null,
    constraint metric_series_pkey primary key (layout_id, first)
);
comment on table pglockd.metric_series is 'What stands where in the cells of a sample: one row for each series of a layout.';
comment on column pglockd.metric_series.layout_id is 'The layout.';
comment on column pglockd.metric_series.first is 'Where its cells begin in metric_sample.cells, from 1.';
comment on column pglockd.metric_series.width is 'How many cells: 1; of a histogram one for each bucket, one for what is above the last, one for the sum.';
comment on column pglockd.metric_series.per_unit is 'How much a cell counts for 1 of the unit: 1000000 where microseconds are kept of seconds, else 1.';
comment on column pglockd.metric_series.kind is 'counter, gauge or histogram.';
comment on column pglockd.metric_series.unit is 'seconds, bytes, or empty.';
comment on column pglockd.metric_series.name is 'The metric, as Prometheus calls it.';
comment on column pglockd.metric_series.labels is 'Its labels, an object of texts.';
comment on column pglockd.metric_series.bounds is 'Upper bounds of a histogram''s buckets as its cells count, without the last, which has none.';
comment on column pglockd.metric_series.help is 'What it means.';
create index metric_series_name on pglockd.metric_series (name, layout_id);
comment on index pglockd.metric_series_name is 'The way from a metric to its cells.';

create table pglockd.metric_sample (
    sampled_at timestamptz not null,
    started_at timestamptz not null,
    instance_id integer not null,
    layout_id integer not null,
    instance text not null,
    cells bigint[] not null,
    constraint metric_sample_pkey primary key (instance_id, sampled_at)
) partition by range (sampled_at);
comment on table pglockd.metric_sample is
    'All metrics of a daemon at a moment, in one row: cumulative since its process started, so that what is missing costs resolution only. The first row of a process is that of its start. A partition a day (UTC), made ahead and dropped by the daemon that is the janitor.';
comment on column pglockd.metric_sample.sampled_at is 'When, by the clock of this server.';
comment on column pglockd.metric_sample.started_at is 'When the process started, by its own clock.';
comment on column pglockd.metric_sample.instance_id is 'Number of the daemon: another one after each start.';
comment on column pglockd.metric_sample.layout_id is 'Which series stands where (metric_series).';
comment on column pglockd.metric_sample.instance is 'Host name and process id of the daemon.';
comment on column pglockd.metric_sample.cells is 'The values; null for what only the janitor''s daemon shows. The buckets of a histogram are not cumulative here.';

-- It has got results.
drop function if exists pglockd.gauges();
