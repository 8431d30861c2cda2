-- pglockd.party_waits(party)
-- Purpose:    the waiting requests of a party.
-- Parameters: party   as pglockd.party() names it
-- Returns:    resource, ticket   a row for each request, by the first of its resources
-- Tables:     waiter (read)
create or replace function pglockd.party_waits(p_party text)
returns table (resource text, ticket bigint)
language sql stable
as $$
    select min(q.resource), q.ticket
      from (select w.resource, w.ticket from pglockd.waiter w
             where w.session_id = case when p_party like 'session %' then split_part(p_party, ' ', 2)::bigint end
               and w.absent_until_us is null
            union all
            select w.resource, w.ticket from pglockd.waiter w
             where w.instance_id = case when p_party like 'connection %'
                                        then split_part(split_part(p_party, ' ', 2), '/', 1)::integer end
               and w.conn_id = case when p_party like 'connection %' then split_part(p_party, '/', 2)::bigint end
               and w.session_id is null and w.absent_until_us is null) q
     group by q.ticket
$$;
comment on function pglockd.party_waits(text) is 'The waiting requests of a party.';
