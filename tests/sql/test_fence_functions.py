"""assert_fence() and fence_guard(): only a token that holds passes, whatever kind of lease it is of.

On a database that no daemon serves, so that leases end when a test says so. What happens between a fence
and those who want to end its lease is in tests/integration/test_fence.py.
"""

import threading

import psycopg2
import pytest
from psycopg2 import errors

from schema import Instance, call, one, rows

NOT_HELD = "PL001"


@pytest.fixture
def me(still):
    return Instance(still())


@pytest.fixture
def cursor(still):
    return still().cursor()


def tick(cursor, seconds):
    return one(cursor, "select pglockd.tick(%s * interval '1 second')", seconds)


def fence(cursor, resource, token):
    """Fails unless the token holds."""
    cursor.execute("select pglockd.assert_fence(%s, %s)", (resource, token))


def refused(cursor, resource, token):
    """What is said of a token that does not hold."""
    with pytest.raises(psycopg2.Error) as error:
        fence(cursor, resource, token)
    assert error.value.pgcode == NOT_HELD, error.value
    assert error.value.diag.message_primary == f"token {token} does not hold {resource}"
    assert error.value.diag.message_hint
    return error.value.diag.message_detail


def lock(cursor, resource, words=""):
    ((status, token),) = rows(cursor, f"select status, token from pglockd.lock(%s{words})", resource)
    assert status == "OK"
    return token


# ---- which tokens hold ----

@pytest.mark.parametrize("words", ["", ", 'shared'", ", scope => 'tree'", ", slots => 3"])
def test_a_lease(cursor, resource, words):
    token = lock(cursor, resource, words)
    fence(cursor, resource, token)
    assert refused(cursor, resource, token + 1).startswith("reason unknown, held by ")
    assert "held by" not in refused(cursor, resource + "/other", token)
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
    assert refused(cursor, resource, token) == "reason unknown"


def test_an_older_token_of_a_resource_that_is_held_again(cursor, resource):
    old = lock(cursor, resource)
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, old)
    new = lock(cursor, resource, ", owner => 'next'")
    assert new > old
    assert refused(cursor, resource, old) == "reason unknown, held by next now"
    fence(cursor, resource, new)


def test_past_its_end_though_nobody_has_removed_it(cursor, resource):
    """Until its end, TTL and slack, RENEW works, and so does this; from there on it does not hold."""
    token = lock(cursor, resource, ", ttl => '1 s'")
    end = one(cursor, "select expires_us from pglockd.lease where resource = %s", resource)
    tick(cursor, 1.2)
    assert one(cursor, "select pglockd.lease_now()") < end
    fence(cursor, resource, token)
    tick(cursor, 1)
    assert refused(cursor, resource, token) == "reason expired"
    assert one(cursor, "select count(*) from pglockd.lease where resource = %s", resource) == 1
    assert one(cursor, "select status from pglockd.renew(%s, %s, '1 min')", resource, token) == "OK"
    fence(cursor, resource, token)


def test_forced_away(cursor, resource):
    token = lock(cursor, resource)
    one(cursor, "select status from pglockd.force(%s, %s, 'why')", resource, token)
    assert refused(cursor, resource, token).startswith("reason forced, by ")


def acquire(me, resource, session=None, grace=None, ttl=1000):
    """A lease in a session, with a grace."""
    done = call(me.cursor, "acquire_batch", me.number, [resource], ["/"], [True],
                [9000000000000 if session else ttl], [False], [1], [1], [], [], [], [],
                [session] if session else [], [grace] if grace else [], [])
    assert len(done["o_number"]) == 1 and not done["o_status"], "granted"
    return done["o_number"][0]


def test_in_its_grace_it_holds_no_longer(me, cursor, resource):
    token = acquire(me, resource, grace=60000)
    fence(cursor, resource, token)
    tick(cursor, 2)
    assert refused(cursor, resource, token) == "reason expired"
    assert rows(cursor, "select status from pglockd.lock(%s)", resource) == [("BUSY",)], "it is closed all the same"


