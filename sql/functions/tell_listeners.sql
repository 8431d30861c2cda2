-- pglockd.tell_listeners(resource)
-- Purpose:    tells the daemons whose clients asked for events that something has happened to what they
--             hold: somebody waits for it, or took it away. They look for themselves (pglockd.listen()).
--             Daemons call it in a transaction of its own after their commit; only SQL callers do so
--             inside their transaction, which has no other end.
-- Parameters: resource   what it happened to
-- Tables:     listener (read)
create or replace function pglockd.tell_listeners(p_resource text[])
returns void
language sql
as $$
    select pg_notify('pglockd_instance_' || d.instance_id, d.resource)
      from (select distinct n.instance_id, n.resource from pglockd.listener n where n.resource = any (p_resource)) d
$$;
comment on function pglockd.tell_listeners(text[]) is
    'Tells daemons that something has happened to what their clients hold.';
