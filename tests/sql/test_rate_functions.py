"""The functions of rate limits on their own, on a database that no daemon serves."""

import random

import pytest
from psycopg2 import errors

from schema import one, rows

SECOND = 10**9


@pytest.fixture
def db(still):
    """A cursor; policies and counters are gone before and after the test."""
    cursor = still().cursor()
    clear = "delete from pglockd.rate_policy; delete from pglockd.rate_counter; delete from pglockd.rate_request"
    cursor.execute(clear)
    yield cursor
    cursor.execute(clear)


def rate(cursor, key, **arguments):
    """pglockd.rate() as a dictionary."""
    names = "".join(f", {name} => %s" for name in arguments)
    cursor.execute(f"select * from pglockd.rate(%s{names})", [key, *arguments.values()])
    names = [column.name for column in cursor.description]
    return dict(zip(names, cursor.fetchone()))


def policy(cursor, name, **columns):
    columns = {"pattern": "", "quota": 10, "per": "1 h", **columns}
    cursor.execute(f"insert into pglockd.rate_policy (name, {', '.join(columns)}) values "
                   f"(%s{', %s' * len(columns)})", [name, *columns.values()])


def decide(cursor, *requests, quota=10, period_ns=3600 * SECOND, burst=10):
    """rate_decide() as a daemon calls it, for (key, cost[, id]); (status, granted) for each."""
    keys = sorted({r[0] for r in requests})
    n, burst_ns = len(keys), -(-burst * period_ns // quota)
    cursor.execute(
        "select o_status, o_granted from pglockd.rate_decide(null, false, %s, %s, %s, %s, %s, %s, %s, %s, "
        "%s, %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s, %s::text[], %s)",
        (keys, ["test"] * n, [quota] * n, [period_ns] * n, [burst] * n, [burst_ns] * n, [False] * n,
         list(range(1, len(requests) + 2)), [keys.index(r[0]) + 1 for r in requests],
         [r[1] for r in requests], [r[1] for r in requests], [r[1] for r in requests],
         [0] * len(requests), [False] * len(requests), [r[2] if len(r) > 2 else None for r in requests],
         [""] * len(requests)))
    status, granted = cursor.fetchone()
    return list(zip(status.strip("{}").split(",") if isinstance(status, str) else status, granted))


def versions(cursor, key):
    return rows(cursor, "select ctid, xmin, xmax from pglockd.rate_counter where key = %s", key)


# ---- arithmetic ----

def test_costs_and_what_fits(db):
    generator = random.Random(4)
    for _ in range(300):
        quota = generator.choice([1, 3, 1000, 10**9, generator.randint(1, 10**9)])
        period = generator.choice([10**6, SECOND, 366 * 86400 * SECOND, generator.randint(10**6, 10**15)])
        most = min(10**9, 3650 * 86400 * SECOND * quota // period)
        permits = generator.randint(1, max(1, most))
        room = generator.randint(-10, 3650 * 86400 * SECOND)
        if room * quota // period < 2**63:
            assert one(db, "select pglockd.rate_fit(%s, %s, %s)", room, quota, period) == \
                max(0, room * quota // period)
        if permits <= most:
            assert one(db, "select pglockd.rate_cost_ns(%s, %s, %s)", permits, quota, period) == \
                -(-permits * period // quota)


@pytest.mark.parametrize("prefix,pattern,key,matches", [
    (True, "a/b", "a/b", True), (True, "a/b", "a/b/c", True), (True, "a/b", "a/bc", False),
    (False, "a/b", "a/b/c", False), (False, "a/b", "a/b", True), (True, "user:", "user:7", True),
    (True, "user", "user:7", False), (True, "", "anything", True), (True, "a/", "a/b", True),
    (True, "a/b", "a", False), (True, "a%", "a%b", True), (True, "a_b", "axb/c", False)])
def test_patterns(db, prefix, pattern, key, matches):
    assert one(db, "select pglockd.rate_matches(%s, %s, %s)", prefix, pattern, key) == matches


# ---- rate() ----

def test_a_limit(db, resource):
    limit = {"quota": 3, "per": "1 h"}
    assert [rate(db, resource, **limit)["remaining"] for _ in range(3)] == [2, 1, 0]
    denied = rate(db, resource, **limit)
    assert denied["status"] == "LIMITED" and denied["limit"] == 3
    assert 1_100_000 < denied["retry_after_ms"] <= 1_200_000
    assert 3_500_000 < denied["reset_ms"] <= 3_600_000
    assert rate(db, resource, **limit, burst=4)["status"] == "OK"  # another limit is another counter


def test_a_denial_writes_nothing(db, resource):
    rate(db, resource, quota=1, per="1 h")
    before = versions(db, resource)
    assert rate(db, resource, quota=1, per="1 h")["status"] == "LIMITED"
    assert versions(db, resource) == before


def test_peek_takes_nothing(db, resource):
    assert rate(db, resource, quota=2, per="1 h", peek=True)["remaining"] == 2
    assert versions(db, resource) == []
    rate(db, resource, quota=2, per="1 h", cost=2)
    assert rate(db, resource, quota=2, per="1 h", peek=True)["status"] == "LIMITED"


def test_more_than_the_burst_can_never_pass(db, resource):
    answer = rate(db, resource, quota=5, per="1 h", cost=6)
    assert (answer["status"], answer["retry_after_ms"]) == ("LIMITED", None)


@pytest.mark.parametrize("arguments", [
    {"quota": 0, "per": "1 s"}, {"quota": -1, "per": "1 s"}, {"quota": 10**9 + 1, "per": "1 s"},
    {"quota": 2**62, "per": "1 s"}, {"quota": 1, "per": "0"}, {"quota": 1, "per": "-1 s"},
    {"quota": 1, "per": "2 years"}, {"quota": 1}, {"per": "1 s"}, {"burst": 3},
    {"quota": 1, "per": "1 s", "burst": 0}, {"quota": 1, "per": "366 days", "burst": 11},
    {"quota": 1, "per": "1 s", "cost": 0}, {"quota": 1, "per": "1 s", "cost": -1},
    {"quota": 1, "per": "1 s", "cost": 2**62}, {"quota": 1, "per": "1 s", "policy": "p"},
    {"quota": 1, "per": "1 s", "id": ""}, {"quota": 1, "per": "1 s", "id": "x" * 65}])
def test_bad_arguments(db, resource, arguments):
    with pytest.raises(errors.InvalidParameterValue):
        rate(db, resource, **arguments)


@pytest.mark.parametrize("key", ["", None, "x" * 513])
def test_bad_keys(db, key):
    with pytest.raises(errors.InvalidParameterValue):
        rate(db, key, quota=1, per="1 s")


def test_a_hostile_key_is_only_text(db):
    key = "'; drop table pglockd.rate_counter; -- \" \\ %s \u202e \U0001f512"
    assert rate(db, key, quota=1, per="1 h")["status"] == "OK"
    assert rate(db, key, quota=1, per="1 h")["status"] == "LIMITED"


def test_another_isolation_is_refused(still, resource):
    connection = still()
    connection.autocommit = False
    connection.set_session(isolation_level="REPEATABLE READ")
    with pytest.raises(errors.ActiveSqlTransaction):
        rate(connection.cursor(), resource, quota=1, per="1 s")


def test_an_id_is_charged_once(db, resource):
    first = rate(db, resource, quota=9, per="1 h", cost=4, id="job")
    again = rate(db, resource, quota=9, per="1 h", cost=4, id="job")
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["status"] == "OK" and again["remaining"] == 5
    assert rate(db, resource, quota=9, per="1 h", cost=3, id="job")["status"] == "ID_MISMATCH"
    assert rate(db, resource + "2", quota=9, per="1 h", cost=4, id="job")["status"] == "ID_MISMATCH"


def test_a_rollback_gives_back(still, db, resource):
    connection = still()
    connection.autocommit = False
    rate(connection.cursor(), resource, quota=2, per="1 h", cost=2)
    connection.rollback()
    assert rate(db, resource, quota=2, per="1 h", cost=2)["status"] == "OK"


# ---- policies ----

def test_all_policies_must_allow_and_a_denial_charges_none(db):
    policy(db, "each", pattern="api/", quota=5)
    policy(db, "all", pattern="api/", quota=7, counter="pattern")
    policy(db, "other", pattern="web/")
    assert [rate(db, "api/a", cost=5)["status"], rate(db, "api/b", cost=2)["status"]] == ["OK", "OK"]
    denied = rate(db, "api/b")
    assert (denied["status"], denied["policy_name"]) == ("LIMITED", "all")
    left = dict(rows(db, "select key || ' ' || policy, remaining from pglockd.rate_limits"))
    assert left == {"api/a each": 0, "api/b each": 3, " all": 0}


def test_no_policy(db):
    assert rate(db, "x")["status"] == "NO_POLICY"
    policy(db, "p", pattern="y")
    assert rate(db, "x", policy="q")["status"] == "NO_POLICY"
    assert rate(db, "x", policy="p")["status"] == "OK"  # named: for any key


def test_shadow_denies_nobody(db):
    policy(db, "shadow", quota=1, mode="shadow")
    assert [rate(db, "k")["status"] for _ in range(3)] == ["OK"] * 3
    assert one(db, "select used from pglockd.rate_limits where key = 'k'") == 1


@pytest.mark.parametrize("change,left", [
    ("quota = 100", 92), ("quota = 10, burst = 20", 12), ("per = '10 h'", 2), ("quota = 4", 0)])
def test_a_changed_limit_counts_what_was_used(db, change, left):
    policy(db, "p")
    assert rate(db, "k", cost=8)["remaining"] == 2
    db.execute(f"update pglockd.rate_policy set {change}")
    assert one(db, "select remaining from pglockd.rate_limits where key = 'k'") == left
    assert rate(db, "k", peek=True)["remaining"] == left


@pytest.mark.parametrize("columns", [
    {"quota": 0}, {"quota": -5}, {"per": "0"}, {"per": "-1 s"}, {"burst": 0}, {"mode": "x"}, {"away": "x"},
    {"away_percent": 0}, {"applies_to": "x"}, {"counter": "owner"}, {"charge": "grant"}, {"match": "x"},
    {"match": "exact", "pattern": ""}, {"quota": 1, "per": "366 days", "burst": 11}])
def test_bad_policies(db, columns):
    with pytest.raises(errors.CheckViolation):
        policy(db, "bad", **columns)
    with pytest.raises(errors.CheckViolation):
        policy(db, "bad name")


def test_each_change_is_a_new_version(db):
    def epoch():
        return one(db, "select epoch from pglockd.rate_epoch")
    before = epoch()
    policy(db, "p")
    db.execute("update pglockd.rate_policy set quota = 11")
    db.execute("delete from pglockd.rate_policy")
    assert epoch() == before + 3
    db.execute("select o_epoch, o_status from pglockd.rate_decide(%s, false, '{}', '{}', '{}', '{}', '{}', "
               "'{}', '{}', '{1}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')", (before,))
    assert db.fetchone() == (before + 3, None)


# ---- many at once, as the daemons ask ----

def test_a_batch_is_decided_in_order(db, resource):
    a, b = resource + "a", resource + "b"
    answers = decide(db, (a, 6), (b, 10), (a, 5), (a, 4), (b, 1))
    assert answers == [("x", 6), ("x", 10), ("x", 0), ("x", 4), ("x", 0)]


def test_one_id_twice_in_a_batch(db, resource):
    assert decide(db, (resource, 3, "i"), (resource, 3, "i"), (resource, 2, "i")) == \
        [("x", 3), ("a", 0), ("m", 0)]
    assert one(db, "select used from pglockd.rate_limits where key = %s", resource) == 3


@pytest.mark.parametrize("known", [True, False])
def test_an_open_transaction_stops_nobody_else(still, db, resource, known):
    if known:
        decide(db, (resource, 1))
    connection = still()
    connection.autocommit = False
    assert decide(connection.cursor(), (resource, 1)) == [("x", 1)]
    assert decide(db, (resource, 1), (resource + "2", 1)) == [("r", 0), ("x", 1)]
    connection.rollback()
    assert decide(db, (resource, 1)) == [("x", 1)]


def test_a_clock_that_is_set_back_costs_one_burst_at_most(db, still, resource):
    assert decide(db, (resource, 10))[0][1] == 10
    db.execute("update pglockd.rate_counter set tat_ns = tat_ns + 100 * 3600 * 1000000000::bigint")
    assert decide(db, (resource, 1))[0][1] == 0
    assert one(db, "select reset_in from pglockd.rate_limits where key = %s", resource).total_seconds() <= 3600


def test_reset_and_prune(db, resource):
    decide(db, (resource, 10), (resource + "2", 10))
    epoch = one(db, "select epoch from pglockd.rate_epoch")
    assert one(db, "select pglockd.rate_reset(%s)", resource) == 1
    assert one(db, "select pglockd.rate_reset(%s, 'other')", resource + "2") == 0
    assert one(db, "select epoch from pglockd.rate_epoch") == epoch + 1
    assert decide(db, (resource, 10))[0][1] == 10

    def prune(idle_ms):
        db.execute("select * from pglockd.rate_prune(null, null, 1000, %s)", (idle_ms,))
        return db.fetchone()
    assert prune(0) == (None, None, 0)  # they are in use
    db.execute("update pglockd.rate_counter set tat_ns = pglockd.rate_now_ns() - 60000000000")
    assert prune(120_000) == (None, None, 0)
    assert prune(30_000) == (None, None, 2)


def test_prune_goes_on_where_it_ended(db, resource):
    decide(db, *[(f"{resource}{i}", 1) for i in range(5)])
    db.execute("update pglockd.rate_counter set tat_ns = 0 where key <> %s", (resource + "1",))
    db.execute("select * from pglockd.rate_prune(null, null, 2, 0)")
    key, rule, removed = db.fetchone()
    assert (key, rule, removed) == (resource + "1", "test", 1)
    db.execute("select * from pglockd.rate_prune(%s, %s, 10, 0)", (key, rule))
    assert db.fetchone() == (None, None, 3)


def test_a_refund(db, resource):
    decide(db, (resource, 10))
    assert one(db, "select pglockd.rate_refund(array[%s, 'nothing'], array['test', 'test'], array[4, 1]::bigint[])",
               resource) == [1, 2]
    assert decide(db, (resource, 5))[0][1] == 0
    assert decide(db, (resource, 4))[0][1] == 4


# ---- lock() ----

def test_lock_by_sql_pays(db, resource):
    policy(db, "attempts", applies_to="lock", pattern=resource, quota=3, counter="owner")
    policy(db, "grants", applies_to="lock", pattern=resource, quota=5, counter="pattern", charge="grant")

    def lock(name, owner="o"):
        return one(db, "select status from pglockd.lock(%s, owner => %s)", f"{resource}/{name}", owner)
    assert [lock("a"), lock("a"), lock("b"), lock("c")] == ["OK", "BUSY", "OK", "LIMITED"]
    assert [lock("c", "p"), lock("d", "p")] == ["OK", "OK"]
    left = dict(rows(db, "select policy || ' ' || key, used from pglockd.rate_limits"))
    assert left == {"attempts o": 3, "attempts p": 2, "grants ": 4}
