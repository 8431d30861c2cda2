-- pglockd.is_synchronous()
-- Purpose:    must every standby that is named or connected confirm each commit? Then whichever of them is
--             promoted has all that was acknowledged. With ANY 1 (a, b) one may be behind; so is one that
--             is connected and need not confirm.
create or replace function pglockd.is_synchronous()
returns boolean
language sql stable
as $$
    select n.names <> ''
       and coalesce(substring(n.names from '^\s*(?:[A-Za-z]+\s+)?(\d+)\s*\(')::integer, 1)
           >= greatest(cardinality(string_to_array(n.names, ',')), (select count(*) from pg_stat_get_wal_senders()))
      from (select current_setting('synchronous_standby_names') as names) n
$$;
comment on function pglockd.is_synchronous() is 'Must every standby confirm each commit?';
