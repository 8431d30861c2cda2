-- pglockd.metric_layout(families)
-- Purpose:    finds the layout of a daemon's samples, or makes it.
-- Parameters: families   an array of metrics in the order of the cells, each an object of name, kind,
--                        unit, per_unit, help, bounds (of a histogram) and series: an array of its
--                        series' labels
-- Returns:    layout     its number
--             now_us     this server's clock, in microseconds since 1970
-- Tables:     metric_layout, metric_series (insert)
create or replace function pglockd.metric_layout(p_families jsonb, out o_layout integer, out o_now_us bigint)
language plpgsql
as $$
declare
    v_fingerprint constant bytea := sha256(convert_to(p_families::text, 'UTF8'));
begin
    o_now_us := extract(epoch from clock_timestamp()) * 1000000;
    select l.layout_id into o_layout from pglockd.metric_layout l where l.fingerprint = v_fingerprint;
    if found then
        return;
    end if;
    insert into pglockd.metric_layout as l (used_on, fingerprint)
    values ((clock_timestamp() at time zone 'UTC')::date, v_fingerprint)
        on conflict (fingerprint) do nothing
    returning l.layout_id into o_layout;
    if not found then -- another daemon was faster, and has committed
        select l.layout_id into o_layout from pglockd.metric_layout l where l.fingerprint = v_fingerprint;
        return;
    end if;
    insert into pglockd.metric_series (layout_id, first, width, per_unit, kind, unit, name, labels, bounds, help)
    select o_layout, 1 + sum(w.width) over (order by f.n, s.n) - w.width, w.width, (f.family ->> 'per_unit')::bigint,
           f.family ->> 'kind', f.family ->> 'unit', f.family ->> 'name', s.labels, b.bounds, f.family ->> 'help'
      from jsonb_array_elements(p_families) with ordinality f (family, n)
     cross join jsonb_array_elements(f.family -> 'series') with ordinality s (labels, n)
     cross join lateral (select array_agg(e.bound::bigint order by e.n) as bounds
                           from jsonb_array_elements_text(f.family -> 'bounds') with ordinality e (bound, n)) b
     cross join lateral (select coalesce(cardinality(b.bounds) + 2, 1) as width) w;
end
$$;
comment on function pglockd.metric_layout(jsonb) is 'Finds the layout of a daemon''s samples of its metrics, or makes it.';
