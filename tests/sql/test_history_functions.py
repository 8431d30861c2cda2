"""History, its proof and its partitions, by the functions alone: known work at each level, exact rows."""

import contextlib
import datetime
import os
import subprocess
import threading

import psycopg2
import pytest
from psycopg2 import errors

from lines import eventually
from schema import Instance, call, one, rows
from ways import WAYS, change, downgraded, forced, released, transferred, upgraded

LEVELS = ["off", "contended", "all"]


@pytest.fixture
def at_level(still):
    """A function that gives a daemon's place whose session notes at a level."""
    def make(level):
        instance = Instance(still())
        instance.cursor.execute("select set_config('pglockd.history', %s, false)", (level,))
        return instance
    return make


@pytest.fixture
def sql(still):
    return still().cursor()


def history(cursor, prefix):
    """(what is locked beneath the prefix, reason), in the order of the ends."""
    return rows(cursor, "select substr(resource, length(%s) + 2), reason from pglockd.history "
                "where resource ^@ %s order by ended_at, token", prefix, prefix + "/")


def one_row(cursor, resource):
    cursor.execute("select * from pglockd.history where resource = %s", (resource,))
    (row,) = cursor.fetchall()
    return {c.name: value for c, value in zip(cursor.description, row)}


# ---- every way to end, at every level ----

@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_noted(at_level, sql, resource, way, level):
    way(at_level(level), resource + "/x")
    wanted = {"off": [], "contended": WAYS[way][0], "all": WAYS[way][1]}[level]
    assert history(sql, resource) == [("x", reason) for reason in wanted]


@pytest.mark.parametrize("setting, level", [(None, "contended"), ("", "contended"), ("rubbish", "contended"),
                                            ("off", "off"), ("all", "all")])
def test_the_level_of_a_session(still, setting, level):
    cursor = still().cursor()
    if setting is not None:
        cursor.execute("select set_config('pglockd.history', %s, false)", (setting,))
    assert one(cursor, "select pglockd.history_level()") == level


def test_sql_callers_have_the_level_of_their_database(still, resource):
    admin = still(user="postgres").cursor()
    admin.execute("alter database still set pglockd.history = 'all'")
    try:
        cursor = still().cursor()
        token = one(cursor, "select token from pglockd.lock(%s)", resource + "/x")
        one(cursor, "select status from pglockd.unlock(%s, %s)", resource + "/x", token)
        assert history(cursor, resource) == [("x", "released")]
    finally:
        admin.execute("alter database still reset pglockd.history")


def test_what_a_row_says(at_level, sql, resource):
    d = at_level("contended")
    before = datetime.datetime.now(datetime.timezone.utc)
    token = d.lock(resource, owner="agent-7", note="refactor", identity="ci", conn=3)
    _, request = d.wait(resource, owner="agent-8", conn=4)
    d.wait(resource, owner="agent-9")
    d.release((resource, token))
    row = one_row(sql, resource)
    assert (row["token"], row["owner"], row["note"], row["identity"]) == (token, "agent-7", "refactor", "ci")
    assert (row["mode"], row["scope"], row["reason"], row["detail"]) == ("exclusive", "node", "released", None)
    assert (row["waited"], row["waited_by"], row["gave_up"]) == (None, ["agent-8", "agent-9"], [])
    assert (row["instance_id"], row["conn_id"], row["session"]) == (d.number, 3, None)
    assert before < row["held"].lower == row["granted_at"] < row["ended_at"] == row["held"].upper
    assert row["held_for"] == row["ended_at"] - row["granted_at"]
    # Who waited knows for how long.
    d.release((resource, d.grants()[request]))
    (waited, waited_by), = rows(sql, "select waited, waited_by from pglockd.history where resource = %s and "
                                "owner = 'agent-8'", resource)
    assert datetime.timedelta() <= waited < datetime.timedelta(minutes=1) and waited_by == ["agent-9"]


def test_a_forced_end_says_by_whom_and_why(at_level, sql, resource):
    forced(at_level("contended"), resource)
    assert one_row(sql, resource)["detail"].endswith(": stuck")


