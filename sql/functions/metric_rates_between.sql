-- pglockd.metric_rates_between(from, to, name)
-- Purpose:    how much each counter, and the count of each histogram, grew in each minute.
-- Parameters: from, to   the time; from is rounded down to the minute
--             name       of one metric; null: all
-- Returns:    a row for each minute, daemon and series that grew. What grew while a daemon could not
--             write belongs to the minute in which it could again; per_second is over the time between
--             the samples. A process that started begins at 0, so that restarts neither hide nor double
--             anything.
-- Tables:     metric_sample, metric_series (read)
create or replace function pglockd.metric_rates_between(
    p_from timestamptz, p_to timestamptz, p_name text default null)
returns table (minute timestamptz, name text, labels jsonb, increase double precision, per_second double precision,
    instance_id integer, instance text)
language sql stable
as $$
    with latest as ( -- of each minute: the others add nothing, since they are cumulative
        select distinct on (m.instance_id, date_trunc('minute', m.sampled_at))
               date_trunc('minute', m.sampled_at) as minute, m.*
          from pglockd.metric_sample m
         where m.sampled_at >= date_trunc('minute', p_from) - interval '1 hour' and m.sampled_at < p_to
         order by m.instance_id, date_trunc('minute', m.sampled_at), m.sampled_at desc
    ), bases as ( -- the sample of a process's start is its base, not a minute's end
        select m.instance_id, min(m.sampled_at) as first_at
          from pglockd.metric_sample m
         where m.sampled_at >= date_trunc('minute', p_from) - interval '1 hour' and m.sampled_at < p_to
         group by m.instance_id
    ), picked as (
        select l.minute, l.sampled_at, l.instance_id, l.instance, l.layout_id, l.cells from latest l
        union
        select null, m.sampled_at, m.instance_id, m.instance, m.layout_id, m.cells
          from bases b join pglockd.metric_sample m on m.instance_id = b.instance_id and m.sampled_at = b.first_at
    ), read as (
        select p.minute, p.sampled_at, p.instance_id, p.instance, s.name, s.labels,
               case when s.kind = 'counter' then p.cells[s.first]::double precision / s.per_unit
                    else (select sum(c) from unnest(p.cells[s.first : s.first + s.width - 2]) c)::double precision
               end as value
          from picked p
          join pglockd.metric_series s on s.layout_id = p.layout_id
         where s.kind in ('counter', 'histogram') and (p_name is null or s.name = p_name)
    ), grown as (
        select r.*, lag(r.value) over series as before, lag(r.sampled_at) over series as before_at,
               min(r.sampled_at) over (partition by r.instance_id) as first_at
          from read r
        window series as (partition by r.instance_id, r.name, r.labels order by r.sampled_at, r.minute nulls first)
    )
    select g.minute, g.name, g.labels, g.value - coalesce(g.before, 0),
           (g.value - coalesce(g.before, 0))
           / extract(epoch from g.sampled_at - coalesce(g.before_at, g.first_at))::double precision,
           g.instance_id, g.instance
      from grown g
     where g.minute >= date_trunc('minute', p_from)
       -- A series that came later than its process began at 0.
       and g.sampled_at > g.first_at and g.value > coalesce(g.before, 0)
$$;
comment on function pglockd.metric_rates_between(timestamptz, timestamptz, text) is
    'How much each counter grew in each minute of a time.';
