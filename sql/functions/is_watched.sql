-- pglockd.is_watched(resource)
-- Purpose:    does somebody watch the resource, or a prefix that it lies beneath?
-- Tables:     watch (read)
create or replace function pglockd.is_watched(p_resource text)
returns boolean
language plpgsql
as $$
begin
    return exists (select from pglockd.watch w
                    where w.prefix = any (pglockd.above(p_resource) || p_resource) and w.until_at > clock_timestamp());
end
$$;
comment on function pglockd.is_watched(text) is 'Does somebody watch the resource, or a prefix that it lies beneath?';
