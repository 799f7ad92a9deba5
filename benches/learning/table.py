"""The installed extension on rows of a table, each decided for once: what replays and classification need.

A batch is decided for, its outcomes are recorded a minute later and learned when the window of an hour has closed. There is neither a
holdout nor an explore group, and nothing is forgotten; everything else is left at its default.
"""

import uuid
from datetime import datetime, timedelta, timezone

import numpy as np

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Table:
    def __init__(self, connection, columns, sends, seed, must_send=False, **settings):
        """`columns` maps names to arrays; `sends` names the actions 1, 2, …, and action 0 is no-send; or with `must_send` the actions
        0, 1, …, one of which everybody gets."""
        self.db, self.clock, self.sends = connection, START, [*sends] if must_send else ["no_send", *sends]
        self.tick(0)
        names = list(columns)
        kinds = {"f": "float8", "i": "float8", "b": "boolean"}
        types = ", ".join(f'"{name}" {kinds.get(columns[name].dtype.kind, "text")}' for name in names)
        self.sql(f"CREATE TABLE public.customers (id text PRIMARY KEY, {types})")
        with self.db.cursor().copy("COPY public.customers FROM STDIN") as copy:
            for n, row in enumerate(zip(*(columns[name].tolist() for name in names))):
                copy.write_row((str(n), *row))
        self.sql("ANALYZE public.customers")
        settings = {"holdout_share": 0.0, "explore_share": 0.0, "time_zone": "UTC", "half_life": None, **settings}
        named = "".join(f", {name} => %s" for name in settings)
        self.sql(f"SELECT decisioning.create_campaign('c', 'public.customers', 'id'{named})", *settings.values())
        # The same salt every time, so that a run repeats exactly.
        self.sql("UPDATE decisioning.campaigns SET salt = %s", uuid.UUID(int=seed))
        for send in sends:
            self.sql("SELECT decisioning.add_action('c', %s, message => %s)", send, send)
            self.sql("SELECT decisioning.approve_action('c', %s)", send)
        if must_send:
            self.sql("SELECT decisioning.add_eligibility_rule('c', 'true', effect => 'must_send')")
        self.sql("SELECT decisioning.add_goal('g'), decisioning.add_campaign_goal('c', 'g', attribution_window => '1 hour')")
        self.sql("SELECT decisioning.start_campaign('c')")

    def sql(self, statement, *parameters):
        cursor = self.db.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def tick(self, minutes):
        self.clock += timedelta(minutes=minutes)
        self.sql("SELECT set_config('decisioning.simulated_now', %s, false)", str(self.clock))

    def decide(self, rows):
        """Actions for rows of the table."""
        answer = self.sql("SELECT customer_id, action FROM decisioning.decide_batch(%s, 'c')", [str(row) for row in rows])
        found = {int(customer): self.sends.index(action) for customer, action in answer}
        return np.array([found[row] for row in rows])

    def would_decide(self, rows):
        """The same without a trace: a decision that is rolled back comes out alike when it is made again."""
        self.sql("BEGIN")
        found = self.decide(rows)
        self.sql("ROLLBACK")
        return found

    def record(self, rows):
        """Records an outcome for rows that were decided for just now."""
        self.tick(1)
        ids = [str(row) for row in rows]
        times = [self.clock] * len(ids)
        self.sql("SELECT decisioning.record_outcomes('g', %s, %s, occurred_at => %s)", [f"e{i}" for i in ids], ids, times)
        self.tick(60)

    def learn(self):
        self.sql("SELECT decisioning.learn('c')")
