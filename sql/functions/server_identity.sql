-- pglockd.server_identity()
-- Purpose:    which life of which server is this? The timeline is taken from where the server writes now:
--             pg_control_checkpoint() shows a new one only after the checkpoint that follows a promotion.
-- Returns:    one row with the columns of pglockd.server of the same names; as a table, so that the planner
--             inlines it.
-- Errors:     55000 (object_not_in_prerequisite_state) on a standby.
create or replace function pglockd.server_identity()
returns table (system_identifier bigint, timeline integer, database_oid oid, clock_oid oid, started_at timestamptz)
language sql stable
as $$
    select k.system_identifier,
           ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer,
           (select d.oid from pg_catalog.pg_database d where d.datname = current_database()),
           'pglockd.clock'::regclass::oid, pg_postmaster_start_time()
      from pg_control_system() k
$$;
comment on function pglockd.server_identity() is 'Which life of which server this is.';
