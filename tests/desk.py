"""What the views are asked about, and contents to ask it of: for tests, and for tests/bench/views.py."""

# Conditions that operators filter by: true for a few of what load() puts in.
FILTERS = {
    "locks": {
        "resource": "resource = 'repo/3/dir/7/file/20307'",
        "resources": "resource in ('repo/3/dir/7/file/20307', 'repo/4/dir/7/file/20407')",
        "prefix": "pglockd.is_beneath(resource, 'repo/3/dir/7')",
        "owner": "owner = 'agent-307'",
        "owner and prefix": "owner = 'agent-307' and pglockd.is_beneath(resource, 'repo')",
        "session": "session = 7",
    },
    "queue": {
        "resource": "resource = 'repo/1/dir/0/file/100'",
        "prefix": "pglockd.is_beneath(resource, 'repo/1/dir/0')",
        "owner": "owner = 'waiter-5'",
        "session": "session = 7",
    },
    "blockers": {
        "resource": "resource = 'repo/1/dir/0/file/100'",
        "prefix": "pglockd.is_beneath(resource, 'repo/1/dir/0')",
        "owner": "owner = 'waiter-5'",
        "party": "party = 'session 7'",
    },
    "sessions": {
        "session": "session = 7",
        "owner": "owner = 'agent-7'",
    },
}


def load(cursor, leases, waiters):
    """Leases of files in 100 repositories: 8 of 10 exclusive, one of 100 a tree; one of 10 in a session.

    Owners have 100 each, sessions too. They outlive any test. Waiters stand in lines of 10, for the first
    files.
    """
    cursor.execute("""
        insert into pglockd.session (session_id, expires_us, check_us, ttl_ms, secret_sha256, owner, identity)
        overriding system value
        select s, 1e15, 1e15, 600000, sha256('secret'), 'agent-' || s, ''
          from generate_series(1, greatest(10, %(leases)s / 1000)) s;
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, conn_id, session_id,
                                   instance_id, mode, scope, delivered, resource, owner, identity)
        select nextval('pglockd.token_seq'), 1e15, 1e15, 600000, 0, clock_timestamp(), n,
               case when n %% 10 = 3 then 1 + n / 10 %% greatest(10, %(leases)s / 1000) end,
               1, (case when n %% 10 < 8 then 'exclusive' else 'shared' end)::pglockd.lock_mode,
               (case when n %% 100 = 99 then 'tree' else 'node' end)::pglockd.lock_scope, true,
               'repo/' || n / 100 %% 100 || '/dir/' || n %% 100 || '/file/' || n,
               'agent-' || n %% greatest(10, %(leases)s / 100), ''
          from generate_series(1, %(leases)s) n;
        insert into pglockd.waiter (ticket, request_id, conn_id, ttl_ms, enqueued_at, session_id, instance_id, mode,
                                    scope, resource, owner, identity)
        select nextval('pglockd.token_seq'), n, n, 30000, clock_timestamp(), case when n %% 100 = 5 then 7 end, 1,
               (case when n %% 2 = 0 then 'exclusive' else 'shared' end)::pglockd.lock_mode, 'node',
               'repo/' || f / 100 %% 100 || '/dir/' || f %% 100 || '/file/' || f, 'waiter-' || n %% 1000, ''
          from (select n, 100 * (1 + n / 10) as f from generate_series(0, %(waiters)s - 1) n) w;
        analyze pglockd.lease, pglockd.waiter, pglockd.session, pglockd.instance, pglockd.clock;
        """, {"leases": leases, "waiters": waiters})


def query(view, condition):
    return f"select * from pglockd.{view} where {condition}"


def scans(plan):
    """(kind, relation) of every scan of a plan of EXPLAIN (FORMAT JSON)."""
    if "Relation Name" in plan:
        yield plan["Node Type"], plan["Relation Name"]
    for part in plan.get("Plans", []):
        yield from scans(part)
