"""Decisions follow identity: after merges, splits and renames, in the log, the groups, the learner and lift, and while a full run
is at work."""

import random
import threading
import time

import psycopg
import pytest

import shop
from test_identity import Background, wait_until_blocked

DAY = "2026-06-{:02} 10:00+00"
NIL = "00000000-0000-0000-0000-000000000000"


def create(db, customers=200, **options):
    """A campaign over customers c-1, c-2, …, who are records of the primary source, with an e-mail address each."""
    connection = db.connect()
    shop.create(connection, customers=customers, **options)
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [DAY.format(8)])
    connection.execute("UPDATE decisioning.campaigns SET half_life = NULL, offer_consistency = NULL")
    connection.execute("CREATE TABLE people AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', '{\"mail\": \"email\"}')")
    resolve(connection)
    return connection


def resolve(connection):
    connection.execute("CALL decisioning.resolve_all()")


def mail(connection, customer, address=None):
    """Gives a customer the address of another, or his own again."""
    connection.execute("UPDATE people SET mail = %s || '@example.com' WHERE id = %s", [address or customer, customer])


def decide(connection, customer):
    return connection.execute("SELECT decision_id, customer_id, treatment_group FROM decisioning.decide(%s, 'c')", [customer]).fetchone()


def groups(db):
    return dict(db.sql("SELECT customer_id, treatment_group FROM decisioning.assignments"))


def by_group(db, day):
    """Everybody decided for on a day; then a customer of each group."""
    with shop.session(db, now=DAY.format(day)) as connection:
        connection.execute("CALL decisioning.decide_all('c')")
    found = {}
    for customer, group in groups(db).items():
        found.setdefault(group, []).append(customer)
    return found


def key(customer):
    return int(customer[2:])


def test_the_group_of_the_first_exposed_counts_and_splits_give_all_back(db):
    connection = create(db)
    members = by_group(db, 1)
    older, younger = min(members["holdout"], key=key), max(members["optimise"], key=key)
    # Exposed later, but the older record: it gives the id, the other the group.
    db.sql("UPDATE decisioning._assignment SET exposed_at = exposed_at + interval '1 hour' WHERE customer_id = %s", [older])
    assert key(older) < key(younger)
    before = db.sql("SELECT * FROM decisioning._assignment WHERE customer_id = ANY (%s) ORDER BY 1", [[older, younger]])
    mail(connection, younger, older)
    resolve(connection)
    with shop.session(db, now=DAY.format(2)) as session:
        decision = decide(session, younger)
        assert decision == decide(session, older) and decision[1:] == (older, "optimise")
        assert {row[0] for row in session.execute("SELECT treatment_group FROM decisioning.preview(%s, 'c')", [younger])} == {"optimise"}
    assert db.sql("SELECT r.matches FROM decisioning.replay(%s) r", [decision[0]]) == [(True,)]
    rows = db.sql("SELECT customer_id, treatment_group, canonical_id, mixed FROM decisioning.assignments WHERE mixed ORDER BY 1")
    assert sorted(rows) == sorted([(older, "holdout", older, True), (younger, "optimise", older, True)])
    assert groups(db) == {customer: group for group, all in members.items() for customer in all}
    mail(connection, younger)
    resolve(connection)
    with shop.session(db, now=DAY.format(3)) as session:
        assert decide(session, older)[1:] == (older, "holdout")
        assert decide(session, younger)[1:] == (younger, "optimise")
    after = db.sql("SELECT * FROM decisioning._assignment WHERE customer_id = ANY (%s) ORDER BY 1", [[older, younger]])
    unit = slice(0, 7)  # customer, campaign, group, bucket, epoch, exposure, treatable
    assert [row[unit] for row in before] == [row[unit] for row in after]
    assert [row[7] for row in after] == [3, 2], "ordinals go on: the merged customer decided as the older"
    assert db.sql("SELECT count(*) FROM decisioning._merged_assignment") == [(0,)]
    assert db.sql("SELECT count(*) FROM decisioning.assignments WHERE mixed") == [(2,)], "what happened has happened"
    ordinals = db.sql("SELECT bool_and(o.ordinal = o.n) FROM (SELECT ordinal, row_number() OVER (PARTITION BY customer_id ORDER BY decided_at) AS n FROM decisioning.decisions) o")
    assert ordinals == [(True,)]


