-- pglockd.lease_writers()
-- Purpose:    transactions at work that have changed leases, or are about to with a view of the tables that is older than
--             this call: they hold locks on the tables until they end. Who waits for those to be gone knows that all
--             others see what was committed before.
-- Returns:    numbers of transactions, as pg_locks has them (virtualtransaction); never null
-- Tables:     pg_locks
create or replace function pglockd.lease_writers()
returns text[]
language sql volatile
as $$
    select coalesce(array_agg(distinct k.virtualtransaction), '{}')
      from pg_catalog.pg_locks k
     where k.locktype = 'relation' and k.mode = 'RowExclusiveLock' and k.granted and k.pid is distinct from pg_backend_pid()
       and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
       and k.relation in ('pglockd.lease'::regclass, 'pglockd.lease_exclusive'::regclass, 'pglockd.lease_shared'::regclass,
                          'pglockd.lease_tree'::regclass)
$$;
comment on function pglockd.lease_writers() is 'Transactions at work that have changed leases or are about to.';
