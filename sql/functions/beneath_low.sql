-- pglockd.beneath_low(resource)
-- Purpose:    all that lies beneath a resource, and nothing beside it, is greater than this and less than
--             pglockd.beneath_high(), in the order of bytes: a/b is above a/b/c, and not above a/bc.
-- Returns:    the resource with a slash behind it; of the top (/) the empty text, which is less than all, and so
--             less than the top itself.
create or replace function pglockd.beneath_low(p_resource text)
returns text
language sql immutable parallel safe
as $$
    select case when p_resource = '/' then '' else p_resource || '/' end
$$;
comment on function pglockd.beneath_low(text) is 'What lies beneath a resource is greater than this.';
