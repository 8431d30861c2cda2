-- Failover: who ticks the lease clock when a server process cannot be ended.

alter table pglockd.clock
    add column janitor_term integer not null default 0;
comment on column pglockd.clock.janitor_term is
    'Number of the janitor in office: its session holds the advisory lock (class 0x50474C05, janitor_term), and ticks of another term are not credited.';

-- It has got parameters and other results.
drop function if exists pglockd.take_janitor();