def test_what_a_lease_became(at_level, sql, resource):
    d = at_level("all")
    for way in transferred, upgraded, downgraded:
        way(d, f"{resource}/{way.__name__}")
    assert rows(sql, "select mode, detail from pglockd.history where resource ^@ %s and reason = 'superseded' "
                "order by ended_at", resource) == [
        ("exclusive", "given to heir"), ("shared", "changed to exclusive"), ("exclusive", "changed to shared")]


def test_parts_of_a_changed_lease_do_not_overlap(at_level, sql, resource):
    downgraded(at_level("all"), resource)
    (first, mode), (second, other) = rows(sql, "select held, mode from pglockd.history where resource = %s "
                                          "order by ended_at", resource)
    assert (mode, other) == ("exclusive", "shared") and first.upper <= second.lower


def test_trees_that_were_waited_for(at_level, sql, resource):
    """Who waits beneath a tree, or for one above, waits for it."""
    d = at_level("contended")
    cursor = d.cursor

    def claim(name, tree, wait):
        return call(cursor, "acquire_claim", d.number, [name], [True], [tree], None, None, 30000, wait, 1,
                    abs(hash((name, tree))) % 10**9, "waiter of " + name.rsplit("/", 1)[-1], None, "", None, None, None,
                    False)
    top = claim(resource, True, False)["o_number"]
    assert claim(resource + "/beneath", False, True)["o_status"] == "w"
    d.release((resource, top), careful=True)
    assert one_row(sql, resource)["waited_by"] == ["waiter of beneath"]
    node = claim(resource + "/other", False, False)["o_number"]
    assert claim(resource, True, True)["o_status"] == "w"
    d.release((resource + "/other", node))
    assert one_row(sql, resource + "/other")["waited_by"] == ["waiter of " + resource.rsplit("/", 1)[-1]]


def test_only_the_last_ten_who_gave_up_are_kept(at_level, sql, resource):
    d = at_level("contended")
    token = d.lock(resource)
    for n in range(12):
        ticket, request = d.wait(resource, owner=f"w{n}")
        d.withdraw(resource, ticket, request)
    d.release((resource, token))
    assert one_row(sql, resource)["gave_up"] == [f"w{n}" for n in range(2, 12)]


def test_who_gives_up_does_not_wait_for_a_locked_lease(at_level, still, sql, resource):
    d = at_level("contended")
    token = d.lock(resource)
    ticket, request = d.wait(resource, owner="impatient")
    other = still()
    other.autocommit = False
    rows(other.cursor(), "select from pglockd.lease where resource = %s for update", resource)
    d.cursor.execute("set lock_timeout = '100ms'")
    assert d.withdraw(resource, ticket, request)["o_status"] == ["g"]
    other.rollback()
    d.release((resource, token))
    assert rows(sql, "select from pglockd.history where resource = %s", resource) == []


def test_a_clock_that_steps_back_fails_nothing(at_level, sql, resource):
    d = at_level("all")
    token = d.lock(resource)
    d.cursor.execute("update pglockd.lease set granted_at = now() + interval '1 hour', granted_us = 9e15 "
                     "where resource = %s", (resource,))
    assert d.release((resource, token))[0][0] == "g"
    assert one_row(sql, resource)["held_for"] == datetime.timedelta()


def test_nothing_is_noted_of_what_was_not_done(at_level, sql, resource):
    d = at_level("all")
    token = d.lock(resource)
    d.cursor.execute("begin")
    d.release((resource, token))
    d.cursor.execute("rollback")
    assert rows(sql, "select from pglockd.history where resource = %s", resource) == []


def test_a_locked_row_that_is_passed_over_is_not_noted(at_level, still, sql, resource):
    d = at_level("all")
    tokens = [d.lock(resource + "/locked"), d.lock(resource + "/moved"), d.lock(resource + "/free")]
    other = still()
    other.autocommit = False
    rows(other.cursor(), "select from pglockd.lease where resource = %s for update", resource + "/locked")
    statuses = d.release((resource + "/free", tokens[2]), (resource + "/locked", tokens[0]), (resource + "/moved", tokens[1]),
                         careful=True)
    assert [s for s, _ in statuses] == ["g", "r", "g"]
    other.rollback()
    assert sorted(history(sql, resource)) == [("free", "released"), ("moved", "released")]


