-- pglockd.beneath_high(resource)
-- Purpose:    see pglockd.beneath_low().
-- Returns:    the resource with the byte after the slash behind it; of the top (/) a text that is greater than
--             every resource, since those have at most 512 bytes.
create or replace function pglockd.beneath_high(p_resource text)
returns text
language sql immutable parallel safe
as $$
    select case when p_resource = '/' then repeat(chr(1114111), 129) else p_resource || '0' end
$$;
comment on function pglockd.beneath_high(text) is 'What lies beneath a resource is less than this.';
