"""Measuring: in parallel, by households, and while identities and configuration change."""

import pytest

import shop


def grown(db, **options):
    """Customers who were decided for, and of whom a tenth bought within a day."""
    connection = db.connect()
    shop.create(connection, **options)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o-' || customer_id), array_agg(customer_id), amounts => array_agg(10::float8),
                  occurred_at => array_agg(exposed_at + interval '1 hour'))
           FROM decisioning.assignments WHERE abs(hashtext(customer_id)) % 10 = 0"""
    )
    return shop.session(db, now="2026-06-03 10:00+00")


@pytest.mark.parametrize("query", ["decisioning.lift('c')", "decisioning.group_balance('c')", "decisioning.lift_over_time('c')"])
def test_large_sums_run_in_parallel(db, query):
    session = grown(db, customers=3000)
    plans = []
    session.add_notice_handler(lambda notice: plans.append(notice.message_primary))
    alone = session.execute(f"SELECT * FROM {query}").fetchall()
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        session.execute(f"SET {setting} = 0")
    session.execute("LOAD 'auto_explain'")
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_analyze = on"):
        session.execute(f"SET auto_explain.{setting}")
    session.execute("SET client_min_messages = log")
    together = session.execute(f"SELECT * FROM {query}").fetchall()
    sums = "_responses" if "lift" in query else "_assignment"
    assert any("Workers Launched: 2" in plan and sums in plan for plan in plans), plans
    assert shop.alike(together, alone), "sums of parts are the sums"


def test_households_are_the_units_where_they_are_drawn(db):
    """Households of four that buy together: their members tell no more than one of them."""
    connection = db.connect()
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [shop.NOW])
    connection.execute("CREATE TABLE people AS SELECT 'p-' || n AS id, 'h-' || n / 4 AS home, (abs(hashtext('h-' || n / 4)) % 10 = 0)::int AS keen FROM generate_series(0, 7999) n")
    for campaign, unit in (("together", "household"), ("apart", "customer")):
        connection.execute(
            "SELECT decisioning.create_campaign(%s, 'people', 'id', household_column => 'home', unit => %s, holdout_share => 0.4, features => '{keen}')", [campaign, unit]
        )
        connection.execute("SELECT decisioning.add_action(%s, 'mail', channel => 'email'), decisioning.approve_action(%s, 'mail')", [campaign, campaign])
    connection.execute("UPDATE decisioning.campaigns SET salt = md5(campaign)::uuid")
    connection.execute("SELECT decisioning.add_goal('buy', 'conversion')")
    for campaign in ("together", "apart"):
        connection.execute("SELECT decisioning.add_campaign_goal(%s, 'buy'), decisioning.start_campaign(%s)", [campaign, campaign])
        connection.execute(f"CALL decisioning.decide_all('{campaign}')")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o-' || id), array_agg(id), occurred_at => array_agg('2026-06-01 12:00+00'::timestamptz))
           FROM people WHERE abs(hashtext(home)) % 10 = 0"""
    )
    later = shop.session(db, now="2026-06-03 10:00+00")
    rows = later.execute("SELECT campaign, fixed_upper - fixed_lower, treated_mean, treated_customers FROM decisioning.lift() WHERE headline").fetchall()
    width = {campaign: width for campaign, width, *_ in rows}
    assert width["together"] / width["apart"] == pytest.approx(2, rel=0.1), "the root of four"
    truth = later.execute(
        """SELECT avg((abs(hashtext(home)) % 10 = 0)::int)::float8, count(*) FROM decisioning.assignments a JOIN people p ON p.id = a.customer_id
           WHERE a.campaign = 'together' AND a.treatment_group = 'optimise'"""
    ).fetchone()
    assert [(mean, customers) for campaign, _, mean, customers in rows if campaign == "together"] == [(pytest.approx(truth[0]), truth[1])]
    # Who is keen buys, and nobody else: nothing is left to chance, but for households in buckets of several sizes.
    removed = dict(
        later.execute(
            "SELECT c.campaign, l.variance_removed FROM decisioning.campaigns c, decisioning.lift(c.campaign, covariate => 'keen') l WHERE l.headline"
        ).fetchall()
    )
    assert removed == {"together": pytest.approx(1, abs=0.02), "apart": pytest.approx(1, abs=1e-6)}
    balance = dict(later.execute("SELECT campaign, min(p_value) FROM decisioning.group_balance GROUP BY 1").fetchall())
    assert balance["together"] > 0.05, "sizes vary as those of households do"
    # Over time, too: at the end of the last day it is what it is now.
    for campaign in ("together", "apart"):
        series = "SELECT treated_mean, absolute_lift, upper - lower FROM decisioning.lift_over_time(%s, 'day') ORDER BY day DESC LIMIT 1"
        now = "SELECT treated_mean, absolute_lift, upper - lower FROM decisioning.lift(%s) WHERE headline"
        assert later.execute(series, [campaign]).fetchone() == pytest.approx(later.execute(now, [campaign]).fetchone(), rel=1e-9)
    by_days = dict(later.execute("SELECT l.campaign, l.upper - l.lower FROM decisioning.lift_over_time(NULL, 'days since exposure') l WHERE l.days_since_exposure = 0").fetchall())
    assert by_days["together"] / by_days["apart"] == pytest.approx(2, rel=0.1)


