-- pglockd.metric_partitions(keep_ms)
-- Purpose:    the janitor's part for the metrics: makes the partitions of today and of the days to come,
--             drops those whose samples are all older than they are kept, and forgets layouts without
--             samples. A partition that somebody reads is dropped next time.
-- Parameters: keep_ms   how long samples are kept
-- Returns:    made, dropped   partitions
-- Tables:     metric_sample, metric_layout (delete)
create or replace function pglockd.metric_partitions(p_keep_ms bigint, out o_made integer, out o_dropped integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c_ahead constant integer := 2;
    v_today constant date := (clock_timestamp() at time zone 'UTC')::date;
    -- Of this day something is kept still.
    v_oldest constant date := ((clock_timestamp() - p_keep_ms * interval '1 millisecond') at time zone 'UTC')::date;
    r record;
begin
    o_made := 0;
    o_dropped := 0;
    -- Dropping waits for who reads, and others wait behind it.
    perform set_config('lock_timeout', '200ms', true);
    for i in 0 .. c_ahead loop
        o_made := o_made + pglockd.metric_partition(v_today + i)::integer;
    end loop;
    for r in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'pglockd.metric_sample'::regclass
           and c.relname < 'metric_sample_' || to_char(v_oldest, 'YYYYMMDD')
         order by c.relname
    loop
        begin
            execute format('drop table pglockd.%I', r.relname);
            o_dropped := o_dropped + 1;
        exception
            when lock_not_available then exit;
        end;
    end loop;
    delete from pglockd.metric_layout l where l.used_on < v_oldest;
end
$$;
comment on function pglockd.metric_partitions(bigint) is
    'Makes partitions for the samples of the metrics ahead, and drops those that are older than they are kept.';
