-- pglockd.check_server()
-- Purpose:    what a daemon looks at when it connects, an SQL caller looks at before it decides anything: after a crash
--             of the server the queue is empty, and whoever notices first opens the quiet period in which the daemons
--             put their waiters back.
-- Tables:     queue_epoch (read, insert), clock (update)
create or replace function pglockd.check_server()
returns void
language plpgsql
as $$
begin
    if not exists (select from pglockd.queue_epoch) then
        perform pglockd.open_queue_epoch();
    end if;
end
$$;
comment on function pglockd.check_server() is 'What an SQL caller looks at before it decides anything.';
