-- pglockd.is_fenced(resource, token)
-- Purpose:    does a transaction that called pglockd.assert_fence() keep this lease from ending? Nobody else takes a
--             row lock that a renewal passes and a removal does not: so the row is fenced where the weaker of these two
--             can be had and the stronger cannot. The weaker one first: it keeps out all who might hold the stronger one
--             now and have let go of it a moment later.
-- Returns:    false also where the lease is gone, or somebody has its row locked for something else. What could be had
--             of the row is kept until the calling transaction ends.
-- Tables:     lease (for update, for no key update)
create or replace function pglockd.is_fenced(p_resource text, p_token bigint)
returns boolean
language plpgsql
as $$
begin
    perform from pglockd.lease l where l.resource = p_resource and l.token = p_token for no key update skip locked;
    if not found then
        return false;
    end if;
    perform from pglockd.lease l where l.resource = p_resource and l.token = p_token for update skip locked;
    return not found;
end
$$;
comment on function pglockd.is_fenced(text, bigint) is
    'Does a transaction that called assert_fence() keep a lease from ending?';
