"""A simulated marketing campaign, seeded.

Forty-nine actions: no-send (action 0), and every combination of 4 messages, 3 offers, 2 channels and 2 slots. Customers have
six numbers and six categories; whether they respond depends on what they get in ways that differ between them: whom a message
suits, who wants a discount and who is put off by one, who is hurt by any message at all. Responses are rare (1 to 2 %) and come
up to five days late, how late depends on the channel. On one day tastes drift; later a new message becomes available.
"""

from dataclasses import dataclass, field

import numpy as np

MESSAGES, OFFERS, CHANNELS, SLOTS = 4, 3, 2, 2
NUMBERS = ("recency", "orders", "basket", "open_rate", "coupon_share", "tenure")
CATEGORIES = {
    "country": (0.45, 0.20, 0.15, 0.12, 0.08),
    "device": (0.35, 0.40, 0.25),
    "tier": (0.50, 0.30, 0.15, 0.05),
    "fav": (0.25, 0.22, 0.18, 0.15, 0.12, 0.08),
    "age": (0.18, 0.25, 0.25, 0.20, 0.12),
    "source": (0.40, 0.30, 0.20, 0.10),
}
DIMENSIONS = ("message", "offer", "channel", "slot")
#: Message, offer, channel, slot of every action but no-send.
SENDS = np.array([(m, o, c, s) for m in range(MESSAGES) for o in range(OFFERS) for c in range(CHANNELS) for s in range(SLOTS)])
ACTIONS = 1 + len(SENDS)
NEW_MESSAGE = MESSAGES - 1
#: Days in which a response counts.
WINDOW = 6
#: Chance that a response comes after 0, 1, ... days: by e-mail, by SMS, without a send.
DELAYS = np.array(
    [[0.35, 0.25, 0.15, 0.12, 0.08, 0.05], [0.75, 0.12, 0.06, 0.04, 0.02, 0.01], [0.30, 0.20, 0.20, 0.10, 0.10, 0.10]]
)
WITHOUT_SEND = 2
#: Row of DELAYS for each action.
DELAY_OF = np.concatenate([[WITHOUT_SEND], SENDS[:, 2]])


def tastes(random):
    """Effects of the levers on the log-odds, and for whom; the order of draws is part of the seed's meaning."""
    found = {
        "message": random.normal(0, 0.10, MESSAGES),
        "message_fav": random.normal(0, 0.30, (MESSAGES, 6)),
        "message_age": random.normal(0, 0.18, (MESSAGES, 5)),
        "offer": np.array([0, 0.18, 0.10]) + random.normal(0, 0.05, OFFERS),
        "channel_age": random.normal(0, 0.22, (CHANNELS, 5)),
        "slot": random.normal(0, 0.08, SLOTS),
        "slot_source": random.normal(0, 0.25, (SLOTS, 4)),
        "channel_slot": random.normal(0, 0.08, (CHANNELS, SLOTS)),
        "message_offer": random.normal(0, 0.08, (MESSAGES, OFFERS)),
    }
    found["message"][NEW_MESSAGE] = 0.05
    found["message_fav"][NEW_MESSAGE] = [-0.2, 0.9, -0.2, -0.1, 0.9, 0.0]
    return found


def drifted(before, fresh):
    """Tastes after the drift: old messages change places, slots their sign, offers lose appeal, channels change halfway."""
    after = dict(before)
    old = slice(0, len(before["message"]) - 1)
    for name in ("message", "message_fav"):
        after[name] = before[name].copy()
        after[name][old] = np.roll(before[name][old], 1, axis=0)
    after["slot"] = -before["slot"]
    after["slot_source"] = fresh["slot_source"]
    after["offer"] = 0.6 * before["offer"]
    after["channel_age"] = 0.5 * (before["channel_age"] + fresh["channel_age"])
    return after