# ---- contention ----

def test_contention_sums_up_the_last_hour(at_level, sql, resource):
    d = at_level("contended")
    for n in range(3):
        token = d.lock(resource + "/hot", owner=resource + "/holder")
        _, request = d.wait(resource + "/hot", owner=resource + "/waiter")
        d.release((resource + "/hot", token))
        d.release((resource + "/hot", d.grants()[request]))
    token = d.lock(resource + "/warm", owner=resource + "/holder")
    ticket, request = d.wait(resource + "/warm", owner=resource + "/waiter")
    d.withdraw(resource + "/warm", ticket, request)
    d.release((resource + "/warm", token))
    sql.execute("update pglockd.lease_history set ended_at = ended_at - interval '61 minutes' where token = %s", (token,))
    # The seventh row is older than an hour.
    assert rows(sql, "select of, substr(name, %s), leases, waits, wanted, gave_up from pglockd.contention "
                "where name ^@ %s order by of, name", len(resource) + 2, resource) == [
        ("owner", "holder", 3, 0, 3, 0), ("owner", "waiter", 3, 3, 0, 0), ("resource", "hot", 6, 3, 3, 0)]
    sql.execute("update pglockd.lease_history set ended_at = ended_at + interval '61 minutes' where token = %s", (token,))
    assert rows(sql, "select wanted, gave_up from pglockd.contention where of = 'resource' and name = %s",
                resource + "/warm") == [(1, 1)]


# ---- the proof ----

@pytest.fixture
def clean_proof(sql):
    """No violations of other tests; those of this one are removed."""
    sql.execute("delete from pglockd.violation")
    yield
    sql.execute("delete from pglockd.violation")


def tick(cursor, ms=1000):
    cursor.execute("select pglockd.tick(%s * interval '1 ms')", (ms,))


def violations(cursor):
    return rows(cursor, "select resource, token, other_token from pglockd.violation order by violation_id")


def test_holds_are_kept_in_lease_time(at_level, sql, resource, clean_proof):
    d = at_level("all")
    for n in range(3):
        token = d.lock(resource)
        tick(sql)
        d.release((resource, token))
    held = [h for h, in rows(sql, "select held_us from pglockd.lease_proof where resource = %s order by token", resource)]
    assert len(held) == 3 and all(h.lower < h.upper for h in held)
    assert held[0].upper <= held[1].lower and held[1].upper <= held[2].lower
    assert violations(sql) == []


@pytest.mark.parametrize("level", ["off", "contended"])
def test_there_is_no_proof_at_other_levels(at_level, sql, resource, level):
    d = at_level(level)
    token = d.lock(resource)
    tick(sql)
    d.wait(resource)
    d.release((resource, token))
    assert rows(sql, "select from pglockd.lease_proof where resource = %s", resource) == []


def forge(d, resource):
    """A second exclusive lease of what is held, as a fault of the deciding functions would make it."""
    return one(d.cursor, """
        insert into pglockd.lease (token, expires_us, check_us, ttl_ms, queue_floor, granted_at, granted_us, mode, scope,
                                   delivered, resource, owner, identity)
        select nextval('pglockd.token_seq'), l.expires_us, l.check_us, l.ttl_ms, l.queue_floor, clock_timestamp(),
               pglockd.lease_now(), l.mode, l.scope, true, l.resource, 'forged', ''
          from pglockd.lease l where l.resource = %s
        returning token""", resource)


@pytest.mark.parametrize("order", ["first ends first", "second ends first", "at once"])
def test_a_forged_overlap_is_noticed(at_level, sql, resource, clean_proof, order):
    d = at_level("all")
    first = d.lock(resource, owner="honest")
    tick(sql)
    second = forge(d, resource)
    tick(sql)
    tokens = [second, first] if order == "second ends first" else [first, second]
    if order == "at once":
        assert [s for s, _ in d.release(*((resource, t) for t in tokens))] == ["g", "g"]
    else:
        for token in tokens:
            assert d.release((resource, token))[0][0] == "g"
            tick(sql)
    assert [v[0] for v in violations(sql)] == [resource]
    (row,) = rows(sql, "select token, other_token, owner, other_owner, held_us && other_held_us from pglockd.violation")
    later, earlier = (first, second) if order == "second ends first" else (second, first)
    if order != "at once":
        assert row[:2] == (later, earlier)
    assert {row[2], row[3]} == {"honest", "forged"} and row[4]
    assert len(rows(sql, "select from pglockd.history where resource = %s", resource)) == 2


