-- Who may do what. Installed last, after every function and view.
revoke all on all functions in schema pglockd from public;
revoke all on all tables in schema pglockd from public;
grant usage on schema pglockd to pglockd_service, pglockd_client, pglockd_reader, pglockd_admin;

-- The daemon decides by the functions, with its own rights on the tables.
grant execute on all functions in schema pglockd to pglockd_service;
revoke execute on function pglockd.force(text, bigint, text), pglockd.force_lease(text, bigint, text),
    pglockd.after_restore(text), pglockd.record_server(text, text, boolean, bigint, bigint),
    pglockd.key_create(text, bytea, text[], interval, text), pglockd.key_rotate(text, bytea, interval, interval),
    pglockd.key_revoke(text), pglockd.key_add(text, bytea, interval, text), pglockd.identity_revoke(text),
    pglockd.identity_allow(text, text[]), pglockd.identity_deny(text, text[]),
    pglockd.identity_add_rights(text, text[]), pglockd.require_identity(text) from pglockd_service;
revoke execute on function pglockd.force_owner(text, text, integer), pglockd.force_prefix(text, text, integer),
    pglockd.force_session(bigint, text), pglockd.force_many(text, text, text, integer),
    pglockd.force_one(text, bigint, text, timestamptz) from pglockd_service;
grant select, insert, update, delete on pglockd.lease, pglockd.lease_exclusive, pglockd.lease_shared, pglockd.lease_tree,
    pglockd.waiter, pglockd.tombstone, pglockd.instance,
    pglockd.queue_epoch, pglockd.listener, pglockd.session, pglockd.refusal to pglockd_service;
grant select, update on pglockd.clock to pglockd_service;
grant select, insert, update, delete on pglockd.longest_ttl to pglockd_service;
grant select on pglockd.server to pglockd_service, pglockd_reader, pglockd_admin;
grant select, insert, update, delete on pglockd.rate_counter, pglockd.rate_request to pglockd_service;
grant select on pglockd.rate_policy, pglockd.rate_epoch, pglockd.rate_limits to pglockd_service;
grant usage, select on all sequences in schema pglockd to pglockd_service;
grant select on pglockd.locks, pglockd.queue, pglockd.sessions, pglockd.instances, pglockd.schema_info, pglockd.migration
    to pglockd_service;

-- Clients by SQL: the security definer functions and nothing else.
grant execute on function pglockd.lock(text, text, text, interval, text, text, text, integer),
    pglockd.unlock(text, bigint), pglockd.renew(text, bigint, interval), pglockd.hold(text, text, text, text, text),
    pglockd.assert_fence(text, bigint), pglockd.fence_guard(),
    pglockd.rate(text, bigint, text, bigint, interval, bigint, boolean, text) to pglockd_client;

grant select on pglockd.locks, pglockd.queue, pglockd.sessions, pglockd.instances, pglockd.schema_info to pglockd_reader, pglockd_admin;
grant execute on function pglockd.lease_reading(bigint, bigint, timestamptz),
    pglockd.ttl_left_ms(bigint, bigint) to pglockd_reader, pglockd_admin;
grant select on pglockd.blockers, pglockd.lost_locks to pglockd_service, pglockd_reader, pglockd_admin;
-- What these call, and what queries need of resources.
grant execute on function pglockd.party(bigint, integer, bigint), pglockd.above(text), pglockd.beneath_low(text),
    pglockd.beneath_high(text), pglockd.is_beneath(text, text) to pglockd_reader, pglockd_admin;
grant execute on function pglockd.force(text, bigint, text) to pglockd_admin;
grant execute on function pglockd.force_owner(text, text, integer), pglockd.force_prefix(text, text, integer),
    pglockd.force_session(bigint, text) to pglockd_admin;
grant execute on function pglockd.tick(interval), pglockd.after_restore(text) to pglockd_admin;

-- Rate limits: the view calls the arithmetic; policies are the administrator's.
grant select on pglockd.rate_limits, pglockd.rate_policy to pglockd_reader, pglockd_admin;
grant insert, update, delete on pglockd.rate_policy to pglockd_admin;
grant execute on function pglockd.rate_now_ns(), pglockd.rate_cost_ns(bigint, bigint, bigint),
    pglockd.rate_fit(bigint, bigint, bigint),
    pglockd.rate_level(bigint, bigint, bigint, bigint, bigint, bigint, bigint) to pglockd_reader, pglockd_admin;
grant execute on function pglockd.rate_reset(text, text) to pglockd_admin;

-- Metrics: the daemon writes samples, those who look may read all of them.
grant select, insert on pglockd.metric_sample, pglockd.metric_series to pglockd_service;
grant select, insert, update on pglockd.metric_layout to pglockd_service;
grant select on pglockd.metric_sample, pglockd.metric_series, pglockd.metric_layout to pglockd_reader, pglockd_admin;
grant select on pglockd.metrics, pglockd.metric_history, pglockd.metric_rates, pglockd.metric_quantiles
    to pglockd_service, pglockd_reader, pglockd_admin;
grant execute on function pglockd.metric_quantile(bigint[], bigint[], double precision),
    pglockd.metric_quantiles_between(timestamptz, timestamptz, text),
    pglockd.metric_rates_between(timestamptz, timestamptz, text) to pglockd_reader, pglockd_admin;
-- Names, rights and keys: the daemon reads them and notes the use of keys; administrators change them by
-- functions, which see to it that a change is whole. May the caller do it? Views ask that of who looks.
grant select on pglockd.identity, pglockd.identity_right, pglockd.identity_epoch to pglockd_service;
grant select, update (last_used_at) on pglockd.api_key to pglockd_service;
grant select on pglockd.identities, pglockd.keys to pglockd_service, pglockd_reader, pglockd_admin;
grant execute on function pglockd.may(text, text, boolean), pglockd.shows_tokens()
    to pglockd_client, pglockd_reader, pglockd_admin;
grant execute on function pglockd.key_create(text, bytea, text[], interval, text),
    pglockd.key_rotate(text, bytea, interval, interval), pglockd.key_revoke(text), pglockd.identity_revoke(text),
    pglockd.identity_allow(text, text[]), pglockd.identity_deny(text, text[]) to pglockd_admin;

-- History is written where leases end. Findings are for administrators to delete.
grant insert, select, delete on pglockd.lease_proof to pglockd_service;
grant insert on pglockd.lease_history to pglockd_service;
grant insert, select on pglockd.violation to pglockd_service;
grant select on pglockd.history, pglockd.contention to pglockd_service, pglockd_reader, pglockd_admin;
grant select, delete on pglockd.violation to pglockd_admin;

-- Watches.
grant update on sequence pglockd.event_seq to pglockd_service;
grant select, insert, update, delete on pglockd.watch, pglockd.event_outbox, pglockd.event, pglockd.event_floor to pglockd_service;
