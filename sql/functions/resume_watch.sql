-- pglockd.resume_watch(prefix, after)
-- Purpose:    may a client go on behind this number, and miss nothing?
-- Parameters: after   null: it begins now
-- Returns:    seq     where it goes on: after, or where that cannot be, the last event
--             lost    null: nothing. events_removed: some of the events since then are kept no longer, or were lost
--                     with a crash of the server   not_watched: the prefix was not watched all the time since then
--                     unknown_seq: there was no such number
-- Tables:     watch, event_floor (read), and those of publish_events
create or replace function pglockd.resume_watch(p_prefix text, p_after bigint, out o_seq bigint, out o_lost text)
language plpgsql
as $$
declare
    v_last constant bigint := pglockd.publish_events();
begin
    o_lost := case
        when p_after is null then null
        when p_after > v_last then 'unknown_seq'
        when p_after < (select f.seq from pglockd.event_floor f) then 'events_removed'
        when not exists (select from pglockd.watch w
                          where w.prefix = any (pglockd.above(p_prefix) || p_prefix) and w.since_seq <= p_after)
            then 'not_watched'
    end;
    o_seq := case when p_after is null or o_lost is not null then v_last else p_after end;
end
$$;
comment on function pglockd.resume_watch(text, bigint) is 'May a client go on behind this event, and miss nothing?';
