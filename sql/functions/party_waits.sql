-- pglockd.party_waits(party)
-- Purpose:    the waiting requests of a party.
-- Parameters: party   as pglockd.party() names it
-- Returns:    resource, ticket   a row for each request, by the first of its resources
-- Tables:     waiter (read)
create or replace function pglockd.party_waits(p_party text)
returns table (resource text, ticket bigint)
language sql stable
as $$
    select min(w.resource), w.ticket
      from pglockd.waiter w
     where w.absent_until_us is null
       and case when p_party like 'session %' then w.session_id = split_part(p_party, ' ', 2)::bigint
                else w.session_id is null and w.instance_id = split_part(split_part(p_party, ' ', 2), '/', 1)::integer
                     and w.conn_id = split_part(p_party, '/', 2)::bigint end
     group by w.ticket
$$;
comment on function pglockd.party_waits(text) is 'The waiting requests of a party.';
