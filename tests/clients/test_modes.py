"""Shadow, preview and ramp under concurrency, over days, and for roles."""

import threading

import psycopg
import pytest
import shop

COUNTS = """SELECT (SELECT count(*) FROM decisioning.decisions), (SELECT count(*) FROM decisioning._assignment),
                   (SELECT count(*) FROM decisioning._inbox)"""


def start(db, customers=3000, control=0.3, **options):
    connection = db.connect()
    shop.create(connection, customers=customers, **options)
    connection.execute("UPDATE decisioning.campaigns SET control_share = %s, control_action = 'x/email'", [control])
    return connection


def decide_all(db, day, **options):
    connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00", **options)
    connection.execute("CALL decisioning.decide_all('c')")
    return connection


def test_a_role_in_preview_contacts_nobody(db):
    connection = start(db, customers=500)
    role = db.create_role("developer")
    connection.execute(f"SELECT decisioning.grant_rights('{role}', 'operator')")
    connection.execute(f"GRANT SELECT ON public.customers TO {role}")
    connection.execute(f"ALTER ROLE {role} SET decisioning.mode = 'preview'")
    developer = db.connect(role=role)
    decided = developer.execute("SELECT decision_id, action, reason, propensity FROM decisioning.decide('c-7', 'c')").fetchone()
    assert decided[0] is None and decided[1] and decided[2] == "preview"
    developer.execute("CALL decisioning.decide_all('c')")
    assert db.sql(COUNTS) == [(0, 0, 0)]
    # An open decision is shown as what it is, but nobody can mistake it for one of his own.
    live = shop.session(db)
    real = live.execute("SELECT decision_id, action, propensity FROM decisioning.decide('c-7', 'c')").fetchone()
    live.execute("SET decisioning.mode = 'preview'")
    again = live.execute("SELECT decision_id, action, propensity, reason FROM decisioning.decide('c-7', 'c')").fetchone()
    assert again == (None, real[1], real[2], "preview")
    assert db.sql(COUNTS) == [(1, 1, 1)]


def test_preview_is_what_live_would_do(db):
    start(db, customers=1000)
    ids = "(SELECT array_agg(id ORDER BY id) FROM public.customers)"
    query = f"SELECT customer_id, treatment_group, action, propensity, send_at, expires_at FROM decisioning.decide_batch({ids}, 'c')"
    connection = shop.session(db)
    connection.execute("SET decisioning.mode = 'preview'")
    previewed = connection.execute(query).fetchall()
    connection.execute("RESET decisioning.mode")
    assert connection.execute(query).fetchall() == previewed


def test_a_shadow_notes_what_live_would_have_done(db):
    """The same campaign, live in one session and in shadow in another, for other customers of the same groups."""
    start(db, control=0.2)
    connection = shop.session(db)
    connection.execute("SET decisioning.mode = 'shadow'")
    ids = "(SELECT array_agg(id ORDER BY id) FROM public.customers)"
    query = f"SELECT customer_id, action, propensity, send_at FROM decisioning.decide_batch({ids}, 'c') ORDER BY 1"
    connection.autocommit = False
    connection.execute(query)
    shadows = connection.execute(
        """SELECT d.customer_id, coalesce(s.shadow_action, d.action), coalesce(s.shadow_propensity, d.propensity)
           FROM decisioning.decisions d LEFT JOIN decisioning.shadow_decisions s USING (decision_id) ORDER BY 1"""
    ).fetchall()
    done = dict(
        connection.execute("SELECT reason, array_agg(DISTINCT action) FROM decisioning.decisions GROUP BY 1").fetchall()
    )
    assert done == {"holdout": ["no_send"], "control": ["x/email"], "shadow": ["x/email"]}
    connection.rollback()
    connection.execute("RESET decisioning.mode")
    live = connection.execute(f"SELECT customer_id, action, propensity FROM decisioning.decide_batch({ids}, 'c') ORDER BY 1")
    assert live.fetchall() == shadows
    connection.rollback()


def test_without_a_control_action_a_shadow_is_quiet(db):
    shop.create(db.connect(), customers=300)
    connection = shop.session(db)
    connection.execute("SELECT decisioning.start_campaign('c', mode => 'shadow')")
    connection.execute("CALL decisioning.decide_all('c')")
    assert db.sql("SELECT DISTINCT action, propensity FROM decisioning.decisions") == [("no_send", 1.0)]
    assert db.sql("SELECT count(*) > 100 FROM decisioning.shadow_decisions WHERE shadow_action <> 'no_send'") == [(True,)]


