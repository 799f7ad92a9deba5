"""A world that changes: since when, and what learning before it is worth then."""

import shop

DAYS, CHANGE = 16, 10
NEVER = DAYS + 1


def play(db, change):
    """People of kind b respond to sms, and from a day on to e-mail; half of what is known fades in four days, and later in two."""
    shop.create(db.connect(), customers=2500, explore=0.3)
    db.sql("UPDATE decisioning.campaigns SET half_life = '4 days'")
    for day in range(1, DAYS + 1):
        connection = shop.session(db, now=f"2026-06-{day:02} 10:00+00")
        connection.execute("CALL decisioning.decide_all('c')")
        connection.execute(
            """SELECT decisioning.record_outcome('buy', d.decision_id::text, decision_id => d.decision_id, occurred_at => d.decided_at + interval '1 hour')
               FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id
               WHERE d.decided_at::date = %s::date AND abs(hashtext(d.decision_id::text)) %% 100 <
                     CASE WHEN c.kind = 'b' AND split_part(d.action, '/', 2) = %s THEN 40 ELSE 5 END""",
            [f"2026-06-{day:02}", "sms" if day < change else "email"],
        )
        if day == 12:
            db.sql("UPDATE decisioning.campaigns SET half_life = '2 days'")
        connection = shop.session(db, now=f"2026-06-{day + 1:02} 10:00+00")
        connection.execute("SELECT * FROM decisioning.learn('c')")
    return connection


def assert_found(db):
    day = f"2026-06-{CHANGE} 10:00+00"
    models = db.sql(
        """SELECT created_at <= %s, abs(extract(day FROM (drifted_at->>'response')::timestamptz - %s)) <= 1,
                  (drift->'response'->>'dimension channel')::float8
           FROM decisioning.models ORDER BY model_version""",
        [day, day],
    )
    assert all(found is None for before, found, _ in models if before)
    after = [channel for before, found, channel in models if not before and found]
    assert len(after) == DAYS - CHANGE + 1, "by the first version that can know, and by every one since"
    assert all(channel > 0.5 for channel in after)


def assert_unwritten(db):
    """What has only faded stays as it was written."""
    epochs = db.sql(
        """SELECT e.discounted_to = l.learned_at FROM decisioning._learner_epoch e JOIN decisioning._learner l USING (campaign)
           WHERE e.part = 'response' ORDER BY e.since"""
    )
    assert len(epochs) > 4 and not epochs[0][0] and epochs[-1][0]


def differences(db, session):
    """Between what was learned day by day and a refit, in standard errors."""
    coefficients = "SELECT coefficient, estimate, standard_error FROM decisioning.coefficients WHERE part = 'response' ORDER BY 1"
    before = db.sql(coefficients)
    session.execute("SELECT * FROM decisioning.rebuild_model('c')")
    after = db.sql(coefficients)
    assert [name for name, *_ in before] == [name for name, *_ in after] and len(after) > 20
    return [abs(estimate - refitted) / error for (_, estimate, _), (_, refitted, error) in zip(before, after)]


def chances(session):
    """Of a response, as the model sees it, by whether somebody is of kind b and by channel."""
    rows = session.execute(
        """SELECT c.kind = 'b', split_part(p.action, '/', 2), avg(p.probability)
           FROM public.customers c CROSS JOIN LATERAL decisioning.preview(c.id, 'c') p
           WHERE c.age < 9 AND p.action <> 'no_send' GROUP BY 1, 2"""
    ).fetchall()
    return {(is_b, channel): probability for is_b, channel, probability in rows}


def assert_of_the_present(session):
    """The chances since the change: 40 % for e-mail to kind b, 5 % elsewhere. Sends of sms are few by then, and were 40 %."""
    found = chances(session)
    assert 0.36 < found.pop((True, "email")) < 0.42
    assert len(found) == 3 and all(0.035 < chance < 0.09 for chance in found.values()), found


def test_a_change_is_found_and_stays_found(db):
    """Days later too, when no decision from before it is open; neither what was before nor what came since is read as if it were of
    both worlds, and effects that cancel out over both are not taken for small ones."""
    session = play(db, CHANGE)
    assert_found(db)
    assert_of_the_present(session)
    found = differences(db, session)
    assert max(found) < 0.1 and sum(found) / len(found) < 0.03, found
    assert_of_the_present(session)


def test_sums_that_faded_unwritten_are_those_of_the_log(db):
    """Where nothing drifts, the half-life changes after twelve days, and epochs begin, fade and are joined."""
    session = play(db, NEVER)
    assert_unwritten(db)
    epochs = "SELECT since FROM decisioning._learner_epoch WHERE part = 'response' ORDER BY 1"
    before = db.sql(epochs)
    found = differences(db, session)
    assert db.sql(epochs) == before
    assert max(found) < 0.08 and sum(found) / len(found) < 0.02, found
