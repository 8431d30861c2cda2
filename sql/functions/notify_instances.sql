-- pglockd.notify_instances(instances)
-- Purpose:    tells daemons that grants wait for them. Daemons call it in a transaction of its own after
--             their commit; only SQL callers notify inside their transaction, which has no other end.
create or replace function pglockd.notify_instances(p_instances bigint[])
returns void
language sql
as $$
    select pg_notify('pglockd_instance_' || i, '') from (select distinct unnest(p_instances) as i) d
$$;
comment on function pglockd.notify_instances(bigint[]) is 'Tells daemons that grants wait for them.';
