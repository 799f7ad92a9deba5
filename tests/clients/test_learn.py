"""Exactly once: twice, late, adjusted, rolled back."""

import threading
import time

import pytest

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


PARTS = "SELECT coefficient, estimate FROM decisioning.coefficients WHERE part = 'response' ORDER BY 1"


def assert_as_rebuilt(connection):
    """What was learned step by step is what the log says as a whole."""
    learned = dict(connection.execute(PARTS).fetchall())
    connection.execute("SELECT * FROM decisioning.rebuild_model('c')")
    rebuilt = dict(connection.execute(PARTS).fetchall())
    assert learned.keys() == rebuilt.keys()
    worst = max(abs(learned[name] - rebuilt[name]) for name in learned)
    assert worst < 0.02, worst


def bought(connection, day, goal="buy", share=10, of="2026-06-01"):
    connection.execute(
        """SELECT decisioning.record_outcomes(%s, array_agg(%s || customer_id), array_agg(customer_id), occurred_at => array_agg(decided_at + %s * interval '1 day'))
           FROM decisioning.decisions WHERE abs(hashtext(%s || customer_id)) %% 100 < %s AND decided_at::date = %s""",
        [goal, f"{goal}-{day}-", day, f"{goal}{day}", share, of],
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE decisioning.campaign_goals SET attribution_window = '6 days'",
        "UPDATE decisioning.campaign_goals SET attribution_window = '1 day'",
        "SELECT decisioning.add_campaign_goal('c', 'call', attribution_window => '3 days')",
        "UPDATE decisioning.goals SET kind = 'value'",
    ],
    ids=["longer window", "shorter window", "another goal", "another kind"],
)
def test_rewards_follow_their_goals(db, change):
    """What the sums hold was absorbed under other goals than there are now."""
    connection = db.connect()
    shop.create(connection, customers=3000, window="3 days", explore=0.5)
    connection.execute("UPDATE decisioning.goals SET kind = 'conversion'")
    connection.execute("SELECT decisioning.add_goal('call', 'conversion')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-07 10:00+00")
    bought(connection, 0.5)
    bought(connection, 2)
    bought(connection, 4)
    bought(connection, 1, goal="call", share=30)
    connection.execute("SELECT decisioning.learn('c')")
    connection.execute(change)
    connection.execute("SELECT decisioning.learn('c')")
    assert_as_rebuilt(connection)
    # Once more changes nothing, and neither does what has nothing to do with rewards.
    (version,) = connection.execute("SELECT model_version FROM decisioning.models WHERE current").fetchone()
    connection.execute("UPDATE decisioning.campaign_goals SET exit_policy = 'leave'")
    assert connection.execute("SELECT model_version, new_outcomes FROM decisioning.learn('c')").fetchone() == (version, 0)


def test_history_whose_outcomes_come_later_says_nothing_of_delays(db):
    """Decisions of the past are imported, and then what came of them: that these were recorded today is not how late they were."""
    connection = db.connect()
    shop.create(connection, customers=4000, window="7 days", explore=0.5)
    connection.execute("UPDATE decisioning.goals SET kind = 'conversion'")
    connection.execute(
        """CREATE TABLE past AS SELECT id, (ARRAY['x/email', 'x/sms', 'no_send'])[1 + abs(hashtext(id)) % 3] AS action, 0.33 AS propensity,
                  '2026-05-01 09:00+00'::timestamptz + abs(hashtext('at' || id)) % 10 * interval '1 day' AS at FROM public.customers"""
    )
    imported = connection.execute(
        "SELECT decisioning.import_decisions('c', 'past', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity')"
    ).fetchone()
    assert imported == (4000,)
    connection = shop.session(db, now="2026-06-01 10:05+00")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('p-' || id), array_agg(id), occurred_at => array_agg(at + interval '5 hours'))
           FROM past WHERE abs(hashtext('buys' || id)) % 20 = 0"""
    )
    connection.execute("SELECT decisioning.learn('c')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-02 10:00+00")
    bought(connection, 0.2, share=5)
    connection.execute("SELECT decisioning.learn('c')")
    (predicted,) = connection.execute(
        "SELECT avg(p.probability) FROM generate_series(1, 200) n CROSS JOIN LATERAL decisioning.preview('c-' || n, 'c') p"
    ).fetchone()
    assert predicted == pytest.approx(0.05, abs=0.025)


def test_a_harm_that_is_known_late_is_learned(db):
    connection = db.connect()
    shop.create(connection, customers=3000, explore=0.5)
    connection.execute("SELECT decisioning.add_goal('return', 'harm'), decisioning.add_campaign_goal('c', 'return', value => -5, attribution_window => '2 days')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-05 10:00+00")
    bought(connection, 0.5)
    connection.execute("SELECT decisioning.learn('c')")
    harm = "SELECT coefficient, estimate FROM decisioning.coefficients WHERE part = 'harm: return' ORDER BY 1"
    before = dict(connection.execute(harm).fetchall())
    returned = """SELECT decisioning.record_outcomes('return', array_agg('r-' || customer_id), array_agg(customer_id),
                                                      occurred_at => array_agg(decided_at + CASE WHEN hash < %s THEN 1 ELSE -1 END * interval '1 day'))
                  FROM (SELECT d.*, abs(hashtext('r' || d.customer_id)) %% 100 AS hash FROM decisioning.decisions d) AS d WHERE hash < 20"""
    # Nothing else is new; then some of it turns out to have been returned before.
    for share in (20, 8):
        connection.execute(returned, [share])
        assert connection.execute("SELECT new_outcomes > 0 FROM decisioning.learn('c')").fetchone() == (True,)
        learned = dict(connection.execute(harm).fetchall())
        connection.execute("SELECT decisioning.rebuild_model('c')")
        rebuilt = dict(connection.execute(harm).fetchall())
        assert max(abs(learned[name] - rebuilt[name]) for name in learned) < 0.1
        assert max(abs(learned[name] - before[name]) for name in learned) > 0.3
        before = learned


def test_two_decisions_at_one_time_are_told_of(db):
    """A history that knows days alone: of two decisions of a customer on one day one is kept."""
    connection = db.connect()
    shop.create(connection, customers=20)
    connection.execute("CREATE TABLE past AS SELECT id, action, 0.5 AS propensity, '2026-05-01'::date AS day FROM public.customers, (VALUES ('x/email'), ('no_send')) AS a(action)")
    heard = []
    connection.add_notice_handler(lambda notice: heard.append((notice.severity, notice.message_primary)))
    load = "SELECT decisioning.import_decisions('c', 'past', customer_key => 'id', action => 'action', decided_at => 'day', propensity => 'propensity')"
    for new in (20, 0):
        assert connection.execute(load).fetchone() == (new,)
        assert heard.pop() == ("WARNING", "20 rows have the customer and the time of another, and were left out") and not heard
    connection.execute("DELETE FROM past WHERE action = 'no_send'")
    assert connection.execute(load).fetchone() == (0,) and not heard
