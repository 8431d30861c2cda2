-- pglockd.fence_guard()
-- Purpose:    a trigger by which the owner of a table has every write to it show a fencing token that holds:
--                 create trigger fenced before insert or update or delete on app.setting
--                     for each statement execute function pglockd.fence_guard('app/settings');
--                 create trigger fenced before insert or update or delete on app.build
--                     for each row execute function pglockd.fence_guard('resource');
--             The writer says "set local pglockd.token = '42'" in its transaction. It needs no right on pglockd.
-- Parameters: the trigger's one argument: the resource; or, where the table has a column of that name, the column that
--             holds it, of a text type, in a trigger for each row. A row that moves from one resource to another needs
--             a token of both, so it cannot.
-- Returns:    the row, so that it may be a before trigger of any kind.
-- Errors:     PL001 as pglockd.assert_fence(), or where pglockd.token is not set to a number; 39P01 where the trigger
--             was made in a way that cannot work.
-- Tables:     as pglockd.assert_fence(), pg_attribute (read)
create or replace function pglockd.fence_guard()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_set constant text := current_setting('pglockd.token', true);
    v_column regtype;
    v_resource text;
    v_before text;
begin
    if tg_nargs <> 1 then
        raise exception 'fence_guard() takes one argument: the resource, or the column that holds it'
            using errcode = '39P01';
    elsif coalesce(v_set, '') !~ '^[0-9]{1,18}$' then
        raise exception 'a write to % needs a fencing token', tg_relid::regclass
            using errcode = 'PL001',
                  detail = case when coalesce(v_set, '') = '' then 'The setting pglockd.token is not set.'
                                else 'The setting pglockd.token is no number.' end,
                  hint = 'Say in this transaction: set local pglockd.token = ''42''';
    end if;
    select coalesce(nullif(t.typbasetype, 0), t.oid) into v_column
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
     where a.attrelid = tg_relid and a.attname = tg_argv[0] and a.attnum > 0 and not a.attisdropped;
    v_resource := tg_argv[0];
    if v_column is not null then
        -- Of these types no function of somebody else's is called to read them with the rights of this one.
        if tg_level <> 'ROW' or v_column not in ('text'::regtype, 'varchar', 'bpchar', 'name') then
            raise exception 'fence_guard(%) names a column of %', quote_literal(tg_argv[0]), tg_relid::regclass
                using errcode = '39P01',
                      hint = 'That needs a trigger for each row, and a column of type text, varchar, char or name.';
        end if;
        if tg_op <> 'INSERT' then
            execute format('select ($1).%I::pg_catalog.text', tg_argv[0]) into v_before using old;
        end if;
        if tg_op = 'DELETE' then
            v_resource := v_before;
        else
            execute format('select ($1).%I::pg_catalog.text', tg_argv[0]) into v_resource using new;
        end if;
    end if;
    perform pglockd.fence_lease(v_resource, v_set::bigint);
    if v_column is not null and tg_op = 'UPDATE' and v_before is distinct from v_resource then
        perform pglockd.fence_lease(v_before, v_set::bigint);
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function pglockd.fence_guard() is
    'Trigger: a write to the table needs a fencing token, in the setting pglockd.token, that holds the resource.';