def test_a_short_overlap_is_noticed(at_level, sql, resource, clean_proof):
    """Shorter than the clock is accurate: the tokens tell that the second was granted before the first ended."""
    d = at_level("all")
    first = d.lock(resource)
    tick(sql)
    second = forge(d, resource)
    d.cursor.execute("update pglockd.lease set granted_us = granted_us - 100000 where token = %s", (second,))
    d.release((resource, first))
    tick(sql)
    d.release((resource, second))
    assert violations(sql) == [(resource, second, first)]


def test_an_overlap_within_the_accuracy_of_the_clock_is_none(at_level, sql, resource, clean_proof):
    """Two sessions read the lease clock: the second reads less, though it came later. A violation would be a false
    alarm, since the tokens say who came first."""
    d = at_level("all")
    first = d.lock(resource)
    tick(sql)
    d.release((resource, first))
    second = d.lock(resource)
    d.cursor.execute("update pglockd.lease set granted_us = granted_us - 200000 where resource = %s", (resource,))
    tick(sql)
    d.release((resource, second))
    assert violations(sql) == []
    one_hold, other = rows(sql, "select held_us, token from pglockd.lease_proof where resource = %s order by token", resource)
    assert other[1] == second and one_hold[0].upper <= other[0].lower


def test_more_than_the_clock_can_be_wrong_is_a_violation(at_level, sql, resource, clean_proof):
    d = at_level("all")
    first = d.lock(resource)
    tick(sql)
    d.release((resource, first))
    second = d.lock(resource)
    d.cursor.execute("update pglockd.lease set granted_us = granted_us - 600000 where resource = %s", (resource,))
    tick(sql)
    d.release((resource, second))
    assert violations(sql) == [(resource, second, first)]


def test_shared_leases_may_overlap(at_level, sql, resource, clean_proof):
    d = at_level("all")
    tokens = [d.lock(resource, exclusive=False) for _ in range(3)]
    tick(sql)
    for token in tokens:
        d.release((resource, token))
    assert violations(sql) == []


def test_a_change_of_mode_is_no_overlap(at_level, sql, resource, clean_proof):
    d = at_level("all")
    token = d.lock(resource)
    tick(sql)
    change(d, resource, token, False)
    tick(sql)
    exclusive = change(d, resource, token, True)
    tick(sql)
    d.release((resource, exclusive))
    assert violations(sql) == []
    assert len(rows(sql, "select from pglockd.lease_proof where resource = %s", resource)) == 2


def test_violations_are_bounded(sql, resource, clean_proof, at_level):
    sql.execute("insert into pglockd.violation (resource, token, held_us, owner, identity, other_token, other_held_us, "
                "other_owner, other_identity) select '', n, '[1,2)', '', '', n, '[1,2)', '', '' "
                "from generate_series(1, 10000) n")
    d = at_level("all")
    first = d.lock(resource)
    tick(sql)
    second = forge(d, resource)
    tick(sql)
    assert [s for s, _ in d.release((resource, first), (resource, second))] == ["g", "g"]
    assert one(sql, "select count(*) from pglockd.violation") == 10000


def test_old_proofs_are_forgotten(at_level, sql, resource):
    d = at_level("all")
    token = d.lock(resource)
    tick(sql)
    d.release((resource, token))
    while one(sql, "select pglockd.forget_proofs(1000)"):
        pass
    assert len(rows(sql, "select from pglockd.lease_proof where resource = %s", resource)) == 1
    tick(sql, 86_402_000)
    assert one(sql, "select pglockd.forget_proofs(1)") is True
    while one(sql, "select pglockd.forget_proofs(1000)"):
        pass
    assert rows(sql, "select from pglockd.lease_proof where resource = %s", resource) == []


