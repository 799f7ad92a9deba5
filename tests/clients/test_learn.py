"""Exactly once: twice, late, adjusted, rolled back."""

import threading
import time

import shop

LATER = "2026-06-03 10:00+00"
LEARN = "SELECT model_version, new_decisions, new_outcomes, decisions, outcomes FROM decisioning.learn('c')"
# When the latest of the absorbed decisions was decided.
LATEST = """SELECT coalesce(max(d.decided_at), to_timestamp(0)) FROM decisioning.decisions d
            WHERE NOT EXISTS (SELECT FROM decisioning._inbox i WHERE i.decision_id = d.decision_id)"""


def coefficients(db):
    return db.sql("SELECT coefficient, estimate FROM decisioning.coefficients ORDER BY 1")


def test_learning_twice_changes_nothing(db):
    connection = db.connect()
    shop.create(connection)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'e-' || n, 'c-' || n) FROM generate_series(1, 200) n")
    connection = shop.session(db, now=LATER)
    assert connection.execute(LEARN).fetchone() == (2, 2000, 200, 2000, 200)
    before = coefficients(db)
    assert connection.execute(LEARN).fetchone() == (2, 0, 0, 2000, 200)
    assert coefficients(db) == before


def test_a_late_commit_is_learned_once(db):
    shop.create(db.connect())
    slow = shop.session(db, autocommit=False)
    slow.execute("SELECT * FROM decisioning.decide('c-1', 'c')")
    slow.execute("SELECT decisioning.record_outcome('buy', 'e-1', 'c-1')")
    fast = shop.session(db)
    fast.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-2', 'c-3'], 'c')")
    fast.execute("SELECT decisioning.record_outcome('buy', 'e-2', 'c-2')")
    learner = shop.session(db, now=LATER)
    assert learner.execute(LEARN).fetchone() == (2, 2, 1, 2, 1)
    slow.commit()
    assert learner.execute(LEARN).fetchone() == (3, 1, 1, 3, 2)
    assert learner.execute(LEARN).fetchone() == (3, 0, 0, 3, 2)


def test_a_rolled_back_learn_leaves_everything_to_the_next(db):
    connection = db.connect()
    shop.create(connection)
    connection.execute("CALL decisioning.decide_all('c')")
    learner = shop.session(db, now=LATER, autocommit=False)
    first = learner.execute(LEARN).fetchone()
    learner.rollback()
    assert db.sql("SELECT decisions FROM decisioning.models WHERE current") == [(0,)]
    assert learner.execute(LEARN).fetchone() == first


def test_an_outcome_after_closing_equals_one_before(db):
    """Late outcomes and corrections arrive at the same model as if they had been known at once."""
    connection = db.connect()
    shop.create(connection, customers=6000)
    connection.execute("CALL decisioning.decide_all('c')")
    happened = "SELECT decisioning.record_outcome('buy', 'e-' || n, 'c-' || n, occurred_at => '2026-06-01 12:00+00') FROM generate_series(1, 6000, %s) n"
    connection = shop.session(db, now=LATER)
    connection.execute(happened, [12])
    connection.execute(LEARN)
    connection.execute(happened, [6])
    assert connection.execute(LEARN).fetchone()[2] > 0
    incremental = dict(db.sql("SELECT action, probability FROM decisioning.preview('c-5', 'c')"))
    connection.execute("SELECT * FROM decisioning.rebuild_model('c')")
    rebuilt = dict(db.sql("SELECT action, probability FROM decisioning.preview('c-5', 'c')"))
    assert max(abs(incremental[action] / rebuilt[action] - 1) for action in rebuilt) < 0.02


def test_outcomes_count_for_every_open_window(db):
    """One purchase in two overlapping windows counts for both decisions: with weight 1 for the first, which overlapped with
    none when it was made, and 1/2 for the second; what is older counts less."""
    connection = db.connect()
    shop.create(connection, customers=10, window="3 days")
    connection.execute("CALL decisioning.decide_all('c')")
    second = shop.session(db, now="2026-06-02 10:00+00")
    second.execute("CALL decisioning.decide_all('c')")
    assert db.sql("SELECT overlap, count(*) FROM decisioning.decisions GROUP BY 1 ORDER BY 1") == [(1, 10), (2, 10)]
    second.execute("SELECT decisioning.record_outcome('buy', 'e', 'c-1')")
    third = shop.session(db, now="2026-06-08 10:00+00")
    assert third.execute(LEARN).fetchone() == (2, 20, 1, 20, 1)
    [(responses,)] = db.sql("SELECT responses FROM decisioning._learner")
    assert abs(responses - (2 ** (-7 / 30) + 0.5 * 2 ** (-6 / 30))) < 1e-9


