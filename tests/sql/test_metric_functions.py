"""The functions of the metrics on their own, on a database that no daemon serves."""

import json

import pytest
from psycopg2 import errors

from schema import one, rows

COUNTER = {"name": "c_total", "kind": "counter", "unit": "", "per_unit": 1, "help": "Counts",
           "series": [{"a": "x"}, {"a": "y"}]}
SECONDS = {"name": "g_seconds", "kind": "gauge", "unit": "seconds", "per_unit": 1000000,
           "help": "Takes time", "series": [{}]}
HISTOGRAM = {"name": "h_seconds", "kind": "histogram", "unit": "seconds", "per_unit": 1000000,
             "help": "Waits", "bounds": [1000000, 2000000, 4000000], "series": [{}]}
FAMILIES = [COUNTER, SECONDS, HISTOGRAM]
WIDTH = 2 + 1 + 5


@pytest.fixture
def db(still):
    """A cursor; samples, layouts and partitions are gone before and after the test."""
    cursor = still().cursor()

    def clear():
        for name in partitions(cursor):
            cursor.execute(f"drop table pglockd.{name}")
        cursor.execute("delete from pglockd.metric_layout; delete from pglockd.instance")
    clear()
    yield cursor
    clear()


def layout(cursor, families=None):
    return one(cursor, "select o_layout from pglockd.metric_layout(%s)",
               json.dumps(families or FAMILIES))


def at_us(cursor, when):
    return one(cursor, "select (extract(epoch from %s::timestamptz) * 1000000)::bigint", when)


def flush(cursor, instance, *samples, families=None):
    """Each sample: when, and its cells."""
    number = layout(cursor, families)
    return one(cursor, "select pglockd.metric_flush(%s, %s, 0, %s, %s, %s)", instance,
               f"host/{instance}", number, [at_us(cursor, when) for when, _ in samples],
               [cell for _, cells in samples for cell in cells])


def cells(x=0, y=0, gauge=None, buckets=(0, 0, 0, 0), total=0):
    return [x, y, gauge, *buckets, total]


def rates(cursor, *arguments):
    """{(minute, a, instance): (increase, per_second)} of c_total."""
    return {(f"{minute:%H:%M}", a, instance): (increase, per_second)
            for minute, a, instance, increase, per_second in rows(
                cursor, "select minute at time zone 'UTC', labels ->> 'a', instance_id, increase, per_second "
                "from pglockd.metric_rates_between(%s, %s, 'c_total')", *arguments)}


# ---- layouts ----

def test_a_layout_says_where_each_series_stands(db):
    assert layout(db) == layout(db)
    assert rows(db, "select first, width, name, labels, bounds, per_unit from pglockd.metric_series "
                "order by first") == [
        (1, 1, "c_total", {"a": "x"}, None, 1),
        (2, 1, "c_total", {"a": "y"}, None, 1),
        (3, 1, "g_seconds", {}, None, 1000000),
        (4, 5, "h_seconds", {}, [1000000, 2000000, 4000000], 1000000)]
    other = layout(db, [COUNTER])
    assert other != layout(db) and one(db, "select count(*) from pglockd.metric_layout") == 2


def test_two_daemons_that_come_at_once_get_one_layout(db, still):
    """The one that comes second waits for the first to commit, and finds what it made."""
    first = still()
    first.autocommit = False
    number = layout(first.cursor())
    second = still().cursor()
    second.execute("set lock_timeout = '200ms'")
    with pytest.raises(errors.LockNotAvailable):
        layout(second)
    first.commit()
    assert layout(second) == number
    assert one(db, "select count(*) from pglockd.metric_series") == 4


# ---- samples ----

