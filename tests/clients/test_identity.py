"""Identity under concurrency, cancellation, rights and restore: what one psql session cannot show."""

import os
import threading
import time

import psycopg
import pytest

import shop

SETUP = """
    CREATE TABLE customers AS SELECT n AS id, 'p' || n || '@example.com' AS mail FROM generate_series(1, 2000) n;
    CREATE TABLE web AS SELECT 'w' || n AS id, 'p' || (n % 2000 + 1) || '@example.com' AS mail, 'd' || n AS device
                        FROM generate_series(1, 4000) n;
    SELECT decisioning.add_source('crm', 'customers', 'id', '{"mail": "email"}');
    SELECT decisioning.add_source('web', 'web', 'id', '{"mail": "email", "device": "device_id"}');
"""

RESOLVE = "SELECT decisioning.resolve_identity(%s::jsonb)"


@pytest.fixture
def people(db):
    db.connect().execute(SETUP)
    return db


def identity(db):
    return db.sql(
        "SELECT 'r', source, record_key, customer_id FROM decisioning._record"
        " UNION ALL SELECT 'i', kind, value, customer_id FROM decisioning._identifier"
        " UNION ALL SELECT 'a', '', alias, customer_id FROM decisioning._customer_alias ORDER BY 1, 2, 3"
    )


def wait_until_blocked(db, connection):
    for _ in range(200):
        waits = db.sql("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", [connection.info.backend_pid])
        if waits == [("Lock",)]:
            return
        time.sleep(0.02)
    raise AssertionError("session did not block")


