-- pglockd.gauges()
-- Purpose:    what the janitor's daemon shows of the state that all daemons share, and of what keeps
--             PostgreSQL from removing dead rows. Needs no right on the sessions of others: whose
--             snapshot it is, is not asked.
-- Returns:    locks_held, sessions, waiters   how many
--             oldest_wait_us    of the one that waits longest, else 0
--             oldest_xmin       that no vacuum of this database gets past, and its age in transactions;
--                               null and 0 where nobody has a snapshot
--             dead_leases, dead_waiters   rows that are dead and not removed, as the statistics say (those
--                               of the leases count by partition)
--             violations        rows of the table
-- Tables:     lease, session, waiter, violation (read)
create or replace function pglockd.gauges(
    out locks_held bigint, out sessions bigint, out waiters bigint, out oldest_wait_us bigint,
    out oldest_xmin bigint, out xmin_age bigint, out dead_leases bigint, out dead_waiters bigint,
    out violations bigint)
language sql
as $$
    with xmins as (
        select a.backend_xmin as xmin from pg_catalog.pg_stat_activity a
         where a.backend_xmin is not null and a.pid <> pg_backend_pid()
           and a.usesysid is not null -- the workers of autovacuum have none, and are in nobody's way
           and (a.datname = current_database() or a.datname is null)
        union all
        select s.xmin from pg_catalog.pg_replication_slots s where s.xmin is not null
        union all
        select p.transaction from pg_catalog.pg_prepared_xacts p where p.database = current_database()
    ), oldest as (
        select x.xmin::text::bigint as xmin, age(x.xmin)::bigint as age from xmins x order by age(x.xmin) desc limit 1
    )
    select (select count(*) from pglockd.lease),
           (select count(*) from pglockd.session s where s.ended_us is null),
           count(*),
           coalesce(greatest(0, extract(epoch from clock_timestamp() - min(w.enqueued_at)) * 1000000), 0)::bigint,
           (select o.xmin from oldest o), coalesce((select o.age from oldest o), 0),
           (select sum(pg_stat_get_dead_tuples(i.inhrelid))::bigint from pg_catalog.pg_inherits i
             where i.inhparent = 'pglockd.lease'::regclass),
           pg_stat_get_dead_tuples('pglockd.waiter'::regclass),
           (select count(*) from pglockd.violation)
      from pglockd.waiter w
$$;
comment on function pglockd.gauges() is 'What the janitor''s daemon shows of the state that all daemons share.';
