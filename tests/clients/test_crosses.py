"""Features that only together tell for whom sends work: found in the log, part of the model from then on."""

import pytest

import shop

COEFFICIENTS = "SELECT coefficient, estimate, standard_error FROM decisioning.coefficients WHERE part = 'response'"
CROSS = "kind = b ⋅ tier = gold"


@pytest.fixture
def learned(db):
    """Three days of sends to people of whom gold ones of kind b respond to sms."""
    connection = db.connect()
    shop.create(connection, customers=9000, explore=0.8)
    connection.execute("ALTER TABLE public.customers ADD COLUMN tier text NOT NULL DEFAULT 'none'")
    connection.execute("UPDATE public.customers SET tier = (ARRAY['gold', 'new', 'none'])[1 + mod(abs(hashtext(id)), 3)]")
    connection.execute("SELECT * FROM decisioning.rebuild_model('c')")
    for day in (1, 3, 5):
        connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
        connection.execute("CALL decisioning.decide_all('c')")
        connection.execute(
            """SELECT decisioning.record_outcome('buy', d.decision_id::text, decision_id => d.decision_id)
               FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
               WHERE d.decided_at::date = %s::date AND abs(hashtext(d.decision_id::text)) %% 100 < CASE
                     WHEN d.action LIKE '%%/sms' AND c.kind = 'b' AND c.tier = 'gold' THEN 45
                     WHEN c.kind = 'b' THEN 12 ELSE 8 END""",
            [f"2026-06-{day:02}"],
        )
        connection = shop.session(db, now=f"2026-06-{day + 1:02} 12:00+00")
        connection.execute("SELECT * FROM decisioning.learn('c')")
    return connection


def coefficients(connection):
    return {name: (estimate, error) for name, estimate, error in connection.execute(COEFFICIENTS).fetchall()}


def chances(connection):
    """Of a response to sms, by whether somebody is of kind b and gold: the mean over 60 of each."""
    return dict(
        connection.execute(
            """SELECT c.kind = 'b' AND c.tier = 'gold', avg(p.probability)
               FROM (SELECT c.*, row_number() OVER (PARTITION BY c.kind = 'b' AND c.tier = 'gold' ORDER BY c.id) AS n FROM public.customers c) AS c
               CROSS JOIN LATERAL decisioning.preview(c.id, 'c') p
               WHERE c.n <= 60 AND p.action LIKE '%/sms' GROUP BY 1"""
        ).fetchall()
    )


def test_what_tells_is_found_by_itself(db, learned):
    found = coefficients(learned)
    estimate, error = found[f"channel=sms × {CROSS}"]
    total = estimate + found[f"send: {CROSS}"][0]
    assert total > 1 and error < 0.5
    crosses = {name.split(" × ")[-1] for name in found if "⋅" in name and "×" in name}
    assert crosses == {CROSS}, "nothing else tells"
    known = chances(learned)
    assert abs(known[True] - 0.45) < 0.06 and abs(known[False] - 0.09) < 0.03


def test_decisions_from_before_count_and_replay(db, learned):
    """They were encoded without the cross, and are read with it."""
    learned.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')")
    widths = "SELECT array_agg(DISTINCT cardinality(encoded) ORDER BY cardinality(encoded) DESC) FROM decisioning.decisions"
    [(width, before, *_)] = learned.execute(widths).fetchone()
    assert width == before + 1
    assert learned.execute(
        """SELECT bool_and(r.matches), count(*) FROM (
               (SELECT decision_id FROM decisioning.decisions ORDER BY decided_at DESC, decision_id LIMIT 50)
               UNION ALL (SELECT decision_id FROM decisioning.decisions ORDER BY decided_at, decision_id LIMIT 50)) AS d
           CROSS JOIN LATERAL decisioning.replay(d.decision_id) r"""
    ).fetchone() == (True, 100)


def test_a_rebuild_finds_it_anew(db, learned):
    before = coefficients(learned)
    learned.execute("SELECT * FROM decisioning.rebuild_model('c')")
    after = coefficients(learned)
    assert before.keys() == after.keys()
    assert all(abs(estimate - after[name][0]) < 0.3 * error for name, (estimate, error) in before.items())


def test_it_goes_with_its_columns(db, learned):
    learned.execute("ALTER TABLE public.customers ADD COLUMN score int NOT NULL DEFAULT 1")
    learned.execute("UPDATE public.customers SET score = mod(abs(hashtext(id || 's')), 50)")
    learned.execute("SELECT * FROM decisioning.learn('c')")
    assert f"send: {CROSS}" in coefficients(learned), "another column does not matter"
    learned.execute("ALTER TABLE public.customers DROP COLUMN tier")
    learned.execute("SELECT * FROM decisioning.learn('c')")
    assert not [name for name in coefficients(learned) if "⋅" in name or "tier" in name]
    assert learned.execute("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')").fetchone() == (2,)

