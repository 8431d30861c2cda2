-- pglockd.metric_quantiles_between(from, to, name)
-- Purpose:    quantiles of what the histograms of all daemons counted in a time, added up.
-- Parameters: from, to   the time: from the last sample of each daemon before it, to its last in it
--             name       of one metric; null: all
-- Returns:    a row for each histogram in which something was counted, in its own unit
-- Tables:     metric_sample, metric_series (read)
create or replace function pglockd.metric_quantiles_between(
    p_from timestamptz, p_to timestamptz, p_name text default null)
returns table (name text, labels jsonb, count bigint, mean double precision, p50 double precision,
    p90 double precision, p99 double precision)
language sql stable
as $$
    with daemons as (
        select distinct m.instance_id from pglockd.metric_sample m where m.sampled_at >= p_from and m.sampled_at < p_to
    ), ends as (
        select base.layout_id as base_layout, base.cells as base, last.layout_id, last.cells
          from daemons d
         cross join lateral (
            select m.layout_id, m.cells from pglockd.metric_sample m
             where m.instance_id = d.instance_id and m.sampled_at < p_to
             order by m.sampled_at desc limit 1) last
         cross join lateral (
            select b.layout_id, b.cells
              from ((select m.sampled_at, m.layout_id, m.cells from pglockd.metric_sample m
                      where m.instance_id = d.instance_id and m.sampled_at < p_from
                      order by m.sampled_at desc limit 1)
                    union all
                    (select m.sampled_at, m.layout_id, m.cells from pglockd.metric_sample m
                      where m.instance_id = d.instance_id and m.sampled_at >= p_from
                      order by m.sampled_at limit 1)) b
             order by b.sampled_at limit 1) base
    ), grown as (
        select s.name, s.labels, s.per_unit, s.bounds, k.n,
               sum(e.cells[s.first + k.n] - coalesce(e.base[b.first + k.n], 0)) as n_grown
          from ends e
          join pglockd.metric_series s on s.layout_id = e.layout_id
          left join pglockd.metric_series b
            on b.layout_id = e.base_layout and b.name = s.name and b.labels = s.labels
         cross join lateral generate_series(0, s.width - 1) k (n)
         where s.kind = 'histogram' and (p_name is null or s.name = p_name)
         group by s.name, s.labels, s.per_unit, s.bounds, k.n
    ), counted as (
        select g.name, g.labels, g.per_unit, g.bounds,
               array_agg(g.n_grown::bigint order by g.n) filter (where g.n <= cardinality(g.bounds)) as counts,
               sum(g.n_grown) filter (where g.n <= cardinality(g.bounds)) as total,
               sum(g.n_grown) filter (where g.n > cardinality(g.bounds)) as total_of
          from grown g
         group by g.name, g.labels, g.per_unit, g.bounds
    )
    select c.name, c.labels, c.total::bigint, (c.total_of / c.total)::double precision / c.per_unit,
           pglockd.metric_quantile(c.bounds, c.counts, 0.5) / c.per_unit,
           pglockd.metric_quantile(c.bounds, c.counts, 0.9) / c.per_unit,
           pglockd.metric_quantile(c.bounds, c.counts, 0.99) / c.per_unit
      from counted c
     where c.total > 0
$$;
comment on function pglockd.metric_quantiles_between(timestamptz, timestamptz, text) is
    'Quantiles of what the histograms of all daemons counted in a time.';
