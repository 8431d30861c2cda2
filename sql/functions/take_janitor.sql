-- pglockd.take_janitor()
-- Purpose:    one daemon at a time is the janitor: the one whose session holds the advisory lock
--             (class 0x50474C05, 0). A janitor that has not ticked for 3 s is frozen or cut off, though
--             its session may live on: that session is ended, and the next call may win.
-- Returns:    true when the calling session is the janitor now.
-- Tables:     clock (read)
create or replace function pglockd.take_janitor()
returns boolean
language plpgsql
as $$
begin
    if pg_try_advisory_lock(1346849797, 0) then
        return true;
    end if;
    if exists (select from pglockd.clock c where c.wall_at < clock_timestamp() - interval '3 s') then
        perform pg_terminate_backend(k.pid)
           from pg_catalog.pg_locks k
          where k.locktype = 'advisory' and k.classid = 1346849797 and k.objid = 0 and k.objsubid = 2
            and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
            and k.granted and k.pid <> pg_backend_pid();
    end if;
    return false;
end
$$;
comment on function pglockd.take_janitor() is 'Tries to make the calling session the janitor; ends the session of a frozen one.';
