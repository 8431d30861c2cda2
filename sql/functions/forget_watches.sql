-- pglockd.forget_watches(prefixes_max)
-- Purpose:    forgets prefixes that nobody watches any more, and where none is left, spares those who decide the look for
--             them (clock.watched); part of the sweep. Nothing is done to that where somebody is about to watch.
-- Parameters: prefixes_max   of more than that those go that were watched longest ago: clients that come and go may leave
--                            many behind
-- Tables:     watch (delete), clock (update)
create or replace function pglockd.forget_watches(p_prefixes_max bigint default 100000)
returns void
language plpgsql
as $$
begin
    delete from pglockd.watch w where w.until_at < clock_timestamp();
    if exists (select from pglockd.watch offset p_prefixes_max) then
        delete from pglockd.watch w
         where w.prefix in (select x.prefix from pglockd.watch x order by x.until_at desc offset p_prefixes_max);
    end if;
    if exists (select from pglockd.watch) then
        return;
    end if;
    perform from pglockd.clock c where c.one and c.watched for update skip locked;
    -- A statement of its own: it sees what was committed by those who had the row before.
    if found and not exists (select from pglockd.watch) then
        update pglockd.clock c set watched = false where c.one;
    end if;
end
$$;
comment on function pglockd.forget_watches(bigint) is 'Forgets prefixes that nobody watches any more.';