def test_concurrent_ingestion_reverses_nothing(db):
    """While one session reads the source, an event arrives and another session wants to ingest it: nobody may take the
    event for vanished because an older reading of the source did not have it."""
    shop.create(db.connect())
    db.sql("SELECT decisioning.add_outcome_source('buy', 'public.orders', customer_key => 'customer', occurred_at => 'at', event_id => 'id')")
    # A slow view holds the first reading open.
    db.sql("INSERT INTO public.orders VALUES ('o-1', 'c-1', '2026-06-01 09:00+00', 1)")
    db.sql("ALTER TABLE public.orders RENAME TO all_orders")
    db.sql("CREATE TABLE public.pace AS SELECT 1.5::float8 AS seconds")
    db.sql("CREATE VIEW public.orders AS SELECT o.* FROM public.all_orders o, public.pace p WHERE pg_sleep(p.seconds) IS NOT NULL")
    first = threading.Thread(target=lambda: shop.session(db).execute("SELECT * FROM decisioning.ingest_outcomes()"))
    first.start()
    time.sleep(0.7)
    db.sql("INSERT INTO public.all_orders VALUES ('o-2', 'c-2', '2026-06-01 09:30+00', 1)")
    db.sql("UPDATE public.pace SET seconds = 0")
    shop.session(db).execute("SELECT * FROM decisioning.ingest_outcomes()")
    first.join(20)
    assert db.sql("SELECT event_id, kind FROM decisioning.outcomes ORDER BY 1") == [("o-1", "event"), ("o-2", "event")]


def test_the_model_finds_what_works(db):
    """People of kind b respond to sms alone; after a few days optimise knows."""
    connection = db.connect()
    shop.create(connection, customers=3000, explore=0.3)
    for day in range(1, 9):
        connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
        connection.execute("CALL decisioning.decide_all('c')")
        connection.execute(
            """SELECT decisioning.record_outcome('buy', d.decision_id::text, decision_id => d.decision_id, occurred_at => d.decided_at + interval '1 hour')
               FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
               WHERE d.decided_at::date = %s::date
                 AND abs(hashtext(d.decision_id::text)) %% 100 <
                     CASE WHEN c.kind = 'b' AND split_part(d.action, '/', 2) = 'sms' THEN 40 ELSE 5 END""",
            [f"2026-06-{day:02}"],
        )
        connection = shop.session(db, now=f"2026-06-{day + 1:02} 10:00+00")
        connection.execute("SELECT * FROM decisioning.learn('c')")
        # By refits on some days, and without on others.
        assert db.sql("SELECT absorbed_until FROM decisioning._learner") == db.sql(LATEST)
    connection.execute("SELECT * FROM decisioning.rebuild_model('c')")
    assert db.sql("SELECT absorbed_until FROM decisioning._learner") == db.sql(LATEST)
    connection = shop.session(db, now="2026-06-10 10:00+00")
    connection.execute("CALL decisioning.decide_all('c')")
    (share,) = db.sql(
        """SELECT avg((split_part(d.action, '/', 2) = 'sms')::int)::float8 FROM decisioning.decisions d
           JOIN public.customers c ON c.id = d.customer_id
           WHERE d.decided_at::date = '2026-06-10' AND d.treatment_group = 'optimise' AND c.kind = 'b'"""
    )[0]
    assert share > 0.9


def test_a_model_that_was_rolled_back_decides_no_more(db):
    """The number of its version goes to another model, and a session that has seen it must notice."""
    connection = db.connect()
    shop.create(connection)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'e-' || n, 'c-' || n) FROM generate_series(1, 300) n")
    session = shop.session(db, now=LATER, autocommit=False)
    discarded = session.execute(LEARN).fetchone()
    session.execute("SELECT * FROM decisioning.decide('c-1', 'c')")
    session.rollback()
    connection.execute("SELECT decisioning.record_outcome('buy', 'f-' || n, 'c-' || n) FROM generate_series(300, 2000) n")
    assert shop.session(db, now=LATER).execute(LEARN).fetchone()[0] == discarded[0]
    session.execute("SELECT * FROM decisioning.decide_batch((SELECT array_agg(id) FROM public.customers), 'c')")
    session.commit()
    replayed = "SELECT count(*), count(*) FILTER (WHERE r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r WHERE d.model_version = %s"
    [(decisions, matching)] = db.sql(replayed, [discarded[0]])
    assert decisions == matching == 2000
