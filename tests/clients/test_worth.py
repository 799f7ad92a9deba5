"""Decisions by what they are worth: amounts, costs, harm and a minimum uplift."""

import pytest
import shop

DAYS = 7


def learn(db, rates, before_start=(), worth=None, harm=None, kind="conversion", value=None):
    """A week of a campaign with the actions email and sms. `rates` are the responses to no_send, email and sms, `worth` the
    amount of each response, and `harm` the rates of unsubscribes."""
    connection = db.connect()
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [shop.NOW])
    connection.execute("CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 90 AS age FROM generate_series(1, 2000) n")
    connection.execute("SELECT decisioning.create_campaign('c', 'public.customers', 'id', explore_share => 0.5, currency => 'EUR')")
    connection.execute("UPDATE decisioning.campaigns SET salt = %s", [shop.SALT])
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"channel": ["email", "sms"]}')""")
    connection.execute("SELECT decisioning.approve_action('c', a) FROM unnest(ARRAY['email', 'sms']) a")
    connection.execute("SELECT decisioning.add_goal('buy', %s), decisioning.add_goal('leave', 'harm')", [kind])
    connection.execute("SELECT decisioning.add_campaign_goal('c', 'buy', value => %s, attribution_window => '1 day')", [value])
    for statement in before_start:
        connection.execute(statement)
    connection.execute("SELECT decisioning.start_campaign('c')")
    record = """
        SELECT decisioning.record_outcome(%s, d.decision_id::text, decision_id => d.decision_id, value => %s::jsonb -> d.action,
            occurred_at => d.decided_at + interval '1 hour')
        FROM decisioning.decisions d
        WHERE d.decided_at::date = %s::date
          AND abs(hashtext(d.decision_id::text || %s)) %% 1000 < 1000 * (%s::jsonb ->> d.action)::float8"""
    record = record.replace("%s::jsonb -> d.action", "(%s::jsonb ->> d.action)::float8")
    names = ["no_send", "email", "sms"]
    document = lambda numbers: "{" + ", ".join(f'"{name}": {number}' for name, number in zip(names, numbers)) + "}"  # noqa: E731
    for day in range(1, DAYS + 1):
        connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
        connection.execute("CALL decisioning.decide_all('c')")
        date = f"2026-06-{day:02}"
        connection.execute(record, ["buy", document(worth or [1, 1, 1]), date, "buy", document(rates)])
        if harm:
            connection.execute(record, ["leave", document([1, 1, 1]), date, "leave", document(harm)])
        connection = shop.session(db, now=f"2026-06-{day + 1:02} 10:00+00")
        connection.execute("SELECT * FROM decisioning.learn('c')")
    return connection


def shares(db, connection, day=DAYS + 1):
    """Shares of the actions in what the optimise group gets on a day."""
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [f"2026-06-{day:02} 10:00+00"])
    connection.execute("CALL decisioning.decide_all('c')")
    return dict(
        db.sql(
            f"""SELECT d.action, count(*) / sum(count(*)) OVER () ::float8 FROM decisioning.decisions d
                WHERE d.decided_at::date = '2026-06-{day:02}' AND d.treatment_group = 'optimise' GROUP BY 1"""
        )
    )


def replayed(db):
    return db.sql("SELECT DISTINCT r.matches FROM decisioning.decisions d, decisioning.replay(d.decision_id) r")


def test_a_cost_decides_and_decisions_replay_under_the_costs_of_their_time(db):
    """Responses are worth 10; sms wins by 10 points of probability, worth 1 euro, until a send costs 2."""
    connection = learn(db, [0.05, 0.2, 0.3], value=10)
    assert shares(db, connection)["sms"] > 0.8
    db.sql("UPDATE decisioning.actions SET cost_send = 2 WHERE channel = 'sms'")
    assert shares(db, connection, day=9)["email"] > 0.8
    db.sql("UPDATE decisioning.actions SET cost_on_goal_share = 0.8 WHERE channel = 'email'")
    assert shares(db, connection, day=10).get("email", 0) < 0.1
    assert replayed(db) == [(True,)]
    preview = dict(db.sql("SELECT action, net_uplift - (10 * uplift - 2) FROM decisioning.preview('c-1', 'c')"))
    assert abs(preview["sms"]) < 1e-9


