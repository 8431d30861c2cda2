-- pglockd.watch_prefixes(prefix, keep_ms)
-- Purpose:    from now on what happens beneath these prefixes is noted, for as long as this is repeated, and for keep_ms
--             after the last time. One that was nearly forgotten begins anew: somebody's view of its row may have ended
--             already.
-- Returns:    settled    one for each prefix: transactions that began before it was watched have ended
--                        (pglockd.settle_watches())
-- Tables:     clock (key share, update), watch (insert, update)
create or replace function pglockd.watch_prefixes(p_prefix text[], p_keep_ms bigint)
returns boolean[]
language plpgsql
as $$
declare
    c_nearly constant interval := interval '10 seconds';
    v_until constant timestamptz := clock_timestamp() + p_keep_ms * interval '1 millisecond';
begin
    -- As pglockd.note_trees(): so that the sweep does not take it back before the rows can be seen.
    perform from pglockd.clock c where c.one for key share;
    update pglockd.clock c set watched = true where c.one and not c.watched;
    insert into pglockd.watch as w (prefix, until_at)
    select distinct p.prefix, v_until from unnest(p_prefix) p (prefix) order by 1
        on conflict (prefix) do update
        set until_at = greatest(w.until_at, excluded.until_at),
            since_seq = case when w.until_at > clock_timestamp() + c_nearly then w.since_seq end;
    return array(select w.since_seq is not null
                   from unnest(p_prefix) with ordinality p (prefix, n)
                   left join pglockd.watch w on w.prefix = p.prefix
                  order by p.n);
end
$$;
comment on function pglockd.watch_prefixes(text[], bigint) is 'Has what happens beneath prefixes noted for a while.';
