"""The global holdout: who may set it, what holds while it is set, and that a total is found by chance no more often than it says."""

import random

import psycopg
import pytest

import shop
from test_identity import Background, wait_until_blocked

DAY = "2026-06-{:02} 10:00+00"


def second_campaign(connection):
    connection.execute("SELECT decisioning.create_campaign('e', 'public.customers', 'id', time_zone => 'UTC')")
    connection.execute("SELECT decisioning.add_action('e', 'email', channel => 'email'), decisioning.approve_action('e', 'email')")
    connection.execute("SELECT decisioning.add_campaign_goal('e', 'buy'), decisioning.start_campaign('e')")


def test_managers_set_it_readers_read_it_and_operators_decide_under_it(db):
    shop.create(db.connect(), customers=400)
    people = {}
    for level in ("reader", "operator", "manager"):
        role = db.create_role(level)
        db.sql(f"SELECT decisioning.grant_rights('{level}', '{level}')")
        db.sql(f"GRANT SELECT ON public.customers TO {level}")
        people[level] = db.connect(role=role)
    for level in ("reader", "operator"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            people[level].execute("SELECT decisioning.set_global_holdout(0.5)")
    people["manager"].execute("SELECT decisioning.set_global_holdout(0.5)")
    people["operator"].execute("CALL decisioning.decide_all('c')")
    assert people["reader"].execute("SELECT share FROM decisioning.global_holdout").fetchall() == [(0.5,)]
    held = people["reader"].execute("SELECT count(*) FROM decisioning.assignments WHERE global_holdout").fetchone()[0]
    assert 150 < held < 250
    assert people["reader"].execute("SELECT DISTINCT baseline_customers FROM decisioning.total_lift()").fetchall() == [(held,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        people["operator"].execute("UPDATE decisioning.global_holdout SET share = 0")
    assert db.sql("SELECT changed_by FROM decisioning.epochs WHERE relation = 'global_holdout'") == [("manager",)]


def test_nobody_is_drawn_without_it_once_it_is_set(db):
    connection = db.connect()
    shop.create(connection, customers=300)
    with shop.session(db, now=DAY.format(1), autocommit=False) as deciding:
        deciding.execute("SELECT * FROM decisioning.decide('c-1', 'c')")
        # It waits for a decision that is under way; one that comes meanwhile waits for it.
        manager = db.connect()
        setting = Background(lambda: manager.execute("SELECT decisioning.set_global_holdout(0.5)"))
        wait_until_blocked(db, manager)
        deciding.commit()
        setting.result()
    connection.execute("CALL decisioning.decide_all('c')")
    without = db.sql("SELECT customer_id FROM decisioning._assignment WHERE global_bucket IS NULL")
    assert without == [("c-1",)]
    assert db.sql("SELECT count(*) FROM decisioning._assignment WHERE global_holdout IS DISTINCT FROM (global_bucket < 5000) AND customer_id <> 'c-1'") == [(0,)]


def test_a_merge_across_campaigns_keeps_each_in_his_arm(db):
    connection = db.connect()
    shop.create(connection, customers=1000)
    second_campaign(connection)
    connection.execute("SELECT decisioning.set_global_holdout(0.5)")
    connection.execute("CREATE TABLE people AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("CALL decisioning.decide_all('c')")
    arms = dict(db.sql("SELECT customer_id, global_holdout FROM decisioning.assignments"))
    held = [customer for customer in sorted(arms) if arms[customer]]
    treated = [customer for customer in sorted(arms) if not arms[customer]]
    before = db.sql("SELECT treated_customers, baseline_customers FROM decisioning.total_lift() WHERE goal IS NULL")
    for a, b in zip(held[:20], treated[:20]):
        connection.execute("UPDATE people SET mail = %s WHERE id = %s", [f"{a}@example.com", b])
    connection.execute("CALL decisioning.resolve_all()")
    with shop.session(db, now=DAY.format(2)) as session:
        session.execute("CALL decisioning.decide_all('c')")
        session.execute("CALL decisioning.decide_all('e')")
        # In a campaign that had drawn neither, the canonical id is drawn; nobody comes to be exposed in both arms of the total.
        drawn = session.execute(
            """SELECT count(*) FROM decisioning._assignment e JOIN decisioning._assignment c USING (customer_id)
               WHERE e.campaign = 'e' AND c.campaign = 'c' AND c.exposed_at < 'infinity' AND e.exposed_at < 'infinity'
                 AND e.global_holdout <> c.global_holdout"""
        ).fetchone()
        assert drawn == (0,)
        assert session.execute("SELECT treated_customers, baseline_customers FROM decisioning.total_lift() WHERE goal IS NULL").fetchall() == before
        # Every event counts once, whichever id it is recorded with.
        for customer in held[:20] + treated[:20]:
            session.execute("SELECT decisioning.record_outcome('buy', %s, customer_id => %s, value => 1)", [f"o-{customer}", customer])
    with shop.session(db, now=DAY.format(3)) as session:
        counted = session.execute(
            """SELECT round(treated_mean * treated_customers), round(baseline_mean * baseline_customers)
               FROM decisioning.total_lift() WHERE goal = 'buy' AND measure = 'events per customer'"""
        ).fetchall()
    assert counted == [(20, 20)]


def test_intervals_cover_nothing_where_there_is_nothing(db):
    connection = db.connect()
    shop.create(connection, customers=4000)
    connection.execute("SELECT decisioning.set_global_holdout(0.3)")
    connection.execute("CALL decisioning.decide_all('c')")
    fixed = always = 0
    runs = 40
    rng = random.Random(5)
    for run in range(runs):
        connection.execute("TRUNCATE decisioning.outcomes, decisioning._outcome_key, decisioning._inbox")
        buyers = [f"c-{n}" for n in range(1, 4001) if rng.random() < 0.1]
        connection.execute(
            """SELECT count(*) FROM unnest(%s::text[]) AS n(id),
                      LATERAL decisioning.record_outcome('buy', 'o-' || n.id, customer_id => n.id, value => 10) AS r""",
            [buyers],
        )
        with shop.session(db, now=DAY.format(2)) as session:
            row = session.execute(
                "SELECT lower, upper, fixed_lower, fixed_upper FROM decisioning.total_lift() WHERE goal = 'buy' AND measure = 'value per customer'"
            ).fetchone()
        always += row[0] <= 0 <= row[1]
        fixed += row[2] <= 0 <= row[3]
    # 38 of 40 expected; 33 or fewer have a probability below 1 %.
    assert fixed >= 34 and always >= fixed