def test_a_minimum_uplift_keeps_quiet_but_for_the_floor(db):
    connection = learn(db, [0.05, 0.2, 0.3], value=10)
    db.sql("UPDATE decisioning.campaigns SET minimum_uplift = 5")
    quiet = shares(db, connection)
    assert quiet["no_send"] > 0.95
    assert db.sql(
        "SELECT min(p) > 0 FROM decisioning.decisions d, unnest(d.propensities) p WHERE d.treatment_group = 'optimise'"
    ) == [(True,)]
    assert replayed(db) == [(True,)]


def test_amounts_count_and_not_responses_alone(db):
    """Email is answered twice as often, but an answer to sms is worth four times as much."""
    connection = learn(db, [0.02, 0.3, 0.15], worth=[10, 10, 40], kind="value")
    assert shares(db, connection)["sms"] > 0.8
    [(email, sms)] = db.sql(
        """SELECT max(net_uplift) FILTER (WHERE action = 'email'), max(net_uplift) FILTER (WHERE action = 'sms')
           FROM decisioning.preview('c-1', 'c')"""
    )
    assert email == pytest.approx(2.8, abs=0.8) and sms == pytest.approx(5.8, abs=1.2)
    assert replayed(db) == [(True,)]
    words = db.sql("SELECT DISTINCT part, regexp_replace(in_words, '.* ', '') FROM decisioning.coefficients ORDER BY 1")
    assert words == [("response", "log-odds"), ("worth", "EUR")]


def test_an_amount_that_changes_late_is_as_if_known_at_once(db):
    connection = learn(db, [0.02, 0.3, 0.15], worth=[10, 10, 40], kind="value")
    connection.execute(
        """SELECT decisioning.record_outcome('buy', o.event_id, o.customer_id, value => 25, occurred_at => o.occurred_at)
           FROM decisioning.outcomes o WHERE o.value = 40"""
    )
    connection.execute("SELECT * FROM decisioning.learn('c')")
    worth = "SELECT coefficient, estimate FROM decisioning.coefficients WHERE part = 'worth' ORDER BY 1"
    before = connection.execute("SELECT sum(net_uplift) FROM decisioning.preview('c-1', 'c')").fetchone()[0]
    incremental = dict(connection.execute(worth).fetchall())
    connection.execute("SELECT * FROM decisioning.rebuild_model('c')")
    after = connection.execute("SELECT sum(net_uplift) FROM decisioning.preview('c-1', 'c')").fetchone()[0]
    assert before == pytest.approx(after, rel=0.05)
    # The unit differs, and the prior with it.
    assert incremental["channel=sms"] == pytest.approx(dict(connection.execute(worth).fetchall())["channel=sms"], abs=1)


def test_harm_counts_against(db):
    """Sms sells more, but drives people away, and each is a loss of 20."""
    goal = "SELECT decisioning.add_campaign_goal('c', 'leave', value => %s, attribution_window => '1 day')"
    connection = learn(db, [0.05, 0.2, 0.3], value=10, harm=[0.01, 0.01, 0.2], before_start=[goal % -20])
    assert shares(db, connection)["email"] > 0.8
    assert db.sql("SELECT parts FROM decisioning.models WHERE current") == [(["response", "harm: leave"],)]
    assert replayed(db) == [(True,)]


def test_decisions_replay_after_a_goal_was_taken_away(db):
    """What harm was worth when they were made is not what it is worth since: nothing."""
    goal = "SELECT decisioning.add_campaign_goal('c', 'leave', value => %s, attribution_window => '1 day')"
    connection = learn(db, [0.05, 0.2, 0.3], value=10, harm=[0.01, 0.01, 0.2], before_start=[goal % -20])
    assert replayed(db) == [(True,)]
    connection.execute("DELETE FROM decisioning.campaign_goals WHERE goal = 'leave'")
    assert replayed(db) == [(True,)]


def test_a_harm_goal_is_worth_less_than_nothing(db):
    with pytest.raises(Exception, match="the value of a harm goal must be negative"):
        learn(db, [0, 0, 0], before_start=["SELECT decisioning.add_campaign_goal('c', 'leave', value => 20)"])
