"""Ordinary tables in the schema `warehouse`: what a company has before it installs anything."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from psycopg import sql

from console import Session
from datasets import MarketingTest
from fragments import Source

TYPES = {"b": "boolean", "i": "bigint", "u": "bigint", "f": "float8", "M": "timestamptz"}


def create_table(session: Session, name: str, frame: pd.DataFrame, key: str | None = None) -> None:
    """Makes warehouse.name of a frame and copies its rows. NaN and None are NULL."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            sql.Identifier(column), sql.SQL(sql_type(frame[column]) + " PRIMARY KEY" * (column == key))
        )
        for column in frame
    )
    with session.connection.transaction():
        session.connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier("warehouse", name), columns))
        copy_rows(session, name, frame)
    session.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("warehouse", name)))


def copy_rows(session: Session, name: str, frame: pd.DataFrame) -> None:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False)
    columns = sql.SQL(", ").join(map(sql.Identifier, frame))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier("warehouse", name), columns)
    with session.connection.cursor().copy(statement) as copy:
        copy.write(buffer.getvalue())


def sql_type(column: pd.Series) -> str:
    if column.dtype == object:
        known = column.dropna()
        return "boolean" if len(known) and known.map(lambda value: isinstance(value, bool)).all() else "text"
    return TYPES[column.dtype.kind]


def events(
    names: Sequence[str], customer_ids: np.ndarray, event: str, occurred_at: pd.Series | pd.DatetimeIndex
) -> pd.DataFrame:
    """Rows of warehouse.events."""
    return pd.DataFrame({"event_id": names, "customer_id": customer_ids, "event": event, "occurred_at": occurred_at})


def load(
    session: Session, test: MarketingTest, halves: np.ndarray, decided_at: pd.Series, rng: np.random.Generator
) -> None:
    """The customers, the log of the test, and what happened after it."""
    session.run("CREATE SCHEMA warehouse", quiet=True)
    create_table(session, "customers", test.customers.reset_index(), key="customer_id")
    create_table(
        session,
        "test_sends",
        pd.DataFrame(
            {
                "customer_id": test.customers.index,
                "half": halves,
                "action": test.assigned,
                "propensity": test.propensity,
                "decided_at": decided_at,
            }
        ),
    )
    # History is imported with what was known about the customer at the time.
    session.run(
        "CREATE VIEW warehouse.test_history AS"
        " SELECT s.half, s.action, s.propensity, s.decided_at, c.*"
        " FROM warehouse.test_sends s JOIN warehouse.customers c USING (customer_id)",
        quiet=True,
    )
    responders = np.flatnonzero(test.responded)
    delay = pd.to_timedelta(rng.uniform(0, 6.9, len(responders)), unit="D")
    names = [f"test-{number}" for number in responders]
    happened = pd.DatetimeIndex(decided_at.iloc[responders]) + delay
    create_table(
        session,
        "events",
        events(names, test.customers.index[responders], test.goal, happened.floor("s")),
        key="event_id",
    )


def load_sources(session: Session, sources: Sequence[Source]) -> None:
    for source in sources:
        create_table(session, source.relation, source.table, key=source.key)
