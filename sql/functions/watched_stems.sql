-- pglockd.watched_stems()
-- Purpose:    what a resource must begin with, a slash put behind it, to be one that somebody may watch:
--                 (resource || '/') ^@ any (stems)
--             A cheap test for statements that many leases go through.
-- Returns:    null: nobody watches. Where there are many prefixes, {""}, one that all resources begin with:
--             pglockd.is_watched() knows better
-- Tables:     watch (read)
create or replace function pglockd.watched_stems()
returns text[]
language plpgsql -- whose plan is kept: one in SQL would be planned at each call
as $$
begin
    return (select case when count(*) > 64 then '{""}' else array_agg(w.stem) end
              from pglockd.watch w
             where w.until_at > clock_timestamp());
end
$$;
comment on function pglockd.watched_stems() is 'What a resource that somebody may watch begins with.';
