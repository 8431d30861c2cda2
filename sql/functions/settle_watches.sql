-- pglockd.settle_watches(prefix)
-- Purpose:    all transactions that began before these prefixes were watched have ended: from here on no event of theirs
--             is missing.
-- Returns:    number of the last event.
-- Tables:     watch (update), and those of publish_events
create or replace function pglockd.settle_watches(p_prefix text[])
returns bigint
language plpgsql
as $$
declare
    v_last constant bigint := pglockd.publish_events();
begin
    update pglockd.watch w set since_seq = v_last where w.prefix = any (p_prefix) and w.since_seq is null;
    return v_last;
end
$$;
comment on function pglockd.settle_watches(text[]) is 'No event of these prefixes is missing from here on.';
