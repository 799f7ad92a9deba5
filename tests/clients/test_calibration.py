"""Calibration, the offset and the variety of the policy, on simulated customers."""

import math

import pytest
import shop

BUY = """
    SELECT decisioning.record_outcome('buy', d.decision_id::text, d.customer_id, occurred_at => d.decided_at + interval '1 hour')
    FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
    WHERE d.decided_at::date = %s::date AND (hashtext(d.decision_id::text) & 65535) / 65536.0
          < 1 / (1 + exp(-(c.truth + %s + CASE d.action WHEN 'sms' THEN 0.8 ELSE 0 END)))"""
CALIBRATION = "SELECT predicted, observed, calibrated, decisions FROM decisioning.calibration('c', since => %s) ORDER BY bin"


def start(db, offset=None, **options):
    """A campaign with the actions email and sms. Customers respond by `truth`, of which they have a feature and a score."""
    connection = shop.session(db)
    connection.execute(
        """CREATE TABLE public.customers AS SELECT 'c-' || n AS id, sin(n) AS x, -1 + sin(n) + cos(n * 1.7) AS truth,
               1 / (1 + exp(1 - cos(n * 1.7))) AS score FROM generate_series(1, 3000) n"""
    )
    options = {"explore_share": 0.3, **options}
    arguments = "".join(f", {name} => %({name})s" for name in options)
    connection.execute(
        f"SELECT decisioning.create_campaign('c', 'public.customers', 'id', features => %(features)s, offset_column => %(offset)s{arguments})",
        {"offset": offset, "features": ["x"] if offset else ["x", "score"], **options},
    )
    connection.execute("UPDATE decisioning.campaigns SET salt = %s", [shop.SALT])
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"channel": ["email", "sms"]}')""")
    connection.execute("SELECT decisioning.approve_action('c', a) FROM unnest(ARRAY['email', 'sms']) a")
    connection.execute("SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy', attribution_window => '1 day')")
    connection.execute("SELECT decisioning.start_campaign('c')")
    return connection