def test_mixed_customers_can_be_left_out(db):
    session = grown(db, customers=2000)
    mixed = "UPDATE decisioning._assignment SET merged_at = %s, mixed_at = %s WHERE customer_id IN ('c-1', 'c-2', 'c-3')"
    session.execute(mixed, ["2026-06-02", "2026-06-02"])
    count = "SELECT sum(treated_customers + baseline_customers) FROM decisioning.lift('c', mixed => {}) WHERE headline"
    groups = dict(session.execute("SELECT customer_id, treatment_group FROM decisioning.assignments").fetchall())
    left = sum(groups[customer] in ("optimise", "holdout") for customer in ("c-1", "c-2", "c-3"))
    all_of_them, rest = (session.execute(count.format(mixed)).fetchone()[0] for mixed in ("true", "false"))
    assert all_of_them - rest == left > 0
    rows = session.execute("SELECT topic, sum(affected) FROM decisioning.group_differences('c') WHERE topic LIKE '%customers%' GROUP BY 1 ORDER BY 1").fetchall()
    assert rows == [("customers of two groups", 3), ("merged customers", 3)]


def test_customers_without_anybody_to_compare_with_are_left_out(db):
    session = grown(db, customers=2000)
    first = session.execute("SELECT treated_customers, baseline_customers FROM decisioning.lift").fetchone()
    session.execute("UPDATE decisioning.campaigns SET holdout_share = 0")
    session.execute("INSERT INTO public.customers SELECT 'n-' || n, n % 90, 'a' FROM generate_series(1, 1000) n")
    session.execute("CALL decisioning.decide_all('c')")
    later = shop.session(db, now="2026-06-05 10:00+00")
    assert later.execute("SELECT treated_customers, baseline_customers FROM decisioning.lift").fetchone() == first
    assert later.execute("SELECT sum(customers) FROM decisioning.group_balance").fetchone() == (3000,)


def test_what_groups_cost_is_compared(db):
    """Half of explore is sent nothing, and hardly anybody in optimise is not: customers of the one are charged more than those of the other."""
    connection = db.connect()
    shop.create(connection, customers=3000, explore=0.3)
    connection.execute("UPDATE decisioning.actions SET cost_send = CASE WHEN action LIKE '%sms%' THEN 0.5 ELSE 0.01 END")
    budget = connection.execute("SELECT decisioning.set_budget('c', 100000, 'total')").fetchone()[0]
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-01 18:00+00")
    rows = connection.execute(
        "SELECT treatment_group, counted, affected, rate, share, p_value, alike FROM decisioning.group_differences('c') WHERE topic = %s ORDER BY 1",
        [f"charged to {budget}"],
    ).fetchall()
    charged = """SELECT s.treatment_group, count(*), count(n.charged), coalesce(sum(n.charged), 0)::float8
        FROM decisioning.assignments s LEFT JOIN (
            SELECT d.customer_id, sum(r.charged) / 1e6 AS charged FROM decisioning._reservation r
            JOIN decisioning.decisions d USING (decision_id) GROUP BY 1 HAVING sum(r.charged) > 0) n USING (customer_id)
        GROUP BY 1 ORDER BY 1"""
    direct = connection.execute(charged).fetchall()
    total = sum(row[3] for row in direct)
    assert [row[:5] for row in rows] == [
        (group, customers, sent, pytest.approx(amount / customers), pytest.approx(amount / total)) for group, customers, sent, amount in direct
    ]
    assert total > 0 and sum(row[4] for row in rows) == pytest.approx(1)
    rates = {row[0]: row[3] for row in rows}
    assert rates["holdout"] == 0, "which is by design, and no part of the test"
    assert rates["optimise"] > 1.5 * rates["explore"]
    assert {row[5] < 1e-9 for row in rows} == {True} and {row[6] for row in rows} == {False}


