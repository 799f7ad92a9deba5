"""Forgetting while sessions decide, send, record and learn: nobody is half forgotten, and nothing is counted twice or lost."""

import psycopg

import shop
from test_delivery import RETRY
from test_guardrails import create, run


def test_customers_are_forgotten_in_the_middle_of_it_all(db):
    connection = create(db, customers=60, campaigns=2)
    connection.execute("SELECT decisioning.add_frequency_cap(2, 'day')")
    connection.execute("SELECT decisioning.set_delivery('sms', 'claimed')")
    connection.execute("SELECT decisioning.set_budget('k0', 1000, 'day', unit => 'sends')")
    forgotten = []

    def work(number, rng):
        session = shop.session(db)
        for at in range(25):
            customer, campaign = f"c-{rng.randint(1, 60)}", rng.choice(["k0", "k1"])
            ids = [customer, f"c-{rng.randint(1, 60)}"]
            call = rng.random()
            # Of a customer who comes back in the very millisecond the first decision would have the id of before.
            session.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [f"2026-06-01 10:{at:02}:{number:02}+00"])
            try:
                if number == 0:
                    session.execute("SELECT count(*) FROM decisioning.forget_customer(%s)", [customer])
                    forgotten.append(customer)
                elif call < 0.4:
                    session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, campaign])
                elif call < 0.6:
                    session.execute("SELECT decisioning.dispatch(%s, batch_size => 10)", [campaign])
                elif call < 0.75:
                    session.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 3)")
                elif call < 0.95:
                    session.execute("SELECT decisioning.record_outcome('buy', %s, %s, value => 3)", [f"{number}-{at}", customer])
                else:
                    session.execute("SELECT decisioning.learn(%s)", [campaign])
            except RETRY as error:
                assert not isinstance(error, psycopg.errors.DeadlockDetected) or number, f"who forgets is nobody's victim: {error.diag.message_detail} {error.diag.context}"

    run(9, work)
    assert len(forgotten) == 25
    # A send, a decision and its assignment are of one and the same customer, whoever he is by now.
    assert db.sql("SELECT count(*) FROM decisioning.sends s JOIN decisioning.decisions d USING (decision_id) WHERE s.customer_id <> d.customer_id") == [(0,)]
    assert (
        db.sql(
            """SELECT count(*) FROM decisioning.decisions d
               WHERE NOT EXISTS (SELECT FROM decisioning._assignment s WHERE (s.customer_id, s.campaign) = (d.customer_id, d.campaign))"""
        )
        == [(0,)]
    )
    assert (
        db.sql(
            """SELECT count(*) FROM decisioning.forgotten f JOIN decisioning.decisions d ON d.customer_id = f.tombstone
               WHERE d.context <> '{}' OR d.content IS NOT NULL OR EXISTS (SELECT FROM decisioning._outbox o WHERE o.decision_id = d.decision_id)"""
        )
        == [(0,)]
    )
    [(tombstones,)] = db.sql("SELECT count(DISTINCT customer_id) FROM decisioning.decisions WHERE customer_id LIKE 'forgotten-%'")
    assert tombstones > 5
    for campaign in ("k0", "k1"):
        with shop.session(db, now="2026-07-01 10:00+00") as session:
            session.execute("SELECT decisioning.learn(%s)", [campaign])
        [(seen, logged)] = db.sql(
            """SELECT (SELECT m.decisions FROM decisioning.models m WHERE m.campaign = %(c)s ORDER BY m.model_version DESC LIMIT 1),
                      (SELECT count(*) FROM decisioning.decisions d WHERE d.campaign = %(c)s)""",
            {"c": campaign},
        )
        assert seen == logged
    # What was forgotten holds nothing of a budget, unless it was made.
    assert (
        db.sql(
            """SELECT count(*) FROM decisioning._reservation r WHERE NOT r.cancelled
               AND NOT EXISTS (SELECT FROM decisioning.decisions d WHERE d.decision_id = r.decision_id)"""
        )
        == [(0,)]
    )


def test_a_forgotten_customer_stays_in_the_lift(db):
    """However many are forgotten, of whichever group."""
    connection = db.connect()
    shop.create(connection, customers=600, explore=0.3)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcomes('buy', ARRAY(SELECT 'o' || n FROM generate_series(1, 200) n), ARRAY(SELECT 'c-' || 3 * n FROM generate_series(1, 200) n))")
    later = shop.session(db, now="2026-06-05 10:00+00")
    # Sums of the same numbers in another order differ in the last digit.
    read = "SELECT jsonb_agg(to_jsonb(t)) FROM {} AS t"
    rounded = lambda rows: [{name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()} for row in rows]
    lift = lambda: rounded(later.execute(read.format("decisioning.lift('c')")).fetchone()[0])
    balance = lambda: rounded(later.execute(read.format("decisioning.group_balance")).fetchone()[0])
    before = lift(), balance()
    assert all(before)
    for n in range(1, 601, 4):
        later.execute("SELECT count(*) FROM decisioning.forget_customer(%s)", [f"c-{n}"])
    assert (lift(), balance()) == before
    # Models that learn of tombstones only are as well as any.
    later.execute("SELECT decisioning.learn('c')")
    later.execute("SELECT decisioning.rebuild_model('c')")
    assert later.execute("SELECT count(*) FROM decisioning.coefficients WHERE NOT standard_error > 0").fetchall() == [(0,)]


