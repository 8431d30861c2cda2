-- pglockd.may(verb, resource, tree)
-- Purpose:    may the database user do this to the resource, or to the key of a rate limit? A user whose
--             name stands in pglockd.identity may do what its rights there cover, and nothing while it is
--             revoked. Any other user may do what its roles let it call.
-- Parameters: verb       lock, rate, read, watch, force or admin
--             resource   * asks for everything
--             tree       with all that lies beneath it
-- Returns:    whether it may. The rules are those of the daemon (src/wire/right.c).
-- Tables:     identity, identity_right (read)
create or replace function pglockd.may(p_verb text, p_resource text, p_tree boolean default false)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select i.name is null
        or i.revoked_at is null
           and exists (select from pglockd.identity_right r
                        where r.name = i.name and r.verb in (p_verb, 'admin')
                          and case when r.pattern = '*' then true
                                   when right(r.pattern, 1) <> '*' then p_resource = r.pattern
                                   else starts_with(p_resource, left(r.pattern, -1))
                                        and length(p_resource) >= length(r.pattern) end)
           and (p_tree is not true
                or exists (select from pglockd.identity_right r
                            where r.name = i.name and r.verb in (p_verb, 'admin')
                              and right(r.pattern, 1) = '*'
                              and (r.pattern = '*' or starts_with(p_resource || '/', left(r.pattern, -1)))))
      from (select) one
      left join pglockd.identity i on i.name = session_user::text
$$;
comment on function pglockd.may(text, text, boolean) is 'May the database user do this to the resource?';
