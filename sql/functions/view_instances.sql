-- View pglockd.instances: the daemons.
create or replace view pglockd.instances as
select i.instance_id, i.name, i.version, i.started_at, i.heartbeat_at,
       k.pid is not null as connected,
       (select count(*) from pglockd.waiter w where w.instance_id = i.instance_id) as waiters,
       greatest(0, c.now_us - i.heartbeat_us) * interval '1 microsecond' as silent,
       k.pid
  from pglockd.instance i
 cross join (select pglockd.lease_reading(t.floor_us, t.base_us, t.wall_at) as now_us
               from pglockd.clock t where t.one) c
  left join pg_catalog.pg_locks k
    on k.locktype = 'advisory' and k.classid = 1346849795 and k.objid = i.instance_id::oid and k.objsubid = 2 and k.granted
       and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database());
comment on view pglockd.instances is 'The daemons that serve, or did until just now.';
comment on column pglockd.instances.instance_id is 'Number of the daemon; never used again.';
comment on column pglockd.instances.name is 'Host and process id.';
comment on column pglockd.instances.version is 'Program version.';
comment on column pglockd.instances.started_at is 'When it registered.';
comment on column pglockd.instances.heartbeat_at is 'Its last sign of life.';
comment on column pglockd.instances.connected is 'It holds its advisory lock, so its session is alive.';
comment on column pglockd.instances.waiters is 'Requests of its clients in the queue, one for every resource that is waited for.';
comment on column pglockd.instances.silent is 'Lease time since its last sign of life, which comes every second; its waiters are passed over from 3 s on.';
comment on column pglockd.instances.pid is 'Process of its session in this server, as in pg_stat_activity; null where it is not connected.';
