-- pglockd.hold_number()
-- Purpose:    the number by which leases of pglockd.hold() name the calling SQL session.
-- Returns:    the second number of the session advisory lock (class 0x50474C07) that the session has shared; null when
--             it has none. Whether another session lives is tried exclusively, which one's own session never refuses.
-- Tables:     pg_locks (read)
create or replace function pglockd.hold_number()
returns integer
language sql
as $$
    select k.objid::bigint::integer
      from pg_catalog.pg_locks k
     where k.locktype = 'advisory' and k.classid = 1346849799 and k.objsubid = 2 and k.pid = pg_backend_pid()
       and k.mode = 'ShareLock' and k.granted
       and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
     limit 1
$$;
comment on function pglockd.hold_number() is 'The number by which leases of hold() name the calling SQL session.';
