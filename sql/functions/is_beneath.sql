-- pglockd.is_beneath(resource, prefix)
-- Purpose:    is a resource the prefix itself or beneath it? For queries: a/b/c and a/b are beneath a/b, a/bc is not.
--             Plain enough for the planner to make ranges of an index of it, also through a security barrier, which
--             like does not pass.
-- Parameters: resource   column to be looked at
--             prefix     a resource, or / for all
-- Returns:    null where either is null.
create or replace function pglockd.is_beneath(resource text, prefix text)
returns boolean
language sql immutable parallel safe
as $$
    select $1 = $2 or $1 > pglockd.beneath_low($2) and $1 < pglockd.beneath_high($2)
$$;
comment on function pglockd.is_beneath(text, text) is 'Is a resource the prefix itself or beneath it? For queries; finds its way by an index.';
