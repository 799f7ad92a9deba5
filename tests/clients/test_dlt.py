"""A reverse-ETL tool syncs the table of sends: dlt, into DuckDB, by its own incremental cursor."""

import threading

import duckdb
import pytest

import shop
from test_delivery import CLAIMED, retried
from test_guardrails import create, run


@pytest.fixture
def sync(db, tmp_path, monkeypatch):
    """Runs one sync, each in a pipeline that knows only what the last one stored, as after a restart."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "ERROR")
    monkeypatch.chdir(tmp_path)
    import dlt
    from dlt.sources.sql_database import sql_table
    from sqlalchemy import create_engine

    env = db.cluster.env
    url = f"postgresql+psycopg://postgres@/{db.name}?host={env['PGHOST']}&port={env['PGPORT']}"

    def once():
        engine = create_engine(url)
        table = sql_table(
            engine,
            table="sends",
            schema="decisioning",
            incremental=dlt.sources.incremental("updated_at"),
            primary_key="decision_id",
            write_disposition="merge",
        )
        pipeline = dlt.pipeline(
            "sends", destination=dlt.destinations.duckdb(str(tmp_path / "mirror.duckdb")), dataset_name="copy", pipelines_dir=str(tmp_path / "state")
        )
        pipeline.run(table)
        engine.dispose()

    return once


def test_dlt_loses_nothing_and_has_nothing_twice(db, sync, tmp_path):
    connection = create(db, customers=300, campaigns=3)
    connection.execute(CLAIMED)
    done = threading.Event()

    def work(number, rng):
        session = shop.session(db, autocommit=False)
        if number < 3:
            for at in range(10):
                ids = [f"c-{n}" for n in range(30 * at + 1, 30 * at + 31)]
                retried(session, lambda: session.execute("SELECT count(*) FROM decisioning.decide_batch(%s, %s)", [ids, f"k{number}"]))
                retried(session, lambda: session.execute("SELECT decisioning.dispatch(%s)", [f"k{number}"]))
                done.wait(0.3)
            return
        for _ in range(30):
            def step():
                ids = [row[0] for row in session.execute("SELECT decision_id FROM decisioning.claim_sends(batch_size => 10)")]
                done.wait(0.1)
                if ids:
                    session.execute("SELECT decisioning.record_deliveries(%s, %s)", [ids, [rng.choice(["sent", "failed", "bounced"]) for _ in ids]])

            retried(session, step)

    writers = threading.Thread(target=run, args=(6, work))
    writers.start()
    syncs = 0
    while writers.is_alive() or syncs < 3:
        sync()
        syncs += 1
    writers.join()
    sync()
    with duckdb.connect(str(tmp_path / "mirror.duckdb")) as copy:
        rows = copy.execute("SELECT decision_id::text, status FROM copy.sends").fetchall()
    # Whoever bounced before another campaign decided for him gets nothing from it: not all of the 900 are sent.
    wanted = {str(decision_id): status for decision_id, status in db.sql("SELECT decision_id, status FROM decisioning.sends")}
    assert syncs > 2 and len(wanted) > 600
    assert len(rows) == len(wanted), "nothing twice"
    assert dict(rows) == wanted
