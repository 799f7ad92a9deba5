"""thin_log: of what is old, only what is still needed stays, and nobody notices."""

import psycopg
import pytest

import shop
from test_identity import Background, wait_until_blocked

MONTHS = ("2026-01", "2026-02", "2026-03")


def create(db, half_life="3 days"):
    """A campaign that decided for everybody, and learned, on three days of each of three months; the time is June."""
    connection = shop.session(db, now="2026-01-10 10:00+00")
    shop.create(connection, customers=400, now="2026-01-10 10:00+00", explore=0.3)
    connection.execute("UPDATE decisioning.campaigns SET half_life = %s", [half_life])
    for month in MONTHS:
        for day in (10, 12, 14):
            connection = shop.session(db, now=f"{month}-{day} 10:00+00")
            connection.execute("CALL decisioning.decide_all('c')")
            connection.execute(
                """SELECT decisioning.record_outcomes('buy', array_agg(a.customer_id || %s), array_agg(a.customer_id))
                   FROM decisioning.assignments a WHERE abs(hashtext(a.customer_id || %s)) %% 9 = 0""",
                [f"{month}-{day}"] * 2,
            )
            connection = shop.session(db, now=f"{month}-{day} 11:00+00")
            connection.execute("CALL decisioning.dispatch_all()")
    connection = shop.session(db, now="2026-06-01 10:00+00")
    connection.execute("SELECT decisioning.learn('c')")
    connection.execute("SELECT decisioning.ingest_deliveries()")
    connection.execute("CALL decisioning.dispatch_all()")
    return connection


def decisions(db):
    return dict(db.sql("SELECT to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM decisioning.decisions GROUP BY 1"))


def test_what_is_not_needed_goes(db):
    connection = create(db)
    lift = db.sql("SELECT * FROM decisioning.lift ORDER BY 1, 2, 3, 4, 5, 6")
    preview = db.sql("SELECT * FROM decisioning.preview('c-7', 'c')")
    chosen = db.sql("SELECT decision_id FROM decisioning.decisions WHERE ordinal = 2 LIMIT 1")[0]
    assert decisions(db) == dict.fromkeys(MONTHS, 1200)
    thinned = {row[0]: row[1:] for row in connection.execute("SELECT * FROM decisioning.thin_log('2026-03-01')")}
    # First decisions stay.
    assert thinned["decisioning.decisions_2026_01"] == (800, 400) and thinned["decisioning.decisions_2026_02"] == (1200, 0)
    assert decisions(db) == {"2026-01": 400, "2026-03": 1200}
    assert db.sql("SELECT DISTINCT ordinal FROM decisioning.decisions WHERE decided_at < '2026-03-01'") == [(1,)]
    removed, kept = thinned["decisioning.sends"]
    assert removed > 0 and kept == db.sql("SELECT count(*) FROM decisioning.sends")[0][0]
    assert db.sql(
        "SELECT count(*) FROM decisioning.sends s WHERE NOT EXISTS (SELECT FROM decisioning.decisions d WHERE d.decision_id = s.decision_id)"
    ) == [(0,)]
    assert lift and shop.alike(db.sql("SELECT * FROM decisioning.lift ORDER BY 1, 2, 3, 4, 5, 6"), lift)
    assert db.sql("SELECT * FROM decisioning.preview('c-7', 'c')") == preview
    with pytest.raises(psycopg.errors.UndefinedObject):
        connection.execute("SELECT * FROM decisioning.explain(%s)", chosen)
    # Once more changes nothing.
    assert connection.execute("SELECT * FROM decisioning.thin_log('2026-03-01')").fetchall() == []


def test_nothing_is_estimated_of_what_stayed(db):
    """Under a global holdout sends stay and others go: the chance to be among them is not that with which they were chosen."""
    connection = create(db)
    shop.session(db, now="2026-01-11 10:00+00").execute("SELECT decisioning.set_global_holdout(0.05)")
    performance = "SELECT sum(decisions) FROM decisioning.action_performance('c')"
    insight = "SELECT count(*) FROM decisioning.decisions WHERE treatment_group IN ('explore', 'optimise') AND propensity < 1 AND decided_at >= %s"
    assert connection.execute(performance).fetchone() == connection.execute(insight, ["2026-01-01"]).fetchone()
    connection.execute("SELECT * FROM decisioning.thin_log('2026-03-01')")
    assert connection.execute(insight, ["2026-02-01"]).fetchone() > connection.execute(insight, ["2026-03-01"]).fetchone(), "sends stay"
    assert connection.execute(performance).fetchone() == connection.execute(insight, ["2026-03-01"]).fetchone()
    policies = connection.execute("SELECT DISTINCT decisions FROM decisioning.evaluate_policy('c')").fetchall()
    assert policies == connection.execute(insight, ["2026-03-01"]).fetchall()