@pytest.fixture
def fresh(daemon):
    """A function that makes a database from the schema's files, its owner named pglockd or another."""
    made = []
    admin = daemon.sql(user="postgres")

    def make(owner="pglockd", prepare=None):
        name = f"fresh{len(made)}"
        admin.cursor().execute(f"create database {name} owner {owner}")
        made.append(name)
        return name
    yield make
    for name in made:
        admin.cursor().execute(f"drop database {name} with (force)")
    admin.close()


def test_without_the_extension_nothing_but_the_proof_is_missing(daemon, fresh, resource):
    """Where btree_gist cannot be installed, and when it comes later."""
    name = fresh()
    admin_dsn = daemon.dsn.replace("dbname=pglockd", f"dbname={name}").replace("user=pglockd", "user=postgres")
    with contextlib.closing(psycopg2.connect(admin_dsn)) as admin:
        admin.autocommit = True
        # Its creation fails as it does for who may not: there is no schema to put it into.
        admin.cursor().execute("drop schema public")
        done = subprocess.run([os.environ.get("PGLOCKCTL", "pglockctl"), "migrate", "up", "--dsn",
                               admin_dsn.replace("user=postgres", "user=pglockd")],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        cursor = admin.cursor()
        assert one(cursor, "select pglockd.add_proof()") is False
        cursor.execute("set pglockd.history = 'all'")
        token = one(cursor, "select token from pglockd.lock(%s)", resource)
        tick(cursor)
        assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
        assert one(cursor, "select count(*) from pglockd.history") == 1
        assert one(cursor, "select count(*) from pglockd.lease_proof") == 0
        cursor.execute("create schema public; create extension btree_gist schema public")
        assert one(cursor, "select pglockd.add_proof()") is True
        assert one(cursor, "select pglockd.add_proof()") is True
        token = one(cursor, "select token from pglockd.lock(%s)", resource)
        tick(cursor)
        one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token)
        assert one(cursor, "select count(*) from pglockd.lease_proof") == 1


# ---- partitions ----

@pytest.fixture
def alone(still):
    """A cursor of a transaction that is rolled back: no other test sees what it does to the tables."""
    connection = still()
    connection.autocommit = False
    yield connection.cursor()
    connection.rollback()


def partitions(cursor):
    return {n for n, in rows(cursor, "select relname from pg_class c join pg_inherits i on i.inhrelid = c.oid "
                             "where i.inhparent = 'pglockd.lease_history'::regclass and c.relname ~ '_[0-9]{8}$'")}


def names_of_days(cursor, *days):
    return {one(cursor, "select 'lease_history_' || to_char((clock_timestamp() at time zone 'UTC')::date + %s, 'YYYYMMDD')",
                day) for day in days}


def test_partitions_are_made_ahead_and_dropped(within_a_day, alone):
    for name in partitions(alone):
        alone.execute(f"drop table pglockd.{name}")
    for day in -9, -2, -1:
        one(alone, "select pglockd.day_partition('lease_history', (clock_timestamp() at time zone 'UTC')::date + %s)", day)
    assert rows(alone, "select * from pglockd.day_partitions('lease_history', 86400000)") == [(2, 2)]
    # Of yesterday something is kept still; today has begun without a partition, and stays without.
    assert partitions(alone) == names_of_days(alone, -1, 1, 2)
    assert rows(alone, "select * from pglockd.day_partitions('lease_history', 86400000)") == [(0, 0)]


def put(cursor, ended_at, resource):
    cursor.execute("insert into pglockd.lease_history (ended_at, held, token, mode, scope, reason, resource, owner, identity, "
                   "waited_by, gave_up) values (%s, tstzrange(%s, %s), 1, 'shared', 'node', 'released', %s, '', '', '{}', '{}')",
                   (ended_at, ended_at, ended_at, resource))


def where(cursor, resource):
    return [t for t, in rows(cursor, "select c.relname from pglockd.lease_history h join pg_class c on c.oid = h.tableoid "
                             "where resource = %s order by ended_at", resource)]


