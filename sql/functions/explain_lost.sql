-- pglockd.explain_lost(resource, token, identity)
-- Purpose:    why does this token hold no longer, since when, and who holds the resource now?
-- Parameters: identity   authenticated name of who asks; an empty one is not compared
-- Returns:    one row; reason unknown where no tombstone is left (or never was: the holder released it), or the
--             lease was another identity's: nobody learns by guessing tokens; failover where it was granted by
--             a server whose last commits are not in this database: its token lies between those of before
--             and after a leap. The sequence is written 32 tokens ahead: so far before, too. A lease
--             whose row is there has run out all the same: it is in its grace.
-- Tables:     tombstone, lease, server (read)
create or replace function pglockd.explain_lost(p_resource text, p_token bigint, p_identity text default '')
returns table (reason text, lost_ms bigint, detail text, held_by text)
language sql
as $$
    select coalesce(t.reason::text,
                    (select 'expired' from pglockd.lease l
                      where l.resource = p_resource and l.token = p_token
                        and (l.identity = '' or p_identity in ('', l.identity))),
                    (select 'failover' from pglockd.server s
                      where s.quiet_ms > 0 and p_token > s.tokens_from - 32
                        and p_token < least(s.tokens_to, s.tokens_from + 4294967296) limit 1),
                    'unknown'),
           case when t.ended_at is not null
                then greatest(0, extract(epoch from clock_timestamp() - t.ended_at) * 1000)::bigint end,
           t.detail,
           (select l.owner from pglockd.lease l
             where l.resource = p_resource and l.token <> p_token order by l.token limit 1)
      from (select) one
      left join pglockd.tombstone t on t.resource = p_resource and t.token = p_token
       and (t.identity = '' or p_identity in ('', t.identity))
$$;
comment on function pglockd.explain_lost(text, bigint, text) is 'Why a token holds no longer, since when, and who holds now.';
