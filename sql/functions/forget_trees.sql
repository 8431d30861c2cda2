-- pglockd.forget_trees()
-- Purpose:    spares others the look for trees when there are none any more; part of the sweep. Nothing is done where
--             somebody is about to make one.
-- Tables:     clock (update), lease, waiter (read)
create or replace function pglockd.forget_trees()
returns void
language plpgsql
as $$
begin
    if exists (select from pglockd.lease_tree) or exists (select from pglockd.waiter w where w.scope = 'tree') then
        return;
    end if;
    perform from pglockd.clock c where c.one and c.trees for update skip locked;
    -- A statement of its own: it sees what was committed by those who had the row before.
    if found and not exists (select from pglockd.lease_tree) and not exists (select from pglockd.waiter w where w.scope = 'tree') then
        update pglockd.clock c set trees = false where c.one;
    end if;
end
$$;
comment on function pglockd.forget_trees() is 'Spares others the look for trees when there are none any more.';
