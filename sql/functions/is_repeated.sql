-- pglockd.is_repeated(id, owner, identity)
-- Purpose:    has an earlier LOCK with this id left something?
-- Returns:    true when it has a lease or waits.
-- Tables:     lease, waiter (read)
create or replace function pglockd.is_repeated(p_id text, p_owner text, p_identity text)
returns boolean
language plpgsql
as $$
begin
    return exists (select from pglockd.lease l
                    where l.idempotency_key = p_id and l.owner = p_owner and l.identity = p_identity)
        or exists (select from pglockd.waiter w
                    where w.idempotency_key = p_id and w.owner = p_owner and w.identity = p_identity);
end
$$;
comment on function pglockd.is_repeated(text, text, text) is 'Has an earlier LOCK with this id left something?';
