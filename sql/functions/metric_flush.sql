-- pglockd.metric_flush(instance, name, started_us, layout, at_us, cells)
-- Purpose:    writes samples of a daemon's metrics. What is there already is left as it is, so that a
--             daemon may send again what may have been written.
-- Parameters: instance, name   the daemon
--             started_us       when its process started, by its own clock
--             layout           of all these samples
--             at_us            when each was taken, by this server's clock (metric_layout, and what this
--                              returned last)
--             cells            of all samples, one behind the other
-- Returns:    this server's clock, in microseconds since 1970; null and nothing done where the layout
--             is not known any more: to be made again
-- Tables:     metric_sample (insert), metric_layout (update)
create or replace function pglockd.metric_flush(
    p_instance integer, p_name text, p_started_us bigint, p_layout integer, p_at_us bigint[], p_cells bigint[])
returns bigint
language plpgsql
as $$
declare
    c_epoch constant timestamptz := timestamptz '1970-01-01 00:00:00+00';
    c_us constant interval := interval '1 microsecond';
    v_width constant integer := cardinality(p_cells) / cardinality(p_at_us);
    v_today constant date := (clock_timestamp() at time zone 'UTC')::date;
begin
    -- First: one that is used today is not forgotten.
    update pglockd.metric_layout l set used_on = v_today where l.layout_id = p_layout and l.used_on < v_today;
    perform from pglockd.metric_layout l where l.layout_id = p_layout;
    if not found then
        return null;
    end if;
    -- The janitor's daemon makes them ahead; after a long rest it may come second.
    perform pglockd.day_partition('metric_sample', d.day)
       from (select distinct ((c_epoch + t.at_us * c_us) at time zone 'UTC')::date as day
               from unnest(p_at_us) t (at_us)) d;
    insert into pglockd.metric_sample (sampled_at, started_at, instance_id, layout_id, instance, cells)
    select c_epoch + t.at_us * c_us, c_epoch + p_started_us * c_us, p_instance, p_layout, p_name,
           p_cells[(t.n - 1) * v_width + 1 : t.n * v_width]
      from unnest(p_at_us) with ordinality t (at_us, n)
        on conflict do nothing;
    return extract(epoch from clock_timestamp()) * 1000000;
end
$$;
comment on function pglockd.metric_flush(integer, text, bigint, integer, bigint[], bigint[]) is
    'Writes samples of a daemon''s metrics.';
