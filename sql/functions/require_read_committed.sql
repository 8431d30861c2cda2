-- pglockd.require_read_committed()
-- Purpose:    every deciding function reads in a new statement after it holds its guards, and only
--             READ COMMITTED then sees what the last holder of the guard committed: under a snapshot
--             of the whole transaction two exclusive leases could be granted.
-- Errors:     25001 (active_sql_transaction) in any other isolation level.
create or replace function pglockd.require_read_committed()
returns void
language plpgsql
as $$
begin
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'pglockd decides only in READ COMMITTED transactions, this one is %',
                upper(pg_catalog.current_setting('transaction_isolation'))
            using errcode = '25001', hint = 'Start the transaction with: begin isolation level read committed';
    end if;
end
$$;
comment on function pglockd.require_read_committed() is 'Raises 25001 unless the transaction is READ COMMITTED.';