@pytest.mark.parametrize("grace", [None, 60000])
def test_in_a_session_it_holds_as_long_as_that(me, cursor, resource, grace):
    session = call(cursor, "session_open", 1000, "", "", None, None, "secret")["o_session"]
    token = acquire(me, resource, session=session, grace=grace)
    fence(cursor, resource, token)
    tick(cursor, 1)
    call(cursor, "session_renew", session, "secret")
    tick(cursor, 1)
    fence(cursor, resource, token)
    tick(cursor, 2)
    assert refused(cursor, resource, token) == "reason expired"
    call(cursor, "sweep", 100000, 30000, False, "")
    assert refused(cursor, resource, token).startswith("reason expired, ")


def test_in_a_session_that_has_ended_though_its_leases_are_not_removed_yet(me, cursor, resource):
    session = call(cursor, "session_open", 60000, "", "", None, None, "secret")["o_session"]
    token = acquire(me, resource, session=session)
    cursor.execute("update pglockd.session set ended_us = 1, ended_reason = 'expired' where session_id = %s",
                   (session,))
    assert refused(cursor, resource, token) == "reason expired"


def test_given_away_it_holds_with_the_new_token_alone(me, cursor, resource):
    old = lock(cursor, resource)
    new = call(cursor, "transfer_lease", resource, old, "other", None, "", 30000)["o_token"]
    assert refused(cursor, resource, old).startswith("reason superseded, given to other")
    fence(cursor, resource, new)


def test_of_hold(still, cursor, resource):
    holder = still()
    ((status, token),) = rows(holder.cursor(), "select status, token from pglockd.hold(%s)", resource)
    assert status == "OK"
    fence(holder.cursor(), resource, token)
    fence(cursor, resource, token)
    assert one(holder.cursor(), "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
    refused(cursor, resource, token)


@pytest.mark.parametrize("resource_and_token", [(None, 1), ("a", None), ("a", -1), ("a", 2 ** 62), ("", 1)])
def test_nonsense_holds_nothing(cursor, resource_and_token):
    with pytest.raises(psycopg2.Error) as error:
        fence(cursor, *resource_and_token)
    assert error.value.pgcode == NOT_HELD


# ---- transactions ----

@pytest.fixture
def begin(still):
    """A function that opens a session in which a transaction is begun by the first statement."""
    def open_one(level="read committed"):
        connection = still()
        connection.autocommit = False
        connection.set_session(isolation_level=level)
        return connection
    return open_one


def test_it_fails_the_transaction(begin, cursor, resource):
    cursor.execute("create table if not exists public.written (what text)")
    token = lock(cursor, resource)
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token)
    writer = begin()
    inside = writer.cursor()
    inside.execute("insert into public.written values ('stale')")
    refused(inside, resource, token)
    with pytest.raises(errors.InFailedSqlTransaction):
        inside.execute("select 1")
    writer.commit()
    assert one(cursor, "select count(*) from public.written where what = 'stale'") == 0


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_in_every_isolation_level(begin, cursor, resource, level):
    token = lock(cursor, resource)
    one_of = begin(level)
    fence(one_of.cursor(), resource, token)
    fence(one_of.cursor(), resource, token)
    one_of.commit()


def old_snapshot(begin, resource):
    """A transaction that sees what was there when it began."""
    late = begin("repeatable read")
    one(late.cursor(), "select count(*) from pglockd.lease where resource = %s", resource)
    return late


def test_race_a_snapshot_from_before_the_end(begin, cursor, resource):
    """Race: the transaction's snapshot shows the lease, which has ended since.

    Fix: the row is locked, not only read: what has gone cannot be locked under that snapshot (40001).
    """
    token = lock(cursor, resource)
    late = old_snapshot(begin, resource)
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token)
    with pytest.raises(errors.SerializationFailure):
        fence(late.cursor(), resource, token)


def test_a_snapshot_from_before_a_renewal(begin, cursor, resource):
    """The lease holds, and it is the row of today that is kept."""
    token = lock(cursor, resource)
    late = old_snapshot(begin, resource)
    one(cursor, "select status from pglockd.renew(%s, %s)", resource, token)
    fence(late.cursor(), resource, token)
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "FENCED"
    assert one(cursor, "select status from pglockd.renew(%s, %s)", resource, token) == "OK"
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "FENCED"
    late.commit()
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"


