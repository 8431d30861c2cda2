-- pglockd.day_partition(table, day)
-- Purpose:    makes the partition of a day of a table that is partitioned by a time, where it is missing: TABLE_YYYYMMDD.
--             Rows of that day that have gone to TABLE_rest, its default partition, move into it. With the rights of the
--             schema's owner, since only who owns a table can give it partitions.
-- Parameters: table   its name in the schema pglockd
--             day     in UTC
-- Returns:    whether it was missing.
-- Errors:     55P03 the table stayed locked for lock_timeout: nothing was done; 42809 it is not such a table
-- Tables:     those of that name
create or replace function pglockd.day_partition(p_table text, p_day date)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := p_table || to_char(p_day, '_YYYYMMDD');
    v_rest constant text := p_table || '_rest';
    v_from constant timestamptz := p_day::timestamp at time zone 'UTC';
    v_to constant timestamptz := (p_day + 1)::timestamp at time zone 'UTC';
    v_key text;
begin
    if to_regclass(format('pglockd.%I', v_name)) is not null then
        return false;
    end if;
    select a.attname into v_key
      from pg_catalog.pg_partitioned_table t
      join pg_catalog.pg_attribute a on a.attrelid = t.partrelid and a.attnum = t.partattrs[0]
     where t.partrelid = to_regclass(format('pglockd.%I', p_table)) and t.partstrat = 'r' and t.partnatts = 1
       and a.atttypid = 'timestamptz'::regtype;
    if not found then
        raise exception 'pglockd.% is not a table that is partitioned by a time', p_table using errcode = '42809';
    end if;
    -- What attaching takes anyway, taken before another look: one at a time makes it, and nobody who reads or writes the
    -- table waits.
    execute format('lock table only pglockd.%I in share update exclusive mode', p_table);
    if to_regclass(format('pglockd.%I', v_name)) is not null then
        return false;
    end if;
    execute format('create table pglockd.%I (like pglockd.%I including all)', v_name, p_table);
    execute format('comment on table pglockd.%I is %L', v_name, 'Rows of ' || p_day || ' (UTC) of ' || p_table || '.');
    if to_regclass(format('pglockd.%I', v_rest)) is not null then
        -- Nobody adds others of that day until they belong into the new one.
        execute format('lock table pglockd.%I in access exclusive mode', v_rest);
        execute format('with moved as (delete from pglockd.%1$I r where r.%2$I >= %3$L and r.%2$I < %4$L returning r.*) '
                       'insert into pglockd.%5$I select * from moved', v_rest, v_key, v_from, v_to, v_name);
    end if;
    execute format('alter table pglockd.%I attach partition pglockd.%I for values from (%L) to (%L)',
                   p_table, v_name, v_from, v_to);
    return true;
end
$$;
comment on function pglockd.day_partition(text, date) is 'Makes the partition of a day of a table where it is missing.';
