"""Each role can do what it may, and no more: the whole matrix of functions, tables and views.

And every object in the schema says in a comment what it is.
"""

import contextlib

import psycopg2
import pytest
from psycopg2 import errors

from schema import one, rows

ROLES = ["pglockd_service", "pglockd_client", "pglockd_reader", "pglockd_admin"]

# What each role may call beside what the service alone may: everything but force.
VIEWS_CALL = {"may", "shows_tokens"}
CLIENT = VIEWS_CALL | {"lock", "unlock", "renew", "rate", "hold", "assert_fence", "fence_guard"}
READER = VIEWS_CALL | {"lease_reading", "ttl_left_ms",  # which the views call
                       "party", "above", "beneath_low", "beneath_high", "is_beneath",
                       "rate_now_ns", "rate_cost_ns", "rate_fit", "rate_level",
                       "metric_quantile", "metric_quantiles_between", "metric_rates_between"}
KEYS = {"key_create", "key_rotate", "key_revoke", "identity_revoke", "identity_allow", "identity_deny"}
FORCE = {"force_owner", "force_prefix", "force_session"}
ADMIN = READER | KEYS | FORCE | {"force", "tick", "rate_reset", "after_restore"}
NOT_SERVICE = KEYS | FORCE | {"force", "force_lease", "force_many", "force_one", "key_add",
                              "identity_add_rights", "require_identity", "after_restore", "record_server"}

VIEWS = {"locks", "queue", "instances", "schema_info", "rate_limits", "sessions", "metrics",
         "metric_history", "metric_rates", "metric_quantiles", "identities", "keys", "history",
         "contention", "blockers", "lost_locks"}
TABLES = {  # of the service; nobody else touches tables, but for what migrate keeps
    "lease": "siud", "waiter": "siud", "tombstone": "siud", "instance": "siud",
    "listener": "siud", "queue_epoch": "siud", "clock": "su", "migration": "s", "function_set": "s",
    "rate_policy": "s", "rate_epoch": "s", "rate_counter": "siud", "rate_request": "siud",
    "session": "siud", "lease_exclusive": "siud", "lease_shared": "siud", "lease_tree": "siud",
    "refusal": "siud",
    "metric_sample": "si", "metric_series": "si", "metric_layout": "siu",
    "server": "s", "longest_ttl": "siud",
    "identity": "s", "identity_right": "s", "identity_epoch": "s", "api_key": "s",
    "lease_history": "i", "lease_history_rest": "", "lease_proof": "sid", "violation": "si",
    "watch": "siud", "event_outbox": "siud", "event": "siud", "event_floor": "siud",
}
# What those who look may read beside the views.
LOOK = {"migration", "function_set", "rate_policy", "metric_sample", "metric_series", "metric_layout",
        "server"}
RIGHTS = {"s": "SELECT", "i": "INSERT", "u": "UPDATE", "d": "DELETE"}


@pytest.fixture(scope="module")
def users(daemon):
    """A user in each role, who may log in: session_user decides who somebody is."""
    names = {role: f"test_{role}" for role in ROLES} | {None: "test_nobody"}
    with contextlib.closing(daemon.sql(user="postgres")) as connection:
        cursor = connection.cursor()
        for role, name in names.items():
            cursor.execute(f"create role {name} login" + (f" in role {role}" if role else ""))
        yield names
        for name in names.values():
            cursor.execute(f"drop role {name}")


@pytest.fixture
def as_role(still, users):
    """A function that gives a cursor of a user in a role."""
    return lambda role: still(user=users[role]).cursor()


def functions(cursor):
    """(name, oid) of every function, procedures and triggers included."""
    return rows(cursor, "select proname, oid from pg_proc where pronamespace = 'pglockd'::regnamespace")


def test_execute(still):
    cursor = still().cursor()
    allowed = {role: {name for name, oid in functions(cursor) if one(
        cursor, "select has_function_privilege(%s, %s::oid, 'execute')", role, oid)} for role in ROLES}
    everything = {name for name, _ in functions(cursor)}
    assert allowed["pglockd_client"] == CLIENT
    assert allowed["pglockd_reader"] == READER
    assert allowed["pglockd_admin"] == ADMIN
    assert allowed["pglockd_service"] == everything - NOT_SERVICE


