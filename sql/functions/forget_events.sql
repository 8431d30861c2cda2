-- pglockd.forget_events(keep_ms)
-- Purpose:    the janitor's part for watches: forgets old events.
-- Parameters: keep_ms   how long events are kept after they were published
-- Returns:    there may be more to be forgotten: call again soon.
-- Bounds:     10000 events in a call; of more than 1000000 events the oldest go whatever their age.
-- Tables:     event (delete), event_floor (update), and those of publish_events
create or replace function pglockd.forget_events(p_keep_ms bigint)
returns boolean
language plpgsql
as $$
declare
    c_step constant integer := 10000;
    c_events_max constant bigint := 1000000;
    v_last bigint;
    v_upto bigint;
    v_gone bigint;
begin
    v_last := pglockd.publish_events(true);
    if v_last is null then
        return false;
    end if;
    -- Numbers and times of publication grow together.
    select max(x.seq), count(*) into v_upto, v_gone
      from (select e.seq, e.published_at from pglockd.event e order by e.seq limit c_step) x
     where x.published_at < clock_timestamp() - p_keep_ms * interval '1 millisecond' or x.seq < v_last - c_events_max;
    if v_upto is not null then
        update pglockd.event_floor f set seq = v_upto where f.seq < v_upto;
        delete from pglockd.event e where e.seq <= v_upto;
    end if;
    return v_gone >= c_step or exists (select from pglockd.event_outbox o);
end
$$;
comment on function pglockd.forget_events(bigint) is 'Forgets old events.';
