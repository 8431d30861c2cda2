-- pglockd.find_by_id(id, owner, identity)
-- Purpose:    UNLOCK and RENEW by id=KEY: the leases that a LOCK with that id was granted.
-- Parameters: owner      as the LOCK named it
--             identity   authenticated name
-- Returns:    a row for each lease, in the order of the resources.
-- Tables:     lease (read)
create or replace function pglockd.find_by_id(p_id text, p_owner text, p_identity text)
returns table (resource text, token bigint)
language sql
as $$
    select l.resource, l.token
      from pglockd.lease l
     where l.idempotency_key = p_id and l.owner = coalesce(p_owner, '') and l.identity = p_identity
     order by l.resource, l.token
$$;
comment on function pglockd.find_by_id(text, text, text) is 'The leases that a LOCK with this id was granted.';