def test_a_sample_is_shown_in_its_units(db):
    db.execute("insert into pglockd.instance (instance_id, name, version, heartbeat_us) "
               "overriding system value values (5, 'host/5', 'test', 0)")
    flush(db, 5, ("2026-01-01 00:00Z", cells()),
          ("2026-01-01 00:01Z", cells(1, 2, 1500000, (1, 0, 2, 1), 9500000)))
    assert rows(db, "select name, labels, value, count, sum, kind, unit, help from pglockd.metrics "
                "order by name, labels") == [
        ("c_total", {"a": "x"}, 1, None, None, "counter", "", "Counts"),
        ("c_total", {"a": "y"}, 2, None, None, "counter", "", "Counts"),
        ("g_seconds", {}, 1.5, None, None, "gauge", "seconds", "Takes time"),
        ("h_seconds", {}, None, 4, 9.5, "histogram", "seconds", "Waits")]
    assert rows(db, "select sampled_at at time zone 'UTC', value from pglockd.metric_history "
                "where name = 'g_seconds'") == [
        (one(db, "select '2026-01-01 00:01'::timestamp"), 1.5)], "a gauge without value has no row"


def test_what_is_sent_again_is_written_once(db):
    sample = ("2026-01-01 00:00Z", cells(1))
    later = ("2026-01-01 00:01Z", cells(2))
    flush(db, 1, sample)
    flush(db, 1, sample, later)
    assert rows(db, "select value from pglockd.metric_history where name = 'c_total' and "
                "labels ->> 'a' = 'x' order by sampled_at") == [(1,), (2,)]


def test_samples_of_several_days_find_or_make_their_partitions(db):
    flush(db, 1, ("2026-01-01 23:59:59.999999Z", cells(1)), ("2026-01-02 00:00Z", cells(2)))
    assert rows(db, "select c.relname, m.cells[1] from pglockd.metric_sample m "
                "join pg_class c on c.oid = m.tableoid order by 2") == [
        ("metric_sample_20260101", 1), ("metric_sample_20260102", 2)]
    assert one(db, "select obj_description('pglockd.metric_sample_20260101'::regclass)") == (
        "Rows of 2026-01-01 (UTC) of metric_sample.")


def test_the_time_zone_of_a_session_moves_no_partition(db):
    db.execute("set timezone = 'Pacific/Auckland'")
    flush(db, 1, ("2026-01-01 23:59:59Z", cells(1)), ("2026-01-02 00:00Z", cells(2)))
    db.execute("set timezone = 'America/New_York'")
    flush(db, 1, ("2026-01-01 00:00Z", cells(3)))
    assert one(db, "select count(*) from pglockd.metric_sample_20260101") == 2


def test_a_layout_that_was_forgotten_is_asked_for_again(db):
    assert one(db, "select pglockd.metric_flush(1, 'host/1', 0, -1, '{0}', '{1}')") is None
    assert one(db, "select count(*) from pglockd.metric_sample") == 0


def test_a_flush_keeps_its_layout_in_use(db):
    number = layout(db)
    db.execute("update pglockd.metric_layout set used_on = '2020-01-01'")
    flush(db, 1, ("2026-01-01 00:00Z", cells()))
    one(db, "select pglockd.metric_partitions(86400000)")
    assert one(db, "select layout_id from pglockd.metric_layout") == number


# ---- partitions ----

def partitions(cursor):
    return [name for name, in rows(cursor, "select relname from pg_class where relkind = 'r' and "
                                   "relname ~ '^metric_sample_[0-9]+$' order by 1")]


def test_partitions_are_made_ahead_and_dropped(within_a_day, db):
    for days in 1, 2, 9:
        assert one(db, "select pglockd.day_partition('metric_sample', ((clock_timestamp() at time zone 'UTC')::date "
                   "- %s))", days) is True
    layout(db)
    db.execute("update pglockd.metric_layout set used_on = current_date - 9")
    assert rows(db, "select * from pglockd.metric_partitions(86400000)") == [(3, 2)]
    names = partitions(db)
    assert len(names) == 4  # yesterday's may hold something of the last 24 hours
    assert one(db, "select count(*) from pglockd.metric_layout") == 0
    assert one(db, "select count(*) from pglockd.metric_series") == 0
    assert rows(db, "select * from pglockd.metric_partitions(86400000)") == [(0, 0)]
    assert partitions(db) == names


