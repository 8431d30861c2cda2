-- pglockd.note_ttl(ttl_ms, grace_ms)
-- Purpose:    records the longest TTL and the longest grace, in the transaction that grants them: after a
--             failover that may have lost the grant, nothing is granted for so long. The TTL of a session
--             counts; one that never runs out (of a lease in a session) does not.
-- Parameters: ttl_ms, grace_ms   in milliseconds; may hold nulls
-- Returns:    were they recorded before? So that it can be called in an expression, for a fifth of what a statement costs
-- Tables:     longest_ttl (insert, delete)
create or replace function pglockd.note_ttl(p_ttl_ms bigint[], p_grace_ms bigint[] default '{}')
returns boolean
language plpgsql
as $$
declare
    c_session_ttl_ms constant bigint := 9000000000000;
    v_asked constant bigint[] := array_remove(p_ttl_ms, c_session_ttl_ms);
    v_ttl_ms bigint;
    v_grace_ms bigint;
begin
    -- Mostly that is all.
    if exists (select from pglockd.longest_ttl t
                where (t.ttl_ms < any (v_asked)) is not true and (t.grace_ms < any (p_grace_ms)) is not true) then
        return true;
    end if;
    select greatest(max(t.ttl_ms), (select max(u) from unnest(v_asked) u), 0),
           greatest(max(t.grace_ms), (select max(u) from unnest(p_grace_ms) u), 0)
      into v_ttl_ms, v_grace_ms
      from pglockd.longest_ttl t;
    if not exists (select from pglockd.longest_ttl t where t.ttl_ms = v_ttl_ms and t.grace_ms = v_grace_ms) then
        insert into pglockd.longest_ttl (ttl_ms, grace_ms) values (v_ttl_ms, v_grace_ms);
        -- Nobody waits for a row: those that an open transaction has taken are passed over.
        delete from pglockd.longest_ttl t
         where t.ctid = any (array(select x.ctid from pglockd.longest_ttl x
                                    where (x.ttl_ms, x.grace_ms) <> (v_ttl_ms, v_grace_ms)
                                      and x.ttl_ms <= v_ttl_ms and x.grace_ms <= v_grace_ms
                                      for update skip locked));
    end if;
    return false;
end
$$;
comment on function pglockd.note_ttl(bigint[], bigint[]) is 'Records the longest TTL and the longest grace.';
