-- pglockd.rate_lock_refund(resource, owner)
-- Purpose:    gives back what rate_lock(…, true) took in this transaction: the lock was not granted.
-- Tables:     rate_policy (read), rate_counter (update)
create or replace function pglockd.rate_lock_refund(p_resource text, p_owner text)
returns void
language sql
as $$
    select pglockd.rate_refund(
               array_agg(case p.counter when 'key' then p_resource when 'owner' then p_owner else '' end),
               array_agg(p.name), array_agg(1::bigint))
      from pglockd.rate_policies() p
     where p.for_lock and p.on_grant and not p.shadow and pglockd.rate_matches(p.prefix, p.pattern, p_resource)
$$;
comment on function pglockd.rate_lock_refund(text, text) is 'Gives back the permit of a lock() that was not granted.';