def test_a_partition_that_somebody_reads_is_dropped_later(db, still):
    one(db, "select pglockd.day_partition('metric_sample', '2020-01-01')")
    reader = still()
    reader.autocommit = False
    one(reader.cursor(), "select count(*) from pglockd.metric_sample")
    assert rows(db, "select o_dropped from pglockd.metric_partitions(86400000)") == [(0,)]
    reader.rollback()
    assert rows(db, "select o_dropped from pglockd.metric_partitions(86400000)") == [(1,)]


def test_two_that_make_one_partition(db, still):
    """The second waits for the first and then finds it."""
    first = still()
    first.autocommit = False
    assert one(first.cursor(), "select pglockd.day_partition('metric_sample', '2026-03-01')") is True
    second = still().cursor()
    second.execute("set lock_timeout = '200ms'")
    with pytest.raises(errors.LockNotAvailable):
        one(second, "select pglockd.day_partition('metric_sample', '2026-03-01')")
    first.commit()
    assert one(second, "select pglockd.day_partition('metric_sample', '2026-03-01')") is False


def test_making_a_partition_stops_neither_readers_nor_writers(db, still):
    flush(db, 1, ("2026-01-01 00:00Z", cells(1)))
    maker = still()
    maker.autocommit = False
    one(maker.cursor(), "select pglockd.day_partition('metric_sample', '2026-03-01')")
    other = still().cursor()
    other.execute("set lock_timeout = '200ms'")
    flush(other, 1, ("2026-01-01 00:01Z", cells(2)))
    assert one(other, "select count(*) from pglockd.metric_sample") == 2
    maker.rollback()


# ---- rates ----

FROM, TO = "2026-01-01 00:00Z", "2026-01-01 01:00Z"


def test_rates_of_a_minute(db):
    flush(db, 1, ("2026-01-01 00:00:05Z", cells()), ("2026-01-01 00:00:35Z", cells(3)),
          ("2026-01-01 00:01:05Z", cells(9)), ("2026-01-01 00:01:35Z", cells(9, 6)))
    assert rates(db, FROM, TO) == {
        ("00:00", "x", 1): (3, 0.1), ("00:01", "x", 1): (6, 0.1), ("00:01", "y", 1): (6, 0.1)}


def test_a_restart_hides_and_doubles_nothing(db):
    flush(db, 1, ("2026-01-01 00:00:00Z", cells()), ("2026-01-01 00:00:50Z", cells(100)))
    flush(db, 2, ("2026-01-01 00:00:55Z", cells()), ("2026-01-01 00:01:30Z", cells(7)),
          ("2026-01-01 00:02:30Z", cells(107)))
    found = rates(db, FROM, TO)
    assert {k: increase for k, (increase, _) in found.items()} == {
        ("00:00", "x", 1): 100, ("00:01", "x", 2): 7, ("00:02", "x", 2): 100}


def test_what_is_missing_costs_resolution_only(db):
    """No samples for five minutes: the increase is in the minute in which they came again."""
    flush(db, 1, ("2026-01-01 00:00:00Z", cells()), ("2026-01-01 00:01:00Z", cells(10)),
          ("2026-01-01 00:06:00Z", cells(310)))
    assert rates(db, FROM, TO) == {
        ("00:01", "x", 1): (10, pytest.approx(10 / 60)), ("00:06", "x", 1): (300, 1)}


def test_a_series_that_came_later_began_at_zero(db):
    """As those of a rate policy do, with a layout of their own."""
    flush(db, 1, ("2026-01-01 00:00:00Z", [5]), families=[{**COUNTER, "series": [{"a": "x"}]}])
    flush(db, 1, ("2026-01-01 00:01:00Z", cells(6, 4)))
    assert rates(db, FROM, TO) == {
        ("00:01", "x", 1): (1, pytest.approx(1 / 60)), ("00:01", "y", 1): (4, pytest.approx(4 / 60))}


def test_what_was_counted_before_anything_is_kept_is_no_increase(db):
    """The partition of its first days is gone."""
    flush(db, 1, ("2026-01-01 00:00:00Z", cells(1000000)), ("2026-01-01 00:01:00Z", cells(1000001)))
    assert rates(db, FROM, TO) == {("00:01", "x", 1): (1, pytest.approx(1 / 60))}


