-- pglockd.identity_add_rights(name, allow)
-- Purpose:    gives rights to a name; those that it has already are no error.
-- Parameters: allow   as VERB:PATTERN
-- Returns:    how many it did not have.
-- Errors:     22023, 23514 for what is no right.
-- Tables:     identity_right (insert)
create or replace function pglockd.identity_add_rights(p_name text, p_allow text[])
returns integer
language plpgsql
as $$
declare
    v_added integer;
    v_wrong text;
begin
    select a into v_wrong from unnest(p_allow) a where a is null or a !~ '^(lock|rate|read|watch|force|admin):.' limit 1;
    if found then
        raise exception 'not a right: %; it is VERB:PATTERN, such as lock:repo/*', coalesce(v_wrong, 'null') using errcode = '22023';
    end if;
    insert into pglockd.identity_right (name, verb, pattern)
    select p_name, split_part(a, ':', 1), substr(a, position(':' in a) + 1) from unnest(p_allow) a
        on conflict do nothing;
    get diagnostics v_added = row_count;
    return v_added;
end
$$;
comment on function pglockd.identity_add_rights(text, text[]) is 'Gives rights to a name.';