def test_a_ramp_moves_control_once_and_nobody_else(db):
    start(db)
    decide_all(db, 1)
    before = dict(db.sql("SELECT customer_id, treatment_group FROM decisioning._assignment"))
    moved = set()
    for day, share in [(2, 0.2), (3, 0.55), (4, 1.0)]:
        connection = shop.session(db, now=f"2026-06-{day:02} 09:00+00")
        (count,) = connection.execute("SELECT decisioning.ramp_control('c', %s)", [share]).fetchone()
        now_moved = {row[0] for row in db.sql("SELECT customer_id FROM decisioning._assignment WHERE ramped_at IS NOT NULL")}
        assert moved < now_moved and len(now_moved) - len(moved) == count
        assert all(before[customer] == "control" for customer in now_moved)
        moved = now_moved
        # Other shares afterwards change nothing for those who are there.
        connection.execute("UPDATE decisioning.campaigns SET control_share = 0.05 * %s", [day])
        decide_all(db, day)
        treated = dict(db.sql("SELECT customer_id, treatment_group FROM decisioning.decisions WHERE decided_at > %s", [f"2026-06-{day:02}"]))
        assert {customer: "optimise" if customer in moved else group for customer, group in before.items()} == treated
        buckets = "SELECT coalesce(max(bucket), 0) FROM decisioning._assignment WHERE treatment_group = 'control' AND ramped_at IS NOT NULL"
        rest = "SELECT coalesce(min(bucket), 10000) FROM decisioning._assignment WHERE treatment_group = 'control' AND ramped_at IS NULL"
        assert db.sql(buckets)[0] < db.sql(rest)[0]
        connection.execute("UPDATE decisioning.campaigns SET control_share = 0.3")
    assert len(moved) == sum(group == "control" for group in before.values())
    assert dict(db.sql("SELECT customer_id, treatment_group FROM decisioning._assignment")) == before
    dates = db.sql("SELECT DISTINCT ramped_at::date::text FROM decisioning._assignment WHERE ramped_at IS NOT NULL ORDER BY 1")
    assert dates == [("2026-06-02",), ("2026-06-03",), ("2026-06-04",)]
    assert db.sql("SELECT bool_and(balanced) FROM decisioning.group_balance") == [(True,)]
    replayed = "SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r"
    assert db.sql(replayed) == [(True,)]
    # Each step is an epoch.
    steps = db.sql(
        """SELECT (after ->> 'control_ramped')::float8 FROM decisioning.epochs
           WHERE relation = 'campaigns' AND before ->> 'control_ramped' <> after ->> 'control_ramped' ORDER BY epoch"""
    )
    assert [share for (share,) in steps] == [0.2, 0.55, 1.0]


def test_a_ramp_stays_where_it_is_when_shares_change(db):
    """Under other shares more buckets of control would have moved: not those who are there, of whom only some are decided for again."""
    start(db)
    decide_all(db, 1)
    connection = shop.session(db, now="2026-06-02 09:00+00")
    connection.execute("SELECT decisioning.ramp_control('c', 0.5)")
    moved = "SELECT array_agg(customer_id ORDER BY customer_id) FROM decisioning._assignment WHERE ramped_at IS NOT NULL"
    before = db.sql(moved)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = holdout_share + 0.1")
    connection.execute("DELETE FROM public.customers WHERE age < 45")
    decide_all(db, 2)
    assert db.sql(moved) == before
    # Who is new moves with the new shares.
    connection.execute("INSERT INTO public.customers SELECT 'n-' || n, 20, 'a' FROM generate_series(1, 400) n")
    decide_all(db, 3)
    new = db.sql("""SELECT count(*) FILTER (WHERE ramped_at IS NOT NULL) > 0, count(*) FILTER (WHERE ramped_at IS NULL) > 0
                    FROM decisioning._assignment WHERE customer_id LIKE 'n-%' AND treatment_group = 'control'""")
    assert new == [(True, True)]


def test_a_ramp_beside_decisions_does_not_deadlock(db):
    start(db, customers=1200)
    decide_all(db, 1)
    failures = []

    def work(statements):
        connection = shop.session(db, now="2026-06-02 10:00+00")
        for statement in statements:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                failures.append(error)

    ids = "(SELECT array_agg(id ORDER BY random()) FROM public.customers)"
    threads = [
        threading.Thread(target=work, args=([f"SELECT count(*) FROM decisioning.decide_batch({ids}, 'c')"] * 2,)),
        threading.Thread(target=work, args=(["CALL decisioning.decide_all('c', chunk_size => 100)"],)),
        threading.Thread(target=work, args=([f"SELECT decisioning.ramp_control('c', {n / 20})" for n in range(1, 21)],)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    left = "SELECT count(*) FROM decisioning._assignment WHERE treatment_group = 'control' AND ramped_at IS NULL"
    assert db.sql(left) == [(0,)]
    decide_all(db, 3)
    assert db.sql("SELECT count(*) FROM decisioning.decisions WHERE reason = 'control' AND decided_at > '2026-06-03'") == [(0,)]


@pytest.mark.parametrize("better", [True, False])
def test_a_ramp_on_evidence(db, better):
    """A step per attribution window while optimise sells more than control; none while it does not, whatever the noise."""
    connection = start(db, customers=4000, control=0.4)
    connection.execute("UPDATE decisioning.goals SET kind = 'conversion'")
    connection.execute("SELECT decisioning.ramp_when_better('c', step => 0.4, confidence => 0.99)")
    shares = []
    for day in range(1, 6):
        decide_all(db, day)
        connection = shop.session(db, now=f"2026-06-{day:02} 20:00+00")
        connection.execute(
            """SELECT decisioning.record_outcome('buy', d.decision_id::text, d.customer_id)
               FROM decisioning.decisions d WHERE d.decided_at::date = %s::date
                 AND abs(hashtext(d.decision_id::text)) %% 100 < CASE WHEN d.treatment_group = 'optimise' THEN %s ELSE 8 END""",
            [f"2026-06-{day:02}", 20 if better else 8],
        )
        connection = shop.session(db, now=f"2026-06-{day + 1:02} 09:59+00")
        connection.execute("SELECT * FROM decisioning.learn('c')")
        shares.append(db.sql("SELECT control_ramped FROM decisioning.campaigns")[0][0])
    # A day less a minute after the start is too early.
    assert shares == ([0.0, 0.4, 0.8, 1.0, 1.0] if better else [0.0] * 5)