def test_merges_of_merged_customers(db):
    connection = create(db)
    by_group(db, 1)
    first = groups(db)
    db.sql("UPDATE decisioning._assignment SET exposed_at = exposed_at - interval '1 hour' WHERE customer_id = 'c-9'")
    mail(connection, "c-9", "c-5")
    resolve(connection)
    mail(connection, "c-5", "c-2")
    mail(connection, "c-9", "c-2")
    resolve(connection)
    with shop.session(db, now=DAY.format(2)) as session:
        answers = {decide(session, customer) for customer in ("c-2", "c-5", "c-9")}
        assert len(answers) == 1 and answers.pop()[1:] == ("c-5", first["c-9"])
    assert sorted(db.sql("SELECT customer_id, merged_id FROM decisioning._merged_assignment")) == [("c-5", "c-2"), ("c-5", "c-9")]
    mail(connection, "c-9")
    resolve(connection)
    with shop.session(db, now=DAY.format(3)) as session:
        assert decide(session, "c-2")[1:] == ("c-5", first["c-5"]) and decide(session, "c-9")[1:] == ("c-9", first["c-9"])
    mail(connection, "c-5")
    resolve(connection)
    assert groups(db) == first
    with shop.session(db, now=DAY.format(4)) as session:
        assert [decide(session, c)[1:] for c in ("c-2", "c-5", "c-9")] == [(c, first[c]) for c in ("c-2", "c-5", "c-9")]


def test_nobody_is_contacted_twice_in_a_period(db):
    connection = create(db)
    with shop.session(db, now=DAY.format(1)) as session:
        decision = decide(session, "c-7")
    mail(connection, "c-7", "c-3")
    resolve(connection)
    with shop.session(db, now=DAY.format(1)) as session:
        assert decide(session, "c-3") == decision == decide(session, "c-7") == decide(session, "crm:c-7")
        assert session.execute("SELECT decision_id FROM decisioning.decide_batch('{c-7, c-3, c-4, c-7}', 'c')").fetchall()[0::3] == [(decision[0],)] * 2
        assert session.execute("SELECT decision_id FROM decisioning.open_decisions WHERE customer_id IN ('c-3', 'c-7')").fetchall() == [(decision[0],)]
    # Both were decided for, each for himself: the first of the two decisions is the one to act on.
    with shop.session(db, now="2026-06-02 09:00+00") as session:
        decision = decide(session, "c-8")
    with shop.session(db, now="2026-06-02 11:00+00") as session:
        second = decide(session, "c-4")
        assert decision[0] != second[0]
        mail(connection, "c-8", "c-4")
        resolve(connection)
        assert decide(session, "c-4") == decide(session, "c-8") == decision
        assert session.execute("SELECT decision_id FROM decisioning.open_decisions WHERE customer_id IN ('c-4', 'c-8')").fetchall() == [(decision[0],)]
        mail(connection, "c-8")
        resolve(connection)
        assert (decide(session, "c-4"), decide(session, "c-8")) == (second, decision)
        assert len(session.execute("SELECT FROM decisioning.open_decisions WHERE customer_id IN ('c-4', 'c-8')").fetchall()) == 2


