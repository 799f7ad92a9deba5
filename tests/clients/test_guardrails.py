"""Guardrails under concurrency and at every isolation level, and when customers turn out to be one."""

import random
import threading

import psycopg
import pytest

import shop

SESSIONS = 32
CAMPAIGNS = 12
CAP = 2
RETRY = psycopg.errors.SerializationFailure


def create(db, customers=1000, campaigns=CAMPAIGNS):
    """Campaigns over the same customers, all of whom want to send to everybody every day."""
    connection = db.connect()
    shop.create(connection, customers=customers, campaign="k0")
    for n in range(1, campaigns):
        connection.execute("SELECT decisioning.create_campaign(%s, 'public.customers', 'id')", [f"k{n}"])
        connection.execute("SELECT decisioning.add_action(%s, 'mail', channel => 'email')", [f"k{n}"])
        connection.execute("SELECT decisioning.add_action(%s, 'text', channel => 'sms')", [f"k{n}"])
    connection.execute(
        """UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0, offer_consistency = NULL,
                  salt = md5(campaign)::uuid"""
    )
    connection.execute("SELECT decisioning.approve_action(campaign, action) FROM decisioning.actions WHERE status = 'draft'")
    connection.execute("SELECT decisioning.add_campaign_goal(campaign, 'buy') FROM decisioning.campaigns WHERE campaign <> 'k0'")
    connection.execute("SELECT decisioning.start_campaign(campaign) FROM decisioning.campaigns WHERE campaign <> 'k0'")
    return connection


def run(sessions, work):
    failures = []

    def guarded(number):
        try:
            work(number, random.Random(number))
        except Exception as error:  # noqa: BLE001: shown below
            failures.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def sends(db):
    """Sends by customer, as the log has them."""
    return dict(db.sql("SELECT customer_id, count(*) FROM decisioning.decisions WHERE action <> 'no_send' GROUP BY 1"))


def contacts_are_those_of_the_log(db):
    """Every send that was decided is reserved, and nothing else is."""
    [(odd,)] = db.sql(
        """SELECT count(*) FROM (
               SELECT c.decision_id, c.action_id FROM decisioning._assignment s,
                      LATERAL unnest(s.contact_decisions, s.contact_actions) AS c(decision_id, action_id)) AS c
           FULL JOIN (SELECT decision_id, action_id FROM decisioning.decisions WHERE action <> 'no_send') AS d
               USING (decision_id, action_id)
           WHERE c IS NULL OR d IS NULL"""
    )
    return odd == 0


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_caps_hold_for_one_customer_and_for_a_thousand(db, isolation):
    """Single decisions, batches and decide_all, some rolled back, compete for what two caps leave."""
    connection = create(db)
    connection.execute("SELECT decisioning.add_frequency_cap(%s, 'day')", [CAP])
    connection.execute("""SELECT decisioning.add_frequency_cap(1, '2 days', actions => '{"channel": "sms"}')""")
    hot = [f"c-{n}" for n in range(1, 4)]

    def work(number, rng):
        session = shop.session(db, autocommit=False)
        session.isolation_level = isolation
        if number < 4:
            session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            session.autocommit = True
            session.execute("CALL decisioning.decide_all(%s, chunk_size => 100)", [f"k{number}"])
            return
        jobs = [(f"k{n}", hot) for n in range(CAMPAIGNS)]
        jobs += [(f"k{rng.randrange(4, CAMPAIGNS)}", [f"c-{rng.randrange(4, 1001)}" for _ in range(5)]) for _ in range(10)]
        rng.shuffle(jobs)
        while jobs:
            campaign, ids = jobs[-1]
            try:
                if rng.random() < 0.5:
                    session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, campaign])
                else:
                    session.execute("SELECT * FROM decisioning.decide(%s, %s)", [rng.choice(ids), campaign])
                if rng.random() < 0.1:
                    session.rollback()
                else:
                    session.commit()
                    jobs.pop()
            except RETRY:
                assert isolation != psycopg.IsolationLevel.READ_COMMITTED
                session.rollback()

    run(SESSIONS, work)
    for n in range(CAMPAIGNS):  # whoever was not decided for at last
        shop.session(db).execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
    counts = sends(db)
    assert max(counts.values()) == CAP and len(counts) == 1000
    assert set(counts.values()) == {CAP}, "what a cap leaves is used"
    texts = db.sql(
        """SELECT max(n) FROM (SELECT count(*) AS n FROM decisioning.decisions d JOIN decisioning.actions a USING (campaign, action)
                              WHERE a.channel = 'sms' GROUP BY d.customer_id) AS s"""
    )
    assert texts == [(1,)]
    assert contacts_are_those_of_the_log(db)
    assert db.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r WHERE d.customer_id < 'c-2'") == [(True,)]


