"""What is noted for those who watch, how it gets its order, and when it is forgotten; by the functions alone."""

import pytest

from schema import Instance, call, one, rows
from ways import WAYS


@pytest.fixture
def sql(still):
    cursor = still().cursor()
    yield cursor
    cursor.execute("rollback")
    cursor.execute("delete from pglockd.watch; update pglockd.clock set watched = false")


@pytest.fixture
def daemon_of(still):
    """A function that gives a daemon's place, with history off."""
    def make():
        instance = Instance(still())
        instance.cursor.execute("set pglockd.history = 'off'")
        return instance
    return make


@pytest.fixture
def watch(sql):
    """A function that has prefixes watched; returns the number of the last event."""
    def start(*prefixes, keep=60000):
        one(sql, "select pglockd.watch_prefixes(%s, %s)", list(prefixes), keep)
        return one(sql, "select pglockd.settle_watches(%s)", list(prefixes))
    return start


def events(cursor, prefix, after, most=500):
    """(event, resource) of the prefix behind a number; and where to go on."""
    *told, last = rows(cursor, "select seq, event, resource from pglockd.read_events(%s, %s, %s)", [prefix], after, most)
    assert [s for s, _, _ in told] == sorted({s for s, _, _ in told})
    assert last[1] is None
    return [t[1:] for t in told], last[0]


def waiting_to_be_published(cursor):
    return [r for r, in rows(cursor, "select resource from pglockd.event_outbox order by note")]


# ---- what is noted ----

@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_told(daemon_of, sql, watch, resource, way):
    start = watch(resource)
    way(daemon_of(), resource + "/x")
    told, _ = events(sql, resource, start)
    assert " ".join(e for e, _ in told) == WAYS[way][2]
    assert {r for _, r in told} == {resource + "/x"}


def test_what_an_event_says(daemon_of, sql, watch, resource):
    start = watch(resource)
    d = daemon_of()
    token = d.lock(resource, owner="agent-7", identity="ci", exclusive=False)
    rows(d.cursor, "select * from pglockd.force(%s, %s, 'stuck')", resource, token)
    columns = "event, resource, token, owner, mode, scope, reason, identity"
    granted, forced, _ = rows(sql, f"select {columns} from pglockd.read_events(%s, %s, 10)", [resource], start)
    same = ("agent-7", "shared", "node")
    assert granted == ("granted", resource, token, *same, None, "ci")
    assert forced == ("forced", resource, token, *same, "forced", "ci")
    assert one(sql, "select detail from pglockd.read_events(%s, %s, 10) where event = 'forced'",
               [resource], start).endswith(": stuck")


def test_a_grant_in_a_batch_with_others(daemon_of, sql, watch, resource):
    """Some of a batch are granted, one waits, one is not watched."""
    start = watch(resource + "/in")
    d = daemon_of()
    d.lock(resource + "/in/held")
    d.acquire(*({"resource": resource + name, "wait": True} for name in ("/in/a", "/in/b", "/in/held", "/out")))
    assert events(sql, resource, start)[0] == [("granted", resource + "/in/" + n) for n in ("held", "a", "b")]


@pytest.mark.parametrize("prefix, told", [
    ("a", True), ("a/b_c", True), ("a/b_c/d", True), ("/", True),
    ("a/b_c/d/e", False), ("a/b", False), ("a/bxc", False), ("a/b%", False), ("%", False), ("a/B_C", False)])
def test_a_prefix_is_a_resource_and_what_lies_beneath(daemon_of, sql, watch, resource, prefix, told):
    start = watch(prefix if prefix == "/" else f"{resource}/{prefix}")
    daemon_of().lock(f"{resource}/a/b_c/d")
    assert (events(sql, resource, start)[0] == [("granted", f"{resource}/a/b_c/d")]) is told
    assert told or waiting_to_be_published(sql) == []


@pytest.mark.parametrize("many", [2, 200])
def test_many_prefixes(daemon_of, sql, watch, resource, many):
    """However many are watched, only what is watched is noted."""
    start = watch(*(f"{resource}/{n}" for n in range(many)))
    d = daemon_of()
    d.release(*((r, d.lock(r)) for r in (f"{resource}/1/x", f"{resource}/11111/x")))
    assert waiting_to_be_published(sql) == [f"{resource}/1/x"] * 2
    assert events(sql, resource, start)[0] == [("granted", f"{resource}/1/x"), ("released", f"{resource}/1/x")]


