"""Delivery under concurrency and at every isolation level: each send goes to one worker, caps hold to the last moment, and a
reader that goes on from the latest change misses nothing."""

import os
import signal
import threading
from pathlib import Path

import psycopg
import pytest

import shop
from test_guardrails import create, run
from test_identity import Background, wait_until_blocked

RETRY = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
RELEASED = "('cancelled', 'preempted', 'expired', 'failed', 'soft_bounced', 'bounced')"
CLAIMED = "INSERT INTO decisioning.delivery_channels (channel, delivery) VALUES ('*', 'claimed')"


def contacts_are_those_of_sends(db):
    """Every send that was decided counts for caps, unless it was released, and nothing else does."""
    [(odd,)] = db.sql(
        f"""SELECT count(*) FROM (
                SELECT c.decision_id, c.action_id FROM decisioning._assignment s,
                       LATERAL unnest(s.contact_decisions, s.contact_actions) AS c(decision_id, action_id)) AS c
            FULL JOIN (SELECT d.decision_id, d.action_id FROM decisioning.decisions d
                       LEFT JOIN decisioning.sends m ON m.decision_id = d.decision_id
                       WHERE d.action <> 'no_send' AND d.origin = 'live' AND (m.status IN {RELEASED}) IS NOT TRUE) AS d
                USING (decision_id, action_id)
            WHERE c IS NULL OR d IS NULL"""
    )
    return odd == 0


def retried(session, work):
    """The transaction, until it comes through."""
    while True:
        try:
            result = work()
            session.commit()
            return result
        except RETRY:
            session.rollback()


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_each_send_is_claimed_once(db, isolation):
    connection = create(db, customers=400, campaigns=2)
    connection.execute(CLAIMED)
    for campaign in ("k0", "k1"):
        connection.execute("CALL decisioning.decide_all(%s)", [campaign])
    connection.execute("CALL decisioning.dispatch_all()")
    claims = {}

    def work(number, rng):
        session = shop.session(db, autocommit=False)
        session.isolation_level = isolation
        channel = rng.choice(["email", "sms", None])
        while True:
            def claim():
                rows = session.execute(
                    "SELECT decision_id FROM decisioning.claim_sends(%s, %s, batch_size => %s)", [channel, str(number), rng.randint(1, 20)]
                ).fetchall()
                if rows and rng.random() < 0.1:
                    session.rollback()
                    return None
                return rows

            rows = retried(session, claim)
            if rows == []:
                return
            for (decision_id,) in rows or []:
                claims.setdefault(decision_id, []).append(number)

    run(16, work)
    # Each worker keeps to his channel; whoever rolled back last may have left something.
    with shop.session(db) as rest:
        for (decision_id,) in rest.execute("SELECT decision_id FROM decisioning.claim_sends(worker => 'rest', batch_size => 1000)"):
            claims.setdefault(decision_id, []).append("rest")
    assert all(len(workers) == 1 for workers in claims.values())
    assert db.sql("SELECT status, count(*) FROM decisioning.sends GROUP BY 1") == [("claimed", 800)]
    assert {str(number) for (number,) in claims.values()} == {row[0] for row in db.sql("SELECT DISTINCT claimed_by FROM decisioning.sends")}


