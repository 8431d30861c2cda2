-- pglockd.read_events(prefix, after, events_max)
-- Purpose:    publishes what was noted, and reads events of some prefixes.
-- Parameters: prefix   those of all resources at and beneath them; null: of all
--             after    behind this number
-- Returns:    a row for each event, in the order of their numbers, and a last one without an event: seq is where to go
--             on. Then more is true where there were more than events_max events, or are more to be published.
-- Tables:     event (read), event_floor (read), and those of publish_events
create or replace function pglockd.read_events(p_prefix text[], p_after bigint, p_events_max integer)
returns table (seq bigint, event text, resource text, token bigint, owner text, mode text, scope text, reason text,
               identity text, detail text, ago_ms bigint, more boolean)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_last constant bigint := pglockd.publish_events();
    v_after bigint := p_after;
    v_stems constant text[] :=
        array(select case p.prefix when '/' then '' else p.prefix || '/' end from unnest(p_prefix) p (prefix));
    v_count integer := 0;
begin
    for seq, event, resource, token, owner, mode, scope, reason, identity, detail, ago_ms in
        select e.seq, e.event, e.resource, e.token, e.owner, e.mode::text, e.scope::text, e.reason::text, e.identity,
               e.detail, greatest(0, extract(epoch from clock_timestamp() - e.at) * 1000)::bigint
          from pglockd.event e
         where e.seq > p_after and e.seq <= v_last
           and (p_prefix is null or (e.resource || '/') ^@ any (v_stems))
         order by e.seq
         limit p_events_max
    loop
        v_after := seq;
        v_count := v_count + 1;
        return next;
    end loop;
    more := v_count >= p_events_max;
    seq := case when more then v_after else v_last end;
    event := null;
    more := more or exists (select from pglockd.event_outbox o);
    return next;
end
$$;
comment on function pglockd.read_events(text[], bigint, integer) is 'Publishes what was noted, and reads events of some prefixes.';