def test_rare_levels_of_fair_groups_are_not_unlike(db):
    """Of a thousand surnames the most frequent are told apart: those of all customers, not those that one group has by chance more of."""
    connection = shop.session(db)
    connection.execute(
        """CREATE TABLE people AS SELECT 'p-' || n AS id, substr(md5(m::text || n % 1200), 1, 6) AS s1, substr(md5(n::text), 1, 3) AS s2,
                  (hashtext(n::text) & 2047)::text AS s3, (hashtext('x' || n) & 1023)::text AS s4
           FROM generate_series(1, 20000) n, LATERAL (SELECT n / 7 % 3) AS k(m)"""
    )
    connection.execute("SELECT decisioning.add_goal('buy', 'conversion')")
    for n in range(4):
        connection.execute("SELECT decisioning.create_campaign(%s, 'people', 'id')", [f"k{n}"])
        connection.execute("UPDATE decisioning.campaigns SET salt = md5(campaign)::uuid")
        connection.execute("SELECT decisioning.add_action(%s, 'mail', channel => 'email'), decisioning.approve_action(%s, 'mail')", [f"k{n}"] * 2)
        connection.execute("SELECT decisioning.add_campaign_goal(%s, 'buy'), decisioning.start_campaign(%s)", [f"k{n}"] * 2)
        connection.execute(f"CALL decisioning.decide_all('k{n}')")
    found = [row for n in range(4) for row in db.sql("SELECT levels, p_value, balanced FROM decisioning.feature_balance(%s)", [f"k{n}"])]
    assert len(found) == 16 and {levels for levels, _, _ in found} == {20}
    assert all(balanced for _, _, balanced in found)
    # Of sixteen fair tests, those below a tenth: eight or more are one case in a hundred thousand.
    assert sum(p < 0.1 for _, p, _ in found) < 8


def test_other_people_under_other_shares_are_not_unlike(db):
    """Who comes later is another kind of person, and drawn under other shares. Among those of one draw the groups are alike."""
    session = grown(db, customers=6000)
    session.execute("UPDATE decisioning.campaigns SET holdout_share = 0.4")
    session.execute("INSERT INTO public.customers SELECT 'n-' || n, 20, 'z' FROM generate_series(1, 3000) n")
    session.execute("CALL decisioning.decide_all('c')")
    found = session.execute("SELECT feature, customers, balanced FROM decisioning.feature_balance('c') ORDER BY 1").fetchall()
    assert found == [("age", 9000, True), ("kind", 9000, True)]
    # The same among those of one draw is told.
    session.execute("UPDATE decisioning.decisions SET context = jsonb_set(context, '{kind}', '\"a\"') WHERE customer_id LIKE 'n-%' AND treatment_group = 'holdout'")
    assert session.execute("SELECT balanced FROM decisioning.feature_balance('c') WHERE feature = 'kind'").fetchone() == (False,)


def test_members_of_a_household_are_one_in_the_balance_of_features(db):
    """Households of one to five who share a city: their members are no evidence of their own that the groups differ."""
    connection = shop.session(db)
    connection.execute(
        """CREATE TABLE people AS SELECT 'p-' || h || '-' || m AS id, 'h-' || h AS home, 'city ' || (hashtext('a' || h) & 15) AS city, 'street ' || (hashtext('b' || h) & 15) AS street,
                  'kind ' || (hashtext('c' || h) & 15) AS kind
           FROM generate_series(1, 4000) h CROSS JOIN LATERAL generate_series(0, abs(hashtext('size' || h)) % 5) m"""
    )
    connection.execute("SELECT decisioning.add_goal('buy', 'conversion')")
    found = []
    for n in range(3):
        name = f"k{n}"
        connection.execute("SELECT decisioning.create_campaign(%s, 'people', 'id', household_column => 'home', unit => 'household', features => '{city,street,kind}')", [name])
        connection.execute("UPDATE decisioning.campaigns SET salt = md5(campaign)::uuid")
        connection.execute("SELECT decisioning.add_action(%s, 'mail', channel => 'email'), decisioning.approve_action(%s, 'mail')", [name, name])
        connection.execute("SELECT decisioning.add_campaign_goal(%s, 'buy'), decisioning.start_campaign(%s)", [name, name])
        connection.execute(f"CALL decisioning.decide_all('{name}')")
        found += db.sql("SELECT p_value, balanced FROM decisioning.feature_balance(%s)", [name])
    assert len(found) == 9 and all(balanced for _, balanced in found)
    assert sum(p < 0.05 for p, _ in found) <= 2, found


def test_stop_rules_say_that_they_see_nothing(db):
    session = grown(db, customers=3000)
    session.execute("SELECT decisioning.add_goal('leave', 'harm'), decisioning.add_campaign_goal('c', 'leave'), decisioning.add_stop_rule('c', 'leave')")
    session.execute("SELECT decisioning.record_outcomes('leave', array_agg('l-' || customer_id), array_agg(customer_id), occurred_at => array_agg(exposed_at)) FROM decisioning.assignments WHERE customer_id LIKE '%7'")
    assert len(session.execute("SELECT * FROM decisioning.check_stop_rules('c')").fetchall()) == 1
    session.execute("INSERT INTO decisioning._feature_balance (campaign, feature, checked_at, customers, p_value, balanced) VALUES ('c', 'age', now(), 3000, 0, false)")
    heard = []
    session.add_notice_handler(lambda notice: heard.append((notice.severity, notice.message_primary, notice.message_detail)))
    assert session.execute("SELECT * FROM decisioning.check_stop_rules('c')").fetchall() == []
    ((severity, message, detail),) = heard
    assert severity == "WARNING" and "sees nothing: its groups cannot be compared" in message and "invalid: features" in detail