def test_race_a_lease_that_is_being_released(begin, still, cursor, resource):
    """Race: the release has deleted the row and has not committed. Fix: the fence waits for it, and fails."""
    token = lock(cursor, resource)
    releasing = begin()
    assert one(releasing.cursor(), "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
    waiting = still(options="-c statement_timeout=200ms").cursor()
    with pytest.raises(errors.QueryCanceled):
        fence(waiting, resource, token)
    releasing.commit()
    refused(cursor, resource, token)


def test_race_a_release_that_is_taken_back(begin, still, cursor, resource):
    token = lock(cursor, resource)
    releasing = begin()
    one(releasing.cursor(), "select status from pglockd.unlock(%s, %s)", resource, token)
    releasing.rollback()
    fence(cursor, resource, token)


def test_its_own_transaction_may_release_what_it_fenced(begin, cursor, resource):
    token = lock(cursor, resource)
    own = begin()
    fence(own.cursor(), resource, token)
    assert one(own.cursor(), "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"
    own.commit()
    lock(cursor, resource)


def test_what_runs_out_meanwhile_holds_until_the_transaction_ends(begin, cursor, resource):
    """A long migration that says it again at each step: nothing has taken its lock away, so it goes on."""
    token = lock(cursor, resource, ", ttl => '100 ms'")
    own = begin()
    inside = own.cursor()
    fence(inside, resource, token)
    end = one(cursor, "select expires_us from pglockd.lease where resource = %s", resource)
    # Without an argument a tick credits what has passed, as the janitor does.
    while one(cursor, "select pglockd.tick()") < end + 100000:
        pass
    fence(inside, resource, token)
    call(cursor, "sweep", 100000, 30000, True, "")
    assert rows(cursor, "select status from pglockd.lock(%s)", resource) == [("BUSY",)]
    fence(inside, resource, token)
    own.commit()
    refused(inside, resource, token)
    assert lock(cursor, resource) > token


# ---- what is refused while it is fenced, by SQL ----

@pytest.fixture
def fenced(begin, cursor, resource):
    """(token, what lets go) of a lease that another transaction has fenced."""
    def fence_one(words=""):
        token = lock(cursor, resource, words)
        keeper = begin()
        fence(keeper.cursor(), resource, token)
        return token, keeper.rollback
    return fence_one


@pytest.mark.parametrize("words", ["", ", 'shared'"])
@pytest.mark.parametrize("how", ["unlock(%(r)s, %(t)s)", "force(%(r)s, %(t)s)", "force(%(r)s)"])
def test_who_wants_to_end_it_is_told_that_it_is_fenced(fenced, cursor, resource, words, how):
    token, let_go = fenced(words)
    cursor.execute(f"select status, token from pglockd.{how}", {"r": resource, "t": token})
    assert cursor.fetchall() == [("FENCED", None if "t)s" not in how else token)]
    assert rows(cursor, "select token from pglockd.lease where resource = %s", resource) == [(token,)]
    assert rows(cursor, "select count(*) from pglockd.tombstone where resource = %s", resource) == [(0,)]
    assert one(cursor, "select status from pglockd.renew(%s, %s)", resource, token) == "OK", "renewals pass"
    let_go()
    cursor.execute(f"select status from pglockd.{how}", {"r": resource, "t": token})
    assert cursor.fetchall() == [("OK",)]


def test_force_ends_all_leases_or_none(begin, cursor, resource):
    tokens = [lock(cursor, resource, ", 'shared'") for _ in range(3)]
    keeper = begin()
    fence(keeper.cursor(), resource, tokens[1])
    assert rows(cursor, "select status from pglockd.force(%s)", resource) == [("FENCED",)]
    assert len(rows(cursor, "select from pglockd.lease where resource = %s", resource)) == 3
    keeper.rollback()
    assert rows(cursor, "select status from pglockd.force(%s)", resource) == [("OK",)] * 3


def test_a_row_that_is_locked_for_something_else_is_not_called_fenced(begin, cursor, resource):
    token = lock(cursor, resource)
    for lock_mode in "for update", "for no key update":
        keeper = begin()
        keeper.cursor().execute(f"select from pglockd.lease where resource = %s {lock_mode}", (resource,))
        assert rows(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == [("BUSY",)]
        keeper.rollback()


def test_a_row_lock_that_ends_meanwhile_is_not_called_fenced(still, cursor, resource):
    """Race: a dying lane holds the row when it is asked whether the stronger lock can be had, and has let go
    when the weaker one is asked for. Fix: the weaker one comes first, and keeps others out."""
    token = lock(cursor, resource)
    blinking = threading.Thread(target=still().cursor().execute, args=(f"""
        do $$ begin
            set synchronous_commit = off;
            for i in 1 .. 20000 loop
                perform from pglockd.lease where token = {token} for update;
                commit;
            end loop;
        end $$""",))
    blinking.start()
    while blinking.is_alive():
        assert not one(cursor, "select pglockd.is_fenced(%s, %s)", resource, token)


def test_two_fences_of_one_lease_do_not_wait_for_each_other(begin, cursor, resource):
    token = lock(cursor, resource)
    keepers = [begin() for _ in range(3)]
    for keeper in keepers:
        fence(keeper.cursor(), resource, token)
    for keeper in keepers:
        assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "FENCED"
        keeper.commit()
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"


def test_a_change_of_mode_that_waits_is_not_granted_past_a_fence(begin, me, cursor, resource):
    """Race: the lease whose mode is to change is fenced when its turn comes. The hand-over waited for the
    row, and with it everybody in the batch. Fix: it is passed over, and looked at again."""
    mine = me.lock(resource, exclusive=False)
    other = lock(cursor, resource, ", 'shared'")
    done = call(me.cursor, "change_batch", me.number, [resource], [mine], [True], [None], [True], [1], [77], [])
    assert done["o_status"] in (["w"], "{w}")
    keeper = begin()
    fence(keeper.cursor(), resource, mine)
    me.cursor.execute("set lock_timeout = '1s'")
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, other)
    assert call(me.cursor, "hand_over", me.number, [resource])["o_pending"] == [resource]
    keeper.commit()
    assert call(me.cursor, "hand_over", me.number, [resource])["o_request"] == [77]


# ---- fence_guard ----

@pytest.fixture
def table(still, resource):
    """A function that makes a table with a trigger; returns its name."""
    admin = still(user="postgres").cursor()
    admin.execute("create schema if not exists app; drop table if exists app.t cascade")

    def make(when, argument, level="row", columns="resource text primary key, n int"):
        admin.execute(f"create table app.t ({columns})")
        admin.execute(f"create trigger fenced {when} on app.t for each {level} "
                      f"execute function pglockd.fence_guard({argument})")
        return "app.t"
    yield make
    admin.execute("drop schema app cascade")


@pytest.fixture
def writer(still, table):
    """Gone before the table is."""
    connection = still(user="postgres")
    connection.autocommit = False
    yield connection
    connection.close()


def write(connection, token, *statements):
    """Each statement in one transaction with the token; raises what the trigger raises."""
    try:
        cursor = connection.cursor()
        if token is not None:
            cursor.execute("select set_config('pglockd.token', %s, true)", (str(token),))
        for statement in statements:
            cursor.execute(*statement)
        connection.commit()
    except psycopg2.Error:
        connection.rollback()
        raise


def turned_away(connection, token, *statements):
    with pytest.raises(psycopg2.Error) as error:
        write(connection, token, *statements)
    assert error.value.pgcode == NOT_HELD, error.value
    return error.value


EVERY = "before insert or update or delete"


def test_guard_by_column(table, writer, cursor, resource):
    table(EVERY, "'resource'")
    a, b = resource + "/a", resource + "/b"
    token, other = lock(cursor, a), lock(cursor, b)
    insert = ("insert into app.t values (%s, 1)", (a,))
    assert "needs a fencing token" in str(turned_away(writer, None, insert))
    turned_away(writer, other, insert)
    write(writer, token, insert, ("update app.t set n = n + 1 where resource = %s", (a,)))
    turned_away(writer, other, ("update app.t set n = 0", ()))
    turned_away(writer, token, ("update app.t set resource = %s", (b,)))
    turned_away(writer, other, ("update app.t set resource = %s", (b,)))
    turned_away(writer, other, ("delete from app.t", ()))
    one(cursor, "select status from pglockd.unlock(%s, %s)", a, token)
    turned_away(writer, token, ("update app.t set n = 0", ()))
    turned_away(writer, token, ("delete from app.t", ()))
    assert rows(writer.cursor(), "select * from app.t") == [(a, 2)]
    write(writer, lock(cursor, a), ("delete from app.t", ()))
    assert rows(writer.cursor(), "select * from app.t") == []


@pytest.mark.parametrize("when, level", [(EVERY, "row"), (EVERY, "statement"),
                                         ("after insert or update or delete", "statement")])
def test_guard_by_resource(table, writer, cursor, resource, when, level):
    table(when, f"'{resource}'", level)
    token = lock(cursor, resource)
    for statement in "insert into app.t values ('x', 1)", "update app.t set n = 2", "delete from app.t":
        turned_away(writer, token + 1, (statement, ()))
        write(writer, token, (statement, ()))
    one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token)
    turned_away(writer, token, ("insert into app.t values ('y', 1)", ()))


def test_guard_of_truncate(table, writer, cursor, resource):
    table("before truncate", f"'{resource}'", "statement")
    token = lock(cursor, resource)
    turned_away(writer, None, ("truncate app.t", ()))
    write(writer, token, ("truncate app.t", ()))


def test_a_guarded_write_keeps_the_lease_until_its_commit(table, writer, cursor, resource):
    table(EVERY, "'resource'")
    token = lock(cursor, resource)
    inside = writer.cursor()
    inside.execute("select set_config('pglockd.token', %s, true)", (str(token),))
    inside.execute("insert into app.t values (%s, 1)", (resource,))
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "FENCED"
    writer.commit()
    assert one(cursor, "select status from pglockd.unlock(%s, %s)", resource, token) == "OK"


@pytest.mark.parametrize("token", ["", "x", "1.5", "-1", "1;drop", "9" * 19])
def test_a_setting_that_is_no_token(table, writer, token):
    table(EVERY, "'resource'")
    assert "needs a fencing token" in str(turned_away(writer, token, ("insert into app.t values ('a', 1)", ())))


@pytest.mark.parametrize("argument, level, columns", [
    ("", "row", "resource text, n int"), ("'a', 'b'", "row", "resource text, n int"),
    ("'resource'", "statement", "resource text, n int"), ("'resource'", "row", "resource int, n int")])
def test_a_guard_that_cannot_work_says_so(table, writer, argument, level, columns):
    table(EVERY, argument, level, columns)
    with pytest.raises(errors.TriggerProtocolViolated):
        write(writer, 1, ("insert into app.t values ('1', 1)", ()))


@pytest.mark.parametrize("kind", ["varchar(100)", "char(80)", "name", "app_resource"])
def test_columns_of_other_text_types(table, still, writer, cursor, kind):
    still(user="postgres").cursor().execute("drop domain if exists public.app_resource cascade; "
                                            "create domain public.app_resource as text check (value <> '')")
    table(EVERY, '\'a "column"\'', columns=f'"a ""column""" {kind.replace("app_resource", "public.app_resource")}, n int')
    token = lock(cursor, "fence/column")
    write(writer, token, ("insert into app.t values ('fence/column', 1)", ()))
    turned_away(writer, token, ("insert into app.t values ('fence/other', 1)", ()))
    one(cursor, "select status from pglockd.unlock('fence/column', %s)", token)


def test_a_column_is_never_read_by_a_function_of_its_owner_s(table, still, writer):
    """The trigger has the rights of pglockd's owner: no cast that somebody else wrote may run with them."""
    still(user="postgres").cursor().execute("""
        drop type if exists public.trap cascade;
        create type public.trap as enum ('a');
        create or replace function public.trap_text(public.trap) returns text language plpgsql as
            'begin raise exception ''trapped as %', current_user; end';
        create cast (public.trap as text) with function public.trap_text(public.trap)""".replace(
            "''trapped as %'", "''trapped as %''"))
    table(EVERY, "'resource'", columns="resource public.trap, n int")
    with pytest.raises(errors.TriggerProtocolViolated):
        write(writer, 1, ("insert into app.t values ('a', 1)", ()))


def test_a_writer_needs_no_right_on_pglockd(table, still, writer, cursor, resource):
    table(EVERY, "'resource'")
    admin = still(user="postgres").cursor()
    admin.execute("drop role if exists fence_writer; create role fence_writer login; "
                  "grant usage on schema app to fence_writer; grant insert on app.t to fence_writer")
    try:
        plain = still(user="fence_writer")
        plain.autocommit = False
        token = lock(cursor, resource)
        write(plain, token, ("insert into app.t values (%s, 1)", (resource,)))
        turned_away(plain, token + 1, ("insert into app.t values (%s, 1)", (resource + "/other",)))
        with pytest.raises(errors.InsufficientPrivilege):
            write(plain, token, ("select pglockd.assert_fence(%s, %s)", (resource, token)))
    finally:
        plain.close()
        admin.execute("drop owned by fence_writer; drop role fence_writer")
