-- pglockd.try_guards(resource, tree)
-- Purpose:    takes the guards under which a claim may be decided, without waiting: of each resource itself
--             (class 0x50474C01) exclusively, of the tree of each resource that it lies beneath (0x50474C02)
--             shared, and of its own tree exclusively where it is for one. So a tree meets all that is beneath
--             it, and claims beneath one tree do not meet each other.
--             The strongest first: who has a guard exclusively may take it again.
-- Parameters: resource, tree   one element a member of the claim
-- Returns:    false when somebody else has one of them. Those taken until then are kept.
create or replace function pglockd.try_guards(p_resource text[], p_tree boolean[])
returns boolean
language plpgsql
as $$
declare
    v_above text;
begin
    for i in 1 .. cardinality(p_resource) loop
        if p_tree[i] and not pg_try_advisory_xact_lock(1346849794, pglockd.guard_key(p_resource[i])) then
            return false;
        end if;
    end loop;
    for i in 1 .. cardinality(p_resource) loop
        if not pg_try_advisory_xact_lock(1346849793, pglockd.guard_key(p_resource[i])) then
            return false;
        end if;
        foreach v_above in array pglockd.above(p_resource[i]) loop
            if not pg_try_advisory_xact_lock_shared(1346849794, pglockd.guard_key(v_above)) then
                return false;
            end if;
        end loop;
    end loop;
    return true;
end
$$;
comment on function pglockd.try_guards(text[], boolean[]) is
    'Takes the guards under which a claim may be decided, without waiting.';
