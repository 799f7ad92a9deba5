"""A dump carries everything, restores in parallel, and the restored database decides identically."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
import shop  # noqa: E402

STATE = {
    "campaigns": "SELECT * FROM decisioning.campaigns ORDER BY campaign",
    "actions": "SELECT * FROM decisioning.actions ORDER BY campaign, action_id",
    "epochs": "SELECT * FROM decisioning.epochs ORDER BY epoch",
    "goals": "SELECT * FROM decisioning.goals, decisioning.campaign_goals ORDER BY 1",
    "caps": "SELECT * FROM decisioning.frequency_caps ORDER BY 1",
    "global holdout": "SELECT * FROM decisioning.global_holdout",
    "brand rules": "SELECT * FROM decisioning.brand_rules ORDER BY 1",
    "claims": "SELECT * FROM decisioning.claims ORDER BY 1",
    "contents": "SELECT * FROM decisioning.action_contents ORDER BY 1, 2, 3",
    "approvals": "SELECT * FROM decisioning.approvals ORDER BY 1",
    "outbox": "SELECT * FROM decisioning._outbox ORDER BY decision_id",
    "sends": "SELECT * FROM decisioning.sends ORDER BY decision_id",
    "clock of sends": "SELECT * FROM decisioning._send_clock",
    "suppressions": "SELECT * FROM decisioning.suppressions ORDER BY 1, 2",
    "contacts under caps": "SELECT customer_id, decisions FROM decisioning._customer ORDER BY 1",
    "budgets": "SELECT * FROM decisioning.budgets ORDER BY 1, 2",
    "budget periods": "SELECT * FROM decisioning._budget_period ORDER BY 1, 2, 3",
    "budget slots": "SELECT * FROM decisioning._budget_slot ORDER BY 1, 2, 3, 4",
    "reservations": "SELECT * FROM decisioning._reservation ORDER BY 1, budget",
    "paces": "SELECT * FROM decisioning._pace ORDER BY 1, 2",
    "households": "SELECT * FROM decisioning._household ORDER BY 1, 2",
    "budget status": "SELECT budget, amount, reserved, spent, remaining, shadow_price FROM decisioning.budget_status ORDER BY 1",
    "sources": "SELECT * FROM decisioning.outcome_sources",
    "assignments": "SELECT * FROM decisioning._assignment ORDER BY customer_id, campaign",
    "decisions": "SELECT * FROM decisioning.decisions ORDER BY decision_id",
    "outcomes": "SELECT * FROM decisioning.outcomes ORDER BY outcome_id",
    "keys": "SELECT * FROM decisioning._outcome_key ORDER BY goal, event_id",
    "inbox": "SELECT i::text FROM decisioning._inbox i ORDER BY decision_id, outcome_id, campaign",
    "encoders": "SELECT * FROM decisioning._encoder ORDER BY 1, 2",
    "models": "SELECT * FROM decisioning._model ORDER BY 1, 2",
    "model parts": "SELECT * FROM decisioning._model_part ORDER BY 1, 2, 3",
    "learners": "SELECT * FROM decisioning._learner",
    "learner parts": "SELECT * FROM decisioning._learner_part ORDER BY 1, 2",
    "learner epochs": "SELECT * FROM decisioning._learner_epoch ORDER BY 1, 2, 3",
    "partitions": "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'decisioning.decisions'::regclass ORDER BY 1",
    "shadows": "SELECT * FROM decisioning.shadow_decisions ORDER BY decision_id",
}

# Sums of floating-point numbers, which go by the order in which rows are read: alike but for rounding.
MEASURED = ("decisioning.lift('c', as_of => '2026-06-05')", "decisioning.total_lift(as_of => '2026-06-05')")


def test_dump_and_parallel_restore(db, empty_db, tmp_path):
    connection = db.connect()
    shop.create(connection, customers=1500)
    connection.execute("UPDATE decisioning.campaigns SET control_share = 0.2, control_action = 'x/email'")
    connection.execute(
        "SELECT decisioning.add_outcome_source('buy', 'public.orders', customer_key => 'customer', occurred_at => 'at', value => 'margin', event_id => 'id')"
    )
    connection.execute("UPDATE decisioning.campaigns SET household_column = 'kind'")
    connection.execute("SELECT decisioning.add_frequency_cap(3, '7 days', cap => 'mails')")
    connection.execute("SELECT decisioning.suppress('c-9', channel => 'sms')")
    connection.execute("""SELECT decisioning.set_content('c', 'x/email', '"Best"', 'de'), decisioning.set_content('c', 'y/email', '"Good"', 'de')""")
    connection.execute("SELECT decisioning.add_claim('good', '{good}', 'https://example.com', expires_at => '2027-01-01')")
    connection.execute("SELECT decisioning.approve_action('c', 'x/email'), decisioning.approve_action('c', 'y/email')")
    connection.execute("""SELECT decisioning.add_brand_rule('banned_phrases', '{"phrases": ["best"]}')""")
    connection.execute("SELECT decisioning.set_budget('c', 300, unit => 'sends', dimension => 'channel', level => 'sms')")
    # Lowered, so that all that is derived of it differs.
    connection.execute("SELECT decisioning.set_global_holdout(0.2), decisioning.set_global_holdout(0.1)")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.set_delivery('*', 'claimed')")
    connection.execute("SELECT decisioning.dispatch(batch_size => 1000)")
    connection.execute("SELECT decisioning.claim_sends(batch_size => 100)")
    connection.execute("INSERT INTO public.orders SELECT 'o-' || n, 'c-' || n, '2026-06-01 11:00+00', n FROM generate_series(1, 1500, 5) n")
    # A decision outside of every monthly partition, as after a long pause of maintain.
    old = shop.session(db, now="2020-02-01 10:00+00")
    old.execute("SELECT * FROM decisioning.decide('c-7', 'c')")
    connection = shop.session(db, now="2026-06-03 10:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    # Half of control has been ramped, and something still waits in the inbox, made in shadow mode.
    connection.execute("SELECT decisioning.ramp_control('c', 0.5)")
    connection.execute("SET decisioning.mode = 'shadow'")
    connection.execute("SELECT * FROM decisioning.decide_batch(ARRAY['c-1', 'c-2', 'c-3'], 'c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'by hand', 'c-1')")

    db.pg_tool("pg_dump", "--format=directory", f"--file={tmp_path}/dump", "--jobs=2", db.name)
    empty_db.pg_tool("pg_restore", "--jobs=4", "--exit-on-error", f"--dbname={empty_db.name}", f"{tmp_path}/dump")

    assert db.sql("SELECT count(*) > 0 FROM decisioning.shadow_decisions") == [(True,)]
    assert db.sql("SELECT count(*) > 0 FROM decisioning._assignment WHERE ramped_at IS NOT NULL") == [(True,)]
    assert db.sql("SELECT share, least, most FROM decisioning.global_holdout") == [(0.1, 0.1, 0.2)]
    assert db.sql("SELECT count(*) > 0 FROM decisioning.assignments WHERE global_holdout") == [(True,)]
    for name, query in STATE.items():
        assert empty_db.sql(query) == db.sql(query), name
    for readout in MEASURED:
        here = db.sql(f"SELECT * FROM {readout}")
        assert here and shop.alike(empty_db.sql(f"SELECT * FROM {readout}"), here), readout
    assert empty_db.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r") == [(True,)]

    # Both go on alike: the same learning, the same choices, the same ids, the next epoch.
    def go_on(database):
        session = shop.session(database, now="2026-06-05 10:00+00")
        learned = session.execute("SELECT * FROM decisioning.learn('c')").fetchall()
        session.execute("INSERT INTO public.customers SELECT 'n-' || n, 30, 'a' FROM generate_series(1, 300) n")
        chosen = session.execute(
            "SELECT customer_id, treatment_group, action, propensity, decision_id, reason FROM decisioning.decide_batch((SELECT array_agg(id ORDER BY id) FROM public.customers), 'c')"
        ).fetchall()
        session.execute("SELECT decisioning.dispatch()")
        session.execute("SELECT decisioning.pause_action('c', 'x/sms')")
        return learned, chosen, session.execute("SELECT max(epoch) FROM decisioning.epochs").fetchall()

    here, there = go_on(db), go_on(empty_db)
    assert here[1] == there[1]
    assert here[0] == there[0]
    assert here[2] == there[2]
    assert len({row[2] for row in here[1]}) > 2
    assert len({row[0] for row in here[1] if row[0].startswith("n-") and row[5] == "global_holdout"}) > 10
    assert empty_db.sql(STATE["sends"]) == db.sql(STATE["sends"])
