"""Reads are read-only: they run in a read-only transaction, assign no transaction id, and so work on a standby."""

import shop

READS = [
    "SELECT * FROM decisioning.preview('c-1', 'c')",
    "SELECT e.* FROM decisioning.decisions d, decisioning.explain(d.decision_id) e",
    "SELECT r.* FROM decisioning.decisions d, decisioning.replay(d.decision_id) r",
    "SELECT * FROM decisioning.evaluate_policy('c')",
    "SELECT * FROM decisioning.evaluate_log('decisioning.decisions', reward => 'ordinal', target_probability => 'propensity')",
    "SELECT * FROM decisioning.lift",
    "SELECT * FROM decisioning.action_performance('c')",
    "SELECT * FROM decisioning.action_performance",
    "SELECT * FROM decisioning.insights('c')",
    "SELECT * FROM decisioning.group_balance",
    "SELECT * FROM decisioning.open_decisions",
    "SELECT * FROM decisioning.models",
    "SELECT * FROM decisioning.coefficients",
    "SELECT * FROM decisioning.identity_map",
    "SELECT * FROM decisioning.match_rules_in_effect",
]


def test_reads_assign_no_transaction_id(db):
    connection = db.connect()
    shop.create(connection, customers=300, explore=0.5)
    connection.execute("CALL decisioning.decide_all('c')")
    later = shop.session(db, now="2026-06-03 10:00+00")
    later.execute("SELECT * FROM decisioning.learn('c')")
    reading = shop.session(db, now="2026-06-03 10:00+00", autocommit=False)
    reading.execute("SET TRANSACTION READ ONLY")
    for query in READS:
        reading.execute(query)
    reading.execute("SET decisioning.mode = preview")
    assert reading.execute("SELECT reason FROM decisioning.decide('c-1', 'c')").fetchone() == ("preview",)
    assert reading.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    reading.commit()