def test_who_becomes_known_goes_on_as_before(db):
    """A visitor is decided for under an id of his own, signs up, and has another: group, decisions and exposure are the same."""
    connection = create(db, customers=50)
    connection.execute("CREATE TABLE visitors (id text, mail text)")
    connection.execute("INSERT INTO visitors SELECT 'v-' || n, 'v-' || n || '@example.com' FROM generate_series(1, 300) n")
    connection.execute("SELECT decisioning.add_source('web', 'visitors', 'id', '{\"mail\": \"email\"}')")
    resolve(connection)
    connection.execute("INSERT INTO public.customers SELECT 'web:' || id, 1, 'a' FROM visitors")
    members = by_group(db, 1)
    visitors = {c: group for group, all in members.items() for c in all if c.startswith("web:")}
    assert len(set(visitors.values())) == 3
    connection.execute("INSERT INTO people SELECT 'n-' || id, id || '@example.com' FROM visitors")
    connection.execute("INSERT INTO public.customers SELECT 'n-' || id, 1, 'a' FROM visitors")
    resolve(connection)
    with shop.session(db, now=DAY.format(2)) as session:
        session.execute("CALL decisioning.decide_all('c')")
    assert len(groups(db)) == 350, "nobody is exposed anew"
    day2 = db.sql("SELECT customer_id, treatment_group, ordinal FROM decisioning.decisions WHERE decided_at::date = '2026-06-02' AND customer_id LIKE 'n-%'")
    assert len(day2) == 300 and all(visitors["web:" + c[2:]] == group for c, group, _ in day2)
    assert db.sql("SELECT count(*) FROM decisioning.decisions WHERE decided_at::date = '2026-06-02'") == [(350,)]
    assert db.sql("SELECT sum(customers) FROM decisioning.group_balance") == [(350,)]
    # Their orders come in under the new id, and count for the unit that was exposed, once.
    connection.execute("SELECT decisioning.record_outcomes('buy', array_agg('o' || id), array_agg('n-' || id), occurred_at => array_agg('2026-06-02 12:00+00'::timestamptz)) FROM visitors")
    with shop.session(db, now=DAY.format(4)) as session:
        rows = session.execute("SELECT treated_group, treated_customers * treated_mean, baseline_customers * baseline_mean FROM decisioning.lift('c') WHERE measure = 'conversion rate'").fetchall()
    buyers = {group: sum(g == group for g in visitors.values()) for group in ("optimise", "holdout", "explore")}
    assert {row[0]: round(row[1]) for row in rows} == {"optimise": buyers["optimise"], "explore": buyers["explore"]}
    # The match was wrong: the customers alone are new, and the visitors what they were.
    connection.execute("UPDATE people SET mail = id WHERE id LIKE 'n-%'")
    resolve(connection)
    with shop.session(db, now=DAY.format(5)) as session:
        session.execute("CALL decisioning.decide_all('c')")
    now = groups(db)
    assert len(now) == 650 and all(now[c] == group for c, group in visitors.items())
    assert len({now[c] for c in now if c.startswith("n-")}) == 3
    assert db.sql("SELECT min(exposed_at)::date::text FROM decisioning._assignment WHERE customer_id LIKE 'n-%'") == [("2026-06-05",)]
    assert db.sql("SELECT bool_and(balanced) FROM decisioning.group_balance") == [(True,)]
    assert db.sql("SELECT count(*) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r WHERE NOT r.matches") == [(0,)]


def test_an_offer_binds_the_person(db):
    connection = db.connect()
    shop.create(connection, customers=100, explore=0.9)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0")
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"offer": ["a", "b", "c"]}')""")
    connection.execute("SELECT decisioning.approve_action('c', action) FROM decisioning.actions WHERE offer IS NOT NULL")
    connection.execute("SELECT decisioning.pause_action('c', action) FROM decisioning.actions WHERE offer IS NULL")
    connection.execute("CREATE TABLE people AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', '{\"mail\": \"email\"}')")
    resolve(connection)
    with shop.session(db, now=DAY.format(1)) as session:
        for n in range(51, 101):
            decide(session, f"c-{n}")
    connection.execute("UPDATE people p SET mail = 'c-' || (substr(p.id, 3)::int - 50) || '@example.com' WHERE substr(p.id, 3)::int > 50")
    resolve(connection)
    with shop.session(db, now=DAY.format(2)) as session:
        for n in range(1, 51):
            decide(session, f"c-{n}")
    of_both = """SELECT count(*), count(*) FILTER (WHERE o.action = n.action) FROM decisioning.decisions o
                 JOIN decisioning.decisions n ON substr(n.customer_id, 3)::int = substr(o.customer_id, 3)::int - 50
                 WHERE o.decided_at::date = '2026-06-01' AND n.decided_at::date = '2026-06-02'"""
    assert db.sql(of_both) == [(50, 50)]
    assert db.sql("SELECT count(*) FROM decisioning._assignment WHERE offer IS NOT NULL AND merged_into IS NULL") == [(0,)]
    connection.execute("UPDATE people SET mail = id")
    resolve(connection)
    with shop.session(db, now=DAY.format(3)) as session:
        for n in range(1, 51):
            decide(session, f"c-{n}")
    assert db.sql("SELECT count(*) FROM decisioning.decisions WHERE decided_at::date = '2026-06-03' AND removed IS NOT NULL") == [(0,)]