def test_nobody_has_a_right_without_a_role(still):
    cursor = still().cursor()
    for name, oid in functions(cursor):
        assert not one(cursor, "select has_function_privilege('public', %s::oid, 'execute')", oid), name
    assert rows(cursor, "select relname from pg_class where relnamespace = 'pglockd'::regnamespace and "
                "relkind in ('r', 'v', 'S') and has_table_privilege('public', oid, 'select')") == []
    assert not one(cursor, "select has_schema_privilege('public', 'pglockd', 'usage')")


@pytest.mark.parametrize("role", ROLES)
def test_tables(still, role):
    cursor = still().cursor()
    names = [n for n, in rows(cursor, "select relname from pg_class where relkind in ('r', 'p') and "
                              "relname !~ '_[0-9]{8}$' and relnamespace = 'pglockd'::regnamespace")]
    assert set(names) == set(TABLES), "a new table needs its rights here"
    for name in names:
        has = "".join(letter for letter, right in RIGHTS.items() if one(
            cursor, "select has_table_privilege(%s, %s, %s)", role, f"pglockd.{name}", right))
        if role == "pglockd_service":
            assert has == TABLES[name], name
        elif role == "pglockd_admin" and name in ("rate_policy", "violation"):
            assert has == ("siud" if name == "rate_policy" else "sd")
        elif name in LOOK and role != "pglockd_client":
            assert has == "s", name
        else:
            assert has == "", name
        assert not one(cursor, "select has_table_privilege(%s, %s, 'truncate, references, trigger')",
                       role, f"pglockd.{name}")


def test_views(still):
    cursor = still().cursor()
    names = {n for n, in rows(cursor, "select relname from pg_class where relkind = 'v' and "
                              "relnamespace = 'pglockd'::regnamespace")}
    assert names == VIEWS
    for role in ROLES:
        may = {n for n in names if one(cursor, "select has_table_privilege(%s, %s, 'select')", role,
                                       f"pglockd.{n}")}
        assert may == ({"schema_info"} if role == "pglockd_client" else VIEWS)
        assert not any(one(cursor, "select has_table_privilege(%s, %s, 'insert, update, delete')", role,
                           f"pglockd.{n}") for n in names)


def test_roles_cannot_log_in_and_have_no_powers(still):
    for row in rows(still().cursor(), "select rolname, rolcanlogin, rolsuper, rolcreaterole, "
                    "rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = any(%s)", ROLES):
        assert not any(row[1:]), row


def test_nobody_creates_in_the_schema(still):
    cursor = still().cursor()
    for role in ROLES + ["public"]:
        assert not one(cursor, "select has_schema_privilege(%s, 'pglockd', 'create')", role)


# ---- the rights are enough for what each role is for ----

@pytest.mark.parametrize("role", ["pglockd_reader", "pglockd_admin", "pglockd_service"])
@pytest.mark.parametrize("view", sorted(VIEWS))
def test_who_may_look_sees(as_role, still, role, view):
    one(still().cursor(), "select status from pglockd.lock(%s)", f"roles/{role}/{view}")
    assert rows(as_role(role), f"select * from pglockd.{view}") is not None


def test_a_client_locks_renews_and_unlocks(as_role, resource):
    cursor = as_role("pglockd_client")
    ((status, token),) = rows(cursor, "select status, token from pglockd.lock(%s)", resource)
    assert status == "OK"
    assert one(cursor, "select status from pglockd.renew(%s, %s, '1 min')", resource, token) == "OK"
    ((status, holders),) = rows(cursor, "select status, holders from pglockd.lock(%s)", resource)
    assert status == "BUSY" and holders[0]["owner"] == "test_pglockd_client"
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "LOST"


