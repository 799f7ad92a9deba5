"""Decisions under concurrency, rollback and cancel; propensities against frequencies."""

import threading
import time

import psycopg
import pytest
from scipy.stats import chisquare

import shop

DECIDE = "SELECT decision_id, action FROM decisioning.decide(%s, 'c')"


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_two_sessions_decide_once_for_one_customer(db, isolation):
    shop.create(db.connect())
    first, second = (shop.session(db, autocommit=False) for _ in range(2))
    second.isolation_level = isolation
    # The second transaction has its snapshot before the first decides.
    second.execute("SELECT count(*) FROM decisioning.decisions")
    decided = first.execute(DECIDE, ["c-1"]).fetchone()
    found = []

    def decide_in_second():
        try:
            found.append(second.execute(DECIDE, ["c-1"]).fetchone())
        except psycopg.errors.SerializationFailure:
            second.rollback()
            found.append(second.execute(DECIDE, ["c-1"]).fetchone())
        second.commit()

    waiting = threading.Thread(target=decide_in_second)
    waiting.start()
    time.sleep(0.3)
    assert found == [], "the second session must wait for the first"
    first.commit()
    waiting.join(20)
    assert found == [decided]
    assert db.sql("SELECT count(*) FROM decisioning.decisions WHERE customer_id = 'c-1'") == [(1,)]


def test_many_sessions_decide_once_each(db):
    shop.create(db.connect(), customers=300)
    ids = [f"c-{n}" for n in range(1, 301)]
    failures = []

    def work(offset):
        connection = shop.session(db)
        for chunk in range(0, 300, 50):
            batch = ids[chunk : chunk + 50]
            try:
                connection.execute("SELECT count(*) FROM decisioning.decide_batch(%s, 'c')", [batch[offset:] + batch[:offset]])
            except psycopg.Error as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.sql("SELECT count(*), count(DISTINCT customer_id), max(ordinal) FROM decisioning.decisions") == [(300, 300, 1)]
    assert db.sql("SELECT count(*) FROM decisioning._inbox WHERE decision_id IS NOT NULL") == [(300,)]


def test_an_older_transaction_does_not_decide_again(db):
    """now() is the start of the transaction: a session that began before another decided still finds its decision."""
    shop.create(db.connect())
    older = shop.session(db, now="2026-06-01 09:00+00")
    newer = shop.session(db, now="2026-06-01 15:00+00")
    decided = newer.execute(DECIDE, ["c-1"]).fetchone()
    assert older.execute(DECIDE, ["c-1"]).fetchone() == decided
    assert db.sql("SELECT count(*) FROM decisioning.decisions") == [(1,)]


def test_rollback_does_not_roll_the_dice_again(db):
    shop.create(db.connect())
    connection = shop.session(db, autocommit=False)
    everybody = "SELECT customer_id, action, decision_id FROM decisioning.decide_batch((SELECT array_agg(id) FROM public.customers), 'c')"
    first = connection.execute(everybody).fetchall()
    connection.rollback()
    assert db.sql("SELECT count(*) FROM decisioning.decisions") == [(0,)]
    assert connection.execute(everybody).fetchall() == first


def test_cancelled_decide_all_stops_at_once_and_resumes(db):
    shop.create(db.connect(), customers=60_000)
    connection = shop.session(db)
    stopped = []

    def decide_all():
        try:
            connection.execute("CALL decisioning.decide_all('c', chunk_size => 2000)")
        except psycopg.errors.QueryCanceled:
            stopped.append(time.monotonic())

    running = threading.Thread(target=decide_all)
    running.start()
    deadline = time.monotonic() + 60
    while db.sql("SELECT count(*) FROM decisioning._assignment")[0][0] < 4000:
        assert time.monotonic() < deadline, "decide_all made no progress"
        time.sleep(0.02)
    asked = time.monotonic()
    connection.cancel()
    running.join(30)
    assert stopped and stopped[0] - asked < 2
    (kept,) = db.sql("SELECT count(*) FROM decisioning.decisions")[0]
    assert 0 < kept < 60_000 and kept % 2000 == 0
    before = dict(db.sql("SELECT customer_id, decision_id FROM decisioning.decisions"))
    connection.execute("CALL decisioning.decide_all('c')")
    after = dict(db.sql("SELECT customer_id, decision_id FROM decisioning.decisions"))
    assert len(after) == 60_000 and before.items() <= after.items()


