"""Campaigns that compete for a contact: whoever has more at stake takes it over, and the cap holds whatever sessions do."""

import psycopg
import pytest

import shop
from test_delivery import contacts_are_those_of_sends, retried
from test_guardrails import run
from test_identity import Background, wait_until_blocked

CAMPAIGNS = 4
CUSTOMERS = 150


def create(db):
    """Campaigns that want to send to everybody, with an effect that their models have learned, and with rising priorities; one more
    that takes no part."""
    connection = db.connect()
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [shop.NOW])
    connection.execute("CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n %% 9 AS age FROM generate_series(1, %s) AS n", [CUSTOMERS])
    connection.execute(
        """CREATE TABLE public.history AS
           SELECT 'h-' || n AS id, n % 9 AS age, (ARRAY['no_send', 'mail', 'text'])[1 + n % 3] AS action, 1 / 3.0 AS propensity,
                  timestamptz '2026-04-01' + n * interval '1 minute' AS at FROM generate_series(1, 900) AS n"""
    )
    connection.execute(
        "CREATE VIEW public.bought AS SELECT id AS event, id, at + interval '1 hour' AS at FROM public.history WHERE action <> 'no_send' AND right(id, 1) < '5'"
    )
    connection.execute("SELECT decisioning.add_goal('buy')")
    connection.execute("SELECT decisioning.add_outcome_source('buy', 'public.bought', customer_key => 'id', occurred_at => 'at', event_id => 'event')")
    for n in range(CAMPAIGNS + 1):
        name = f"k{n}"
        connection.execute("SELECT decisioning.create_campaign(%s, 'public.customers', 'id')", [name])
        for action, channel in (("mail", "email"), ("text", "sms")):
            connection.execute("SELECT decisioning.add_action(%s, %s, channel => %s), decisioning.approve_action(%s, %s)", [name, action, channel, name, action])
        connection.execute("SELECT decisioning.add_campaign_goal(%s, 'buy')", [name])
        connection.execute(
            "SELECT decisioning.import_decisions(%s, 'public.history', customer_key => 'id', action => 'action', decided_at => 'at', propensity => 'propensity')",
            [name],
        )
        connection.execute("SELECT decisioning.learn(%s), decisioning.start_campaign(%s)", [name, name])
        if n < CAMPAIGNS:
            connection.execute("SELECT decisioning.set_priority(%s, %s)", [name, 3.0**n])
    connection.execute(
        """UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0, offer_consistency = NULL, salt = md5(campaign)::uuid"""
    )
    connection.execute("SELECT decisioning.add_frequency_cap(1, 'day')")
    connection.execute("SELECT decisioning.set_delivery('email', 'claimed')")
    return connection


MADE = "(status = 'claimed' OR status = 'queued' AND delivery = 'synced')"


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_the_cap_holds_whoever_takes_over(db, isolation):
    """32 sessions: decide, decide_batch, decide_all, dispatch and claims, some rolled back, for three hot customers and for all."""
    connection = create(db)
    hot = [f"c-{n}" for n in range(1, 4)]

    def work(number, rng):
        campaign = f"k{number % (CAMPAIGNS + 1)}"
        if number < 3:
            # It commits by itself, and keeps no snapshot.
            shop.session(db).execute("CALL decisioning.decide_all(%s, chunk_size => 20)", [campaign])
            return
        session = shop.session(db, autocommit=False)
        session.isolation_level = isolation
        for _ in range(15):
            ids = rng.choice([hot, [rng.choice(hot)], [f"c-{rng.randint(1, CUSTOMERS)}" for _ in range(10)]])
            campaign = f"k{min(rng.randrange(CAMPAIGNS + 3), CAMPAIGNS)}"
            call = rng.random()

            def step():
                if call < 0.3:
                    session.execute("SELECT * FROM decisioning.decide(%s, %s)", [ids[0], campaign])
                elif call < 0.7:
                    session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, campaign])
                elif call < 0.85:
                    session.execute("SELECT decisioning.dispatch(%s, batch_size => 5)", [campaign])
                else:
                    session.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 3)")
                if call * 100 % 1 < 0.1:
                    session.rollback()

            retried(session, step)

    run(32, work)
    for n in range(CAMPAIGNS + 1):
        connection.execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
    connection.execute("CALL decisioning.dispatch_all()")
    connection.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 1000)")
    made = db.sql(f"SELECT customer_id, count(*) FROM decisioning.sends WHERE {MADE} GROUP BY 1")
    assert {row[1] for row in made} == {1} and len(made) == CUSTOMERS, "no more than the cap, and no less"
    [(preempted,)] = db.sql("SELECT count(*) FROM decisioning.sends WHERE status = 'preempted'")
    assert preempted > 0
    assert db.sql(f"SELECT count(*) FROM decisioning.sends WHERE status = 'preempted' AND campaign IN ('k{CAMPAIGNS - 1}', 'k{CAMPAIGNS}')") == [(0,)]
    assert contacts_are_those_of_sends(db)


def test_what_is_being_made_is_not_taken_over(db):
    """A worker has looked at a send and not committed when another campaign takes it over and wants to make its own."""
    connection = create(db)
    connection.execute("SELECT decisioning.set_delivery('*', 'claimed')")
    connection.execute("SELECT decisioning.decide('c-1', 'k0')")
    connection.execute("SELECT decisioning.dispatch('k0')")
    first, second = shop.session(db, autocommit=False), shop.session(db)
    claim = "SELECT campaign FROM decisioning.claim_sends(campaign => %s)"
    assert first.execute(claim, ["k0"]).fetchall() == [("k0",)]
    assert second.execute("SELECT action <> 'no_send' FROM decisioning.decide('c-1', 'k3')").fetchall() == [(True,)]
    dispatched = Background(lambda: second.execute("SELECT queued, cancelled, preempted FROM decisioning.dispatch('k3')").fetchall())
    wait_until_blocked(db, second)
    first.commit()
    assert dispatched.result() == [(0, 1, 0)]
    assert db.sql("SELECT campaign, status FROM decisioning.sends ORDER BY 1") == [("k0", "claimed"), ("k3", "cancelled")]
    assert contacts_are_those_of_sends(db)


def test_what_is_taken_over_while_it_is_looked_at_is_not_made(db):
    """Two workers have looked; the send that was taken over meanwhile comes second."""
    connection = create(db)
    connection.execute("SELECT decisioning.set_delivery('*', 'claimed')")
    for campaign in ("k0", "k3"):
        connection.execute("SELECT decisioning.decide('c-1', %s)", [campaign])
        connection.execute("SELECT decisioning.dispatch(%s)", [campaign])
    assert db.sql("SELECT campaign, status FROM decisioning.sends ORDER BY 1") == [("k0", "queued"), ("k3", "queued")]
    first, second = shop.session(db, autocommit=False), shop.session(db)
    claim = "SELECT campaign FROM decisioning.claim_sends(campaign => %s)"
    first.execute(claim, ["k3"])
    waiting = Background(lambda: second.execute(claim, ["k0"]).fetchall())
    wait_until_blocked(db, second)
    first.commit()
    assert waiting.result() == []
    assert db.sql("SELECT campaign, status FROM decisioning.sends ORDER BY 1") == [("k0", "preempted"), ("k3", "claimed")]
