"""The marketing world, and three that make it harder: customers who come back, many actions, amounts."""

import numpy as np
from world import World, drifted


class Marketing(World):
    """As it is."""

    settings = {}


class Returning(Marketing):
    """The same 2 000 customers every day: six windows overlap, and nobody knows which decision a response answers."""

    knows_causes = False

    def __init__(self, seed, per_day):
        super().__init__(seed, per_day, customers=per_day)
        order = np.random.default_rng([seed, 55])
        self.arrivals = np.array([order.permutation(per_day) for _ in range(self.days)])


class Many(Marketing):
    """480 sends: 8 messages × 5 offers × 3 channels × 4 slots."""

    SIZES = 8, 5, 3, 4
    sends = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), -1).reshape(-1, len(SIZES))
    #: The third channel answers as late as SMS.
    delay_of = np.concatenate([[2], np.minimum(sends[:, 2], 1)])
    COUPON = np.array([0, 0.35, 0.20, 0.10, -0.10])
    DISLIKE = np.array([0, 1.1, 0.4, 0.2, 0.0])

    def tastes_of(self, random):
        messages, offers, channels, slots = self.SIZES
        found = {
            "message": random.normal(0, 0.10, messages),
            "message_fav": random.normal(0, 0.30, (messages, 6)),
            "message_age": random.normal(0, 0.18, (messages, 5)),
            "offer": self.COUPON / 2 + random.normal(0, 0.05, offers),
            "channel_age": random.normal(0, 0.22, (channels, 5)),
            "slot": random.normal(0, 0.08, slots),
            "slot_source": random.normal(0, 0.25, (slots, 4)),
            "channel_slot": random.normal(0, 0.08, (channels, slots)),
            "message_offer": random.normal(0, 0.08, (messages, offers)),
        }
        found["message"][-1] = 0.05
        found["message_fav"][-1] = [-0.2, 0.9, -0.2, -0.1, 0.9, 0.0]
        return found

    def draw_tastes(self, truth, after):
        before = self.tastes_of(truth)
        return before, drifted(before, self.tastes_of(after))

    def uplift(self, taste, z, of):
        message, offer, channel, slot = self.sends.T
        premium = (of["tier"] == 3) | ((of["tier"] == 2) & (z[:, 4] < 0))
        young = (of["device"] == 1) & (of["age"] <= 1)
        return (
            taste["message"][message]
            + taste["message_fav"][message][:, of["fav"]].T
            + taste["message_age"][message][:, of["age"]].T
            + taste["offer"][offer]
            + z[:, 4][:, None] * self.COUPON[offer]
            - premium[:, None] * self.DISLIKE[offer]
            + taste["channel_age"][channel][:, of["age"]].T
            + taste["slot"][slot]
            + taste["slot_source"][slot][:, of["source"]].T
            + taste["channel_slot"][channel, slot]
            + taste["message_offer"][message, offer]
            + 0.35 * z[:, 3][:, None] * (channel == 0)
            + young[:, None] * np.where((channel > 0) & (slot == 3), 0.9, -0.8)
        )


class Amounts(Marketing):
    """Responses are worth what was bought: log-normal, more for full baskets, larger with free shipping and less with ten percent off,
    which also costs its tenth. An e-mail costs 0.01, an SMS 0.05."""

    goal, highest_reward = "value", 4
    SPREAD = 0.6
    SEND = np.concatenate([[0.0], np.array([0.01, 0.05])[Marketing.sends[:, 2]]])
    SHARE = np.concatenate([[0.0], np.array([0.0, 0.1, 0.0])[Marketing.sends[:, 1]]])
    ON_AMOUNT = np.array([0.0, -0.1, 0.15])

    def log_amounts(self, customers):
        """Mean log amount, customers × actions."""
        offer = np.concatenate([[0], self.sends[:, 1]])
        z = self.z[customers]
        tier = np.array([0.0, 0.1, 0.25, 0.5])[self.categories["tier"][customers]]
        return 3.4 + (0.45 * z[:, 2] + tier)[:, None] + self.ON_AMOUNT[offer] + 0.2 * z[:, 2][:, None] * (offer == 2)

    def worth(self, customers, day):
        amount = np.exp(self.log_amounts(customers) + self.SPREAD**2 / 2)
        return self.probabilities(customers, day) * amount * (1 - self.SHARE) - self.SEND

    def amounts(self, customers, action, day):
        noise = np.random.default_rng([self.seed, 66, day]).normal(0, self.SPREAD, len(customers))
        return np.exp(self.log_amounts(customers)[np.arange(len(customers)), action] + noise).round(2)

    def rewards(self, log, decisions):
        action = log.action[decisions]
        net = log.reward[decisions] * log.amount[decisions] * (1 - self.SHARE[action]) - self.SEND[action]
        return net / 50

    def actions(self):
        for number, dimensions, _ in super().actions():
            yield number, dimensions, {"send": self.SEND[number].item(), "share": self.SHARE[number].item()}


WORLDS = {"marketing": Marketing, "returning": Returning, "many": Many, "value": Amounts}