def test_a_tree_is_told_where_it_stands(daemon_of, sql, watch, resource):
    """A tree is an event of its own resource, not of each beneath it."""
    start = watch(resource + "/beneath")
    cursor = daemon_of().cursor
    token = one(cursor, "select token from pglockd.lock(%s, scope => 'tree')", resource)
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token)
    assert events(sql, resource, start)[0] == []


def test_nothing_is_noted_where_nobody_watches(daemon_of, sql, resource):
    for way in WAYS:
        way(daemon_of(), f"{resource}/{way.__name__}")
    assert waiting_to_be_published(sql) == []


# ---- order ----

def begin(still):
    connection = still()
    connection.autocommit = False
    return connection


def test_who_has_read_on_does_not_miss_what_commits_later(daemon_of, still, sql, watch, resource):
    """The race: an event is noted first, and committed after another one has been read. Had it its number from when it
    was noted, who resumes behind the other one would never see it; so numbers are given to what is committed."""
    start = watch(resource)
    early, late = daemon_of(), daemon_of()
    early.cursor.execute("begin")
    early.lock(resource + "/early")
    late.lock(resource + "/late")
    told, at = events(sql, resource, start)
    assert told == [("granted", resource + "/late")]
    early.cursor.execute("commit")
    assert events(sql, resource, at)[0] == [("granted", resource + "/early")]


def test_what_is_not_done_is_not_told_and_stops_nobody(daemon_of, sql, watch, resource):
    start = watch(resource)
    d = daemon_of()
    d.cursor.execute("begin")
    d.lock(resource + "/undone")
    d.cursor.execute("rollback")
    d.lock(resource + "/done")
    assert events(sql, resource, start)[0] == [("granted", resource + "/done")]


def test_one_publishes_at_a_time(still, sql, watch, daemon_of, resource):
    """The second waits for the first one's commit: else it would read past numbers that cannot be seen yet."""
    start = watch(resource)
    daemon_of().lock(resource + "/x")
    first = begin(still)
    rows(first.cursor(), "select * from pglockd.read_events(%s, %s, 1)", [resource], start)
    second = begin(still).cursor()
    assert one(second, "select pglockd.publish_events(true)") is None
    second.execute("set local lock_timeout = '50ms'")
    with pytest.raises(Exception, match="lock timeout"):
        rows(second, "select * from pglockd.read_events(%s, %s, 1)", [resource], start)
    first.commit()
    assert events(sql, resource, start)[0] == [("granted", resource + "/x")]


def test_a_page_says_where_to_go_on(daemon_of, sql, watch, resource):
    at = watch(resource)
    d = daemon_of()
    wanted = [("granted", f"{resource}/{n}") for n in range(7)]
    for _, name in wanted:
        d.lock(name)
    told = []
    while True:
        page = rows(sql, "select seq, event, resource, more from pglockd.read_events(%s, %s, 3)", [resource], at)
        told += [row[1:3] for row in page[:-1]]
        at = page[-1][0]
        if not page[-1][3]:
            break
    assert told == wanted


# ---- resuming ----

def resume(cursor, prefix, after):
    return rows(cursor, "select o_seq, o_lost from pglockd.resume_watch(%s, %s)", prefix, after)[0]


def test_resuming_where_all_is_there(daemon_of, sql, watch, resource):
    start = watch(resource)
    daemon_of().lock(resource + "/x")
    _, at = events(sql, resource, start)
    assert resume(sql, resource, start) == (start, None)
    assert resume(sql, resource + "/beneath", start) == (start, None), "what lies above was watched"
    assert resume(sql, resource, None) == (at, None)


def test_resuming_where_something_may_be_missing(daemon_of, sql, watch, resource):
    start = watch(resource)
    daemon_of().lock(resource + "/x")
    _, at = events(sql, resource, start)
    assert resume(sql, resource, at + 1) == (at, "unknown_seq")
    assert resume(sql, "elsewhere", start) == (at, "not_watched")
    assert resume(sql, resource, 0)[1] in ("not_watched", "events_removed")


def test_resuming_behind_what_is_kept_no_longer(daemon_of, sql, watch, resource):
    start = watch(resource)
    d = daemon_of()
    d.lock(resource + "/x")
    _, middle = events(sql, resource, start)
    sql.execute("update pglockd.event set published_at = published_at - interval '1 hour'")
    d.lock(resource + "/y")
    _, last = events(sql, resource, middle)
    while one(sql, "select pglockd.forget_events(600000)"):
        pass
    assert resume(sql, resource, start) == (last, "events_removed")
    assert resume(sql, resource, middle) == (middle, None)
    assert events(sql, resource, middle)[0] == [("granted", resource + "/y")]


