"""What is learned outlives changes of actions and columns, failed calls, and what customers' rows may hold."""

import math

import psycopg
import pytest

import shop

LATER = "2026-06-03 10:00+00"
COEFFICIENTS = "SELECT coefficient, estimate, standard_error FROM decisioning.coefficients WHERE part = 'response'"
VERSION = "SELECT model_version, decisions FROM decisioning.models WHERE current"


@pytest.fixture
def learned(db):
    """A campaign that knows that kind b responds, to sms above all; by now LATER."""
    connection = db.connect()
    shop.create(connection, customers=6000, explore=0.8)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute(
        """SELECT decisioning.record_outcome('buy', d.decision_id::text, decision_id => d.decision_id)
           FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
           WHERE mod(abs(hashtext(d.decision_id::text)), 100)
                 < CASE WHEN c.kind <> 'b' THEN 5 WHEN d.action LIKE '%/sms' THEN 60 ELSE 25 END"""
    )
    connection = shop.session(db, now=LATER)
    connection.execute("SELECT * FROM decisioning.learn('c')")
    return connection


def coefficients(connection):
    return {name: (estimate, error) for name, estimate, error in connection.execute(COEFFICIENTS).fetchall()}


def assert_kept(before, after, names=None):
    """Every coefficient of `names` is where it was, to a fraction of its standard error: prior scales may move a little."""
    for name in names or before.keys() & after.keys():
        (was, error), (now, _) = before[name], after[name]
        assert abs(now - was) < 0.3 * error, (name, was, now, error)


def test_the_fixture_has_something_to_lose(learned):
    found = coefficients(learned)
    for name in ("base: kind = b", "channel=sms × kind = b"):
        estimate, error = found[name]
        assert estimate > 2 * error > 0, (name, estimate, error)


def test_actions_come_and_go(learned):
    """A paused action keeps what it taught about its levels; a new action of known levels starts with it; a new level with
    its prior."""
    before = coefficients(learned)
    learned.execute("SELECT decisioning.pause_action('c', 'x/sms')")
    learned.execute("SELECT decisioning.add_action('c', 'loud', message => 'loud', channel => 'sms'), decisioning.approve_action('c', 'loud')")
    learned.execute("SELECT * FROM decisioning.learn('c')")
    after = coefficients(learned)
    assert before.keys() < after.keys()
    assert_kept(before, after)
    estimate, error = after["message=loud"]
    assert abs(estimate) < 1e-6 and error > 0.2
    # Customer 1 is of kind b: for them the newcomer is worth what SMS is.
    uplift = dict(learned.execute("SELECT action, uplift FROM decisioning.preview('c-1', 'c')").fetchall())
    assert uplift["loud"] > 0.1
    assert uplift["x/sms"] is None or "x/sms" in dict(learned.execute("SELECT action, removed_by FROM decisioning.preview('c-1', 'c') WHERE removed_by IS NOT NULL").fetchall())


def test_a_dropped_and_a_new_column(learned):
    before = coefficients(learned)
    learned.execute("ALTER TABLE public.customers DROP COLUMN age, ADD COLUMN member boolean DEFAULT true")
    learned.execute("SELECT * FROM decisioning.learn('c')")
    after = coefficients(learned)
    assert any(name.endswith(" age") for name in before) and not any(name.endswith(" age") for name in after)
    assert "base: member" in after and "base: member" not in before
    # Age has nothing to do with the outcomes, so that the rest hardly depends on it.
    assert_kept(before, after, [name for name in after if "kind" in name])
    [(action,)] = learned.execute("SELECT action FROM decisioning.decide('c-1', 'c')").fetchall()
    assert action


def test_a_new_level_of_a_feature(learned):
    """It is "other" until the audience is profiled again; then it has a column of its own, and the other levels keep theirs."""
    before = coefficients(learned)
    learned.execute("UPDATE public.customers SET kind = 'd' WHERE id LIKE '%7'")
    [(customer,)] = learned.execute("SELECT customer_id FROM decisioning.decide('c-7', 'c')").fetchall()
    assert customer == "c-7"
    learned.execute("SELECT * FROM decisioning.rebuild_model('c')")
    after = coefficients(learned)
    assert "base: kind = d" in after and "base: kind = d" not in before
    assert_kept(before, after, ["base: kind = b", "channel=sms × kind = b"])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE decisioning._learner_epoch SET statistics = '\\x00'",
        "DELETE FROM decisioning._learner_epoch",
        "UPDATE decisioning.decisions SET encoded[2] = 'NaN' WHERE decided_at > '2026-06-02'",
        "UPDATE decisioning.decisions SET encoded = '{1}' WHERE decided_at > '2026-06-02'",
    ],
)
def test_a_failing_learn_keeps_the_last_version(db, learned, damage):
    learned.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2', 'c-3'], 'c')")
    (version, before) = learned.execute(VERSION).fetchone(), coefficients(learned)
    db.sql(damage)
    late = shop.session(db, now="2026-06-06 10:00+00")
    with pytest.raises(psycopg.errors.DataCorrupted):
        late.execute("SELECT * FROM decisioning.learn('c')")
    assert late.execute(VERSION).fetchone() == version and coefficients(late) == before
    assert late.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-4', 'c-5'], 'c')").fetchone() == (2,)
    assert late.execute("SELECT count(*) FROM decisioning._inbox WHERE decision_id IS NOT NULL").fetchone() == (5,)
    # What the sums and the encoded contexts say is also in the log, as outcomes and contexts.
    late.execute("SELECT * FROM decisioning.rebuild_model('c')")
    late.execute("SELECT * FROM decisioning.learn('c')")
    assert late.execute(VERSION).fetchone()[1] == version[1] + 3


def test_sums_are_not_read_when_nothing_is_new(db, learned):
    """Damaged ones are not noticed before they are needed; the log makes them good."""
    db.sql("UPDATE decisioning._learner_epoch SET statistics = '\\x00'")
    version = learned.execute(VERSION).fetchone()
    learned.execute("SELECT * FROM decisioning.learn('c')")
    assert learned.execute(VERSION).fetchone() == version
    learned.execute("SELECT * FROM decisioning.rebuild_model('c')")
    before = coefficients(learned)
    learned.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2', 'c-3'], 'c')")
    shop.session(db, now="2026-06-06 10:00+00").execute("SELECT * FROM decisioning.learn('c')")
    assert coefficients(learned).keys() == before.keys() and learned.execute(VERSION).fetchone() != version


def test_numbers_that_are_none_do_not_get_into_the_model(db):
    connection = db.connect()
    shop.create(connection, customers=900)
    connection.execute("ALTER TABLE public.customers ALTER COLUMN age TYPE float8")
    connection.execute(
        "UPDATE public.customers SET age = (ARRAY['NaN', 'Infinity', '-Infinity', '1e308', NULL]::float8[])[1 + mod(age::int, 5)] WHERE mod(age::int, 2) = 0"
    )
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'e-' || n, 'c-' || n) FROM generate_series(1, 900, 3) n")
    late = shop.session(db, now=LATER)
    for call in ("learn", "rebuild_model"):
        late.execute(f"SELECT * FROM decisioning.{call}('c')")
        for estimate, error in coefficients(late).values():
            assert math.isfinite(estimate) and math.isfinite(error) and abs(estimate) < 10
    assert db.sql("SELECT count(*) FROM decisioning.decisions, unnest(encoded) AS x WHERE x <> x - x + x OR x = 'NaN'") == [(0,)]
    with pytest.raises(psycopg.errors.CheckViolation):
        db.sql("UPDATE decisioning._model_part SET coefficients[1] = 'NaN'")