def learned(session):
    session.execute("SELECT * FROM decisioning.learn('c')")
    return session.execute("SELECT responses, decisions, outcomes FROM decisioning._learner").fetchone()


def rewarded(db):
    """What the log says by identities as they are, of all decisions of the first days."""
    return db.sql(
        """SELECT coalesce(sum(1.0 / d.overlap), 0)::float8 FROM decisioning.decisions d
           LEFT JOIN decisioning._alias a ON a.alias = d.customer_id
           WHERE EXISTS (SELECT FROM decisioning.outcomes o LEFT JOIN decisioning._alias b ON b.alias = o.customer_id
                         WHERE coalesce(b.customer_id, o.customer_id) = coalesce(a.customer_id, d.customer_id)
                           AND o.occurred_at >= d.decided_at AND o.occurred_at < d.decided_at + interval '3 days'
                         HAVING sum(o.events) > 0)"""
    )[0][0]


def test_rewards_follow_into_the_model_exactly_once(db):
    connection = create(db, customers=400, window="3 days")
    connection.execute("UPDATE decisioning.campaigns SET explore_share = 0.9")
    for day in (1, 2):
        by_group(db, day)
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o' || n), array_agg('c-' || n), occurred_at => array_agg('2026-06-02 12:00+00'::timestamptz))
           FROM generate_series(1, 400, 4) n"""
    )
    session = shop.session(db, now=DAY.format(8))
    first = learned(session)
    assert first[0] == pytest.approx(rewarded(db)) and first[1:] == (800, 100)
    # Half of the buyers turn out to be somebody else too.
    connection.execute("UPDATE people SET mail = 'c-' || (substr(id, 3)::int - 1) || '@example.com' WHERE substr(id, 3)::int % 8 = 2")
    resolve(connection)
    assert db.sql("SELECT count(*) FROM decisioning._reassessment") == [(200,)]
    # A session that looked at the learner before may not go on with the old world.
    merged = learned(session)
    assert merged[0] == pytest.approx(rewarded(db)) and merged[0] > first[0] + 50 and merged[1:] == (800, 100)
    assert learned(session) == merged and db.sql("SELECT count(*) FROM decisioning._reassessment") == [(0,)]
    # An outcome of one credits the other, whose decisions are closed.
    connection.execute("SELECT decisioning.record_outcome('buy', 'late', 'c-14', occurred_at => '2026-06-01 12:00+00')")
    late = learned(session)
    assert late[0] == pytest.approx(rewarded(db)) and late[2] == 101
    # Merged and split again between two calls of learn: as if nothing had been.
    mail(connection, "c-12", "c-9")
    resolve(connection)
    mail(connection, "c-12")
    resolve(connection)
    assert learned(session)[0] == pytest.approx(late[0])
    connection.execute("UPDATE people SET mail = id || '@example.com'")
    resolve(connection)
    split = learned(session)
    assert split[0] == pytest.approx(rewarded(db)) and split[0] < late[0] - 50
    incremental = dict(session.execute("SELECT coefficient, estimate FROM decisioning.coefficients").fetchall())
    session.execute("SELECT * FROM decisioning.rebuild_model('c')")
    assert session.execute("SELECT responses, decisions, outcomes FROM decisioning._learner").fetchone() == pytest.approx(split)
    rebuilt = dict(session.execute("SELECT coefficient, estimate FROM decisioning.coefficients").fetchall())
    assert max(abs(incremental[name] - rebuilt[name]) for name in rebuilt) < 0.1
    assert db.sql("SELECT count(*), count(DISTINCT event_id) FROM decisioning.outcomes") == [(101, 101)]


def test_a_split_while_the_window_is_open(db):
    connection = create(db, customers=20, window="3 days")
    mail(connection, "c-2", "c-1")
    resolve(connection)
    with shop.session(db, now=DAY.format(1)) as session:
        decide(session, "c-2")
        decide(session, "c-3")
    connection.execute("SELECT decisioning.record_outcome('buy', 'o', 'c-2', occurred_at => '2026-06-02 12:00+00')")
    session = shop.session(db, now=DAY.format(3))
    learned(session)
    mail(connection, "c-2")
    resolve(connection)
    with shop.session(db, now=DAY.format(3)) as other:
        assert decide(other, "c-2")[1] == "c-2"
    late = shop.session(db, now=DAY.format(9))
    assert learned(late) == pytest.approx((0, 3, 1)), "c-2 was never decided for in time, and c-1 did not buy"
    mail(connection, "c-2", "c-1")
    resolve(connection)
    assert learned(late) == pytest.approx((1, 3, 1))


def test_lift_counts_an_event_once(db):
    connection = create(db, customers=400, explore=0.5)
    members = by_group(db, 1)
    connection.execute("UPDATE people SET mail = 'c-' || (substr(id, 3)::int - 1) || '@example.com' WHERE substr(id, 3)::int % 2 = 0")
    resolve(connection)
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('o' || n), array_agg(id), occurred_at => array_agg('2026-06-02 12:00+00'::timestamptz))
           FROM (SELECT n, CASE n % 3 WHEN 0 THEN 'crm:' ELSE '' END || 'c-' || n AS id FROM generate_series(1, 400) n) x"""
    )
    with shop.session(db, now=DAY.format(4)) as session:
        rows = session.execute(
            """SELECT treated_group, treated_customers, round(treated_customers * treated_mean), baseline_customers, round(baseline_customers * baseline_mean)
               FROM decisioning.lift('c') WHERE measure = 'value per customer' AND baseline_group = 'holdout'"""
        ).fetchall()
    units = {row[0]: row[1] for row in rows} | {"holdout": rows[0][3]}
    assert units == {group: len(all) for group, all in members.items()}
    assert sum(row[2] for row in rows) + rows[0][4] == 400
    assert db.sql("SELECT customer_id FROM decisioning.outcomes WHERE event_id = 'o3'") == [("crm:c-3",)]


