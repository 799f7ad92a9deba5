"""Budgets under concurrency, at every isolation level; rollback, replay, and propensities of what remains."""

import random
import threading

import psycopg
import pytest
from scipy.stats import chisquare

import shop
from test_identity import Background, wait_until_blocked

SESSIONS = 32
RETRY = psycopg.errors.SerializationFailure


def create(db, customers=2000, explore=0.6, consistency=None):
    """A campaign without a holdout whose sends cost 1 (email) and 3 (sms)."""
    connection = db.connect()
    shop.create(connection, customers=customers, explore=explore)
    connection.execute("UPDATE decisioning.campaigns SET offer_consistency = %s, holdout_share = 0", [consistency])
    connection.execute("UPDATE decisioning.actions SET cost_send = CASE channel WHEN 'sms' THEN 3 ELSE 1 END")
    return connection


def status(db):
    rows = shop.session(db).execute("SELECT budget, reserved, spent, remaining FROM decisioning.budget_status").fetchall()
    return {row[0]: row[1:] for row in rows}


def used(db):
    """What the log says was spent, by unit."""
    return db.sql(
        """SELECT coalesce(sum(a.cost_send), 0), count(a.action) FROM decisioning.decisions d
           LEFT JOIN decisioning.actions a USING (campaign, action)"""
    )[0]


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_many_sessions_never_exceed_a_budget_and_use_it_up(db, isolation):
    """Single decisions and batches, some rolled back, compete for a budget that a tenth of them would exhaust."""
    create(db)
    db.sql("SELECT decisioning.set_budget('c', 150), decisioning.set_budget('c', 40, unit => 'sends', dimension => 'channel', level => 'sms')")
    failures = []
    ids = [f"c-{n}" for n in range(1, 2001)]

    def work(number):
        rng = random.Random(number)
        connection = shop.session(db, autocommit=False)
        connection.isolation_level = isolation
        mine = ids[number::SESSIONS]
        rng.shuffle(mine)
        try:
            while mine:
                batch = mine[: rng.choice([1, 1, 1, 10])]
                try:
                    if len(batch) == 1:
                        connection.execute("SELECT * FROM decisioning.decide(%s, 'c')", batch)
                    else:
                        connection.execute("SELECT count(*) FROM decisioning.decide_batch(%s, 'c')", [batch])
                    if rng.random() < 0.2:
                        connection.rollback()
                    else:
                        connection.commit()
                        mine = mine[len(batch) :]
                except RETRY:
                    assert isolation != psycopg.IsolationLevel.READ_COMMITTED
                    connection.rollback()
        except Exception as error:  # noqa: BLE001: shown below
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.sql("SELECT count(*) FROM decisioning.decisions") == [(2000,)]
    cost, sends = used(db)
    sms = db.sql("SELECT count(*) FROM decisioning.decisions WHERE action LIKE '%/sms'")[0][0]
    assert cost <= 150 and sms <= 40
    # Used up: what is left does not pay for the cheapest send.
    assert 150 - cost < 1
    reserved = status(db)
    assert reserved["cost per month"] == (cost, 0, 150 - cost)
    assert reserved["channel sms: sends per month"] == (sms, 0, 40 - sms)
    assert db.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r") == [(True,)]