def test_the_service_notes_that_a_key_was_used_and_changes_nothing_else(still, as_role):
    columns = [c for c, in rows(still().cursor(), "select attname from pg_attribute where attnum > 0 and "
                                "attrelid = 'pglockd.api_key'::regclass")]
    for column in columns:
        assert one(still().cursor(), "select has_column_privilege('pglockd_service', 'pglockd.api_key', %s, "
                   "'update')", column) == (column == "last_used_at"), column
    as_role("pglockd_service").execute("select pglockd.keys_used('{none}')")
    for query in "select pglockd.key_create('a', null)", "insert into pglockd.identity (name) values ('a')":
        with pytest.raises(errors.InsufficientPrivilege):
            as_role("pglockd_service").execute(query)


def test_an_admin_manages_keys_by_functions_alone(as_role, still):
    cursor = as_role("pglockd_admin")
    assert one(cursor, "select pglockd.key_create('roles/a', sha256('x'), '{lock:*}')")
    assert rows(cursor, "select name, created_by, state from pglockd.keys where name = 'roles/a'") == [
        ("roles/a", "test_pglockd_admin", "valid")]
    for query in ("select from pglockd.api_key", "select from pglockd.identity", "delete from pglockd.identity",
                  "update pglockd.identity_right set verb = 'admin'"):
        with pytest.raises(errors.InsufficientPrivilege):
            cursor.execute(query)
    still().cursor().execute("delete from pglockd.identity where name = 'roles/a'")


def test_a_name_without_the_right_neither_holds_nor_fences(as_role, still, resource):
    """Whatever token it has found out; and it is not told who holds what it may not read."""
    admin, client = still().cursor(), as_role("pglockd_client")
    token = one(admin, "select token from pglockd.lock(%s, owner => 'somebody')", resource)
    name = one(client, "select session_user::text")
    asking = f"select pglockd.assert_fence('{resource}', {token})"
    client.execute(asking)
    one(admin, "select pglockd.key_create(%s, sha256('x'), '{rate:*}')", name)
    try:
        for query in asking, f"select pglockd.hold('{resource}/mine')":
            with pytest.raises(errors.InsufficientPrivilege) as error:
                client.execute(query)
            assert f"no right lock:{resource}" in str(error.value)
        admin.execute("select pglockd.identity_allow(%s, %s)", (name, [f"lock:{resource}"]))
        client.execute(asking)
        with pytest.raises(psycopg2.Error) as error:
            client.execute("select pglockd.assert_fence(%s, 1)", (resource,))
        assert (error.value.pgcode, error.value.diag.message_detail) == ("PL001", "reason unknown")
    finally:
        admin.execute("delete from pglockd.identity where name = %s", (name,))


@pytest.mark.parametrize("query", [
    "select from pglockd.keys", "select from pglockd.identities", "select pglockd.key_create('a', null)",
    "select pglockd.identity_allow('a', '{lock:*}')", "select pglockd.identity_list()",
    "select from pglockd.lease", "delete from pglockd.lease", "select from pglockd.locks",
    "select pglockd.force('a')", "select pglockd.tick()", "select nextval('pglockd.token_seq')",
    "select pglockd.release_batch(null, '{a}', '{1}', '{}', '{}', '{}', false)", "update pglockd.clock set base_us = 0",
    "select pglockd.unlock_lease('a', 1)", "create table pglockd.mine ()",
])
def test_a_client_does_nothing_else(as_role, query):
    with pytest.raises(errors.InsufficientPrivilege):
        as_role("pglockd_client").execute(query)


def test_nobody_at_all(as_role):
    for query in "select pglockd.lock('a')", "select from pglockd.locks", "select from pglockd.lease":
        with pytest.raises(errors.InsufficientPrivilege):
            as_role(None).execute(query)


def test_a_reader_only_reads(as_role):
    for query in ("select pglockd.lock('a')", "select pglockd.force('a')", "delete from pglockd.lease",
                  "select pglockd.tick()", "select from pglockd.lease"):
        with pytest.raises(errors.InsufficientPrivilege):
            as_role("pglockd_reader").execute(query)


def test_an_admin_forces_and_ticks(as_role, resource):
    token = one(as_role("pglockd_client"), "select token from pglockd.lock(%s)", resource)
    cursor = as_role("pglockd_admin")
    assert rows(cursor, "select status, token from pglockd.force(%s, reason => 'stuck')",
                resource) == [("OK", token)]
    assert one(cursor, "select pglockd.tick()") > 0
    assert rows(cursor, "select server_id, reason from pglockd.server")
    with pytest.raises(errors.InsufficientPrivilege):
        cursor.execute("delete from pglockd.lease")


