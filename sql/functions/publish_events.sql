-- pglockd.publish_events(try)
-- Purpose:    gives events that were noted by committed transactions their numbers, in the order of the commits of each
--             resource: what happens to a resource is decided by who saw the commit of what happened before. So of two
--             events of one resource either the later one is not visible yet, or both are, and then they are in the
--             order in which they were noted. One at a time publishes; so numbers become visible in their order, and
--             who has read up to one has missed none. Holes in the numbers mean nothing.
-- Parameters: try   where somebody else publishes: do nothing instead of waiting for their commit
-- Returns:    the last number; null where somebody else publishes. It is the last one until the transaction ends.
-- Bounds:     5000 events; the rest is published by the next call.
-- Tables:     event_outbox (delete), event (insert), event_floor (insert), event_seq (update)
create or replace function pglockd.publish_events(p_try boolean default false)
returns bigint
language plpgsql
as $$
declare
    c_events_max constant integer := 5000;
    c_leap constant bigint := 1048576;
    v_last bigint;
begin
    perform pglockd.require_read_committed();
    if not p_try then
        perform pg_advisory_xact_lock(1346849802, 0);
    elsif not pg_try_advisory_xact_lock(1346849802, 0) then
        return null;
    end if;
    -- After a crash or a failover of the server all events of before are gone. A standby may be behind the sequence,
    -- so a leap: numbers that were told are not told again of others, and who resumes from one is told of a gap.
    if not exists (select from pglockd.event_floor) then
        insert into pglockd.event_floor (seq) select setval('pglockd.event_seq', s.last_value + c_leap) from pglockd.event_seq s;
    end if;
    with moved as (
        delete from pglockd.event_outbox o
         where o.note in (select x.note from pglockd.event_outbox x order by x.note limit c_events_max)
        returning o.*
    )
    insert into pglockd.event (seq, published_at, at, token, event, mode, scope, reason, resource, owner, identity, detail)
    select nextval('pglockd.event_seq'), clock_timestamp(), m.at, m.token, m.event, m.mode, m.scope, m.reason, m.resource,
           m.owner, m.identity, m.detail
      from (select * from moved order by note) m;
    select s.last_value into v_last from pglockd.event_seq s;
    return v_last;
end
$$;
comment on function pglockd.publish_events(boolean) is 'Gives events that were noted their numbers.';
