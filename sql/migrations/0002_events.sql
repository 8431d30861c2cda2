-- Events: which leases have a holder that wants to hear of them.

create unlogged table pglockd.listener (
    token bigint not null,
    instance_id integer not null,
    resource text collate "C" not null,
    constraint listener_pkey primary key (resource, token, instance_id)
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1,
        autovacuum_vacuum_cost_delay = 0);
comment on table pglockd.listener is
    'Leases whose holders asked for events (HELLO events=on), one row for each daemon where one is connected. Unlogged: the daemons look at their leases every few seconds and put missing rows back.';
comment on column pglockd.listener.token is 'Fencing token of the lease.';
comment on column pglockd.listener.instance_id is 'Daemon to be told.';
comment on column pglockd.listener.resource is 'What is locked.';
create index listener_instance on pglockd.listener (instance_id);
comment on index pglockd.listener_instance is 'The rows of one daemon, when it begins anew or is retired.';
