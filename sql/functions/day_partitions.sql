-- pglockd.day_partitions(table, keep_ms)
-- Purpose:    the janitor's part for a table with a partition a day: makes those of today and of the two days to come,
--             and drops those whose rows are all older than they are kept; of its default partition it removes the rows.
--             Where there is a default partition, a day that has begun is left to it: rows of that day that are on
--             their way there would be refused when they arrive.
--             Where somebody reads the table that may have to wait for the next time: who writes waits 50 ms at most.
-- Parameters: table     its name in the schema pglockd
--             keep_ms   how long rows are kept
-- Returns:    made, dropped   partitions
-- Errors:     42809 it is not such a table
-- Tables:     those of that name
create or replace function pglockd.day_partitions(p_table text, p_keep_ms bigint, out o_made integer, out o_dropped integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
    v_today constant date := (clock_timestamp() at time zone 'UTC')::date;
    v_oldest constant timestamptz := clock_timestamp() - p_keep_ms * interval '1 millisecond';
    v_first constant text := p_table || to_char(v_oldest at time zone 'UTC', '_YYYYMMDD');
    v_rest constant boolean := to_regclass(format('pglockd.%I', p_table || '_rest')) is not null;
    v_begun constant date := ((clock_timestamp() + interval '1 minute') at time zone 'UTC')::date;
    v_name text;
begin
    o_made := 0;
    o_dropped := 0;
    for n in 0 .. 2 loop
        continue when v_rest and v_today + n <= v_begun;
        begin
            o_made := o_made + pglockd.day_partition(p_table, v_today + n)::integer;
        exception
            when lock_not_available then exit;
        end;
    end loop;
    for v_name in
        select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
         where i.inhparent = format('pglockd.%I', p_table)::regclass and c.relname ~ '_[0-9]{8}$'
           and c.relname collate "C" < v_first
         order by c.relname
    loop
        begin
            execute format('drop table pglockd.%I', v_name);
            o_dropped := o_dropped + 1;
        exception
            when lock_not_available then exit;
        end;
    end loop;
    if v_rest then
        execute format('delete from pglockd.%I r where r.%I < %L', p_table || '_rest',
                       (select a.attname from pg_catalog.pg_partitioned_table t
                          join pg_catalog.pg_attribute a on a.attrelid = t.partrelid and a.attnum = t.partattrs[0]
                         where t.partrelid = format('pglockd.%I', p_table)::regclass), v_oldest);
    end if;
end
$$;
comment on function pglockd.day_partitions(text, bigint) is
    'Makes the partitions of the days to come of a table, and drops old ones.';