def test_customers_of_before_there_were_sources(db):
    """A campaign ran, and customers bought, before anybody was resolved; and ids come from all sources."""
    connection = db.connect()
    shop.create(connection, customers=60, window="3 days")
    connection.execute("UPDATE decisioning.campaigns SET half_life = NULL")
    members = by_group(db, 1)
    late = shop.session(db, now=DAY.format(8))
    record = "SELECT decisioning.record_outcome('buy', %s, %s, occurred_at => '2026-06-02 12:00+00')"
    late.execute(record, ["o2", "c-2"])
    assert learned(late) == (1, 60, 1)
    connection.execute("CREATE TABLE people AS SELECT id, CASE WHEN id IN ('c-1', 'c-2') THEN 'x' ELSE id END || '@example.com' AS mail FROM public.customers")
    connection.execute("CREATE TABLE web AS SELECT 'w' || n AS id, 'c-' || n || '@example.com' AS mail FROM generate_series(1, 20) n")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', '{\"mail\": \"email\"}'), decisioning.add_source('web', 'web', 'id', '{\"mail\": \"email\"}')")
    resolve(late)
    assert learned(late) == (2, 60, 1)
    assert db.sql("SELECT customer_id, canonical_id FROM decisioning.assignments WHERE customer_id IN ('c-1', 'c-2') ORDER BY 1") == [("c-1", "c-1"), ("c-2", "c-1")]
    with shop.session(db, now=DAY.format(9)) as session:
        assert decide(session, "c-2")[1:] == ("c-1", groups(db)["c-1"])
        assert decide(session, "web:w3") == decide(session, "c-3") == decide(session, "crm:c-3")
    late.execute(record, ["o3", "web:w3"])
    assert learned(late) == (3, 60, 2) and rewarded(db) == 3
    assert sorted(db.sql("SELECT * FROM decisioning._log_alias")) == [("c-2", "c-1"), ("web:w3", "c-3")]
    # The record goes to somebody else, and what was recorded under its id with it.
    connection.execute("UPDATE web SET mail = 'c-5@example.com' WHERE id = 'w3'")
    resolve(late)
    assert learned(late) == (3, 60, 2) and rewarded(db) == 3
    assert sorted(db.sql("SELECT * FROM decisioning._log_alias")) == [("c-2", "c-1"), ("web:w3", "c-5")]
    assert sum(len(all) for all in members.values()) == 60