def test_a_cap_binds_from_the_moment_it_is_set(db):
    """While sessions decide: whoever decides under the cap counts every send that came before."""
    connection = create(db, customers=200)
    ready = threading.Event()

    def work(number, rng):
        session = shop.session(db)
        jobs = [(f"c-{n}", f"k{k}") for n in range(1, 201) for k in range(CAMPAIGNS)][number :: SESSIONS // 4]
        rng.shuffle(jobs)
        for at, (customer, campaign) in enumerate(jobs):
            if at == len(jobs) // 4:
                ready.set()
            session.execute("SELECT * FROM decisioning.decide(%s, %s)", [customer, campaign])

    def cap(*_):
        ready.wait(60)
        connection.execute("SELECT decisioning.add_frequency_cap(%s, 'day', cap => 'late')", [CAP])

    run(SESSIONS // 4 + 1, lambda number, rng: cap() if number == SESSIONS // 4 else work(number, rng))
    [(epoch,)] = db.sql("SELECT epoch FROM decisioning.frequency_caps")
    before, after = db.sql(
        "SELECT count(*) FILTER (WHERE epoch < %s), count(*) FILTER (WHERE epoch >= %s) FROM decisioning.decisions", [epoch, epoch]
    )[0]
    assert before > 100 and after > 100
    # Of whom the cap let something be sent, no more than the cap was sent in all.
    breached = db.sql(
        """SELECT customer_id FROM decisioning.decisions WHERE action <> 'no_send' GROUP BY 1
           HAVING count(*) > %s AND bool_or(epoch >= %s)""",
        [CAP, epoch],
    )
    assert breached == []
    assert contacts_are_those_of_the_log(db)


def test_caps_and_suppressions_follow_whoever_turns_out_to_be_one(db):
    connection = create(db, customers=20, campaigns=4)
    connection.execute("CREATE TABLE public.people AS SELECT id AS key, id || '@example.org' AS mail FROM public.customers")
    connection.execute("""SELECT decisioning.add_source('people', 'public.people', 'key', '{"mail": "email"}')""")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("SELECT decisioning.add_frequency_cap(2, 'week')")
    connection.execute("SELECT decisioning.suppress('c-3', channel => 'sms')")
    for customer, campaign in [("c-1", "k0"), ("c-2", "k1"), ("c-2", "k2")]:
        [(action,)] = connection.execute("SELECT action FROM decisioning.decide(%s, %s)", [customer, campaign]).fetchall()
        assert action != "no_send"

    def removed(customer, campaign="k3"):
        rows = connection.execute(
            "SELECT DISTINCT removed_by FROM decisioning.preview(%s, %s) WHERE action <> 'no_send'", [customer, campaign]
        )
        return {label for (label,) in rows}

    assert removed("c-1") == {None}
    assert removed("c-2") == {"cap: all actions: per week"}
    connection.execute("SELECT decisioning.merge_customers('{c-1, c-2}')")
    connection.execute("SELECT decisioning.merge_customers('{c-4, c-3}')")
    connection.execute("CALL decisioning.resolve_all()")
    for either in ("c-1", "c-2"):
        assert removed(either) == {"cap: all actions: per week"}
    for either in ("c-3", "c-4"):
        assert removed(either) == {"suppression", None}
    assert connection.execute("SELECT action, reason FROM decisioning.decide('c-1', 'k3')").fetchall() == [("no_send", "no_candidate_left")]
    connection.execute("SELECT decisioning.undo_correction(correction) FROM decisioning.match_corrections")
    connection.execute("CALL decisioning.resolve_all()")
    assert removed("c-2", "k3") == {"cap: all actions: per week"}
    assert removed("c-1", "k1") == {None}
    assert removed("c-4") == {None}
    assert removed("c-3") == {"suppression", None}


def test_consents_are_read_as_the_caller(db):
    connection = create(db, customers=20, campaigns=1)
    connection.execute("CREATE TABLE public.consents AS SELECT id AS customer, true AS granted FROM public.customers")
    connection.execute("SELECT decisioning.add_consent_source('public.consents', 'customer', 'granted')")
    clerk = db.create_role("clerk")
    connection.execute("SELECT decisioning.grant_rights('clerk', 'operator')")
    connection.execute("GRANT SELECT ON public.customers TO clerk")
    operator = shop.session(db)
    operator.execute("SET ROLE clerk")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        operator.execute("SELECT * FROM decisioning.decide('c-1', 'k0')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        operator.execute("SELECT decisioning.add_frequency_cap(1, 'day')")
    operator.execute("SELECT decisioning.suppress('c-2')")
    connection.execute("GRANT SELECT ON public.consents TO clerk")
    assert operator.execute("SELECT action <> 'no_send' FROM decisioning.decide('c-1', 'k0')").fetchall() == [(True,)]
    # With row-level security he sees what he may: who has no row that he sees has not consented.
    connection.execute("ALTER TABLE public.consents ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY few ON public.consents TO clerk USING (customer = 'c-4')")
    rows = operator.execute("SELECT customer_id, action <> 'no_send' FROM decisioning.decide_batch('{c-2, c-3, c-4}', 'k0') ORDER BY 1").fetchall()
    assert rows == [("c-2", False), ("c-3", False), ("c-4", True)]
    assert db.sql("SELECT rolname FROM pg_roles WHERE rolname = %s", [clerk]) == [("clerk",)]


def test_batches_of_different_campaigns_wait_for_each_other_in_order(db):
    """Whoever loses a customer to another session must not go back for him with later customers locked."""
    connection = create(db, customers=60)
    connection.execute("SELECT decisioning.add_frequency_cap(%s, 'day')", [CAP])
    everybody = [f"c-{n}" for n in range(1, 61)]

    def work(number, rng):
        session = shop.session(db)
        campaigns = [f"k{n}" for n in range(CAMPAIGNS)]
        rng.shuffle(campaigns)
        for campaign in campaigns:
            ids = rng.sample(everybody, 40)
            session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, campaign])

    run(SESSIONS, work)
    counts = sends(db)
    assert set(counts.values()) == {CAP} and len(counts) == 60
    assert contacts_are_those_of_the_log(db)


@pytest.mark.parametrize(
    ("column", "named"),
    [("kind", 'the eligibility rule "only a" of campaign "k0"'), ("agreed", 'the consent column "agreed" of campaign "k0"'), ("age", 'the audience of campaign "k0"')],
)
def test_what_cannot_be_read_any_more_is_named(db, column, named):
    connection = db.connect()
    shop.create(connection, customers=50, campaign="k0")
    connection.execute("ALTER TABLE public.customers ADD agreed boolean DEFAULT true")
    connection.execute("UPDATE decisioning.campaigns SET audience = 'age >= 0'")
    connection.execute("SELECT decisioning.add_eligibility_rule('k0', 'kind = ''a''', rule => 'only a')")
    connection.execute("SELECT decisioning.set_consent_column('k0', 'agreed')")
    health = "SELECT finding FROM decisioning.campaign_health WHERE topic = 'conditions'"
    connection.execute("SELECT decisioning.decide('c-1', 'k0')")
    assert connection.execute(health).fetchall() == []
    connection.execute(f"ALTER TABLE public.customers RENAME {column} TO other")
    for call in ("SELECT decisioning.decide('c-2', 'k0')", "CALL decisioning.decide_all('k0')"):
        with pytest.raises(psycopg.errors.UndefinedColumn) as refused:
            connection.execute(call)
        assert named in refused.value.diag.message_primary and column in refused.value.diag.message_primary
        assert refused.value.diag.message_hint
    ((finding,),) = connection.execute(health).fetchall()
    assert named in finding and column in finding
