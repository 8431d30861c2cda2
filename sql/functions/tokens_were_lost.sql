-- pglockd.tokens_were_lost(token)
-- Purpose:    has this database lost commits that somebody has seen? So it is where a token was granted
--             that its sequence has not reached, or leapt over. What a quiet period has accounted for since is
--             not told again.
-- Parameters: token   the highest that somebody was granted; 0: none
-- Tables:     token_seq, server (read)
create or replace function pglockd.tokens_were_lost(p_token bigint)
returns boolean
language sql stable
as $$
    select p_token > (select q.last_value from pglockd.token_seq q)
        or exists (select from pglockd.server s
                    where p_token > s.tokens_from and p_token < s.tokens_to
                      and not exists (select from pglockd.server x where x.server_id >= s.server_id and x.quiet_ms > 0))
$$;
comment on function pglockd.tokens_were_lost(bigint) is 'Was this token granted by a server whose last commits are not in this database?';