def test_a_refusal_outlives_the_customer_under_each_of_his_ids(db):
    connection = db.connect()
    shop.create(connection, customers=20)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0")
    connection.execute("CREATE TABLE public.crm AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("CREATE TABLE public.web AS SELECT 'w' || id AS id, id || '@example.com' AS mail FROM public.customers")
    for source in ("crm", "web"):
        connection.execute(f"SELECT decisioning.add_source('{source}', 'public.{source}', 'id', '{{\"mail\": \"email\"}}')")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("INSERT INTO public.customers SELECT 'web:wc-' || n, 30, 'a' FROM generate_series(1, 4) n")
    # One is forgotten, the other vanishes from all sources; both come back as nothing but visitors of the shop.
    connection.execute("SELECT decisioning.suppress('c-3'), decisioning.lift_suppression('c-3')")
    connection.execute("SELECT decisioning.suppress('web:wc-3'), decisioning.suppress('c-4', 'email')")
    connection.execute("SELECT * FROM decisioning.forget_customer('c-3')")
    assert {row[0] for row in db.sql("SELECT canonical_id FROM decisioning.suppressions WHERE lifted_at IS NULL")} == {"c-3", "crm:c-3", "web:wc-3", "c-4"}
    connection.execute("DELETE FROM public.crm WHERE id IN ('c-3', 'c-4')")
    connection.execute("DELETE FROM public.web WHERE id = 'wc-4'")
    connection.execute("CALL decisioning.resolve_all(full => true)")
    connection.execute("INSERT INTO public.web VALUES ('wc-4', 'c-4@example.com')")
    connection.execute("SELECT decisioning.suppress('web:wc-4', 'sms')")
    connection.execute("CALL decisioning.resolve_all(full => true)")
    assert db.sql("SELECT customer_id FROM decisioning.identity_map WHERE record_key IN ('wc-3', 'wc-4') ORDER BY 1") == [("web:wc-3",), ("web:wc-4",)]
    decided = {row[0]: row[1:] for row in connection.execute("SELECT customer_id, action, channel FROM decisioning.decide_batch('{web:wc-1, web:wc-3, web:wc-4}', 'c')")}
    assert decided["c-1"][1] in ("email", "sms")
    assert decided["web:wc-3"] == ("no_send", None)
    assert decided["web:wc-4"][1] == "email"


def test_a_refusal_under_an_id_from_before_the_first_campaign_counts(db):
    """Whose records were found to be one before anything was logged."""
    connection = shop.session(db)
    connection.execute("CREATE TABLE public.crm AS SELECT 'c-' || n AS id, 'c-' || n % 8 || '@example.com' AS mail FROM generate_series(0, 15) n")
    connection.execute("SELECT decisioning.add_source('crm', 'public.crm', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    assert db.sql("SELECT count(*), count(DISTINCT customer_id) FROM decisioning.identity_map") == [(16, 8)]
    shop.create(connection, customers=8)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0")
    connection.execute("CREATE TABLE public.consents AS SELECT 'c-' || n AS id, n <> 9 AS agreed FROM generate_series(0, 15) n")
    connection.execute("SELECT decisioning.add_consent_source('public.consents', 'id', 'agreed', campaign => 'c')")
    decided = dict(connection.execute("SELECT customer_id, action FROM decisioning.decide_batch('{c-1, c-2}', 'c')").fetchall())
    assert decided["c-1"] == "no_send" and decided["c-2"] != "no_send", decided


def test_values_of_a_forgotten_customer_are_kept_nowhere(db):
    """His address is frequent because of his own records, and his sixth one is nobody's, because nobody may have so many."""
    connection = shop.session(db)
    connection.execute(
        """CREATE TABLE public.crm AS SELECT n AS id, CASE WHEN n <= 8 THEN 'ada@example.com' ELSE 'p' || n || '@example.com' END AS mail,
                  CASE WHEN n <= 8 THEN 'ada.' || n || '@example.org' END AS other, '+4930' || 1000000 + n AS phone,
                  CASE WHEN n <= 8 THEN 'Ada' ELSE 'Given' || n % 40 END AS given, CASE WHEN n <= 8 THEN 'Lovelace' ELSE 'Family' || n % 60 END AS family
           FROM generate_series(1, 600) n"""
    )
    connection.execute(
        """SELECT decisioning.add_source('crm', 'public.crm', 'id', '{"mail": "email", "other": "email", "phone": "phone", "given": "given_name", "family": "family_name"}')"""
    )
    connection.execute("CALL decisioning.resolve_all()")
    texts = [row[0] for row in db.sql(
        """SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = 'decisioning' AND c.relkind = 'r'"""
    )]
    mentions = lambda: {table for table in texts if db.sql(f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text ~* 'ada[.@]|lovelace')") == [(True,)]}  # noqa: E731
    before = mentions()
    assert {"decisioning._term_frequency", "decisioning.identity_conflicts", "decisioning._identifier", "decisioning._record_field"} <= before
    ((customer,),) = db.sql("SELECT DISTINCT customer_id FROM decisioning.identity_map WHERE record_key = '1'")
    connection.execute("SELECT * FROM decisioning.forget_customer(%s)", [customer])
    assert mentions() == set()
    # What others say, too, stays.
    assert db.sql("SELECT count(*) > 50 FROM decisioning._term_frequency WHERE value ~ '^family'") == [(True,)]
