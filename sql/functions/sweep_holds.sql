-- pglockd.sweep_holds(leases_max)
-- Purpose:    the janitor's part for pglockd.hold(), bounded: removes what SQL sessions held that are gone. It looks at
--             sessions, each once, whatever the number of their leases.
-- Parameters: leases_max   leases removed, at most
-- Returns:    ended        leases removed
--             more         there may be others: call again soon
--             resources    of the leases that were removed, to be handed over
--             wake         as pglockd.note_ends()
-- Tables:     lease (read), and those of pglockd.expire()
create or replace function pglockd.sweep_holds(
    p_leases_max integer, out o_ended integer, out o_more boolean, out o_resources text[], out o_wake integer[])
language plpgsql
as $$
declare
    v_resource text[];
    v_token bigint[];
begin
    with recursive held as (
        (select l.hold_id from pglockd.lease l where l.hold_id is not null order by l.hold_id limit 1)
        union all
        select (select l.hold_id from pglockd.lease l where l.hold_id > h.hold_id order by l.hold_id limit 1)
          from held h where h.hold_id is not null
    ), gone as materialized (
        select h.hold_id from held h where h.hold_id is not null and pg_try_advisory_xact_lock(1346849799, h.hold_id)
    ), due as (
        select l.resource, l.token from gone g join pglockd.lease l on l.hold_id = g.hold_id limit p_leases_max
    )
    select array_agg(d.resource order by d.resource, d.token), array_agg(d.token order by d.resource, d.token)
      into v_resource, v_token from due d;
    o_more := coalesce(cardinality(v_token), 0) >= p_leases_max;
    select e.o_gone, e.o_wake into o_resources, o_wake from pglockd.expire(v_resource, v_token) e;
    o_ended := coalesce(cardinality(o_resources), 0);
    o_more := o_more and o_ended > 0;
end
$$;
comment on function pglockd.sweep_holds(integer) is 'The janitor''s round of what SQL sessions hold.';