def test_the_log_goes_on(db):
    """Partitions are what they were, and whatever reads or writes the log works."""
    connection = create(db)
    shape = """SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid), c.relowner::regrole::text,
                      ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid ORDER BY 1),
                      ARRAY(SELECT conname FROM pg_constraint k WHERE k.conrelid = c.oid ORDER BY 1),
                      ARRAY(SELECT a.attname || a.attnotnull FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum)
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'decisioning.decisions'::regclass ORDER BY 1"""
    before = db.sql(shape)
    connection.execute("SELECT decisioning.thin_log('2026-03-01')")
    assert db.sql(shape) == before
    (old,) = connection.execute("SELECT decision_id FROM decisioning.decisions WHERE ordinal = 1 LIMIT 1").fetchone()
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-03 10:00+00")
    connection.execute("SELECT decisioning.maintain()")
    connection.execute("SELECT decisioning.rebuild_model('c')")
    assert db.sql("SELECT decisions FROM decisioning.models WHERE current") == [(400 + 1200 + 400,)]
    for call in ("lift('c')", "report()", "insights('c')", "calibration('c')", "group_differences('c')", "export_customer('c-1')"):
        connection.execute(f"SELECT * FROM decisioning.{call}")
    connection.execute("SELECT * FROM decisioning.evaluate_policy('c')")


def test_versions_go_with_the_decisions_that_they_made(db):
    connection = shop.session(db, now="2026-01-10 10:00+00")
    shop.create(connection, customers=100, now="2026-01-10 10:00+00", explore=0.3)
    connection.execute("UPDATE decisioning.campaigns SET half_life = '1 day'")
    for month in ("2026-01", "2026-02", "2026-03"):
        for day in (10, 13):
            connection = shop.session(db, now=f"{month}-{day} 10:00+00")
            connection.execute("CALL decisioning.decide_all('c')")
            connection = shop.session(db, now=f"{month}-{day + 2} 10:00+00")
            connection.execute("SELECT decisioning.learn('c')")
    versions = [version for (version,) in db.sql("SELECT model_version FROM decisioning.models ORDER BY 1")]
    used = "SELECT DISTINCT model_version FROM decisioning.decisions WHERE decided_at >= '2026-03-01' AND model_version IS NOT NULL"
    oldest = min(version for (version,) in db.sql(used))
    (first,) = db.sql("SELECT decision_id FROM decisioning.decisions WHERE ordinal = 1 AND treatment_group = 'optimise' LIMIT 1")[0]
    connection = shop.session(db, now="2026-06-01 10:00+00")
    connection.execute("SELECT decisioning.thin_log('2026-03-01')")
    kept = [version for (version,) in db.sql("SELECT model_version FROM decisioning.models ORDER BY 1")]
    assert kept == [version for version in versions if version >= oldest] and len(kept) < len(versions)
    assert db.sql("SELECT DISTINCT model_version FROM decisioning._model_part ORDER BY 1") == [(version,) for version in kept]
    # What a version that is gone said is not compared any more.
    compared = "SELECT sum(decisions) FROM decisioning.calibration('c')"
    assert connection.execute(compared).fetchone() == (
        connection.execute("SELECT count(*) FROM decisioning.decisions WHERE model_version >= %s", [oldest]).fetchone()[0],
    )
    connection.execute("SELECT decisioning.report('c')")
    with pytest.raises(psycopg.errors.UndefinedObject, match="is not kept") as refused:
        connection.execute("SELECT * FROM decisioning.replay(%s)", [first])
    assert "thin_log" in refused.value.diag.message_hint
    (replayed,) = connection.execute(
        "SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r WHERE d.decided_at >= '2026-03-01'"
    ).fetchone()
    assert replayed


