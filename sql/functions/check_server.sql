-- pglockd.check_server()
-- Purpose:    a caller that is no lane of a daemon has not looked where it is: is this server the recorded
--             one, and the queue whole? Recording takes a lock until the end of the transaction, which
--             may be a user's and long: so that is left to the daemons where there are any (or to tick()), and done
--             here only in a database that no daemon serves.
-- Errors:     57P03 (cannot_connect_now) while nobody has recorded a server that has just been started or
--             promoted: nothing may be granted yet.
-- Tables:     server, queue_epoch, instance (read), and those of notice_server and open_queue_epoch
create or replace function pglockd.check_server()
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if pglockd.server_change() is null and exists (select from pglockd.queue_epoch) then
        return;
    elsif exists (select from pglockd.instance) or not pg_try_advisory_xact_lock(1346849801, 0) then
        raise exception 'this server has just been started or promoted, and pglockd has not recorded it yet'
            using errcode = '57P03',
                  hint = 'Try again in a second. Where no daemon runs any more: select pglockd.tick().';
    end if;
    perform pglockd.notice_server();
    perform pglockd.open_queue_epoch();
end
$$;
comment on function pglockd.check_server() is 'Is this server the recorded one, and the queue whole?';
