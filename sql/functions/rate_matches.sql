-- pglockd.rate_matches(prefix, pattern, key)
-- Purpose:    does a policy's pattern match? A prefix ends where the key has a slash behind it, or with
--             a punctuation mark of its own: a/b matches a/b and a/b/c, never a/bc; user: matches
--             user:7.
-- Parameters: prefix     false: the key must be the pattern
-- Returns:    whether it does.
create or replace function pglockd.rate_matches(p_prefix boolean, p_pattern text, p_key text)
returns boolean
language sql immutable parallel safe
as $$
    select case when p_key = p_pattern or (p_prefix and p_pattern = '') then true
                when not p_prefix then false
                else starts_with(p_key, p_pattern)
                     and (substr(p_key, length(p_pattern) + 1, 1) = '/'
                          or right(p_pattern, 1) ~ '[!-/:-@[-`{-~ ]') end
$$;
comment on function pglockd.rate_matches(boolean, text, text) is 'Does a policy''s pattern match a key or resource?';