def test_groups_that_differ_in_a_feature_are_said_to(db):
    session = grown(db, customers=3000)
    session.execute(
        """UPDATE decisioning.decisions d SET context = jsonb_set(context, '{kind}', '"z"')
           WHERE d.treatment_group = 'optimise' AND abs(hashtext(d.customer_id)) % 3 = 0"""
    )
    session.execute("SELECT decisioning.maintain()")
    assert session.execute("SELECT DISTINCT verdict FROM decisioning.lift").fetchall() == [("invalid: features",)]
    assert "groups were not alike before the campaign began" in session.execute("SELECT decisioning.report('c')").fetchone()[0]


def test_the_base_is_that_of_the_audience(db):
    """Events of everybody else say nothing of whom the campaign wins back."""
    connection = db.connect()
    shop.create(connection, customers=4000)
    connection.execute("UPDATE decisioning.campaigns SET audience = 'age < 45', features = '{kind}'")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o-' || id), array_agg(id), amounts => array_agg(10::float8),
                  occurred_at => array_agg('2026-05-31 12:00+00'::timestamptz))
           FROM public.customers WHERE age >= 45 OR age = 7"""
    )
    power = "SELECT audience, basis, base FROM decisioning.power_analysis('c')"
    audience, buyers = db.sql("SELECT count(*), count(*) FILTER (WHERE age = 7) FROM public.customers WHERE age < 45")[0]
    assert connection.execute(power).fetchone() == (audience, "history", pytest.approx(10 * buyers / audience))
    said = dict(connection.execute("SELECT topic, finding FROM decisioning.data_readiness('c')").fetchall())
    assert f"{10 * buyers / audience:.4f}" in said["base rate"]
    connection.execute("UPDATE decisioning.campaigns SET audience = 'age < 7'")
    assert connection.execute(power).fetchone()[1:] == ("none", None)


@pytest.mark.parametrize(("kind", "value", "per_event"), [("value", 20, 20), ("value", None, 10), ("harm", -5, -5)])
def test_values_of_lift_are_those_that_the_campaign_gives_to_events(db, kind, value, per_event):
    session = grown(db, customers=3000)
    session.execute("UPDATE decisioning.goals SET kind = %s", [kind])
    session.execute("UPDATE decisioning.campaign_goals SET value = %s", [value])
    lift = "SELECT treated_mean FROM decisioning.lift('c', winsorise => 1) WHERE measure = %s AND treated_group = 'optimise' AND baseline_group = 'holdout'"
    (events,) = session.execute(lift, ["events per customer"]).fetchone()
    assert session.execute(lift, ["value per customer"]).fetchone() == (pytest.approx(per_event * events),)


def test_more_of_a_harm_is_worse_by_whatever_measure(db):
    session = grown(db, customers=4000)
    session.execute("SELECT decisioning.add_goal('return', 'harm'), decisioning.add_campaign_goal('c', 'return', value => -8)")
    session.execute(
        """SELECT decisioning.record_outcomes('return', array_agg('r-' || customer_id), array_agg(customer_id)) FROM decisioning.assignments
           WHERE abs(hashtext('r' || customer_id)) % 10 < CASE treatment_group WHEN 'holdout' THEN 1 ELSE 4 END"""
    )
    later = shop.session(db, now="2026-06-04 10:00+00")
    rows = later.execute(
        "SELECT measure, verdict, absolute_lift > 0 FROM decisioning.lift('c', goal => 'return') WHERE treated_group = 'optimise' AND baseline_group = 'holdout'"
    ).fetchall()
    assert sorted(rows) == [("conversion rate", "negative", True), ("events per customer", "negative", True), ("value per customer", "negative", False)]


def test_few_responders_have_no_interval(db):
    session = grown(db, customers=300)
    rows = session.execute(
        "SELECT absolute_lift, lower, fixed_lower, fixed_upper, p_value, detectable_lift FROM decisioning.lift('c') WHERE headline"
    ).fetchall()
    (responders,) = session.execute("SELECT count(*) FROM decisioning.assignments WHERE treatment_group = 'holdout' AND abs(hashtext(customer_id)) % 10 = 0").fetchone()
    assert responders < 10 and rows == [(rows[0][0], None, None, None, None, None)] and rows[0][0] is not None
