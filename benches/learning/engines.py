"""Engines to compare with: uniform choice, Vowpal Wabbit and MABWiser, each at the settings that did best in our tuning runs.

An engine decides for the arrivals of a day and learns in the evening. The peers learn a decision when its window closes; what a response
is worth is scaled to about 1.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import vowpalwabbit
from mabwiser.mab import MAB, LearningPolicy
from world import CATEGORIES


class Uniform:
    """Any allowed action, all alike."""

    def __init__(self, world):
        self.random = np.random.default_rng([world.seed, 99])

    def decide(self, day, customers, allowed):
        return self.random.choice(np.flatnonzero(allowed), len(customers)), np.full(len(customers), 1 / allowed.sum())

    def learn(self, day, log, answered, closing):
        pass


class Vowpal:
    """Contextual bandit with action features: the levels of every send, and the pairs that the world is known to care for."""

    def __init__(self, world, arguments):
        self.world = world
        self.random = np.random.default_rng([world.seed, 99])
        self.vw = vowpalwabbit.Workspace(f"--cb_explore_adf --quiet --random_seed {world.seed + 1} -b 20 -q ua {arguments}")
        self.actions = ["|a n"] + [f"|a s m{m} o{o} c{c} s{s} x{c}_{s} y{m}_{o}" for m, o, c, s in world.sends]
        self.contexts = {}

    def context(self, customer):
        if customer not in self.contexts:
            numbers = (f"{name}:{z:.4g}" for name, z in zip(self.world.number_names, self.world.z[customer]))
            levels = (f"{name}={self.world.categories[name][customer]}" for name in CATEGORIES)
            self.contexts[customer] = "shared |u " + " ".join([*numbers, *levels])
        return self.contexts[customer]

    def decide(self, day, customers, allowed):
        legal = np.flatnonzero(allowed)
        candidates = [self.actions[action] for action in legal]
        chosen, propensity = np.empty(len(customers), int), np.empty(len(customers))
        for n, customer in enumerate(customers):
            p = np.asarray(self.vw.predict([self.context(customer), *candidates]))
            at = self.random.choice(len(p), p=p / p.sum())
            chosen[n], propensity[n] = legal[at], p[at]
        return chosen, propensity

    def learn(self, day, log, answered, closing):
        rewards = self.world.rewards(log, closing)
        for decision, reward in zip(closing, rewards):
            examples = [self.context(log.customer[decision])]
            for action in np.flatnonzero(self.world.allowed(log.day[decision])):
                label = f"0:{-reward:.6g}:{log.propensity[decision]:.6g} " if action == log.action[decision] else ""
                examples.append(label + self.actions[action])
            self.vw.learn(examples)


class MabWiser:
    """One Bayesian linear regression per action, Thompson sampling."""

    def __init__(self, world, alpha):
        self.world = world
        self.random = np.random.default_rng([world.seed, 99])
        self.arms = np.flatnonzero(world.allowed(0)).tolist()
        self.mab = MAB(self.arms, LearningPolicy.LinTS(alpha=alpha, l2_lambda=1.0), seed=world.seed)
        self.fitted = False
        one_hot = [np.eye(len(p))[world.categories[name]] for name, p in CATEGORIES.items()]
        self.x = np.column_stack([np.ones(len(world.z)), world.z, *one_hot])

    def decide(self, day, customers, allowed):
        legal = np.flatnonzero(allowed)
        if not self.fitted:
            return self.random.choice(legal, len(customers)), np.full(len(customers), 1 / len(legal))
        for arm in set(legal.tolist()) - set(self.arms):
            self.mab.add_arm(arm)
            self.arms.append(arm)
        return np.array(self.mab.predict(self.x[customers])), np.full(len(customers), np.nan)

    def learn(self, day, log, answered, closing):
        if len(closing):
            learn = self.mab.partial_fit if self.fitted else self.mab.fit
            learn(log.action[closing], self.world.rewards(log, closing).astype(float), self.x[log.customer[closing]])
            self.fitted = True


PEERS = {
    # Without bounds on the cost it learns next to nothing here.
    "VW regcbopt": lambda world: Vowpal(
        world, f"--regcbopt --mellowness 0.1 --cb_min_cost {-world.highest_reward} --cb_max_cost 0"
    ),
    "VW squarecb": lambda world: Vowpal(world, "--squarecb --gamma_scale 300"),
    "MABWiser LinTS": lambda world: MabWiser(world, 0.03),
}