def test_what_is_given_back_is_not_settled(db):
    """A send is cancelled while learning settles its budget: it is charged nothing, whoever comes first."""
    connection = create(db, customers=200)
    connection.execute("UPDATE decisioning.actions SET cost_on_goal = 5")
    connection.execute("SELECT decisioning.set_budget('c', 100000, 'total')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("CALL decisioning.dispatch_all()")
    ((customer,),) = db.sql("SELECT min(customer_id) FROM decisioning.sends WHERE status = 'queued'")
    later = shop.session(db, now="2026-06-01 12:00+00", autocommit=False)
    other = shop.session(db, now="2026-06-01 12:00+00")
    other.execute("SELECT decisioning.record_outcome('buy', 'o', %s, value => 20)", [customer])
    later.execute("SELECT decisioning.suppress(%s)", [customer])
    learning = Background(lambda: other.execute("SELECT decisioning.learn('c')"))
    wait_until_blocked(db, other)
    later.commit()
    learning.result()
    sums = "SELECT sum(r.charged) / 1e6, sum(r.charged) FILTER (WHERE r.closed) / 1e6, count(*) FILTER (WHERE r.cancelled AND r.charged <> 0) FROM decisioning._reservation r"
    ((charged, settled, odd),) = db.sql(sums)
    ((_, (reserved, spent, _)),) = status(db).items()
    assert odd == 0 and db.sql("SELECT count(*) FROM decisioning._reservation WHERE cancelled") == [(1,)]
    assert reserved + spent == pytest.approx(float(charged)) and spent == pytest.approx(float(settled))


def test_rollback_gives_back(db):
    create(db)
    db.sql("SELECT decisioning.set_budget('c', 1000)")
    connection = shop.session(db, autocommit=False)
    everybody = "SELECT count(*) FILTER (WHERE action <> 'no_send') FROM decisioning.decide_batch((SELECT array_agg(id) FROM public.customers), 'c')"
    (sent,) = connection.execute(everybody).fetchone()
    assert sent > 300
    connection.rollback()
    assert status(db)["cost per month"] == (0, 0, 1000)
    connection.execute(everybody)
    connection.commit()
    cost, again = used(db)
    assert again == sent and status(db)["cost per month"] == (cost, 0, 1000 - cost)


def test_choices_follow_their_propensities_when_a_budget_runs_out(db):
    """Decided one after the other, and in one batch: before and after the budget for sms is gone, every action is chosen as
    often as its logged propensity says, and the same customers would choose the same again."""
    connection = create(db, customers=6000)
    connection.execute("SELECT decisioning.set_budget('c', 400, unit => 'sends', dimension => 'channel', level => 'sms')")
    connection.execute("SELECT decisioning.set_budget('c', 2500)")
    connection.execute("SELECT count(*) FROM (SELECT id FROM public.customers LIMIT 500) c, LATERAL decisioning.decide(c.id, 'c')")
    connection.execute("CALL decisioning.decide_all('c', chunk_size => 2000)")
    states = db.sql(
        """SELECT d.removed, c.id, sum(p.propensity)::float8, count(*) FILTER (WHERE d.action_id = c.id)
           FROM decisioning.decisions d, unnest(d.candidates) WITH ORDINALITY c(id, n),
                unnest(d.propensities) WITH ORDINALITY p(propensity, n)
           WHERE c.n = p.n AND d.treatment_group = 'explore' GROUP BY 1, 2 ORDER BY 2"""
    )
    tested = set()
    for kind in {str(row[0]) for row in states}:
        rows = [row for row in states if str(row[0]) == kind]
        expected, observed = [row[2] for row in rows], [row[3] for row in rows]
        if sum(observed) > 100:
            tested.add(len(rows))
            if len(rows) > 1:
                assert chisquare(observed, expected).pvalue > 1e-4, (kind, observed, expected)
    assert tested == {7, 4, 1}, "all candidates, all but those by sms, and no_send alone"
    assert db.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r") == [(True,)]
    # Groups alike: what was removed does not depend on who would be sent anything.
    shares = db.sql(
        "SELECT treatment_group, avg((removed IS NOT NULL)::int)::float8 FROM decisioning.decisions GROUP BY 1 HAVING count(*) > 500"
    )
    assert len(shares) >= 2 and max(share for _, share in shares) - min(share for _, share in shares) < 0.08


def test_two_members_of_a_household_get_one_offer(db):
    """Each decided in a session of its own: the second waits for the first, and has its offer or none."""
    connection = db.connect()
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [shop.NOW])
    connection.execute("CREATE TABLE public.customers AS SELECT 'c-' || n AS id, 'h-' || n / 2 AS house, n AS age FROM generate_series(0, 119) n")
    connection.execute(
        "SELECT decisioning.create_campaign('c', 'public.customers', 'id', holdout_share => 0, explore_share => 1, household_column => 'house')"
    )
    connection.execute("UPDATE decisioning.campaigns SET salt = %s, explore_no_send = 0", [shop.SALT])
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"offer": ["a", "b", "c", "d"]}')""")
    connection.execute("SELECT decisioning.approve_action('c', action) FROM decisioning.actions")
    connection.execute("SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy'), decisioning.start_campaign('c')")
    assert db.sql("SELECT features FROM decisioning.campaigns") == [(None,)]
    assert "house" not in str(db.sql("SELECT definition FROM decisioning._encoder")), "a household is no feature"

    def work(parity, isolation):
        session = shop.session(db, autocommit=False)
        session.isolation_level = isolation
        for house in range(60):
            while True:
                try:
                    session.execute("SELECT * FROM decisioning.decide(%s, 'c')", [f"c-{2 * house + parity}"])
                    session.commit()
                    break
                except RETRY:
                    session.rollback()

    levels = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
    threads = [threading.Thread(target=work, args=(parity, levels[parity])) for parity in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    offers = db.sql(
        """SELECT c.house, count(DISTINCT d.action), count(*) FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
           GROUP BY 1"""
    )
    assert len(offers) == 60 and all(row[1:] == (1, 2) for row in offers)
    assert len(db.sql("SELECT DISTINCT action FROM decisioning.decisions")) == 4


def test_a_price_keeps_money_for_whom_it_moves_most(db):
    """Half of the customers buy more often when they get a letter, and the budget pays for a quarter of all letters. Within
    days the price of the budget keeps the others from getting one, and customers are refused no longer."""
    connection = db.connect()
    shop.create(connection, customers=2000, explore=0.3)
    connection.execute("UPDATE decisioning.actions SET cost_send = 1")
    connection.execute("UPDATE decisioning.campaign_goals SET value = 20")
    connection.execute("SELECT decisioning.set_budget('c', 400, period => 'day')")
    moved = {}
    for day in range(1, 11):
        session = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
        session.execute("CALL decisioning.decide_all('c')")
        session.execute(
            """SELECT decisioning.record_outcome('buy', d.decision_id::text, decision_id => d.decision_id, occurred_at => d.decided_at + interval '1 hour')
               FROM decisioning.decisions d
               WHERE d.decided_at::date = %s AND abs(hashtext(d.decision_id::text)) %% 100 <
                     CASE WHEN d.action = 'no_send' THEN 5 WHEN (d.context ->> 'age')::float8 < 45 THEN 25 ELSE 15 END""",
            [f"2026-06-{day:02}"],
        )
        learner = shop.session(db, now=f"2026-06-{day + 1:02} 09:00+00")
        learner.execute("SELECT * FROM decisioning.learn('c')")
        moved[day] = db.sql(
            f"""SELECT avg(((context ->> 'age')::float8 < 45)::int) FILTER (WHERE action <> 'no_send')::float8,
                       avg((removed IS NOT NULL)::int)::float8, count(*) FILTER (WHERE action <> 'no_send')
                FROM decisioning.decisions WHERE decided_at::date = '2026-06-{day:02}'"""
        )[0]
    assert all(sends <= 400 for _, _, sends in moved.values())

    def mean(days, column):
        return sum(moved[day][column] for day in days) / len(days)

    early, late = (2, 3), (6, 7, 8, 9, 10)
    assert mean(early, 1) > 0.5, "first come, first served, until there is a price"
    assert mean(late, 1) < 0.2 and mean(late, 2) > 0.9 * 400
    assert mean(late, 0) > mean(early, 0) + 0.05
    assert db.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r") == [(True,)]


def test_reservations_of_long_ago_are_forgotten_and_stay_spent(db):
    connection = create(db, customers=200)
    connection.execute("SELECT decisioning.set_budget('c', 1000, period => 'total')")
    shop.session(db).execute("CALL decisioning.decide_all('c')")
    ((name, (spent, *_)),) = status(db).items()
    shop.session(db, now="2026-06-05 10:00+00").execute("SELECT decisioning.maintain()")
    shop.session(db, now="2026-11-20 10:00+00").execute("SELECT decisioning.maintain()")
    assert db.sql("SELECT count(*) > 0, bool_and(closed) FROM decisioning._reservation") == [(True, True)]
    shop.session(db, now="2026-12-20 10:00+00").execute("SELECT decisioning.maintain()")
    assert db.sql("SELECT count(*) FROM decisioning._reservation") == [(0,)]
    assert spent > 0 and status(db)[name] == (0, spent, 1000 - spent)
