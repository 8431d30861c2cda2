-- pglockd.notify_instances(instances)
-- Purpose:    tells daemons that grants wait for them; 0 stands for all where somebody watches, that there are events.
--             Daemons call it in a transaction of its own after their commit; only SQL callers notify inside their transaction, which has no other end.
create or replace function pglockd.notify_instances(p_instances bigint[])
returns void
language sql
as $$
    select pg_notify(case when i = 0 then 'pglockd_events' else 'pglockd_instance_' || i end, '')
      from (select distinct unnest(p_instances) as i) d
$$;
comment on function pglockd.notify_instances(bigint[]) is 'Tells daemons that grants wait for them, or events.';