def test_the_same_event_by_another_id_of_the_customer_is_no_correction(db):
    connection = create(db, customers=20)
    connection.execute("INSERT INTO public.orders VALUES ('o1', 'c-2', '2026-06-01 09:00+00', 10)")
    connection.execute(
        "SELECT decisioning.add_outcome_source('buy', 'public.orders', customer_key => 'customer', occurred_at => 'at', event_id => 'id', value => 'margin')"
    )
    ingest = "SELECT recorded, adjusted, reversed FROM decisioning.ingest_outcomes('buy', complete => true)"
    assert connection.execute(ingest).fetchall() == [(1, 0, 0)]
    mail(connection, "c-2", "c-1")
    resolve(connection)
    assert connection.execute(ingest).fetchall() == [(0, 0, 0)]
    connection.execute("UPDATE public.orders SET customer = 'c-1', margin = 12")
    assert connection.execute(ingest).fetchall() == [(0, 1, 0)]
    assert db.sql("SELECT customer_id, kind, value FROM decisioning.outcomes ORDER BY outcome_id") == [("c-2", "event", 10), ("c-2", "adjustment", 2)]
    connection.execute("UPDATE public.orders SET customer = 'c-3'")
    assert connection.execute(ingest).fetchall() == [(0, 1, 0)]