def test_what_is_needed_stays(db):
    """What waits, what stands for its customer, and under a global holdout what total_lift pays for."""
    connection = create(db)
    ids = [row[0] for row in db.sql("SELECT decision_id FROM decisioning.decisions WHERE ordinal = 2 AND action_id > 0 ORDER BY 1 LIMIT 6")]
    connection.execute("UPDATE decisioning._assignment SET decision_id = %s WHERE customer_id = 'c-1'", [ids[0]])
    connection.execute("INSERT INTO decisioning._outbox VALUES ('c', '2026-07-01', %s)", [ids[1]])
    connection.execute("UPDATE decisioning.sends SET status = 'queued' WHERE decision_id = %s", [ids[2]])
    connection.execute("INSERT INTO decisioning._inbox (campaign, closes_at, decision_id) VALUES ('c', '2026-07-01', %s)", [ids[3]])
    connection.execute("INSERT INTO decisioning._reassessment VALUES ('c', %s, false, 0, '{}')", [ids[4]])
    connection.execute(
        "INSERT INTO decisioning._reservation VALUES (%s, 'c', 'b', '2026-01-01', '2026-02-01', 1, 0, 0, 1, 1)", [ids[5]]
    )
    connection.execute("SELECT decisioning.thin_log('2026-02-01')")
    kept = "SELECT decision_id FROM decisioning.decisions WHERE decided_at < '2026-02-01' AND ordinal > 1 ORDER BY 1"
    assert [row[0] for row in db.sql(kept)] == ids
    assert db.sql("SELECT count(*) FROM decisioning.sends WHERE decision_id = %s", [ids[2]]) == [(1,)]
    shop.session(db, now="2026-02-11 10:00+00").execute("SELECT decisioning.set_global_holdout(0.1)")
    sends = "SELECT count(*) FROM decisioning.decisions WHERE decided_at BETWEEN '2026-02-11' AND '2026-03-01' AND action_id > 0"
    before = db.sql(sends)
    connection.execute("SELECT decisioning.thin_log('2026-03-01')")
    assert db.sql(sends) == before
    assert decisions(db)["2026-02"] == before[0][0]


@pytest.mark.parametrize(
    ("change", "before", "message"),
    [
        ("UPDATE decisioning.campaigns SET half_life = NULL", "2026-02-01", "learns from all of its decisions"),
        ("UPDATE decisioning.campaigns SET half_life = '20 days'", "2026-02-01", "learns from decisions since 2025-11-13"),
        ("UPDATE decisioning.campaign_goals SET attribution_window = '60 days'", "2026-02-01", "works with decisions since 2026-01-2"),
        ("SELECT", "2026-05-01", "learns from decisions since 2026-05-02|works with decisions since 2026-04-2"),
    ],
    ids=["no half-life", "long half-life", "long window", "too late"],
)
def test_what_is_learned_from_or_open_is_refused(db, change, before, message):
    connection = create(db)
    connection.execute("SET timezone = 'UTC'")
    connection.execute(change)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=message) as refused:
        connection.execute("SELECT decisioning.thin_log(%s)", [before])
    assert refused.value.diag.message_hint
    assert decisions(db) == dict.fromkeys(MONTHS, 1200)
    if "half_life" in change:
        connection.execute("SELECT decisioning.end_campaign('c')")
        connection.execute("SELECT decisioning.thin_log(%s)", [before])
        assert decisions(db)["2026-01"] == 400


def test_nobody_waits_while_months_are_rewritten(db):
    connection = create(db)
    holder = shop.session(db, autocommit=False)
    holder.execute("LOCK TABLE decisioning._reassessment")
    thinner = shop.session(db, now="2026-06-01 10:00+00")
    thinning = Background(lambda: thinner.execute("SELECT decisioning.thin_log('2026-03-01')").fetchall())
    wait_until_blocked(db, thinner)
    connection.execute("SET statement_timeout = '10s'")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'now', 'c-1')")
    connection.execute("SELECT * FROM decisioning.lift('c')")
    assert decisions(db) == dict.fromkeys(MONTHS, 1200) | {"2026-06": 400}
    holder.rollback()
    thinning.result()
    assert decisions(db) == {"2026-01": 400, "2026-03": 1200, "2026-06": 400}


def test_a_row_that_comes_meanwhile_is_not_lost(db):
    """The log of old months is written to by imports."""
    connection = create(db)
    writer = shop.session(db, autocommit=False)
    writer.execute(
        """INSERT INTO decisioning.decisions
           SELECT (r.d).* FROM (SELECT jsonb_populate_record(d, '{"ordinal": 1, "decision_id": "019b9000-0000-7000-8000-000000000000"}') AS d
                                FROM decisioning.decisions d WHERE d.ordinal = 2 LIMIT 1) AS r"""
    )
    assert writer.execute("SELECT tableoid::regclass::text FROM decisioning.decisions WHERE decision_id::text LIKE '019b9000%'").fetchall() == [
        ("decisioning.decisions_2026_01",)
    ]
    thinner = shop.session(db, now="2026-06-01 10:00+00")
    thinning = Background(lambda: thinner.execute("SELECT decisioning.thin_log('2026-03-01')").fetchall())
    wait_until_blocked(db, thinner)
    writer.commit()
    thinning.result()
    assert connection.execute("SELECT count(*) FROM decisioning.decisions WHERE decision_id::text LIKE '019b9000%'").fetchall() == [(1,)]


