-- View pglockd.instances: the daemons.
create or replace view pglockd.instances as
select i.instance_id, i.name, i.version, i.started_at, i.heartbeat_at,
       exists (select from pg_catalog.pg_locks k
                where k.locktype = 'advisory' and k.classid = 1346849795 and k.objid = i.instance_id
                  and k.objsubid = 2 and k.granted) as connected,
       (select count(*) from pglockd.waiter w where w.instance_id = i.instance_id) as waiters
  from pglockd.instance i;
comment on view pglockd.instances is 'The daemons that serve.';
comment on column pglockd.instances.instance_id is 'Number of the daemon; never used again.';
comment on column pglockd.instances.name is 'Host and process id.';
comment on column pglockd.instances.version is 'Program version.';
comment on column pglockd.instances.started_at is 'When it registered.';
comment on column pglockd.instances.heartbeat_at is 'Its last sign of life.';
comment on column pglockd.instances.connected is 'It holds its advisory lock, so its session is alive.';
comment on column pglockd.instances.waiters is 'Requests of its clients in the queue.';