def test_what_came_before_its_partition_moves_into_it(alone, resource):
    put(alone, "2031-05-06 00:00Z", resource)
    put(alone, "2031-05-06 23:59:59.999999Z", resource)
    put(alone, "2031-05-07 00:00Z", resource)
    assert where(alone, resource) == ["lease_history_rest"] * 3
    assert one(alone, "select pglockd.day_partition('lease_history', '2031-05-06')") is True
    assert where(alone, resource) == ["lease_history_20310506"] * 2 + ["lease_history_rest"]
    assert one(alone, "select pglockd.day_partition('lease_history', '2031-05-06')") is False


def test_what_no_partition_took_is_forgotten_too(alone, resource):
    put(alone, "2020-01-01 00:00Z", resource)
    one(alone, "select o_made from pglockd.day_partitions('lease_history', 86400000)")
    assert where(alone, resource) == []


def test_a_partition_that_somebody_reads_is_dropped_later(within_a_day, still):
    cursor = still().cursor()
    one(cursor, "select pglockd.day_partition('lease_history', '2020-01-01')")
    reader = still()
    reader.autocommit = False
    one(reader.cursor(), "select count(*) from pglockd.history")
    assert one(cursor, "select o_dropped from pglockd.day_partitions('lease_history', 86400000)") == 0
    reader.rollback()
    assert one(cursor, "select o_dropped from pglockd.day_partitions('lease_history', 86400000)") == 1
    assert names_of_days(cursor, 0, 1, 2) <= partitions(cursor)


def test_making_a_partition_stops_nobody_who_locks(within_a_day, at_level, still, sql, resource):
    rows(sql, "select * from pglockd.day_partitions('lease_history', 86400000)")
    today = one(sql, "select to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD')")
    maker = still()
    maker.autocommit = False
    one(maker.cursor(), "select pglockd.day_partition('lease_history', '2032-01-01')")
    d = at_level("all")
    d.cursor.execute("set lock_timeout = '500ms'")
    released(d, resource)
    assert rows(d.cursor, "select reason from only pglockd.lease_history_" + today + " where resource = %s",
                resource) == [("released",)]
    maker.rollback()


def test_nobody_but_the_owner_and_the_service_makes_partitions(still):
    cursor = still(user="postgres").cursor()
    for role in "pglockd_client", "pglockd_reader", "pglockd_admin":
        for function in "day_partition(text, date)", "day_partitions(text, bigint)", "add_proof()":
            assert not one(cursor, "select has_function_privilege(%s, %s, 'execute')", role, "pglockd." + function)


def test_only_tables_of_the_schema_get_partitions(still):
    cursor = still().cursor()
    for table in "lease", "waiter", "missing", "x; drop table y":
        with pytest.raises(errors.WrongObjectType):
            one(cursor, "select pglockd.day_partition(%s, '2031-01-01')", table)


def test_rows_that_are_on_their_way_while_partitions_are_made(within_a_day, at_level, still, sql, resource):
    """The race: today has no partition yet. A row of today is on its way to the default partition while the janitor
    makes partitions; were today's among them, the row would be refused when it arrives, and the release with it."""
    drop = still()
    drop.autocommit = False
    (today,) = names_of_days(sql, 0)
    drop.cursor().execute(f"drop table pglockd.{today}")
    drop.commit()
    try:
        maker = still()
        maker.autocommit = False
        maker.cursor().execute("lock table pglockd.lease_history_rest in access exclusive mode")
        d = at_level("all")
        token = d.lock(resource)
        releaser = threading.Thread(target=d.release, args=((resource, token),))
        releaser.start()
        pid = d.connection.get_backend_pid()
        eventually(lambda: one(sql, "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", pid))
        rows(maker.cursor(), "select * from pglockd.day_partitions('lease_history', 86400000)")
        maker.commit()
        releaser.join()
        assert rows(sql, "select c.relname from pglockd.lease_history h join pg_class c on c.oid = h.tableoid where resource = %s", resource) == [
            ("lease_history_rest",)]
    finally:
        sql.execute("delete from pglockd.lease_history_rest")
        one(sql, "select pglockd.day_partition('lease_history', (clock_timestamp() at time zone 'UTC')::date)")