def crash(cursor):
    """What a crash of the server leaves of unlogged tables."""
    cursor.execute("truncate pglockd.watch, pglockd.event, pglockd.event_outbox, pglockd.event_floor")


def test_resuming_after_a_crash(daemon_of, sql, watch, resource):
    start = watch(resource)
    d = daemon_of()
    d.lock(resource + "/x")
    _, at = events(sql, resource, start)
    crash(sql)
    d.lock(resource + "/missed")
    again = watch(resource)
    assert again > at
    d.lock(resource + "/y")
    assert resume(sql, resource, at)[1] == "events_removed"
    assert events(sql, resource, again)[0] == [("granted", resource + "/y")]


def test_a_standby_that_was_behind_tells_no_number_twice(sql, watch, resource):
    """The sequence of a standby that was promoted may be behind what was told: the numbers leap."""
    told = watch(resource)
    crash(sql)
    sql.execute("select setval('pglockd.event_seq', %s)", (max(1, told - 500),))
    assert watch(resource) > told
    assert resume(sql, resource, told)[1] == "events_removed"


# ---- beginning and ending to watch ----

def watched(cursor):
    return one(cursor, "select watched from pglockd.clock")


def sweep(cursor):
    call(cursor, "sweep", 100, 0, True, None)


def test_a_prefix_is_forgotten_after_a_while(sql, watch, resource):
    watch(resource)
    sweep(sql)
    assert watched(sql) and one(sql, "select count(*) from pglockd.watch") == 1
    sql.execute("update pglockd.watch set until_at = clock_timestamp() - interval '1 ms'")
    sweep(sql)
    assert not watched(sql) and one(sql, "select count(*) from pglockd.watch") == 0


def test_prefixes_left_behind_are_bounded(sql, watch, resource):
    for n in range(5):
        watch(f"{resource}/{n}", keep=60000 + n)
    one(sql, "select pglockd.forget_watches(3)")
    assert [p for p, in rows(sql, "select prefix from pglockd.watch order by 1")] == [f"{resource}/{n}" for n in (2, 3, 4)]


def test_a_prefix_that_is_just_being_watched_is_not_overlooked(still, sql, daemon_of, resource):
    """The race: the sweep finds no prefix and takes the flag back, while somebody whose row it cannot see yet has
    relied on it."""
    sql.execute("update pglockd.clock set watched = true")
    starting = begin(still)
    one(starting.cursor(), "select pglockd.watch_prefixes(%s, 60000)", [resource])
    sweep(sql)
    starting.commit()
    assert watched(sql)
    daemon_of().lock(resource)
    assert waiting_to_be_published(sql) == [resource]
    sql.execute("delete from pglockd.event_outbox")


def test_transactions_that_began_before_are_waited_for(daemon_of, sql, resource):
    """The race: a transaction has looked for watches, found none, and commits after somebody began to watch: its
    events are missing. It is among the writers until it ends, and the prefix is settled only then."""
    d = daemon_of()
    d.cursor.execute("begin")
    d.lock(resource)
    assert rows(sql, "select pglockd.watch_prefixes(%s, 60000)", [resource]) == [([False],)]
    writers = one(sql, "select pglockd.lease_writers()")
    assert len(writers) == 1
    d.cursor.execute("commit")
    assert one(sql, "select pglockd.lease_writers()") == []
    assert waiting_to_be_published(sql) == [], "that is what is missing"
    last = one(sql, "select pglockd.settle_watches(%s)", [resource])
    assert resume(sql, resource, last) == (last, None)
    assert rows(sql, "select pglockd.watch_prefixes(%s, 60000)", [resource]) == [([True],)]


@pytest.mark.parametrize("scope", ["node", "tree"])
@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_every_kind_of_lease_counts_among_the_writers(still, sql, resource, mode, scope):
    writer = begin(still)
    rows(writer.cursor(), "select * from pglockd.lock(%s, %s, %s)", resource, mode, scope)
    assert len(one(sql, "select pglockd.lease_writers()")) == 1
    writer.commit()
    token = one(sql, "select token from pglockd.lease where resource = %s", resource)
    rows(writer.cursor(), "select * from pglockd.unlock(%s, %s)", resource, token)
    assert len(one(sql, "select pglockd.lease_writers()")) == 1
    writer.rollback()


def test_a_prefix_that_was_nearly_forgotten_begins_anew(sql, watch, resource):
    watch(resource, keep=5000)
    assert rows(sql, "select pglockd.watch_prefixes(%s, 60000)", [resource]) == [([False],)]