class World:
    """Customers, the truth about them, and who is decided for on which day."""

    #: What the engine under test needs to know of a world; see also `actions`.
    number_names, window, goal = NUMBERS, WINDOW, "conversion"
    sends, delay_of = SENDS, DELAY_OF
    highest_reward = 1
    #: Whether an engine is told which decision a response answers, or only whose response it is: then it counts for every decision
    #: about the customer whose window is open.
    knows_causes = True

    def __init__(self, seed, per_day, days=30, customers=200_000, drift_day=15, new_day=20, base=-4.35):
        self.seed, self.per_day, self.days, self.drift_day, self.new_day, self.base = seed, per_day, days, drift_day, new_day, base
        people, truth, visits = (np.random.default_rng([seed, stream]) for stream in (11, 22, 44))
        self.numbers = np.column_stack([
            np.log1p(people.exponential(40, customers)),
            np.log1p(people.negative_binomial(1, 0.2, customers)),
            people.normal(3.6, 0.6, customers),
            people.beta(1.5, 4, customers),
            people.beta(1, 2.5, customers),
            np.log1p(people.exponential(500, customers)),
        ])
        self.categories = {name: people.choice(len(p), customers, p=p) for name, p in CATEGORIES.items()}
        self.z = (self.numbers - self.numbers.mean(0)) / self.numbers.std(0)
        #: What nobody observes of a customer.
        self.latent = people.normal(0, 0.5, customers)
        self.slopes = truth.normal(0, 0.18, len(NUMBERS))
        self.slopes[0] -= 0.25
        self.slopes[1] += 0.3
        self.levels = {name: truth.normal(0, 0.15, len(p)) for name, p in CATEGORIES.items()}
        self.tastes = self.draw_tastes(truth, np.random.default_rng([seed, 33]))
        self.arrivals = visits.integers(0, customers, (days, per_day))
        self.response_draw, self.delay_draw = visits.random((days, per_day)), visits.random((days, per_day))

    def draw_tastes(self, truth, after):
        before = tastes(truth)
        return before, drifted(before, tastes(after))

    def uplift(self, taste, z, of):
        """What every send adds to the log-odds, customers × sends, but for what is true of all sends alike."""
        message, offer, channel, slot = SENDS.T
        coupon = z[:, 4]
        premium = (of["tier"] == 3) | ((of["tier"] == 2) & (coupon < 0))
        young = (of["device"] == 1) & (of["age"] <= 1)
        return (
            taste["message"][message]
            + taste["message_fav"][message][:, of["fav"]].T
            + taste["message_age"][message][:, of["age"]].T
            + taste["offer"][offer]
            + coupon[:, None] * np.array([0, 0.35, 0.20])[offer]
            - premium[:, None] * np.array([0, 1.1, 0.4])[offer]
            + np.array([0.0, 0.05])[channel]
            + taste["channel_age"][channel][:, of["age"]].T
            + taste["slot"][slot]
            + taste["slot_source"][slot][:, of["source"]].T
            + taste["channel_slot"][channel, slot]
            + taste["message_offer"][message, offer]
            + 0.35 * z[:, 3][:, None] * (channel == 0)
            # For the young on phones only an SMS in the evening works.
            + young[:, None] * np.where((channel == 1) & (slot == 1), 0.9, -0.8)
        )

    def probabilities(self, customers, day):
        """Chance of a response to every action, customers × actions."""
        late = day >= self.drift_day
        taste, z = self.tastes[late], self.z[customers]
        of = {name: level[customers] for name, level in self.categories.items()}
        base = self.base - 0.15 * late + z @ self.slopes + sum(self.levels[name][of[name]] for name in CATEGORIES)
        base = base + self.latent[customers]
        uplift = self.uplift(taste, z, of) - 0.20
        # Some are annoyed by anything.
        annoyed = (of["source"] >= 2) & ((of["tier"] == 0) | (z[:, 0] > 0.8))
        uplift -= 1.6 * annoyed[:, None]
        return 1 / (1 + np.exp(-np.column_stack([base, base[:, None] + uplift])))

    def allowed(self, day):
        """Which actions may be taken on a day."""
        newest = self.sends[:, 0].max()
        return np.concatenate([[True], (self.sends[:, 0] != newest) | (day >= self.new_day)])

    def worth(self, customers, day):
        """What every action is expected to be worth, customers × actions."""
        return self.probabilities(customers, day)

    def rewards(self, log, decisions):
        """What engines without a notion of costs are told of closed decisions."""
        return log.reward[decisions]

    def actions(self):
        """Every send: its number, the levels of its dimensions, and its costs."""
        for number, levels in enumerate(self.sends, 1):
            names = (f"{dimension[0]}{level}" for dimension, level in zip(DIMENSIONS, levels))
            yield number, dict(zip(DIMENSIONS, names)), {}


