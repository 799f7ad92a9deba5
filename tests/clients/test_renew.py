"""Groups that are drawn anew: while others decide, and for persons who were several."""

import threading

import psycopg
import pytest

import shop
from test_follow import DAY, by_group, create, decide, groups, key, mail, resolve


def test_while_others_decide_everybody_is_in_the_draw_he_was_decided_in(db):
    connection = db.connect()
    shop.create(connection, customers=3000)
    later = shop.session(db, now=DAY.format(2))
    failures, begun = [], threading.Semaphore(0)

    def decide_for(part):
        try:
            with shop.session(db, now=DAY.format(2)) as session:
                for start in range(part, 3000, 4 * 20):
                    ids = [f"c-{1 + n}" for n in range(start, min(start + 4 * 20, 3000), 4)]
                    session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, 'c')", [ids])
                    begun.release()
        except Exception as error:  # noqa: BLE001, told below
            failures.append(error)

    threads = [threading.Thread(target=decide_for, args=[part]) for part in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        begun.acquire(timeout=30)
    (renewed,) = later.execute("SELECT decisioning.renew_holdout('c', '0 days')").fetchone()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert 0 < renewed < 3000, "in the middle of it"
    wrong = later.execute(
        """SELECT count(*) FROM decisioning.decisions d
           LEFT JOIN decisioning.past_assignments p USING (customer_id, campaign)
           LEFT JOIN decisioning.assignments a USING (customer_id, campaign)
           WHERE d.treatment_group IS DISTINCT FROM
                 CASE WHEN d.epoch < (SELECT max(e.epoch) FROM decisioning.epochs e WHERE e.after ->> 'draw' <> e.before ->> 'draw')
                      THEN p.treatment_group ELSE a.treatment_group END"""
    ).fetchone()
    assert wrong == (0,)
    assert later.execute("SELECT count(*), count(DISTINCT customer_id) FROM decisioning.decisions").fetchone() == (3000, 3000)
    assert later.execute("SELECT count(*) FROM decisioning.past_assignments").fetchone() == (renewed,)
    assert later.execute("SELECT count(*) FROM decisioning.assignments").fetchone() == (3000 - renewed,)
    # Old decisions are still explained by what they were made of.
    assert later.execute(
        """SELECT bool_and(r.matches) FROM (SELECT decision_id FROM decisioning.decisions ORDER BY decision_id LIMIT 50) d
           CROSS JOIN LATERAL decisioning.replay(d.decision_id) r"""
    ).fetchone() == (True,)


def test_two_sessions_renew_once(db):
    connection = db.connect()
    shop.create(connection, customers=100)
    connection.execute("CALL decisioning.decide_all('c')")
    first, second = (shop.session(db, now=DAY.format(2), autocommit=False) for _ in range(2))
    first.execute("SELECT decisioning.renew_holdout('c')")
    second.execute("SET lock_timeout = '200ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        second.execute("SELECT decisioning.renew_holdout('c')")
    second.rollback()
    first.commit()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not washed out"):
        second.execute("SELECT decisioning.renew_holdout('c')")


def test_a_kept_snapshot_that_misses_customers_renews_nothing(db):
    connection = db.connect()
    shop.create(connection, customers=100)
    connection.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')")
    kept = shop.session(db, now=DAY.format(2), autocommit=False)
    kept.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    kept.execute("SELECT count(*) FROM decisioning.assignments")
    connection.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-3'], 'c')")
    with pytest.raises(psycopg.errors.SerializationFailure):
        kept.execute("SELECT decisioning.renew_holdout('c')")
    kept.rollback()
    assert kept.execute("SELECT decisioning.renew_holdout('c')").fetchone() == (3,)
    kept.commit()
    assert db.sql("SELECT count(*) FROM decisioning.past_assignments") == [(3,)]


def test_a_person_who_was_two_is_drawn_once_and_after_a_split_each_for_himself(db):
    connection = create(db)
    members = by_group(db, 1)
    older, younger = min(members["holdout"], key=key), max(members["optimise"], key=key)
    mail(connection, younger, older)
    resolve(connection)
    with shop.session(db, now=DAY.format(9)) as session:
        session.execute("SELECT decisioning.renew_holdout('c', '0 days')")
        assert decide(session, younger)[1:] == decide(session, older)[1:]
        rows = session.execute("SELECT customer_id, treatment_group, mixed FROM decisioning.assignments").fetchall()
        assert [(row[0], row[2]) for row in rows] == [(older, False)], "under his present id alone"
    mail(connection, younger)
    resolve(connection)
    with shop.session(db, now=DAY.format(10)) as session:
        session.execute("CALL decisioning.decide_all('c')")
    drawn = groups(db)
    assert drawn[older] == rows[0][1] and younger in drawn and len(drawn) == 200
    past = dict(db.sql("SELECT customer_id, treatment_group FROM decisioning.past_assignments"))
    assert past[older] == "holdout" and past[younger] == "optimise"


@pytest.mark.parametrize("wash_out", ["0 days", "5 days"])
def test_who_has_reached_a_goal_is_left_alone_as_before(db, wash_out):
    """A goal ends contact from the first exposure on, whatever was drawn anew since; in the wash-out, too."""
    connection = db.connect()
    shop.create(connection, customers=300)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = 0")
    connection.execute("SELECT decisioning.set_goal_exit('c', 'buy')")
    connection.execute("CALL decisioning.decide_all('c')")
    bought = "SELECT decisioning.record_outcome('buy', %s || '-' || %s, %s, occurred_at => %s)"
    later = shop.session(db, now=DAY.format(2))
    later.execute(bought, ["before", "c-1", "c-1", "2026-06-01 20:00+00"])
    later.execute("SELECT decisioning.renew_holdout('c', %s)", [wash_out])
    later.execute("INSERT INTO public.customers VALUES ('new', 30, 'a')")
    later.execute("CALL decisioning.decide_all('c')")
    third = shop.session(db, now=DAY.format(3))
    third.execute(bought, ["since", "c-2", "c-2", "2026-06-02 20:00+00"])
    third.execute(bought, ["since", "new", "new", "2026-06-02 20:00+00"])
    third.execute("CALL decisioning.decide_all('c')")
    silenced = third.execute(
        """SELECT customer_id, array_agg(d.decided_at::date::text ORDER BY d.decided_at) FROM decisioning.decisions d
           WHERE d.removed ? 'goal: buy' GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    assert silenced == [("c-1", ["2026-06-02", "2026-06-03"]), ("c-2", ["2026-06-03"]), ("new", ["2026-06-03"])]