def test_a_cap_that_was_lowered_holds_for_what_is_not_made(db):
    """Five campaigns have reserved a send each for the same customers when only two are allowed any more: while some workers have
    theirs already, the rest is cancelled but for what the cap leaves."""
    connection = create(db, customers=100, campaigns=5)
    connection.execute(CLAIMED)
    for n in range(5):
        connection.execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
    connection.execute("CALL decisioning.dispatch_all()")
    connection.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 60, campaign => 'k4')")
    ready = threading.Event()

    def work(number, rng):
        session = shop.session(db)
        for at in range(100):
            if number == 0 and at == 3:
                ready.set()
            rows = session.execute(
                "SELECT decision_id FROM decisioning.claim_sends(%s, batch_size => 5)", [rng.choice(["email", "sms"])]
            ).fetchall()
            if not rows and ready.is_set():
                return

    def cap():
        ready.wait(60)
        connection.execute("SELECT decisioning.add_frequency_cap(2, 'day', cap => 'late')")

    run(9, lambda number, rng: cap() if number == 8 else work(number, rng))
    connection.execute("SELECT decisioning.claim_sends(batch_size => 1000)")
    [(epoch,)] = db.sql("SELECT epoch FROM decisioning.frequency_caps")
    made = dict(db.sql("SELECT customer_id, count(*) FROM decisioning.sends WHERE status = 'claimed' GROUP BY 1"))
    before = dict(
        db.sql(
            """SELECT customer_id, count(*) FROM decisioning.sends WHERE status = 'claimed'
               AND updated_at < (SELECT min(updated_at) FROM decisioning.sends WHERE reason = 'cap: late') GROUP BY 1"""
        )
    )
    assert epoch and set(made) == {f"c-{n}" for n in range(1, 101)}, "what a cap leaves is used"
    assert all(count == max(2, before.get(customer, 0)) for customer, count in made.items())
    assert db.sql("SELECT DISTINCT reason FROM decisioning.sends WHERE status = 'cancelled'") == [("cap: late",)]
    assert contacts_are_those_of_sends(db)


def test_of_two_workers_at_one_customer_one_gets_his_send(db):
    """Each claims those of a campaign, and looks before the other has committed: the send that was decided first is made."""
    connection = create(db, customers=40, campaigns=2)
    connection.execute(CLAIMED)
    for n in range(2):
        connection.execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
    connection.execute("CALL decisioning.dispatch_all()")
    connection.execute("SELECT decisioning.add_frequency_cap(1, 'day', cap => 'late')")
    first, second = shop.session(db, autocommit=False), shop.session(db)
    claim = "SELECT count(*) FROM decisioning.claim_sends(batch_size => 100, campaign => %s)"
    first.execute(claim, ["k0"])
    waiting = Background(lambda: second.execute(claim, ["k1"]))
    wait_until_blocked(db, second)
    first.commit()
    waiting.result()
    made = db.sql("SELECT customer_id, count(*), min(decision_id::text)::uuid FROM decisioning.sends WHERE status = 'claimed' GROUP BY 1")
    assert len(made) == 40 and {row[1] for row in made} == {1}
    assert {row[2] for row in made} == {row[0] for row in db.sql("SELECT min(decision_id::text)::uuid FROM decisioning.decisions GROUP BY customer_id")}
    assert contacts_are_those_of_sends(db)


