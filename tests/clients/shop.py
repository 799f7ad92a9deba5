"""A small campaign that many tests start from."""

import pytest

SALT = "00000000-0000-4000-8000-000000000007"
NOW = "2026-06-01 10:00+00"


def create(connection, customers=2000, now=NOW, window="1 day", explore=0.05, campaign="c", salt=SALT):
    """Tables customers and orders, and an active campaign over them with six actions and one goal."""
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [now])
    connection.execute(
        "CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n %% 90 AS age, (ARRAY['a', 'b', 'c'])[1 + n %% 3] AS kind "
        "FROM generate_series(1, %s) n",
        [customers],
    )
    connection.execute("ALTER TABLE public.customers ADD PRIMARY KEY (id)")
    connection.execute(
        "CREATE TABLE public.orders (id text PRIMARY KEY, customer text, at timestamptz, margin float8)"
    )
    connection.execute(
        "SELECT decisioning.create_campaign(%s, 'public.customers', 'id', explore_share => %s)", [campaign, explore]
    )
    connection.execute("UPDATE decisioning.campaigns SET salt = %s", [salt])
    connection.execute(
        """SELECT decisioning.add_action_grid(%s, '{"message": ["x", "y", "z"], "channel": ["email", "sms"]}')""", [campaign]
    )
    connection.execute(
        "SELECT decisioning.approve_action(campaign, action) FROM decisioning.actions WHERE campaign = %s", [campaign]
    )
    connection.execute("SELECT decisioning.add_goal('buy', 'value')")
    connection.execute("SELECT decisioning.add_campaign_goal(%s, 'buy', attribution_window => %s)", [campaign, window])
    connection.execute("SELECT decisioning.start_campaign(%s)", [campaign])


def session(db, now=NOW, **options):
    """A superuser's connection whose clock is simulated."""
    connection = db.connect(**options)
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [now])
    if not connection.autocommit:
        connection.commit()
    return connection


def alike(rows, others):
    """Whether rows are the same but for rounding: sums of floating-point numbers go by the order in which rows are read."""
    same = lambda a, b: b == pytest.approx(a, rel=1e-9, abs=1e-12) if isinstance(a, float) and isinstance(b, float) else a == b  # noqa: E731
    return len(rows) == len(others) and all(
        len(row) == len(other) and all(map(same, row, other)) for row, other in zip(rows, others)
    )
