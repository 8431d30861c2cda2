-- pglockd.metric_partitions(keep_ms)
-- Purpose:    the janitor's part for the metrics: pglockd.day_partitions() of the samples; and forgets layouts without
--             samples.
-- Parameters: keep_ms   how long samples are kept
-- Returns:    made, dropped   partitions
-- Errors:     as pglockd.day_partitions()
-- Tables:     metric_sample, metric_layout (delete)
create or replace function pglockd.metric_partitions(p_keep_ms bigint, out o_made integer, out o_dropped integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    select p.o_made, p.o_dropped into o_made, o_dropped from pglockd.day_partitions('metric_sample', p_keep_ms) p;
    delete from pglockd.metric_layout l
     where l.used_on < ((clock_timestamp() - p_keep_ms * interval '1 millisecond') at time zone 'UTC')::date;
end
$$;
comment on function pglockd.metric_partitions(bigint) is
    'Makes partitions for the samples of the metrics ahead, and drops those that are older than they are kept.';