def test_the_first_minute_asked_for_has_its_rate(db):
    flush(db, 1, ("2026-01-01 00:00:00Z", cells(5)), ("2026-01-01 00:09:30Z", cells(8)),
          ("2026-01-01 00:10:30Z", cells(20)))
    assert rates(db, "2026-01-01 00:10:20Z", TO) == {("00:10", "x", 1): (12, 0.2)}


def test_gauges_have_no_rates(db):
    flush(db, 1, ("2026-01-01 00:00:00Z", cells(gauge=0)), ("2026-01-01 00:01:00Z", cells(gauge=5)))
    assert rows(db, "select from pglockd.metric_rates_between(%s, %s)", FROM, TO) == []


def test_histograms_have_rates_of_their_count(db):
    flush(db, 1, ("2026-01-01 00:00:00Z", cells()),
          ("2026-01-01 00:01:00Z", cells(buckets=(1, 2, 0, 3), total=7)))
    assert rows(db, "select name, increase from pglockd.metric_rates_between(%s, %s)", FROM, TO) == [
        ("h_seconds", 6)]


# ---- quantiles ----

@pytest.mark.parametrize("counts, quantile, wanted", [
    ([10, 0, 0, 0], 0.5, 5), ([10, 0, 0, 0], 1, 10), ([10, 0, 0, 0], 0, 0),
    ([0, 10, 0, 0], 0.5, 15), ([0, 10, 0, 0], 0, 10), ([5, 5, 0, 0], 0.5, 10),
    ([5, 5, 0, 0], 0.75, 15), ([1, 0, 0, 1], 0.5, 10), ([0, 0, 0, 7], 0.5, 40), ([0, 0, 4, 0], 0.25, 25),
    ([0, 0, 0, 0], 0.5, None),
])
def test_quantile(db, counts, quantile, wanted):
    """Bounds 10, 20, 40; as histogram_quantile() of Prometheus has it."""
    assert one(db, "select pglockd.metric_quantile('{10,20,40}', %s, %s)", counts, quantile) == wanted


def test_quantiles_are_of_the_time_asked_for_and_of_all_daemons(db):
    flush(db, 1, ("2026-01-01 00:00Z", cells(buckets=(50, 0, 0, 0), total=50)),
          ("2026-01-01 00:30Z", cells(buckets=(50, 0, 3, 0), total=9000050)))
    flush(db, 2, ("2026-01-01 00:20Z", cells()), ("2026-01-01 00:40Z", cells(buckets=(0, 1, 0, 0), total=1500000)))
    assert rows(db, "select name, count, mean, p50, p99 from pglockd.metric_quantiles_between(%s, %s)",
                "2026-01-01 00:10Z", "2026-01-01 00:50Z") == [
        ("h_seconds", 4, 2.625, pytest.approx(2 + 2 / 3), pytest.approx(2 + 2 * 2.96 / 3))]
    assert rows(db, "select from pglockd.metric_quantiles_between(%s, %s, 'other')", FROM, TO) == []


# ---- gauges ----

def test_gauges_count_the_shared_state(db, still):
    before = rows(db, "select locks_held, sessions, waiters from pglockd.gauges()")[0]
    one(still().cursor(), "select status from pglockd.lock('gauges/1')")
    assert rows(db, "select locks_held, sessions, waiters from pglockd.gauges()")[0] == (
        before[0] + 1, before[1], before[2])
    assert one(db, "select dead_leases >= 0 and dead_waiters >= 0 from pglockd.gauges()")


def test_gauges_see_the_oldest_snapshot(db, still):
    holder = still()
    holder.set_session(isolation_level="REPEATABLE READ", autocommit=False)
    xmin = int(one(holder.cursor(), "select pg_snapshot_xmin(pg_current_snapshot())::text"))
    for _ in range(5):
        one(db, "select pg_current_xact_id()::text")
    oldest, age = rows(db, "select oldest_xmin, xmin_age from pglockd.gauges()")[0]
    assert oldest <= xmin % 2**32 and age >= 5
    holder.rollback()
