"""Guardrails: one customer for each kind of rule, and what keeps what from him."""

import pandas as pd

import loop
from console import Session, Table, say

CAMPAIGN = "care"

# What protects whom: the rule as one sets it, the customer, the action that he must not get, and the label of what removes it.
RULES = [
    ("SELECT decisioning.set_consent_column('care', 'sms_opt_in', 'sms')", "consent", "text"),
    ("SELECT decisioning.suppress('suppression', channel => 'email', reason => 'asked on the phone')", "suppression", "mail"),
    ("SELECT decisioning.add_eligibility_rule('care', 'age >= 18', actions => '{\"offer\": \"wine\"}', rule => 'adults')", "eligibility", "wine"),
    (
        "SELECT decisioning.add_eligibility_rule('care', 'recalled', actions => '{\"message\": \"recall\"}',\n"
        "       effect => 'must_send', rule => 'recall')",
        "must_send",
        "mail",
    ),
    ("SELECT decisioning.set_goal_exit('care', 'order', 'cool_down', '14 days')", "goal", "mail"),
    ("SELECT decisioning.add_frequency_cap(1, '7 days', 'care', cap => 'one a week')", "cap", "mail"),
    (
        "SELECT decisioning.add_order_rule('care', '{\"message\": \"reminder\"}', 'only_after', '{\"message\": \"hello\"}',\n"
        "       rule => 'hello first')",
        "order",
        "reminder",
    ),
    ("SELECT decisioning.set_quiet_hours('21:00', '08:00', 'care', rule => 'night')", "quiet_hours", "mail"),
    ("SELECT decisioning.set_budget('care', 0, unit => 'sends', dimension => 'offer', level => 'wine')", "budget", "wine"),
    (
        "SELECT decisioning.add_brand_rule('banned_phrases', '{\"phrases\": [\"risk free\"]}', 'no promises')",
        "approval",
        "promise",
    ),
    ("SELECT decisioning.set_profiling_consent('care', 'agrees_to_profiling')", "not_in_audience", "mail"),
]


def play(session: Session, today: pd.Timestamp) -> None:
    set_up(session, today)
    say("Every rule is a row. Each of these customers is named after what protects him.")
    shown = []
    for statement, customer, action in RULES:
        session.run(statement)
        if customer == "goal":
            session.run("SELECT decisioning.record_outcome('order', event_id => 'o-1', customer_id => 'goal')", quiet=True)
        removed = session.value(
            "SELECT removed_by FROM decisioning.preview(%(customer)s, 'care') WHERE action = %(action)s",
            {"customer": customer, "action": action},
            quiet=True,
        )
        if not (removed or "").startswith(customer):
            raise AssertionError(f"nothing protects {customer}: {removed}")
        shown.append((customer, action, removed))
    say()
    Table(["customer", "is not sent", "because of"], shown)
    say()
    say("What was decided is looked at again before it is sent: consent that was withdrawn since is not forgotten.")
    session.run("SELECT action, reason FROM decisioning.decide('late', 'care')", quiet=True)
    session.run("UPDATE warehouse.people SET email_opt_in = false WHERE customer_id = 'late'")
    session.run("SELECT decisioning.set_consent_column('care', 'email_opt_in', 'email')", quiet=True)
    session.run("SELECT queued, cancelled FROM decisioning.dispatch('care')")
    sends = session.run(
        "SELECT customer_id, action, status, coalesce(reason, '') FROM decisioning.sends WHERE campaign = 'care' ORDER BY 1"
    )
    Table(["customer", "action", "status", "reason"], sends)
    say()
    say("Who asks to be forgotten leaves a tombstone without a name: groups and totals, so that lift stays what it is.")
    forgotten = session.run("SELECT * FROM decisioning.forget_customer('goal', reason => 'asked by letter')")
    Table(["what was known", "rows"], forgotten)


def set_up(session: Session, today: pd.Timestamp) -> None:
    """Noon in Berlin; where it is night, quiet_hours lives."""
    loop.set_clock(session, today + pd.Timedelta(hours=10), quiet=True)
    customers = [customer for _, customer, _ in RULES] + ["late"]
    session.run(
        "CREATE TABLE warehouse.people AS\n"
        "SELECT name AS customer_id, name <> 'consent' AS sms_opt_in, true AS email_opt_in, name = 'must_send' AS recalled,\n"
        "       name <> 'not_in_audience' AS agrees_to_profiling,\n"
        "       CASE name WHEN 'eligibility' THEN 16 ELSE 40 END AS age,\n"
        "       CASE name WHEN 'quiet_hours' THEN 'Pacific/Auckland' ELSE 'Europe/Berlin' END AS tz\n"
        "FROM unnest(%(customers)s::text[]) AS name",
        {"customers": customers},
        quiet=True,
    )
    for statement in [
        "SELECT decisioning.create_campaign('care', customers => 'warehouse.people', customer_key => 'customer_id', time_zone => 'tz')",
        "SELECT decisioning.set_send_options('care', send_horizon => '1 hour')",
        "UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 0, control_share = 1, control_action = 'mail' WHERE campaign = 'care'",
        "SELECT decisioning.add_action('care', 'mail', message => 'hello', channel => 'email')",
        "SELECT decisioning.add_action('care', 'text', message => 'hello', channel => 'sms')",
        "SELECT decisioning.add_action('care', 'wine', message => 'offer', offer => 'wine', channel => 'email')",
        "SELECT decisioning.add_action('care', 'recall', message => 'recall', channel => 'email')",
        "SELECT decisioning.add_action('care', 'reminder', message => 'reminder', channel => 'email')",
        "SELECT decisioning.add_action('care', 'promise', message => 'promise', channel => 'email', content => '{\"subject\": \"Risk free!\"}')",
        "SELECT decisioning.approve_action('care', action) FROM decisioning.actions WHERE campaign = 'care'",
        "SELECT decisioning.add_goal('order')",
        "SELECT decisioning.add_campaign_goal('care', 'order')",
        "SELECT decisioning.start_campaign('care')",
        # Whoever was sent something already, or was exposed and then ordered.
        "SELECT decisioning.decide('cap', 'care'), decisioning.decide('goal', 'care')",
    ]:
        session.run(statement, quiet=True)
