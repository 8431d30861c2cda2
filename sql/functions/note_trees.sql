-- pglockd.note_trees()
-- Purpose:    called before a lease of a tree is made or waited for: others look for trees only while clock.trees says
--             that there may be any. The share lock keeps the sweep from taking that back until this transaction ends
--             and its rows can be seen; ticks pass it. Others that decide now, and may have read it before, are met by
--             the guards.
-- Tables:     clock (key share, update)
create or replace function pglockd.note_trees()
returns void
language plpgsql
as $$
declare
    v_trees boolean;
begin
    select c.trees into v_trees from pglockd.clock c where c.one for key share;
    if not v_trees then
        update pglockd.clock c set trees = true where c.one and not c.trees;
    end if;
end
$$;
comment on function pglockd.note_trees() is 'Has others look for trees from now on.';
