"""Reads are read-only: they run in a read-only transaction, assign no transaction id, and so work on a standby."""

import time

import psycopg
import pytest

import shop

READS = [
    "SELECT * FROM decisioning.preview('c-1', 'c')",
    "SELECT e.* FROM decisioning.decisions d, decisioning.explain(d.decision_id) e",
    "SELECT r.* FROM decisioning.decisions d, decisioning.replay(d.decision_id) r",
    "SELECT * FROM decisioning.evaluate_policy('c')",
    "SELECT * FROM decisioning.evaluate_log('decisioning.decisions', reward => 'ordinal', target_probability => 'propensity')",
    "SELECT * FROM decisioning.lift",
    "SELECT * FROM decisioning.lift('c', horizon => '1 day', history => '28 days')",
    "SELECT * FROM decisioning.lift('c', covariate => 'age')",
    "SELECT * FROM decisioning.lift_daily",
    "SELECT * FROM decisioning.lift_over_time('c', 'days since exposure')",
    "SELECT * FROM decisioning.lift_before_exposure()",
    "SELECT * FROM decisioning.action_performance('c')",
    "SELECT * FROM decisioning.action_performance",
    "SELECT * FROM decisioning.insights('c')",
    "SELECT * FROM decisioning.group_balance",
    "SELECT * FROM decisioning.feature_balance('c')",
    "SELECT * FROM decisioning.group_differences('c')",
    "SELECT * FROM decisioning.power_analysis('c')",
    "SELECT * FROM decisioning.data_readiness('c')",
    "SELECT * FROM decisioning.campaign_health",
    "SELECT * FROM decisioning.campaign_overview",
    "SELECT * FROM decisioning.total_lift()",
    "SELECT * FROM decisioning.open_decisions",
    "SELECT * FROM decisioning.models",
    "SELECT * FROM decisioning.coefficients",
    "SELECT * FROM decisioning.identity_map",
    "SELECT decisioning.report('c')",
    "SELECT decisioning.report()",
    "SELECT * FROM decisioning.match_rules_in_effect",
]


def build(db):
    connection = db.connect()
    shop.create(connection, customers=300, explore=0.5)
    # Whoever a larger share has reached is looked up when he is drawn.
    connection.execute("SELECT decisioning.set_global_holdout(0.9), decisioning.set_global_holdout(0.1)")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("INSERT INTO public.customers SELECT 'n-' || n, n, 'a' FROM generate_series(1, 10) n")
    later = shop.session(db, now="2026-06-03 10:00+00")
    later.execute("SELECT * FROM decisioning.learn('c')")
    return later


def test_reads_work_on_a_standby(db, standby):
    primary = build(db)
    # Commits are asynchronous here: the last ones may not be written yet.
    (written,) = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    with standby.connect() as waiting:
        until = time.monotonic() + 60
        while not waiting.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone()[0]:
            assert time.monotonic() < until, "the standby does not follow"
            time.sleep(0.05)
    with standby.connect(db.name) as reading:
        reading.execute("SET decisioning.simulated_now = '2026-06-03 10:00+00'")
        assert reading.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        for query in READS:
            assert reading.execute(query).fetchall() == primary.execute(query).fetchall(), query
        for statement in ("decide('c-1', 'c')", "record_outcome('buy', 'o-1', 'c-1')"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reading.execute(f"SELECT decisioning.{statement}")
        reading.execute("SET decisioning.mode = preview")
        assert reading.execute("SELECT reason FROM decisioning.decide('c-1', 'c')").fetchone() == ("preview",)


def test_reads_assign_no_transaction_id(db):
    build(db)
    reading = shop.session(db, now="2026-06-03 10:00+00", autocommit=False)
    reading.execute("SET TRANSACTION READ ONLY")
    for query in READS:
        reading.execute(query)
    reading.execute("SET decisioning.mode = preview")
    assert reading.execute("SELECT reason FROM decisioning.decide('c-1', 'c')").fetchone() == ("preview",)
    assert len(reading.execute("SELECT * FROM decisioning.decide_batch(ARRAY['n-1', 'n-2', 'n-3', 'n-4', 'n-5'], 'c')").fetchall()) == 5
    assert reading.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    reading.commit()