def test_an_import_that_comes_meanwhile_waits(db):
    connection = create(db)
    connection.execute(
        "CREATE TABLE public.past AS SELECT 'p-' || n AS customer, 'x/email' AS action, 0.5 AS p, timestamptz '2026-01-20 10:00+00' AS at FROM generate_series(1, 50) n"
    )
    holder = shop.session(db, autocommit=False)
    holder.execute("LOCK TABLE decisioning._reassessment")
    thinner = shop.session(db, now="2026-06-01 10:00+00")
    thinning = Background(lambda: thinner.execute("SELECT * FROM decisioning.thin_log('2026-03-01')").fetchall())
    wait_until_blocked(db, thinner)
    importer = shop.session(db, now="2026-06-01 10:00+00")
    importing = Background(
        lambda: importer.execute(
            "SELECT decisioning.import_decisions('c', 'public.past', customer_key => 'customer', action => 'action', decided_at => 'at', propensity => 'p')"
        ).fetchone()
    )
    wait_until_blocked(db, importer)
    holder.rollback()
    assert thinning.result() and importing.result() == (50,)
    assert decisions(db) == {"2026-01": 450, "2026-03": 1200}


def test_deciders_do_not_queue_behind_the_end(db):
    """While somebody reads the log, the months that were rewritten do not take their places; the lock is not waited for."""
    connection = create(db)
    connection.execute("CALL decisioning.decide_all('c')")
    reader = db.connect(autocommit=False)
    reader.execute("SELECT count(*) FROM decisioning.decisions")
    thinner = shop.session(db, now="2026-06-01 10:00+00")
    thinning = Background(lambda: thinner.execute("SELECT * FROM decisioning.thin_log('2026-03-01')").fetchall())
    waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    while db.sql(waits, [thinner.info.backend_pid]) != [("PgSleep",)]:
        assert thinning.is_alive()
    connection.execute("SET lock_timeout = '2s'")
    for n in range(1, 6):
        assert connection.execute("SELECT customer_id FROM decisioning.decide(%s, 'c')", [f"c-{n}"]).fetchone() == (f"c-{n}",)
    assert decisions(db)["2026-02"] == 1200
    reader.rollback()
    assert thinning.result()
    assert "2026-02" not in decisions(db)


def test_a_published_log_is_thinned_in_place(db):
    """Subscribers get the deletions, by the tables that they know."""
    connection = create(db)
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    tables = "SELECT oid, relname FROM pg_class WHERE relname ~ '^decisions_' AND relkind = 'r' ORDER BY 2"
    before = db.sql(tables)
    thinned = {row[0]: row[1:] for row in connection.execute("SELECT * FROM decisioning.thin_log('2026-03-01')")}
    assert thinned["decisioning.decisions_2026_01"] == (800, 400) and thinned["decisioning.decisions_2026_02"] == (1200, 0)
    assert db.sql(tables) == before
    assert decisions(db) == {"2026-01": 400, "2026-03": 1200}
    assert connection.execute("SELECT * FROM decisioning.thin_log('2026-03-01')").fetchall() == []


def test_groups_that_were_drawn_anew_stay_alike(db):
    """The features that they are compared by are those of the first decision since, which is not the customer's first."""
    shop.create(db.connect(), customers=400, now="2026-01-10 10:00+00")
    connection = shop.session(db, now="2026-01-10 10:00+00")
    connection.execute("UPDATE decisioning.campaigns SET half_life = '3 days'")
    connection.execute("CALL decisioning.decide_all('c')")
    shop.session(db, now="2026-01-20 10:00+00").execute("SELECT decisioning.renew_holdout('c', wash_out => '1 hour')")
    for now in ("2026-01-25 10:00+00", "2026-02-20 10:00+00", "2026-03-20 10:00+00"):
        shop.session(db, now=now).execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-01 10:00+00")
    connection.execute("SELECT decisioning.learn('c')")
    balance = "SELECT feature, customers, levels, statistic FROM decisioning.feature_balance('c')"
    before = connection.execute(balance).fetchall()
    assert before and all(customers > 300 for _, customers, _, _ in before)
    # What changed since is no feature at exposure.
    connection.execute("UPDATE decisioning.decisions SET context = '{\"age\": 1}' WHERE decided_at > '2026-01-26'")
    assert connection.execute(balance).fetchall() == before
    connection.execute("SELECT decisioning.thin_log('2026-03-01')")
    assert decisions(db) == {"2026-01": 800, "2026-03": 400}
    assert connection.execute(balance).fetchall() == before


def test_isolation_is_read_committed(db):
    connection = create(db)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="read committed"):
        connection.execute("SELECT decisioning.thin_log('2026-02-01')")
