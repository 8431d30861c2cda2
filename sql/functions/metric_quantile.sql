-- pglockd.metric_quantile(bounds, counts, quantile)
-- Purpose:    a quantile of what a histogram counted, by linear interpolation in its bucket, as
--             Prometheus' histogram_quantile() does it.
-- Parameters: bounds     upper bounds, ascending
--             counts     of each bucket alone, and of what is above the last bound
--             quantile   between 0 and 1
-- Returns:    as the bounds count; the last bound for what is above it; null where nothing was counted.
create or replace function pglockd.metric_quantile(p_bounds bigint[], p_counts bigint[], p_quantile double precision)
returns double precision
language sql immutable
as $$
    with buckets as (
        select b.n, b.count, sum(b.count) over (order by b.n) as up_to, sum(b.count) over () as total
          from unnest(p_counts) with ordinality b (count, n)
    ), hit as (
        select b.* from buckets b where b.count > 0 and b.up_to >= p_quantile * b.total order by b.n limit 1
    )
    select case when h.n > cardinality(p_bounds) then p_bounds[cardinality(p_bounds)]
                else coalesce(p_bounds[h.n - 1], 0)
                     + (p_bounds[h.n] - coalesce(p_bounds[h.n - 1], 0))
                       * greatest(0, p_quantile * h.total - (h.up_to - h.count))::double precision / h.count end
      from hit h
$$;
comment on function pglockd.metric_quantile(bigint[], bigint[], double precision) is
    'A quantile of what a histogram counted, by linear interpolation.';
