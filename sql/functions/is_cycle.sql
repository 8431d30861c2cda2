-- pglockd.is_cycle(party, resource, ticket)
-- Purpose:    do these parties wait for each other, in a ring, as one statement sees them?
-- Parameters: as pglockd.find_cycle() returns
-- Returns:    true when each one's request waits for the next one, and the last for the first.
-- Tables:     waiter, lease (read)
create or replace function pglockd.is_cycle(p_party text[], p_resource text[], p_ticket bigint[])
returns boolean
language sql stable
as $$
    select coalesce(bool_and(exists (
               select from pglockd.waiter w
                where w.resource = p_resource[i] and w.ticket = p_ticket[i] and w.absent_until_us is null
                  and pglockd.party(w.session_id, w.instance_id, w.conn_id) = p_party[i])
           and exists (
               select from pglockd.wait_edges(p_resource[i], p_ticket[i]) e
                where e.resource = p_resource[i] and e.party = p_party[i % cardinality(p_party) + 1])), false)
      from generate_series(1, cardinality(p_party)) i
$$;
comment on function pglockd.is_cycle(text[], text[], bigint[]) is 'Do these parties wait for each other in a ring?';