class Background(threading.Thread):
    """Runs one call aside; `result()` returns or raises what it came to."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except Exception as error:  # handed to the caller
            self.error = error

    def result(self):
        self.join(60)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.value


def test_two_sessions_give_a_new_person_one_id(db):
    first, second = db.connect(autocommit=False), db.connect(autocommit=False)
    one = first.execute(RESOLVE, ['{"email": "new@example.com", "device_id": "d"}']).fetchone()[0]
    waiting = Background(lambda: second.execute(RESOLVE, ['{"email": "New@Example.com", "phone": "+491701234567"}']).fetchone()[0])
    wait_until_blocked(db, second)
    first.commit()
    assert waiting.result() == one
    second.commit()
    assert db.sql(RESOLVE, ['{"phone": "+491701234567"}']) == [(one,)]
    assert db.sql("SELECT count(DISTINCT customer_id) FROM decisioning.identity_map") == [(1,)]


def test_a_rolled_back_person_was_never_there(db):
    first, second = db.connect(autocommit=False), db.connect(autocommit=False)
    one = first.execute(RESOLVE, ['{"email": "new@example.com"}']).fetchone()[0]
    waiting = Background(lambda: second.execute(RESOLVE, ['{"email": "new@example.com"}']).fetchone()[0])
    wait_until_blocked(db, second)
    first.rollback()
    assert waiting.result() != one
    second.commit()
    assert db.sql("SELECT count(*) FROM decisioning.identity_map") == [(1,)]


def test_repeatable_read_retries_rather_than_doubles(db):
    first, second = db.connect(autocommit=False), db.connect(autocommit=False)
    second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    second.execute("SELECT 1")
    first.execute(RESOLVE, ['{"email": "new@example.com"}'])
    first.commit()
    with pytest.raises(psycopg.errors.SerializationFailure):
        second.execute(RESOLVE, ['{"email": "new@example.com"}'])


def test_repeatable_read_stores_nothing_under_an_id_that_is_gone(people):
    connection = people.connect()
    connection.execute("CALL decisioning.resolve_all()")
    session = people.connect(autocommit=False)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    document = '{"email": "p7@example.com", "device_id": "new"}'
    session.execute("SELECT 1")
    connection.execute("SELECT decisioning.merge_customers('{3, 7}')")
    assert session.execute(RESOLVE, ['{"email": "p7@example.com"}']).fetchone() == ("7",), "a read is of the transaction's own time"
    with pytest.raises(psycopg.errors.SerializationFailure):
        session.execute(RESOLVE, [document])
    session.rollback()
    session.execute("SELECT 1")
    connection.execute(RESOLVE, ['{"email": "other@example.com"}'])
    assert session.execute(RESOLVE, [document]).fetchone() == ("3",), "others who are new do not matter"
    session.commit()


def test_many_sessions_and_a_full_run(people):
    stop = threading.Event()
    seen = [{} for _ in range(4)]

    def visit(answers):
        with people.cluster.connect(people.name) as connection:
            for n in range(150):
                if stop.is_set():
                    break
                document = f'{{"device_id": "new-{n}", "email": "visitor{n % 40}@example.com"}}'
                answers[n % 40] = connection.execute(RESOLVE, [document]).fetchone()[0]

    threads = [Background(lambda answers=answers: visit(answers)) for answers in seen]
    for _ in range(3):
        people.connect().execute("CALL decisioning.resolve_all()")
    for thread in threads:
        thread.result()
    people.connect().execute("CALL decisioning.resolve_all()")
    assert seen[0] and all(answers == seen[0] for answers in seen)
    assert people.sql(
        "SELECT count(DISTINCT m.customer_id) FROM decisioning.identity_map m WHERE m.source = 'online'"
    ) == [(40,)]


def test_two_full_runs_at_once(people):
    first, second = people.connect(autocommit=False), people.connect(autocommit=False)
    first.execute("CALL decisioning.resolve_all()")
    waiting = Background(lambda: second.execute("CALL decisioning.resolve_all()"))
    wait_until_blocked(people, second)
    first.commit()
    after_first = identity(people)
    waiting.result()
    second.commit()
    assert identity(people) == after_first
    assert people.sql("SELECT count(*) FROM decisioning.identity_events") == [(0,)]
    assert people.sql("SELECT count(*), count(DISTINCT customer_id) FROM decisioning.identity_map") == [(6000, 2000)]


def test_a_full_run_needs_a_fresh_view_of_the_data(people):
    session = people.connect(autocommit=False)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="read committed"):
        session.execute("CALL decisioning.resolve_all()")


def test_known_people_are_answered_during_a_full_run(people):
    people.connect().execute("CALL decisioning.resolve_all()")
    run = people.connect(autocommit=False)
    run.execute("CALL decisioning.resolve_all()")  # holds its locks until it ends
    answer = people.connect(options="-c lock_timeout=2s").execute(RESOLVE, ['{"email": "p7@example.com"}']).fetchone()
    assert answer == ("7",)


def test_answers_to_known_people_write_nothing(people):
    people.connect().execute("CALL decisioning.resolve_all()")
    reader = people.connect(options="-c default_transaction_read_only=on")
    assert reader.execute(RESOLVE, ['{"device_id": "d1"}']).fetchone() == ("2",)
    assert reader.execute("SELECT decisioning.resolve_identity('web', 'w1')").fetchone() == ("2",)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute(RESOLVE, ['{"device_id": "never seen"}'])


def test_a_cancelled_run_leaves_everything_as_it_was(people):
    people.connect().execute("CALL decisioning.resolve_all()")
    before = identity(people)
    people.connect().execute(
        "INSERT INTO web SELECT 'x' || n, 'x' || n % 50000 || '@example.com', 'x' || n FROM generate_series(1, 200000) n"
    )
    session = people.connect()
    running = Background(lambda: session.execute("CALL decisioning.resolve_all()"))
    time.sleep(0.3)
    asked = time.monotonic()
    session.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        running.result()
    assert time.monotonic() - asked < 2
    assert identity(people) == before
    session.execute("CALL decisioning.resolve_all()")
    assert people.sql("SELECT count(*) FROM decisioning.identity_map") == [(206000,)]


def test_a_first_run_that_fails_while_it_reads_leaves_no_trace(db):
    session = db.connect()
    session.execute(
        """CREATE TABLE numbers AS SELECT n AS id FROM generate_series(1, 60000) n;
           CREATE VIEW shaky AS SELECT id, 'p' || id / 2 || '@example.com' AS mail, 1000 / (id - 45000) AS note FROM numbers;
           SELECT decisioning.add_source('shaky', 'shaky', 'id', '{"mail": "email", "note": "text"}')"""
    )
    # Rows are described on a thread of their own, which must end with the statement.
    for _ in range(3):
        with pytest.raises(psycopg.errors.DivisionByZero):
            session.execute("CALL decisioning.resolve_all()")
        assert db.sql("SELECT count(*) FROM decisioning._record_field") == [(0,)]
        assert is_alone(session)
    session.execute("CREATE OR REPLACE VIEW shaky AS SELECT id, 'p' || id / 2 || '@example.com' AS mail, 1000 / id AS note FROM numbers")
    session.execute("CALL decisioning.resolve_all()")
    assert db.sql("SELECT count(*), count(DISTINCT customer_id) FROM decisioning.identity_map") == [(60000, 30001)]


def is_alone(session):
    """Whether the backend has no thread beside its own; the kernel lists one that was joined for another moment."""
    for _ in range(50):
        if len(os.listdir(f"/proc/{session.info.backend_pid}/task")) == 1:
            return True
        time.sleep(0.02)
    return False


def test_sources_are_read_with_the_rights_of_the_caller(people):
    role = people.create_role("resolver")
    people.connect().execute(
        "GRANT USAGE ON SCHEMA decisioning TO resolver; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA decisioning TO resolver;"
        "GRANT SELECT ON customers TO resolver"
    )
    session = people.connect(role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="web"):
        session.execute("CALL decisioning.resolve_all()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="_record"):
        session.execute("SELECT * FROM decisioning._record")
    people.connect().execute("GRANT SELECT ON web TO resolver")
    session.execute("CALL decisioning.resolve_all()")
    assert session.execute("SELECT decisioning.resolve_identity('web', 'w1')").fetchone() == ("2",)
    people.connect().execute("DROP OWNED BY resolver")


def test_dump_and_restore(people, empty_db, tmp_path):
    people.connect().execute("CALL decisioning.resolve_all()")
    people.connect().execute("SELECT decisioning.add_match_rule('phone', identity_limit => 3)")
    visitor = people.sql(RESOLVE, ['{"device_id": "visitor"}'])
    dump = tmp_path / "dump"
    people.pg_tool("pg_dump", "--format=directory", "--file", dump)
    empty_db.pg_tool("pg_restore", "--jobs=4", "--exit-on-error", "--dbname", empty_db.name, dump)
    assert identity(empty_db) == identity(people)
    assert empty_db.sql(RESOLVE, ['{"device_id": "visitor"}']) == visitor
    empty_db.connect().execute("CALL decisioning.resolve_all()")
    assert identity(empty_db) == identity(people)
    for relation in ["sources", "match_rules", "_online", "identity_events"]:
        rows = f"SELECT * FROM decisioning.{relation} ORDER BY 1"
        assert empty_db.sql(rows) == people.sql(rows)


@pytest.mark.parametrize(
    "rows",
    [
        "SELECT n, NULL::text, NULL::text FROM generate_series(1, 1000) n",
        "SELECT n, 'same@example.com', 'same' FROM generate_series(1, 100000) n",
        "SELECT 1, 'a@example.com', 'd' || n FROM generate_series(1, 1000) n",
        "SELECT n, repeat('x', 10000) || '@example.com', repeat('é', 5000) FROM generate_series(1, 100) n",
        "SELECT n, U&'\\+01F600' || n || '@exämple.com', U&'e\\0301\\05D0\\200F' || n FROM generate_series(1, 100) n",
        "SELECT NULL::int, 'a@example.com', 'd' FROM generate_series(1, 10) n",
    ],
    ids=["nulls", "one value everywhere", "one key", "long", "scripts", "no key"],
)
def test_odd_data(db, rows):
    connection = db.connect()
    connection.execute(f"CREATE TABLE odd AS SELECT r.* FROM ({rows}) AS r (id, mail, device)")
    connection.execute("SELECT decisioning.add_source('odd', 'odd', 'id', '{\"mail\": \"email\", \"device\": \"device_id\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    expected = db.sql("SELECT count(DISTINCT id) FROM odd")
    assert db.sql("SELECT count(*) FROM decisioning.identity_map") == expected
    if "same@" in rows or "repeat" in rows or "FROM (SELECT n, NULL" in rows:
        assert db.sql("SELECT count(DISTINCT customer_id) FROM decisioning.identity_map") == expected


def test_changes_dated_in_the_future_hide_no_others(db):
    connection = shop.session(db)
    connection.execute(
        """CREATE TABLE customers AS SELECT 'c' || n AS id, 'p' || n || '@example.com' AS mail, timestamptz '2026-05-01' AS ch FROM generate_series(1, 500) n;
           SELECT decisioning.add_source('crm', 'customers', 'id', '{"mail": "email"}', changed_at => 'ch', lookback => '1 minute')"""
    )
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("UPDATE customers SET ch = CASE id WHEN 'c500' THEN '2099-01-01' ELSE timestamptz 'infinity' END WHERE id IN ('c499', 'c500')")
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("CALL decisioning.resolve_all()")
    ahead = "source crm: 2 rows have a changed_at in the future, and are read again in every run"
    assert ahead in notices
    later = shop.session(db, now="2026-06-02 10:00+00")
    later.execute("UPDATE customers SET mail = 'new' || id || '@example.com', ch = '2026-06-02 09:00+00' WHERE id IN ('c1', 'c2')")
    later.execute("UPDATE customers SET mail = 'newer@example.com' WHERE id = 'c500'")
    later.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    notices.clear()
    later.execute("CALL decisioning.resolve_all()")
    assert notices[:2] == ["source crm: 4 records read", ahead]
    mails = "SELECT value FROM decisioning._identifier WHERE kind = 'email' AND value LIKE 'new%%' ORDER BY 1"
    assert later.execute(mails).fetchall() == [("newc1@example.com",), ("newc2@example.com",), ("newer@example.com",)]
    later.execute("UPDATE decisioning._source_state SET changed_until = 'infinity'")
    later.execute("UPDATE customers SET mail = 'newest@example.com' WHERE id = 'c3'")
    later.execute("CALL decisioning.resolve_all()")
    assert later.execute(mails).fetchall()[-1] == ("newest@example.com",), "as after a clock that was set back"
    assert later.execute("SELECT changed_until = decisioning._now() FROM decisioning._source_state").fetchone() == (True,)


@pytest.mark.parametrize("lookback", ["178000000 years", "-1 day"])
def test_a_lookback_is_not_negative_and_not_endless(db, lookback):
    connection = db.connect()
    shop.create(connection, customers=10)
    for call, most in (
        ("add_source('crm', 'customers', 'id', '{\"kind\": \"text\"}'", "100 years"),
        ("add_outcome_source('buy', 'orders', 'customer', 'at', event_id => 'id'", "100 years"),
        ("add_delivery_source('orders', 'id', 'customer', 'at'", "366 days"),
    ):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"lookback must not be negative, and at most {most}") as refused:
            connection.execute(f"SELECT decisioning.{call}, lookback => %s)", [lookback])
        assert "=> true) reads everything." in refused.value.diag.message_hint


def named(db):
    return dict(db.sql("SELECT source || ':' || record_key, customer_id FROM decisioning.identity_map"))


def test_a_key_that_comes_back_takes_over_nobodys_id(db):
    """An id stays with the person when the record that it comes from has gone; the key may be given to somebody else then."""
    connection = db.connect()
    connection.execute("CREATE TABLE crm AS SELECT n AS id, 'p' || n || '@example.com' AS mail FROM generate_series(1, 30) n")
    connection.execute("CREATE TABLE web AS SELECT * FROM (VALUES (9, 'x@example.com'), (12, 'x@example.com'), (40, 'p7@example.com')) AS w(id, mail)")
    for source in ("crm", "web"):
        connection.execute(f"SELECT decisioning.add_source('{source}', '{source}', 'id', '{{\"mail\": \"email\"}}')")
    connection.execute("CALL decisioning.resolve_all()")
    assert named(db)["web:12"] == "web:9" and named(db)["web:40"] == "7"
    connection.execute("DELETE FROM web WHERE id = 9")
    connection.execute("DELETE FROM crm WHERE id = 7")
    connection.execute("CALL decisioning.resolve_all()")
    assert named(db)["web:12"] == "web:9" and named(db)["web:40"] == "7"
    connection.execute("INSERT INTO web VALUES (9, 'other@example.com')")
    connection.execute("INSERT INTO crm VALUES (7, 'somebody@example.com')")
    connection.execute("CALL decisioning.resolve_all()")
    partial = named(db)
    assert partial["web:9"] != partial["web:12"] and partial["crm:7"] != partial["web:40"]
    connection.execute("CALL decisioning.resolve_all(full => true)")
    assert named(db) == partial


def test_a_confirmed_record_that_comes_back_is_one_again(db):
    connection = db.connect()
    connection.execute("CREATE TABLE crm AS SELECT n AS id, 'p' || n || '@example.com' AS mail FROM generate_series(1, 30) n")
    connection.execute("SELECT decisioning.add_source('crm', 'crm', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("SELECT decisioning.confirm_match('crm', '1', 'crm', '2')")
    connection.execute("CALL decisioning.resolve_all()")
    assert named(db)["crm:1"] == named(db)["crm:2"]
    connection.execute("DELETE FROM crm WHERE id = 2")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("INSERT INTO crm VALUES (2, 'new@example.com')")
    connection.execute("CALL decisioning.resolve_all()")
    assert named(db)["crm:1"] == named(db)["crm:2"]


def test_a_correction_that_is_committed_late_is_followed(db):
    """A run goes by what is committed; a change with a lower number may come after it."""
    connection = db.connect()
    connection.execute("CREATE TABLE crm AS SELECT n AS id, 'p' || n || '@example.com' AS mail FROM generate_series(1, 30) n")
    connection.execute("SELECT decisioning.add_source('crm', 'crm', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    late = db.connect(autocommit=False)
    late.execute("SELECT decisioning.confirm_match('crm', '1', 'crm', '2')")
    connection.execute("SELECT decisioning.block_value('email', 'p9@example.com')")
    connection.execute("CALL decisioning.resolve_all()")
    late.commit()
    connection.execute("CALL decisioning.resolve_all()")
    assert named(db)["crm:1"] == named(db)["crm:2"]