def test_whoever_turns_out_to_be_one_is_sent_one(db):
    connection = create(db, customers=10, campaigns=2)
    connection.execute("CREATE TABLE public.people AS SELECT id AS key, id || '@example.org' AS mail FROM public.customers")
    connection.execute("""SELECT decisioning.add_source('people', 'public.people', 'key', '{"mail": "email"}')""")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("SELECT decisioning.add_frequency_cap(1, 'day', 'k0')")
    decided = {}
    for customer in ("c-1", "c-2", "c-3"):
        decided[customer] = connection.execute("SELECT decision_id FROM decisioning.decide(%s, 'k0')", [customer]).fetchone()[0]
    other = connection.execute("SELECT decision_id FROM decisioning.decide('c-2', 'k1')").fetchone()[0]
    connection.execute("SELECT decisioning.merge_customers('{c-1, c-2}')")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("SELECT decisioning.dispatch()")
    sends = {row[0]: row[1:] for row in db.sql("SELECT decision_id, customer_id, status, reason FROM decisioning.sends")}
    first, second = sorted(decided[customer] for customer in ("c-1", "c-2"))
    assert sends[first][0] == "c-1" and sends[first][1] == "queued"
    assert sends[second][1:] == ("cancelled", "another decision of this person")
    assert sends[other] == ("c-1", "queued", None), "sent to whom he is known as now"
    assert sends[decided["c-3"]][1] == "queued"
    assert contacts_are_those_of_sends(db)


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel)[1:])
def test_who_opts_out_while_he_is_merged_is_heard(db, isolation):
    connection = create(db, customers=10)
    connection.execute("CREATE TABLE public.records AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("SELECT decisioning.add_source('crm', 'public.records', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    merging, leaving = shop.session(db, autocommit=False), shop.session(db, autocommit=False)
    leaving.isolation_level = isolation
    leaving.execute("SELECT 1")
    merging.execute("SELECT decisioning.merge_customers('{c-1, c-2}')")
    waiting = Background(lambda: retried(leaving, lambda: leaving.execute("SELECT decisioning.suppress('c-2', 'email'), decisioning.suppress('c-1', 'email')")))
    wait_until_blocked(db, leaving)
    merging.commit()
    waiting.result()
    (canonical,) = connection.execute("SELECT customer_id FROM decisioning.identity_map WHERE record_key = 'c-2'").fetchone()
    assert db.sql("SELECT canonical_id FROM decisioning.suppressions") == [(canonical,)] * 2


def test_word_of_a_send_and_claims_of_others_do_not_deadlock(db):
    """A worker locks sends and waits for the clock; who says what became of one does not hold the clock while he waits for it."""
    connection = create(db, customers=40)
    connection.execute(CLAIMED)
    connection.execute("CALL decisioning.decide_all('k0')")
    connection.execute("CALL decisioning.dispatch_all()")
    ((one,), (customer,)) = db.sql("SELECT decision_id FROM decisioning.sends ORDER BY 1 LIMIT 1") + db.sql("SELECT max(customer_id) FROM decisioning.sends")
    for word in (f"SELECT decisioning.record_delivery('{one}', 'failed')", f"SELECT decisioning.requeue_send('{one}')"):
        clock, feedback, worker = shop.session(db, autocommit=False), shop.session(db), shop.session(db)
        clock.execute("SELECT decisioning.suppress(%s, 'email')", [customer])
        telling = Background(lambda: feedback.execute(word))
        wait_until_blocked(db, feedback)
        claiming = Background(lambda: worker.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 100)"))
        wait_until_blocked(db, worker)
        clock.commit()
        telling.result()
        claiming.result()
        db.sql("SELECT decisioning.release_send(decision_id) FROM decisioning.sends WHERE status = 'claimed'")
    assert contacts_are_those_of_sends(db)


def test_a_worker_may_tell_of_what_he_has_claimed_at_once(db):
    """In the transaction in which he claimed it, while somebody else has something to tell."""
    connection = create(db, customers=40)
    connection.execute(CLAIMED)
    connection.execute("CALL decisioning.decide_all('k0')")
    connection.execute("CALL decisioning.dispatch_all()")
    worker, other = shop.session(db, autocommit=False), shop.session(db)
    claimed = worker.execute("SELECT decision_id FROM decisioning.claim_sends(batch_size => 10)").fetchall()
    (elsewhere,) = other.execute("SELECT decision_id FROM decisioning.sends WHERE decision_id <> ALL (%s) LIMIT 1", [[one for (one,) in claimed]]).fetchone()
    telling = Background(lambda: other.execute("SELECT decisioning.record_delivery(%s, 'failed')", [elsewhere]))
    wait_until_blocked(db, other)
    worker.execute("SELECT decisioning.record_deliveries(%s, array_fill('sent'::text, ARRAY[10]))", [[one for (one,) in claimed]])
    worker.commit()
    telling.result()
    assert dict(db.sql("SELECT status, count(*) FROM decisioning.sends WHERE status IN ('sent', 'failed') GROUP BY 1")) == {"sent": 10, "failed": 1}


def test_word_of_a_send_that_is_just_dispatched(db):
    """Who tells of it waits until it is a send, or is none: what is dispatched then changes no send that was made."""
    connection = create(db, customers=20)
    connection.execute("CALL decisioning.decide_all('k0')")
    dispatcher, sender = shop.session(db, autocommit=False), shop.session(db)
    dispatcher.execute("SELECT decisioning.suppress('c-5')")
    (one,) = sender.execute("SELECT decision_id FROM decisioning.decisions WHERE customer_id = 'c-5' AND action <> 'no_send'").fetchone()
    dispatcher.execute("SELECT decisioning.dispatch('k0')")
    telling = Background(lambda: sender.execute("SELECT decisioning.record_delivery(%s, 'delivered')", [one]))
    wait_until_blocked(db, sender)
    dispatcher.commit()
    telling.result()
    assert db.sql("SELECT status FROM decisioning.sends WHERE decision_id = %s", [one]) == [("delivered",)]
    assert contacts_are_those_of_sends(db)


def test_a_campaign_that_cannot_be_read_does_not_keep_others_from_sending(db):
    connection = create(db, customers=20, campaigns=2)
    connection.execute(CLAIMED)
    for n in range(2):
        connection.execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
    connection.execute("CALL decisioning.dispatch_all()")
    connection.execute("CREATE TABLE public.others AS SELECT * FROM public.customers")
    connection.execute("UPDATE decisioning.campaigns SET customers_relation = 'others', audience = '1 / (id = ''c-0'')::int > 0' WHERE campaign = 'k0'")
    heard = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    claimed = connection.execute("SELECT DISTINCT campaign FROM decisioning.claim_sends(batch_size => 100)").fetchall()
    assert claimed == [("k1",)] and any("k0" in message and "division by zero" in message for message in heard)
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT * FROM decisioning.claim_sends(campaign => 'k0')")


def test_a_worker_that_is_killed_leaves_nothing_in_doubt(db):
    """What he had not committed is there for others; of what he had, nobody knows."""
    connection = create(db, customers=20, campaigns=1)
    connection.execute(CLAIMED)
    connection.execute("CALL decisioning.decide_all('k0')")
    connection.execute("CALL decisioning.dispatch_all()")
    claim = "SELECT decision_id FROM decisioning.claim_sends(batch_size => 5)"
    worker = shop.session(db, autocommit=False)
    committed = {row[0] for row in worker.execute(claim)}
    worker.commit()
    worker.execute(claim)
    connection.execute("SELECT pg_terminate_backend(%s)", [worker.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        worker.execute("SELECT 1")
    others = {row[0] for row in shop.session(db).execute("SELECT decision_id FROM decisioning.claim_sends(batch_size => 100)")}
    assert len(committed) == 5 and len(others) == 15 and not committed & others
    with shop.session(db, now="2026-06-01 10:06+00") as later:
        assert later.execute("SELECT * FROM decisioning.claim_sends(batch_size => 100)").fetchall() == []
    assert db.sql("SELECT DISTINCT status FROM decisioning.sends") == [("unknown",)]
    assert contacts_are_those_of_sends(db)


def test_bounces_change_neither_learning_nor_lift(db):
    """Invariant 17: who was not reached stays as assigned; leaving him out would favour whatever bounces."""
    connection = create(db, customers=2000, campaigns=1)
    connection.execute("UPDATE decisioning.campaigns SET holdout_share = 0.3, explore_share = 0.7")
    connection.execute("CALL decisioning.decide_all('k0')")
    connection.execute("CALL decisioning.dispatch_all()")
    connection.execute(
        """SELECT decisioning.record_outcomes('buy', array_agg('e-' || n), array_agg('c-' || n), array_agg(1.0),
                      array_agg(timestamptz '2026-06-01 12:00+00')) FROM generate_series(1, 2000, 3) n"""
    )
    later = shop.session(db, now="2026-06-03 10:00+00", autocommit=False)

    def results():
        """What lift and learning say; nothing of it stays."""
        lift = later.execute("SELECT * FROM decisioning.lift ORDER BY 1, 2, 3").fetchall()
        learned = later.execute("SELECT new_decisions, new_outcomes FROM decisioning.learn('k0')").fetchall()
        model = later.execute("SELECT coefficient, estimate FROM decisioning.coefficients ORDER BY 1").fetchall()
        later.rollback()
        return lift, learned, model

    before = results()
    connection.execute(
        """SELECT decisioning.record_deliveries(array_agg(decision_id), array_agg((ARRAY['bounced', 'failed', 'unsubscribed'])[1 + n % 3]))
           FROM (SELECT decision_id, row_number() OVER (ORDER BY decision_id) AS n FROM decisioning.sends) AS s WHERE n % 2 = 0"""
    )
    assert db.sql("SELECT count(*) > 300 FROM decisioning.sends WHERE status IN ('bounced', 'failed')") == [(True,)]
    assert before[1][0][0] == 2000 and results() == before
    assert contacts_are_those_of_sends(db)


def test_a_reader_that_goes_on_from_the_latest_change_misses_nothing(db):
    """While sends are dispatched, claimed, suppressed and reported on, in long and short transactions, some rolled back."""
    connection = create(db, customers=300, campaigns=4)
    connection.execute(CLAIMED)
    done = threading.Event()
    copy, latest = {}, [None]

    def read(reader):
        rows = reader.execute(
            "SELECT decision_id, status, updated_at FROM decisioning.sends WHERE %s::timestamptz IS NULL OR updated_at > %s", [latest[0]] * 2
        ).fetchall()
        for decision_id, status, updated_at in rows:
            copy[decision_id] = status
            latest[0] = max(latest[0] or updated_at, updated_at)

    def follow():
        reader = db.connect()
        while not done.is_set():
            read(reader)
        read(reader)

    def work(number, rng):
        session = shop.session(db, autocommit=False)
        if number < 4:
            for at in range(10):
                ids = [f"c-{n}" for n in range(30 * at + 1, 30 * at + 31)]
                retried(session, lambda: session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, f"k{number}"]))
                retried(session, lambda: session.execute("SELECT decisioning.dispatch(%s)", [f"k{number}"]))
            return
        for _ in range(40):
            def step():
                ids = [row[0] for row in session.execute("SELECT decision_id FROM decisioning.claim_sends(batch_size => 10)")]
                if ids:
                    states = [rng.choice(["sent", "failed", "delivered", "bounced"]) for _ in ids]
                    session.execute("SELECT decisioning.record_deliveries(%s, %s)", [ids, states])
                if rng.random() < 0.2:
                    session.execute("SELECT decisioning.suppress(%s)", [f"c-{rng.randint(1, 300)}"])
                if rng.random() < 0.2:
                    session.rollback()

            retried(session, step)

    reader = threading.Thread(target=follow)
    reader.start()
    run(12, work)
    done.set()
    reader.join()
    assert copy == dict(db.sql("SELECT decision_id, status FROM decisioning.sends"))
    assert len(set(copy.values())) > 3
    assert contacts_are_those_of_sends(db)


def test_what_another_session_is_at_is_passed_over(db):
    """The sends that are due first are with somebody else: the next ones are dispatched, and none twice."""
    connection = create(db, customers=20, campaigns=1)
    connection.execute("CALL decisioning.decide_all('k0')")
    first = shop.session(db, autocommit=False)
    assert first.execute("SELECT queued FROM decisioning.dispatch('k0', 5)").fetchone() == (5,)
    second = shop.session(db)
    taken = Background(lambda: second.execute("SELECT queued, more FROM decisioning.dispatch('k0', 5)").fetchone())
    # It has rows of its own, and waits for the clock of sends.
    wait_until_blocked(db, second)
    first.commit()
    assert taken.result() == (5, True)
    assert db.sql("SELECT count(*) FROM decisioning.sends") == [(10,)]


def test_listeners_are_told_if_they_want_to_be(db):
    connection = create(db, customers=20, campaigns=1)
    listener = db.connect()
    listener.execute("LISTEN decisioning_sends")
    connection.execute("CALL decisioning.decide_all('k0', chunk_size => 10)")
    connection.execute("SELECT decisioning.dispatch(batch_size => 5)")
    assert list(listener.notifies(timeout=0.2)) == []
    connection.execute("SET decisioning.notify = on")
    connection.execute("SELECT decisioning.dispatch(batch_size => 5)")
    assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == ["decisioning_sends"]


def test_operators_dispatch_with_their_own_rights(db):
    connection = create(db, customers=20, campaigns=1)
    connection.execute(CLAIMED)
    connection.execute("CALL decisioning.decide_all('k0')")
    db.create_role("sender")
    connection.execute("SELECT decisioning.grant_rights('sender', 'operator')")
    sender = shop.session(db)
    sender.execute("SET ROLE sender")
    for refused in ("SELECT * FROM decisioning.dispatch()", "SELECT * FROM decisioning.sends",
                    "SELECT decisioning.set_delivery('sms', 'synced')", "SELECT decisioning.requeue_send(NULL)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sender.execute(refused)
    connection.execute("GRANT SELECT ON public.customers TO sender")
    assert sender.execute("SELECT queued FROM decisioning.dispatch()").fetchall() == [(20,)]
    [decision_id] = [row[0] for row in sender.execute("SELECT decision_id FROM decisioning.claim_sends(batch_size => 1)")]
    assert db.sql("SELECT claimed_by FROM decisioning.sends WHERE decision_id = %s", [decision_id]) == [("sender",)]
    assert sender.execute("SELECT decisioning.record_delivery(%s, 'delivered')", [decision_id]).fetchall() == [("delivered",)]


def test_the_server_is_killed_in_the_middle(db):
    """32 sessions decide, dispatch and claim under caps, some over all campaigns; the server dies and comes back, and they go on.
    No cap is exceeded, and nothing that is reserved is lost or left over."""
    db.sql(f"ALTER DATABASE {db.name} SET synchronous_commit = on")
    connection = create(db, customers=200, campaigns=6)
    connection.execute(CLAIMED)
    connection.execute("SELECT decisioning.add_frequency_cap(2, 'day')")
    connection.execute("SELECT decisioning.add_frequency_cap(1, 'day', 'k1')")
    [(directory,)] = db.sql("SHOW data_directory")
    killed, lost = threading.Event(), []

    def once(number, rng, session):
        hot = [f"c-{n}" for n in range(1, 4)]
        ids = rng.choice([hot, [f"c-{rng.randint(1, 200)}" for _ in range(10)]])
        call = rng.random()
        campaign = f"k{rng.randrange(6)}"
        if number < 3:
            session.execute("CALL decisioning.decide_all(%s, chunk_size => 20)", [campaign])
        elif call < 0.5:
            session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, campaign])
        elif call < 0.75:
            session.execute("SELECT decisioning.dispatch(%s, batch_size => 20)", [campaign])
        else:
            session.execute("SELECT count(*) FROM decisioning.claim_sends(batch_size => 5)")

    def work(number, rng):
        if number == 32:
            killed.wait(60)
            postmaster = int(Path(directory, "postmaster.pid").read_text().split()[0])
            victims = db.sql(
                "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database() "
                "AND backend_type = 'client backend'"  # others may have ended by now
            )
            os.kill(victims[0][0] if victims else postmaster, signal.SIGKILL if victims else signal.SIGQUIT)
            return
        session = None
        for at in range(30):
            if number == 5 and at == 8:
                killed.set()
            try:
                session = session or shop.session(db)
                once(number, rng, session)
            except psycopg.errors.DeadlockDetected:
                pass
            except psycopg.OperationalError:
                session = None
                lost.append(number)
                threading.Event().wait(0.3)

    run(33, work)
    assert lost, "the server was not there for somebody"
    with shop.session(db) as session:
        for n in range(6):
            session.execute("CALL decisioning.decide_all(%s)", [f"k{n}"])
        session.execute("CALL decisioning.dispatch_all()")
    counts = db.sql("SELECT customer_id, count(*), count(*) FILTER (WHERE campaign = 'k1') FROM decisioning.decisions WHERE action <> 'no_send' GROUP BY 1")
    assert len(counts) == 200 and {row[1] for row in counts} == {2} and max(row[2] for row in counts) == 1
    assert contacts_are_those_of_sends(db)
    assert db.sql("SELECT count(*) FROM decisioning._outbox") == [(0,)]
    assert db.sql("SELECT count(*) FROM decisioning.sends WHERE status NOT IN ('queued', 'claimed')") == [(0,)]
    assert db.sql("SELECT count(*) FROM decisioning.sends")[0] == db.sql("SELECT count(*) FROM decisioning.decisions WHERE action <> 'no_send'")[0]
