"""The installed extension as an engine, through SQL only.

Customers are rows of a table; every simulated day is one decision period. In the morning the arrivals of the day are decided for
in batches, in the evening the responses of the day are recorded and the campaign learns. There is neither a holdout nor an explore
group, so that every customer is in optimise: what is scored is the learned policy alone. Everything else is left at its default.
"""

import json
import uuid
from datetime import datetime, timedelta, timezone

import numpy as np

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: Hours of the simulated day.
DECIDE, ANSWER, LEARN = 9, 18, 23


class Extension:
    """One campaign, in a database that has nothing but the extension; `settings` are arguments of create_campaign."""

    def __init__(self, world, connection, batch=5_000, **settings):
        self.world, self.db, self.batch = world, connection, batch
        self.events = 0
        self.at(0, 0)
        self.load_customers()
        arguments = {"holdout_share": 0.0, "explore_share": 0.0, "time_zone": "UTC", **settings}
        named = "".join(f", {name} => %s" for name in arguments)
        self.sql(f"SELECT decisioning.create_campaign('c', 'public.customers', 'id'{named})", *arguments.values())
        # The same salt every time, so that a run repeats exactly.
        self.sql("UPDATE decisioning.campaigns SET salt = %s", uuid.UUID(int=world.seed))
        self.action_of, self.level_of = {"no_send": 0}, {}
        self.add_actions()
        self.sql("SELECT decisioning.add_goal('buy', kind => %s)", world.goal)
        self.sql("SELECT decisioning.add_campaign_goal('c', 'buy', attribution_window => %s)", timedelta(days=world.window))
        self.approved = set()
        self.approve(np.flatnonzero(world.allowed(0)))
        self.sql("SELECT decisioning.start_campaign('c')")

    def sql(self, statement, *parameters):
        cursor = self.db.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def at(self, day, hour):
        self.sql("SELECT set_config('decisioning.simulated_now', %s, false)", str(START + timedelta(days=int(day), hours=hour)))

    def load_customers(self):
        world = self.world
        columns = [f"{name} float8" for name in world.number_names] + [f"{name} text" for name in world.categories]
        self.sql(f"CREATE TABLE public.customers (id text PRIMARY KEY, {', '.join(columns)})")
        categories = [np.char.add(name[0], level.astype(str)) for name, level in world.categories.items()]
        with self.db.cursor().copy("COPY public.customers FROM STDIN") as copy:
            for n, row in enumerate(zip(world.numbers, *categories)):
                copy.write_row((f"c{n}", *row[0].tolist(), *map(str, row[1:])))
        self.sql("ANALYZE public.customers")

    def add_actions(self):
        for action, dimensions, costs in self.world.actions():
            name = "/".join(dimensions.values())
            self.action_of[name] = action
            self.sql(
                "SELECT decisioning.add_action('c', %s, dimensions => %s, cost_send => %s, cost_on_goal_share => %s)",
                name, json.dumps(dimensions), costs.get("send", 0.0), costs.get("share", 0.0),
            )  # fmt: skip
        self.name_of = {action: name for name, action in self.action_of.items()}

    def approve(self, actions):
        for action in set(actions.tolist()) - self.approved - {0}:
            self.sql("SELECT decisioning.approve_action('c', %s)", self.name_of[action])
            self.approved.add(action)

    def decide(self, day, customers, allowed):
        self.at(day, DECIDE)
        self.approve(np.flatnonzero(allowed))
        found = {}
        # A customer who arrives twice on a day has one decision.
        unique = np.unique(customers)
        for batch in np.array_split(unique, -(-len(unique) // self.batch)):
            for customer, action, propensity in self.sql(
                "SELECT customer_id, action, propensity FROM decisioning.decide_batch(%s, 'c')", [f"c{n}" for n in batch]
            ):
                found[int(customer[1:])] = self.action_of[action], propensity
        action, propensity = zip(*(found[customer] for customer in customers.tolist()))
        return np.array(action), np.array(propensity)

    def learn(self, day, log, answered, closing):
        events = log.events
        if len(events):
            self.at(day, ANSWER)
            ids = [f"e{self.events + n}" for n in range(len(events))]
            self.events += len(events)
            self.sql(
                "SELECT decisioning.record_outcomes('buy', %s, %s, amounts => %s, occurred_at => %s)",
                ids,
                [f"c{customer}" for customer in log.customer[events]],
                None if log.amount is None else log.amount[events].tolist(),
                [START + timedelta(days=int(day), hours=ANSWER)] * len(events),
            )
        self.at(day, LEARN)
        self.sql("SELECT decisioning.learn('c')")