# --- Concurrency ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_full_run_waits_for_whom_it_merges(db, known):
    """c-2 is being decided for, by a session that knows nothing of the merge: the merge comes after it, and sees it."""
    connection = create(db, customers=20)
    if known:
        by_group(db, 1)
    mail(connection, "c-2", "c-1")
    open_session = shop.session(db, now=DAY.format(2), autocommit=False)
    decision = decide(open_session, "c-2")
    run = db.connect()
    running = Background(lambda: resolve(run))
    wait_until_blocked(db, run)
    with shop.session(db, now=DAY.format(2)) as other:
        assert decide(other, "c-9")[1] == "c-9", "others are not held up"
    open_session.commit()
    running.result()
    with shop.session(db, now=DAY.format(2)) as other:
        assert decide(other, "c-1") == decide(other, "c-2") == decision


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_who_is_merged_meanwhile_is_decided_for_as_the_other(db, known):
    connection = create(db, customers=20)
    if known:
        by_group(db, 1)
    mail(connection, "c-2", "c-1")
    with shop.session(db, now=DAY.format(2)) as session:
        decision = decide(session, "c-1")
    run = db.connect(autocommit=False)
    resolve(run)  # and holds what it wrote
    waiting, batch = [shop.session(db, now=DAY.format(2)) for _ in range(2)]
    frozen = shop.session(db, now=DAY.format(2), autocommit=False)
    frozen.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    frozen.execute("SELECT 1")
    calls = [
        Background(lambda: decide(waiting, "c-2")),
        Background(lambda: batch.execute("SELECT decision_id, customer_id, treatment_group FROM decisioning.decide_batch('{c-9, c-2, c-1}', 'c')").fetchall()),
        Background(lambda: decide(frozen, "c-2")),
    ]
    for session in (waiting, batch, frozen):
        wait_until_blocked(db, session)
    run.commit()
    with pytest.raises(psycopg.errors.SerializationFailure):
        calls[2].result()
    assert calls[0].result() == decision and calls[1].result()[1:] == [decision, decision]
    frozen.rollback()
    assert decide(frozen, "c-2") == decision


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_no_second_decision_for_a_person_once_merged(db, isolation):
    """Sessions decide for everybody over and over, while pairs of customers are merged one full run after the other."""
    connection = create(db, customers=240)
    stop, calls, merged_at = threading.Event(), [], {}

    def work(number):
        rng = random.Random(number)
        session = shop.session(db, now=DAY.format(2), autocommit=False)
        session.isolation_level = isolation
        while not stop.is_set():
            some = rng.sample(range(1, 241), rng.choice([1, 1, 6]))
            started = time.monotonic()
            try:
                rows = session.execute("SELECT decision_id FROM decisioning.decide_batch(%s, 'c')", [[f"c-{n}" for n in some]]).fetchall()
                session.commit()
            except psycopg.errors.SerializationFailure:
                assert isolation != psycopg.IsolationLevel.READ_COMMITTED
                session.rollback()
                continue
            except psycopg.errors.DeadlockDetected:  # who is merged meanwhile comes out of turn
                assert len(some) > 1
                session.rollback()
                continue
            calls.extend((started, (n - 1) // 2, row[0]) for n, row in zip(some, rows))

    threads = [Background(lambda number=number: work(number)) for number in range(4)]
    pairs = list(range(120))
    random.Random(1).shuffle(pairs)
    while pairs:
        some, pairs = pairs[:8], pairs[8:]
        for pair in some:
            mail(connection, f"c-{2 * pair + 2}", f"c-{2 * pair + 1}")
        resolve(connection)
        merged_at |= {pair: time.monotonic() for pair in some}
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.result()
    made = {}  # decision: when the first call that returned it began
    for started, pair, decision in sorted(calls):
        made.setdefault(decision, (started, pair))
    after, before = {}, {}
    for started, pair, decision in calls:
        (after if started > merged_at[pair] else before).setdefault(pair, set()).add(decision)
    assert len(after) > 100 and all(len(decisions) == 1 for decisions in after.values())
    assert all(after[pair] <= before[pair] for pair in after if pair in before), "who was decided for before has that decision"
    logged = db.sql("SELECT (substr(customer_id, 3)::int - 1) / 2, count(*) FROM decisioning.decisions GROUP BY 1")
    assert all(count <= 2 for _, count in logged)
    assert db.sql("SELECT count(*) FROM decisioning.decisions") == [(len(made),)]
    assert db.sql("SELECT count(*) FROM decisioning._inbox WHERE decision_id IS NOT NULL") == [(len(made),)]


def test_learning_and_a_full_run_wait_for_each_other(db):
    connection = create(db, customers=100)
    by_group(db, 1)
    connection.execute("SELECT decisioning.record_outcome('buy', 'o', 'c-2', occurred_at => '2026-06-01 12:00+00')")
    learner = shop.session(db, now=DAY.format(5), autocommit=False)
    learner.execute("SELECT * FROM decisioning.learn('c')")
    mail(connection, "c-2", "c-1")
    run = db.connect()
    running = Background(lambda: resolve(run))
    wait_until_blocked(db, run)
    learner.commit()
    running.result()
    assert db.sql("SELECT count(*), count(*) FILTER (WHERE given) FROM decisioning._reassessment") == [(2, 1)]
    # With a view of the world from before the run, learning must not go on.
    frozen = shop.session(db, now=DAY.format(5), autocommit=False)
    frozen.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    frozen.execute("SELECT 1")
    mail(connection, "c-2")
    resolve(connection)
    with pytest.raises(psycopg.errors.SerializationFailure):
        frozen.execute("SELECT * FROM decisioning.learn('c')")
    session = shop.session(db, now=DAY.format(5))
    assert learned(session)[0] == pytest.approx(rewarded(db))


def test_guards_go_when_their_duty_is_done(db):
    connection = create(db, customers=20)
    mail(connection, "c-2", "c-1")
    resolve(connection)
    assert db.sql("SELECT customer_id, merged_into, decision_id::text FROM decisioning._assignment") == [("c-2", "c-1", NIL)]
    connection.execute("SELECT set_config('decisioning.simulated_now', '2026-06-10 10:00+00', false)")
    mail(connection, "c-4", "c-3")
    resolve(connection)
    assert db.sql("SELECT customer_id FROM decisioning._assignment") == [("c-4",)]
    mail(connection, "c-4")
    resolve(connection)
    with shop.session(db, now=DAY.format(10)) as session:
        assert decide(session, "c-4")[1] == "c-4"
    assert groups(db).keys() == {"c-4"}


def test_who_has_decided_does_not_wait_for_a_full_run_that_will_wait_for_him(db):
    connection = create(db)
    session = shop.session(db, now=DAY.format(8), autocommit=False)
    decide(session, "c-1")
    run = shop.session(db, now=DAY.format(8), autocommit=False)
    mail(run, "c-3", "c-2")
    resolve(run)
    with pytest.raises(psycopg.errors.LockNotAvailable, match="identities are being resolved"):
        session.execute("SELECT decisioning.resolve_identity('{\"email\": \"new@example.com\"}')")
    session.rollback()
    run.commit()
    decide(session, "c-1")
    session.execute("SELECT decisioning.resolve_identity('{\"email\": \"new@example.com\"}')")
    session.commit()
    assert connection.execute("SELECT count(*) FROM decisioning.identity_map WHERE source = 'online'").fetchone() == (1,)
