-- pglockd.lock_leases(resource, token)
-- Purpose:    locks the rows of leases that nobody else has locked, without waiting.
-- Parameters: resource, token   one element a lease, sorted, so that callers lock in one order
-- Returns:    the tokens, null in the place of leases that are gone or locked by somebody
-- Tables:     lease (for update)
create or replace function pglockd.lock_leases(p_resource text[], p_token bigint[])
returns bigint[]
language plpgsql
as $$
declare
    v_locked bigint[];
begin
    select array_agg(l.token) into v_locked
      from (select x.token from unnest(p_resource, p_token) q (resource, token)
              join pglockd.lease x on x.resource = q.resource and x.token = q.token
               for update of x skip locked) l;
    return array(select case when u.token = any (v_locked) then u.token end
                   from unnest(p_token) with ordinality u (token, n) order by u.n);
end
$$;
comment on function pglockd.lock_leases(text[], bigint[]) is 'Locks leases that nobody else has locked, without waiting.';