def test_choices_follow_their_logged_propensities(db):
    """20 000 customers, a model that has learned something: observed against expected choices of every action."""
    connection = db.connect()
    shop.create(connection, customers=20_000, explore=0.3)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute(
        """SELECT decisioning.record_outcome('buy', decision_id::text, decision_id => decision_id)
           FROM decisioning.decisions d JOIN customers c ON c.id = d.customer_id
           WHERE abs(hashtext(customer_id)) % 180 < CASE WHEN action LIKE '%sms%' THEN age WHEN kind = 'a' THEN 60 ELSE 20 END"""
    )
    connection = shop.session(db, now="2026-06-03 10:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    connection.execute("CALL decisioning.decide_all('c')")
    rows = db.sql(
        """SELECT d.treatment_group, c.id, sum(p.propensity), count(*) FILTER (WHERE d.action_id = c.id),
                  count(DISTINCT p.propensity)
           FROM decisioning.decisions d, unnest(d.candidates) WITH ORDINALITY c(id, n),
                unnest(d.propensities) WITH ORDINALITY p(propensity, n)
           WHERE c.n = p.n AND d.decided_at >= '2026-06-02' AND d.treatment_group IN ('explore', 'optimise') GROUP BY 1, 2"""
    )
    for group in ("explore", "optimise"):
        expected = [row[2] for row in rows if row[0] == group]
        observed = [row[3] for row in rows if row[0] == group]
        assert len(expected) == 7 and sum(observed) > 4000
        assert chisquare(observed, expected).pvalue > 1e-4
    assert max(row[4] for row in rows if row[0] == "optimise") > 10, "the model must discriminate, or this tests little"
    # In classes of propensity too: a right average could hide a wrong shape.
    classes = db.sql(
        """SELECT width_bucket(p.propensity, 0, 1, 10), sum(p.propensity), count(*) FILTER (WHERE d.action_id = c.id),
                  sum(p.propensity * (1 - p.propensity))
           FROM decisioning.decisions d, unnest(d.candidates) WITH ORDINALITY c(id, n),
                unnest(d.propensities) WITH ORDINALITY p(propensity, n)
           WHERE c.n = p.n AND d.decided_at >= '2026-06-02' AND d.treatment_group = 'optimise' GROUP BY 1"""
    )
    for bucket, expected, observed, variance in classes:
        assert abs(observed - expected) < 4 * variance**0.5 + 1, (bucket, expected, observed)


def test_a_new_extension_in_an_old_session_is_not_mistaken_for_the_old_one(db):
    """Backends cache configuration and models; names, epochs and versions start over after DROP and CREATE EXTENSION."""
    connection = db.connect()
    shop.create(connection, customers=10)
    connection.execute("SELECT * FROM decisioning.decide('c-1', 'c')")
    connection.execute("DROP EXTENSION decisioning; CREATE EXTENSION decisioning; DROP TABLE public.customers, public.orders")
    shop.create(connection, customers=10, salt="00000000-0000-4000-8000-000000000009")
    ids = connection.execute("SELECT decision_id FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')").fetchall()
    fresh = shop.session(db, autocommit=False)
    fresh.execute("DELETE FROM decisioning._assignment; DELETE FROM decisioning.decisions; DELETE FROM decisioning._inbox")
    assert fresh.execute("SELECT decision_id FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')").fetchall() == ids


def test_plans_made_while_tables_were_empty_serve_when_they_have_grown(db):
    """Plans are kept per session: one from the first chunk must not read the whole table in every later one."""
    shop.create(db.connect(), customers=5000)
    connection = shop.session(db)
    connection.execute("CALL decisioning.decide_all('c', chunk_size => 100)")
    read = "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname IN ('_assignment', '_inbox', '_customer_alias', '_record')"
    connection.close()
    for _ in range(50):
        if db.sql("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = '_assignment'") == [(5000,)]:
            break
        time.sleep(0.2)
    assert all(rows <= 5000 for _, rows in db.sql(read))


def test_infinite_times_are_no_news(db):
    """valid_to is often infinity: there is no age of it, neither for decisions nor for what is said of the data."""
    connection = db.connect()
    shop.create(connection, customers=100)
    connection.execute(
        """CREATE TABLE contracts AS SELECT id, age, timestamptz 'infinity' AS valid_to, date '-infinity' AS left_on,
                CASE WHEN age % 4 = 0 THEN timestamp '2026-05-30' ELSE 'infinity' END AS seen FROM customers;
           SELECT decisioning.create_campaign('k', 'contracts', 'id')"""
    )
    said = dict(connection.execute("SELECT topic, finding FROM decisioning.data_readiness('k')").fetchall())
    assert said["missing values"] == "features that are missing for most customers: valid_to (100 %), left_on (100 %), seen (75 %)"
    assert said["constant features"] == "features that have one value only: valid_to, left_on, seen"
    assert said["stale features"] == "there are no features that have had no new time for a week"


@pytest.mark.parametrize("procedure, instead", [("decide_all('c')", "decide_batch"), ("dispatch_all()", "dispatch")])
def test_what_commits_refuses_a_transaction_block(db, procedure, instead):
    """Before any work, and whether or not there is any."""
    connection = db.connect()
    shop.create(connection)
    connection.execute("BEGIN")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction) as error:
        connection.execute(f"CALL decisioning.{procedure}")
    assert instead in error.value.diag.message_hint
    connection.execute("ROLLBACK")
    connection.execute(f"CALL decisioning.{procedure}")
    connection.execute(f"DO $$ BEGIN CALL decisioning.{procedure}; END $$")