def live(db, day, shift=0):
    connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute(BUY, [f"2026-06-{day:02}", shift])
    connection = shop.session(db, now=f"2026-06-{day + 1:02} 10:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    return connection


def test_a_right_model_is_calibrated_and_a_changed_world_shows(db):
    start(db)
    for day in range(1, 7):
        live(db, day)
    connection = shop.session(db, now="2026-06-07 10:00+00")
    bins = connection.execute(CALIBRATION, ["2026-06-03"]).fetchall()
    assert len(bins) == 10 and sum(row[3] for row in bins) == 4 * 3000
    assert sum(row[2] for row in bins) >= 9, bins
    assert all(abs(predicted - observed) < 0.05 for predicted, observed, *_ in bins)
    # From one day to the next everybody buys more: the versions that decided did not know.
    connection = live(db, 7, shift=0.8)
    bins = connection.execute(CALIBRATION, ["2026-06-07"]).fetchall()
    assert sum(row[2] for row in bins) <= 2, bins


def test_a_score_is_the_start(db):
    """With the score as offset a model without data knows the customers; without it, it knows nobody."""
    connection = start(db, offset="score")
    known = connection.execute(
        """SELECT max(abs(ln(p.probability / (1 - p.probability)) - ln(c.score / (1 - c.score))))
           FROM public.customers c, decisioning.preview(c.id, 'c') p WHERE p.action = 'no_send' AND c.id LIKE 'c-1_'"""
    ).fetchone()[0]
    assert known < 1e-5
    for day in range(1, 6):
        connection = live(db, day)
    # What the score left open is learned, and what it says is not learned again.
    learned = dict(connection.execute("SELECT coefficient, estimate FROM decisioning.coefficients").fetchall())
    assert not any("score" in name for name in learned)
    # sin(n) has a spread of 0.707, and a robust one of 0.95 or so: the slope is per robust deviation.
    assert 0.7 < learned["base: x"] < 1.3
    assert abs(learned["base: intercept"]) < 0.15
    bins = connection.execute(CALIBRATION, ["2026-06-03"]).fetchall()
    assert sum(row[2] for row in bins) >= 9, bins
    assert connection.execute(
        "SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r"
    ).fetchone() == (True,)
    values = connection.execute(
        "SELECT policy, value FROM decisioning.evaluate_policy('c') WHERE estimator = 'direct' AND policy LIKE 'always%%'"
    ).fetchall()
    assert dict(values)["always sms"] > dict(values)["always no_send"] + 0.05


def test_the_offset_decides_where_sends_cost(db):
    """An sms adds 0.8 to the log-odds and costs a tenth of a sale: worth it for the likely, not for the unlikely."""
    connection = start(db, offset="score", minimum_uplift=0.1)
    for day in range(1, 7):
        connection = live(db, day)
    connection.execute("SELECT set_config('decisioning.simulated_now', '2026-06-07 10:00+00', false)")
    connection.execute("CALL decisioning.decide_all('c')")
    sent = connection.execute(
        """SELECT c.truth > -0.5, avg((d.action = 'sms')::int)::float8
           FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
           WHERE d.decided_at::date = '2026-06-07' AND d.treatment_group = 'optimise' AND abs(c.truth + 0.5) > 0.7 AND c.truth < 0.8
           GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    assert dict(sent)[True] > dict(sent)[False] + 0.4, sent


def test_history_is_imported_with_its_offset(db):
    connection = start(db, offset="score")
    connection.execute(
        """CREATE TABLE public.history AS SELECT c.id, c.x, c.score, 'email' AS action, 0.5 AS propensity,
               timestamptz '2026-05-01' AS at FROM public.customers c"""
    )
    connection.execute(
        """SELECT decisioning.import_decisions('c', 'public.history', customer_key => 'id', action => 'action',
               decided_at => 'at', propensity => 'propensity')"""
    )
    offset, score = connection.execute(
        """SELECT d.encoded[cardinality(d.encoded)], c.score FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
           WHERE d.customer_id = 'c-5'"""
    ).fetchone()
    assert offset == pytest.approx(math.log(score / (1 - score)), rel=1e-6)


def test_a_policy_that_gives_all_the_same_is_called_collapsed(db):
    connection = start(db, propensity_floor=0.0)
    assert connection.execute("SELECT * FROM decisioning.policy_entropy").fetchall() == []
    connection.execute("CALL decisioning.decide_all('c')")
    entropy, collapsed = connection.execute("SELECT entropy, collapsed FROM decisioning.policy_entropy").fetchone()
    assert entropy > 0.5 and not collapsed
    # One action is far better than the other and than nothing.
    connection.execute(
        """SELECT decisioning.record_outcome('buy', d.decision_id::text, d.customer_id, occurred_at => d.decided_at + interval '1 hour')
           FROM decisioning.decisions d WHERE d.action = 'sms'"""
    )
    connection = shop.session(db, now="2026-06-02 10:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    connection.execute("CALL decisioning.decide_all('c')")
    day = connection.execute(
        """SELECT most_frequent_action, most_frequent_share, effective_actions, collapsed FROM decisioning.policy_entropy
           WHERE day = '2026-06-02'"""
    ).fetchone()
    assert day[0] == "sms" and day[1] > 0.9 and day[2] < 1.5 and day[3]


def test_the_first_day_of_a_long_window_is_calibrated(db):
    """Rewards come within an hour, and the window is a week: nobody knows yet that none are still to come."""
    connection = db.connect()
    shop.create(connection, customers=4000, window="7 days")
    connection.execute("CALL decisioning.decide_all('c')")
    soon = shop.session(db, now="2026-06-01 11:00+00")
    soon.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o-' || customer_id), array_agg(customer_id), amounts => array_agg(10::float8),
                  occurred_at => array_agg(decided_at + interval '50 minutes'))
           FROM decisioning.decisions WHERE abs(hashtext(customer_id)) % 10 = 0"""
    )
    next_day = shop.session(db, now="2026-06-02 06:00+00")
    next_day.execute("SELECT * FROM decisioning.learn('c')")
    (predicted,) = next_day.execute(
        """SELECT avg(p.probability) FROM generate_series(1, 200) n CROSS JOIN LATERAL decisioning.preview('c-' || n, 'c') p"""
    ).fetchone()
    assert predicted == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("days", [2, 3])
def test_events_that_are_read_once_a_day_are_calibrated(db, days):
    """Every morning the events of the day before are read: all are recorded at once, however late each was. Everybody has one in fifty
    days, which counts for the decisions of as many days as the window is long."""
    connection = shop.session(db)
    shop.create(connection, customers=2000, window=f"{days} days")
    connection.execute("SELECT decisioning.add_outcome_source('buy', 'public.orders', 'customer', 'at', event_id => 'id')")
    for day in range(1, 9):
        connection = shop.session(db, now=f"2026-06-{day:02} 06:00+00")
        connection.execute("CALL decisioning.decide_all('c')")
        connection.execute("SELECT * FROM decisioning.learn('c')")
        connection.execute(
            """INSERT INTO public.orders SELECT d.decision_id, d.customer_id, d.decided_at + n.hash %% 1380 * interval '1 minute', 1
               FROM decisioning.decisions d CROSS JOIN LATERAL (SELECT abs(hashtext(d.decision_id::text)) AS hash) n
               WHERE d.decided_at::date = %s AND n.hash / 2000 %% 50 = 0""",
            [f"2026-06-{day:02}"],
        )
    connection = shop.session(db, now="2026-06-09 06:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    (predicted,) = connection.execute(
        "SELECT avg(p.probability) FROM generate_series(1, 200) n CROSS JOIN LATERAL decisioning.preview('c-' || n, 'c') p"
    ).fetchone()
    assert predicted == pytest.approx(1 - 0.98**days, rel=0.2)


def test_what_was_predicted_of_another_window_is_not_compared(db):
    start(db)
    for day in range(1, 4):
        live(db, day)
    connection = shop.session(db, now="2026-06-04 12:00+00")
    before = sum(row[3] for row in connection.execute(CALIBRATION, [None]))
    assert before == 9000
    connection.execute("UPDATE decisioning.campaign_goals SET attribution_window = '2 days'")
    live(db, 5)
    connection = shop.session(db, now="2026-06-08 12:00+00")
    assert sum(row[3] for row in connection.execute(CALIBRATION, [None])) == 3000
    # What else changes does not part decisions.
    connection.execute("UPDATE decisioning.campaign_goals SET value = 2")
    assert sum(row[3] for row in connection.execute(CALIBRATION, [None])) == 3000


def test_policies_are_valued_under_the_guardrails_that_held(db):
    """Two thirds have not agreed to SMS: no policy would have sent them any."""
    connection = shop.session(db)
    shop.create(connection, customers=3000, explore=0.4)
    connection.execute("ALTER TABLE public.customers ADD sms_ok boolean")
    connection.execute("UPDATE public.customers SET sms_ok = kind = 'a'")
    connection.execute("UPDATE decisioning.campaigns SET features = '{age, kind}'")
    connection.execute("SELECT decisioning.set_consent_column('c', 'sms_ok', 'sms')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o-' || d.decision_id), array_agg(d.customer_id),
                  occurred_at => array_agg('2026-06-01 12:00+00'::timestamptz))
           FROM decisioning.decisions d
           WHERE abs(hashtext(d.customer_id)) % 10 < CASE WHEN d.action LIKE '%sms%' THEN 6 WHEN d.action = 'no_send' THEN 1 ELSE 3 END"""
    )
    connection = shop.session(db, now="2026-06-03 10:00+00")
    connection.execute("SELECT decisioning.learn('c')")
    rows = connection.execute(
        "SELECT policy, value, overlap FROM decisioning.evaluate_policy('c') WHERE estimator = 'snips'"
    ).fetchall()
    found = {policy: (value, overlap) for policy, value, overlap in rows}
    # Random: no_send, three e-mails, and three SMS for a third of all.
    assert found["random"] == (pytest.approx((0.1 + 3 * 0.3 + 3 * 0.6) / 7 / 3 + (0.1 + 3 * 0.3) / 4 * 2 / 3, abs=0.04), pytest.approx(1.0))
    assert found["learned"][1] == pytest.approx(1.0)
    assert found["learned"][0] == pytest.approx(0.6 / 3 + 0.3 * 2 / 3, abs=0.06)
    sms = [value for policy, (value, _) in found.items() if "sms" in policy]
    assert sms == [None] * 3
