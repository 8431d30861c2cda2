-- pglockd.listen_instance(instance)
-- Purpose:    has the calling session listen for pglockd.notify_instances() to this daemon.
create or replace function pglockd.listen_instance(p_instance integer)
returns void
language plpgsql
as $$
begin
    execute format('listen %I', 'pglockd_instance_' || p_instance);
end
$$;
comment on function pglockd.listen_instance(integer) is 'Has the calling session listen for notifications to a daemon.';
