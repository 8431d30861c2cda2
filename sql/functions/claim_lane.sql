-- pglockd.claim_lane(lane)
-- Purpose:    makes the calling session the only one of a daemon's lane, so that no transaction of an
--             older connection is still at work when the daemon asks what became of it. The session
--             that has the lane is ended. A crash of the server ends all sessions: so here is where a
--             daemon notices that the queue was emptied, before it decides anything.
-- Parameters: lane   instance_id * 8 + number of the lane
-- Returns:    true when the calling session has the lane; false: ask again soon.
-- Tables:     queue_epoch (insert), clock (update)
create or replace function pglockd.claim_lane(p_lane integer)
returns boolean
language plpgsql
as $$
begin
    if pg_try_advisory_lock(1346849796, p_lane) then
        if not exists (select from pglockd.queue_epoch) then
            perform pglockd.open_queue_epoch();
        end if;
        return true;
    end if;
    perform pg_terminate_backend(k.pid)
       from pg_catalog.pg_locks k
      where k.locktype = 'advisory' and k.classid = 1346849796 and k.objid = p_lane::oid and k.objsubid = 2
        and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
        and k.granted and k.pid <> pg_backend_pid();
    return false;
end
$$;
comment on function pglockd.claim_lane(integer) is 'Makes the calling session the only one of a daemon''s lane.';