@dataclass
class Log:
    """What an engine may know: its decisions, and the responses seen so far."""

    customer: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    day: np.ndarray
    #: 1 once a response has been seen that counts for the decision.
    reward: np.ndarray
    #: In worlds where responses have amounts, those of the response that a decision leads to.
    amount: np.ndarray | None = None
    #: Decisions whose own response came today.
    events: np.ndarray = field(default_factory=lambda: np.array([], int))


def play(world, engine):
    """Runs an engine through all days. Every evening it learns which decisions responses came in for, and which windows closed.

    Returns what choices are expected to be worth, per day: of the engine, of the oracle, of uniform choice, and of every fixed action.
    """
    per_day = world.per_day
    count = world.days * per_day
    log = Log(*(np.zeros(count, int) for _ in range(2)), np.zeros(count), np.zeros(count, int), np.zeros(count, np.int8))
    log.amount = None if world.goal == "conversion" else np.zeros(count)
    answer_day = np.full(count, 10**6)
    totals = {name: np.zeros(world.days) for name in ("engine", "oracle", "uniform")}
    fixed = np.zeros((world.days, 1 + len(world.sends)))
    for day in range(world.days):
        customers, allowed = world.arrivals[day], world.allowed(day)
        worth = world.worth(customers, day)
        action, propensity = engine.decide(day, customers, allowed)
        if not allowed[action].all():
            raise ValueError("an action was taken that is not allowed")
        chosen = np.arange(per_day), action
        totals["engine"][day] = worth[chosen].sum()
        totals["oracle"][day] = worth[:, allowed].max(1).sum()
        totals["uniform"][day] = worth[:, allowed].mean(1).sum()
        fixed[day] = np.where(allowed, worth.sum(0), -np.inf)

        rows = slice(day * per_day, (day + 1) * per_day)
        log.customer[rows], log.action[rows], log.propensity[rows], log.day[rows] = customers, action, propensity, day
        delay = (world.delay_draw[day][:, None] > DELAYS[world.delay_of[action]].cumsum(1)[:, :-1]).sum(1)
        answers = world.response_draw[day] < world.probabilities(customers, day)[chosen]
        answer_day[rows] = np.where(answers, day + delay, 10**6)
        if log.amount is not None:
            log.amount[rows] = world.amounts(customers, action, day)

        open_since = max(0, day - world.window + 1) * per_day
        recent = np.arange(open_since, (day + 1) * per_day)
        log.events = recent[answer_day[recent] == day]
        answered = log.events
        if not world.knows_causes:
            answered = recent[np.isin(log.customer[recent], log.customer[log.events]) & (log.reward[recent] == 0)]
        log.reward[answered] = 1
        closing = recent[:per_day] if day >= world.window - 1 else np.array([], int)
        engine.learn(day, log, answered, closing)
    return totals, fixed


def captured(totals, days):
    """Share of the oracle's gain over uniform choice that was captured on some days."""
    gain = totals["engine"][days].sum() - totals["uniform"][days].sum()
    return gain / (totals["oracle"][days].sum() - totals["uniform"][days].sum())


def best_fixed(totals, fixed, days, chosen_on=None):
    """The same for the fixed action that was best in hindsight, on those days or on those that it is `chosen_on`."""
    best = fixed[days if chosen_on is None else chosen_on].sum(0).argmax()
    return captured({**totals, "engine": fixed[:, best]}, days)
