"""The server dies between any two writes of decide_all, record_outcomes and learn. After recovery the log and the learning state
agree, the same call goes on, and everything ends as if nothing had happened."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
import shop  # noqa: E402

CUSTOMERS = 4000
NOW, LATER = shop.NOW, "2026-06-03 10:00+00"
DECIDE = "CALL decisioning.decide_all('c', chunk_size => 500)"
RECORD = f"""SELECT decisioning.record_outcomes('buy', array_agg('e-' || n), array_agg('c-' || n), array_agg(n::float8),
                    array_agg(timestamptz '2026-06-01 12:00+00')) FROM generate_series(1, {CUSTOMERS}, 4) n"""
LEARN = "SELECT * FROM decisioning.learn('c')"

# Every relation that a call writes, in the order in which it does: the call stops before its first write there.
WRITES = {
    DECIDE: ["_assignment", "decisions", "_inbox", "_outbox"],
    RECORD: ["_outcome_key", "outcomes", "_inbox"],
    LEARN: ["_inbox", "_model", "_learner", "_learner_part", "_learner_epoch", "_model_part"],
}


def eventually(condition, what):
    deadline = time.monotonic() + 30
    while True:
        try:
            found = condition()
        except psycopg.OperationalError:  # not up yet
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_broken(connection):
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True


def kill_backend(_db, pid):
    """SIGKILL: the postmaster takes the whole server down and recovers from the log."""
    os.kill(pid, signal.SIGKILL)


def stop_at_once(db, _pid):
    """SIGQUIT to the postmaster, as pg_ctl stop -m immediate: nothing is written any more."""
    [(directory,)] = db.sql("SHOW data_directory")
    postmaster = int(Path(directory, "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGQUIT)
    eventually(lambda: not Path(directory, "postmaster.pid").exists(), "the server did not stop")
    db.cluster.start()


def crash(db, call, now, relation, die):
    """Runs `call` until it waits to write to `relation`, and lets the server die."""
    lockers = [db.connect(autocommit=False) for _ in range(2)]
    worker = shop.session(db, now=now)
    pids = [connection.info.backend_pid for connection in (worker, lockers[1])]
    failures = []

    def run():
        try:
            worker.execute(call)
        except psycopg.OperationalError as error:
            failures.append(error)

    def lock(connection):
        connection.execute(f"LOCK TABLE decisioning.{relation} IN SHARE MODE")

    def wait(pid):
        waits = "SELECT true FROM pg_locks WHERE pid = %s AND NOT granted AND relation::regclass::text LIKE %s"
        eventually(lambda: db.sql(waits, [pid, f"%{relation}%"]), f"nobody waits for {relation}")

    lock(lockers[0])
    running = threading.Thread(target=run)
    running.start()
    wait(pids[0])
    if call == DECIDE:
        # The second lock queues behind the first chunk and in front of the next one.
        second = threading.Thread(target=lock, args=[lockers[1]])
        second.start()
        wait(pids[1])
        lockers[0].rollback()
        second.join(30)
        wait(pids[0])
    die(db, pids[0])
    running.join(30)
    assert failures, "the call must not survive the server"
    eventually(lambda: is_broken(lockers[0]), "the server did not notice")
    eventually(lambda: db.sql("SELECT 1"), "the server did not come back")


def check(db):
    """The log and the learning state agree, and nobody was decided twice."""
    state = db.sql(
        """SELECT (SELECT count(*) FROM decisioning.decisions),
                  (SELECT count(DISTINCT customer_id) FROM decisioning.decisions),
                  (SELECT count(*) FROM decisioning._assignment s JOIN decisioning.decisions d USING (decision_id, customer_id, ordinal)),
                  (SELECT decisions FROM decisioning._learner) + (SELECT count(decision_id) FROM decisioning._inbox),
                  (SELECT decisions FROM decisioning.models WHERE current) + (SELECT count(decision_id) FROM decisioning._inbox)"""
    )[0]
    assert len(set(state)) == 1, state
    outcomes = db.sql(
        """SELECT (SELECT count(*) FROM decisioning.outcomes), (SELECT count(*) FROM decisioning._outcome_key),
                  (SELECT outcomes FROM decisioning._learner) + (SELECT count(outcome_id) FROM decisioning._inbox)"""
    )[0]
    assert len(set(outcomes)) == 1, outcomes
    # What nobody dispatches leaves the outbox in the end, with learning.
    posted = db.sql("SELECT (SELECT count(*) FROM decisioning._outbox), (SELECT count(*) FROM decisioning.decisions WHERE send_at IS NOT NULL)")[0]
    assert len(set(posted)) == 1 or posted[0] == 0 and db.sql("SELECT learned_at > %s FROM decisioning._learner", [NOW]) == [(True,)], posted
    return state[0], outcomes[0]


RESULT = [
    "SELECT customer_id, treatment_group, action, propensity, decision_id FROM decisioning.decisions ORDER BY 1",
    "SELECT event_id, customer_id, kind, events, value FROM decisioning.outcomes ORDER BY 1",
    "SELECT decisions, outcomes, open_decisions FROM decisioning._learner",
]
MODEL = "SELECT part, coefficients, standard_errors FROM decisioning._model_part JOIN decisioning._learner USING (campaign, model_version) ORDER BY 1"


@pytest.mark.parametrize("die", [kill_backend, stop_at_once])
def test_a_crash_between_any_two_writes_changes_nothing(db, template, die):
    undisturbed = db.cluster.create_database(template)
    for database in (db, undisturbed):
        # What was committed must outlive the server. The machine stays up, so that fsync may be off.
        database.sql(f"ALTER DATABASE {database.name} SET synchronous_commit = on")
        shop.create(database.connect(), customers=CUSTOMERS)
    for call, now in ((DECIDE, NOW), (RECORD, NOW), (LEARN, LATER)):
        shop.session(undisturbed, now=now).execute(call)
        for relation in WRITES[call]:
            before = check(db)
            crash(db, call, now, relation, die)
            after = check(db)
            # decide_all keeps the chunk it has committed; of what it was writing nothing is left.
            assert (after[0] == before[0] + 500) if call == DECIDE else before == after
        shop.session(db, now=now).execute(call)
        check(db)
    assert check(db) == (CUSTOMERS, CUSTOMERS // 4)
    for query in RESULT:
        assert db.sql(query) == undisturbed.sql(query), query
    # In whatever order the rows lie that sums are made of.
    for (part, *learned), (other_part, *other) in zip(db.sql(MODEL), undisturbed.sql(MODEL), strict=True):
        assert part == other_part
        for numbers, others in zip(learned, other, strict=True):
            assert numbers == pytest.approx(others, rel=1e-9, abs=1e-12)
    [(version, learned)] = shop.session(db, now=LATER).execute("SELECT model_version, new_decisions FROM decisioning.learn('c')").fetchall()
    assert (version, learned) == (2, 0), "nothing is learned twice"
    undisturbed.close()
