-- pglockd.claim_lane(lane, token, ttl_ms)
-- Purpose:    makes the calling session the only one of a daemon's lane, so that no transaction of an
--             older connection is still at work when the daemon asks what became of it. The session
--             that has the lane is ended. Here is where a daemon notices, before it decides anything, that
--             it is on another server, and that the queue was emptied: a crash of the server ends all
--             sessions, and so does a failover.
-- Parameters: lane            instance_id * 8 + number of the lane
--             token, ttl_ms   as pglockd.notice_server()
-- Returns:    true when the calling session has the lane; false: ask again soon.
-- Tables:     queue_epoch (insert), clock (update), and those of notice_server
create or replace function pglockd.claim_lane(p_lane integer, p_token bigint default 0, p_ttl_ms bigint default 0)
returns boolean
language plpgsql
as $$
begin
    if pg_try_advisory_lock(1346849796, p_lane) then
        perform pglockd.notice_server(p_token, p_ttl_ms);
        perform pglockd.open_queue_epoch();
        -- A commit that the old session made may still wait for a synchronous standby, or its wait was
        -- cut short by ending that session. What comes next says what became of it: only when a later commit
        -- is confirmed, and so this one.
        perform pg_logical_emit_message(true, 'pglockd', 'claim');
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
comment on function pglockd.claim_lane(integer, bigint, bigint) is 'Makes the calling session the only one of a daemon''s lane.';
