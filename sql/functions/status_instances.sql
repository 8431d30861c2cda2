-- pglockd.status_instances(rows_max)
-- Purpose:    the daemons, for who looks at the whole service.
-- Returns:    a row for every daemon
--             heartbeat_ms   since its last sign of life
--             connected      its session with the database is alive
--             janitor        it was the janitor when it last wrote its metrics; null where it does not write them
--             waiting        requests of its clients in the queue
-- Tables:     instance, waiter, metric_sample, metric_series (read)
create or replace function pglockd.status_instances(p_rows_max integer)
returns table (instance integer, name text, version text, uptime_ms bigint, heartbeat_ms bigint, connected boolean,
               janitor boolean, waiting bigint)
language sql stable
as $$
    select i.instance_id, i.name, i.version,
           greatest(0, extract(epoch from clock_timestamp() - i.started_at) * 1000)::bigint,
           greatest(0, extract(epoch from clock_timestamp() - i.heartbeat_at) * 1000)::bigint,
           exists (select from pg_catalog.pg_locks k
                    where k.locktype = 'advisory' and k.classid = 1346849795 and k.objid = i.instance_id::oid
                      and k.objsubid = 2 and k.granted
                      and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())),
           (select m.cells[s.first] = 1
              from (select x.cells, x.layout_id from pglockd.metric_sample x
                     where x.instance_id = i.instance_id and x.sampled_at > clock_timestamp() - interval '1 hour'
                     order by x.sampled_at desc limit 1) m
              join pglockd.metric_series s on s.layout_id = m.layout_id and s.name = 'pglockd_janitor_leader'),
           (select count(*) from pglockd.waiter w where w.instance_id = i.instance_id)
      from (select x.* from pglockd.instance x order by x.instance_id limit p_rows_max) i
     order by i.instance_id
$$;
comment on function pglockd.status_instances(integer) is 'The daemons, for who looks at the whole service.';