def test_the_service_may_not_force(as_role):
    with pytest.raises(errors.InsufficientPrivilege):
        as_role("pglockd_service").execute("select pglockd.force('a')")


def test_partitions_give_nobody_more_than_their_table(still):
    cursor = still().cursor()
    one(cursor, "select pglockd.day_partition('metric_sample', current_date)")
    (name,), = rows(cursor, "select relname from pg_class where relname ~ '^metric_sample_[0-9]+$' and "
                    "relnamespace = 'pglockd'::regnamespace limit 1")
    for role in ROLES:
        assert not one(cursor, "select has_table_privilege(%s, %s, 'select, insert, update, delete, "
                       "truncate')", role, f"pglockd.{name}")


def test_a_client_cannot_unlock_what_another_user_holds(as_role, still, resource):
    token = one(as_role("pglockd_client"), "select token from pglockd.lock(%s)", resource)
    other = still().cursor()
    assert one(other, "select status from pglockd.unlock(%s, %s)", resource, token) == "DENIED"
    assert one(other, "select status from pglockd.renew(%s, %s, '1 min')", resource, token) == "DENIED"
    assert one(as_role("pglockd_client"), "select status from pglockd.unlock(%s, %s)", resource,
               token) == "OK"


def test_security_definer_functions_pin_their_search_path(still):
    assert rows(still().cursor(), "select proname from pg_proc where prosecdef and "
                "pronamespace = 'pglockd'::regnamespace and not coalesce(proconfig, '{}') @> "
                "array['search_path=pg_catalog, pg_temp']") == []


def test_a_client_s_own_objects_do_not_take_part(as_role, still, users, resource):
    """A function of the client's in a schema of its own, first in its path, is never called."""
    still(user="postgres").cursor().execute(
        f"create schema if not exists trap authorization {users['pglockd_client']}")
    cursor = as_role("pglockd_client")
    cursor.execute("create function trap.greatest_of(a bigint) returns bigint language sql as 'select 1'")
    cursor.execute("create function trap.clock_timestamp() returns timestamptz language plpgsql as "
                   "'begin raise exception ''trapped''; end'")
    cursor.execute("set search_path = trap, pg_catalog")
    assert one(cursor, "select status from pglockd.lock(%s)", resource) == "OK"
    still(user="postgres").cursor().execute("drop schema trap cascade")


# ---- comments ----

def test_every_object_has_a_comment(still):
    got = rows(still().cursor(), """
        with objects as (
            select 'pg_class'::regclass as class, c.oid, 0 as part, c.oid::regclass::text as name
              from pg_class c where c.relnamespace = 'pglockd'::regnamespace and c.relkind in ('r', 'p', 'v')
            union all
            select 'pg_class', c.oid, 0, c.oid::regclass::text from pg_class c
             where c.relnamespace = 'pglockd'::regnamespace and c.relkind in ('i', 'I', 'S') and not c.relispartition
               and not exists (select from pg_constraint k where k.conindid = c.oid)
               and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i')
            union all
            select 'pg_class', c.oid, a.attnum, c.oid::regclass || '.' || a.attname
              from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relnamespace = 'pglockd'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
               and a.attnum > 0 and not a.attisdropped
            union all
            select 'pg_proc', p.oid, 0, p.oid::regprocedure::text from pg_proc p
             where p.pronamespace = 'pglockd'::regnamespace
            union all
            select 'pg_type', t.oid, 0, t.oid::regtype::text from pg_type t
             where t.typnamespace = 'pglockd'::regnamespace and t.typtype in ('e', 'd')
            union all
            select 'pg_namespace', oid, 0, nspname from pg_namespace where nspname = 'pglockd'
        )
        select name from objects o
         where not exists (select from pg_description d where d.classoid = o.class
                              and d.objoid = o.oid and d.objsubid = o.part)""")
    assert got == []
