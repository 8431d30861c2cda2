-- pglockd.metric_partition(day)
-- Purpose:    makes the partition of a day's samples where it is missing. With the rights of the
--             schema's owner, since only who owns a table can give it partitions.
-- Parameters: day   in UTC
-- Returns:    whether it was missing.
-- Errors:     55P03 the table stayed locked for lock_timeout: nothing was done
-- Tables:     metric_sample
create or replace function pglockd.metric_partition(p_day date)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := 'metric_sample_' || to_char(p_day, 'YYYYMMDD');
    v_from constant timestamptz := p_day::timestamp at time zone 'UTC';
begin
    if to_regclass('pglockd.' || v_name) is not null then
        return false;
    end if;
    -- What attaching takes anyway, taken before another look: one at a time makes it, and nobody who
    -- reads or writes the table waits.
    lock table pglockd.metric_sample in share update exclusive mode;
    if to_regclass('pglockd.' || v_name) is not null then
        return false;
    end if;
    execute format('create table pglockd.%I (like pglockd.metric_sample including all)', v_name);
    execute format('comment on table pglockd.%I is %L', v_name, 'Samples of ' || p_day || ' (UTC).');
    execute format('alter table pglockd.metric_sample attach partition pglockd.%I for values from (%L) to (%L)',
                   v_name, v_from, v_from + interval '24 hours');
    return true;
end
$$;
comment on function pglockd.metric_partition(date) is 'Makes the partition of a day''s samples of the metrics where it is missing.';
