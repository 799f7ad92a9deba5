"""The loop, played forward: every simulated morning learns from yesterday and decides for those who arrive today."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

import warehouse
from console import Session, Table, percent, points, say
from datasets import NO_SEND, MarketingTest
from responses import ResponseModel, pick

DAYS, PER_DAY = 10, 2_000
RECORDED = 3  # outcomes a day that are recorded by a call; the rest are read in place
CAMPAIGN = "winback"


@dataclass
class World:
    """Whoever arrives, and how they respond: unknown to the extension."""

    arrivals: pd.DataFrame  # features, indexed by customer id
    probabilities: pd.DataFrame
    luck: np.ndarray  # a customer responds if luck < probability: the same luck under every action

    @classmethod
    def draw(cls, test: MarketingTest, pool: np.ndarray, model: ResponseModel, rng: np.random.Generator) -> "World":
        """Customers of the pool in random order; from too small a pool with replacement, as new customers."""
        count = (DAYS + 1) * PER_DAY
        again = len(pool) < count
        arrivals = test.customers.iloc[rng.choice(pool, count, replace=again)]
        if again:
            arrivals = arrivals.set_axis(pd.Index([f"n-{n:05d}" for n in range(1, count + 1)], name="customer_id"))
        return cls(arrivals, model.probabilities(arrivals), rng.random(count))

    def days(self) -> np.ndarray:
        """0 … DAYS for each customer; the last day is left to the user."""
        return np.repeat(np.arange(DAYS + 1), PER_DAY)


def fix_salt(session: Session, campaign: str) -> None:
    """Groups and choices are hashes of a random salt. With a salt of its own, every run of the demo comes out alike."""
    session.run(
        "UPDATE decisioning.campaigns SET salt = md5(campaign)::uuid WHERE campaign = %(campaign)s",
        {"campaign": campaign},
        quiet=True,
    )


def set_up(session: Session, test: MarketingTest, world: World, dates: pd.DatetimeIndex) -> None:
    arrivals = world.arrivals.reset_index()
    arrivals.insert(1, "arrives_on", dates[world.days()])
    warehouse.create_table(session, "arrivals", arrivals, key="customer_id")
    session.run(
        "CREATE TABLE warehouse.calendar AS SELECT %(day)s::timestamptz AS today", {"day": dates[0]}, quiet=True
    )
    detectable = session.value(
        "SELECT decisioning.create_campaign(%(campaign)s, customers => 'warehouse.arrivals',\n"
        "       customer_key => 'customer_id', time_zone => 'UTC',\n"
        "       audience => 'arrives_on = (SELECT today FROM warehouse.calendar)',\n"
        "       features => %(features)s)",
        {"campaign": CAMPAIGN, "features": list(test.customers.columns)},
    )
    say(detectable)
    fix_salt(session, CAMPAIGN)
    add_actions(session, test, CAMPAIGN)
    session.run(
        "SELECT decisioning.add_campaign_goal(%(campaign)s, %(goal)s, attribution_window => '1 day')",
        {"campaign": CAMPAIGN, "goal": test.goal},
    )
    session.run("SELECT decisioning.start_campaign(%(campaign)s)", {"campaign": CAMPAIGN})


def add_actions(session: Session, test: MarketingTest, campaign: str) -> None:
    for name, action in test.actions.items():
        arguments = "".join(f", {dimension} => %({dimension})s" for dimension in action.dimensions)
        session.run(
            f"SELECT decisioning.add_action(%(campaign)s, %(action)s{arguments},\n"
            "       customer_reason => %(reason)s)",
            {"campaign": campaign, "action": name, "reason": action.customer_reason, **action.dimensions},
        )
    session.run(
        "SELECT decisioning.approve_action(campaign, action) FROM decisioning.actions WHERE campaign = %(campaign)s",
        {"campaign": campaign},
    )


def play(session: Session, test: MarketingTest, world: World, dates: pd.DatetimeIndex) -> pd.DataFrame:
    """Returns all decisions with group, action and whether the customer responded."""
    played = []
    for day in range(DAYS):
        show = day == 0  # the statements are the same every day
        morning = dates[day] + pd.Timedelta(hours=8)
        set_clock(session, morning, quiet=not show)
        if played:
            happen(session, test, played[-1])
        session.run("SELECT * FROM decisioning.learn(%(campaign)s)", {"campaign": CAMPAIGN}, quiet=not show)
        session.run("UPDATE warehouse.calendar SET today = %(today)s", {"today": dates[day]}, quiet=True)
        session.run("CALL decisioning.decide_all(%(campaign)s)", {"campaign": CAMPAIGN}, quiet=not show)
        decided = pd.DataFrame(
            session.run(
                "SELECT customer_id, decision_id, treatment_group, action, decided_at FROM decisioning.open_decisions\n"
                "WHERE campaign = %(campaign)s",
                {"campaign": CAMPAIGN},
                quiet=not show,
            ),
            columns=["customer_id", "decision_id", "group", "action", "decided_at"],
        ).sort_values("customer_id", ignore_index=True)
        played.append(respond(world, decided).assign(day=day))
        if show:
            say(
                f"And so on every morning: the share of each action in optimise, the rate of {test.goal} by group, "
                "and the true lift of what optimise got, in points."
            )
            lines = Table(
                ["day", "decided", "learned", *test.actions, NO_SEND, "optimise", "explore", "holdout", "true lift"]
            )
        lines.row(progress(session, played[-1], test))
    set_clock(session, dates[DAYS - 1] + pd.Timedelta(days=1, hours=8), quiet=True)
    happen(session, test, played[-1])
    say()
    session.run("SELECT * FROM decisioning.learn(%(campaign)s)", {"campaign": CAMPAIGN})
    return pd.concat(played, ignore_index=True)


def set_clock(session: Session, at: pd.Timestamp, quiet: bool) -> None:
    session.run("SET decisioning.simulated_now = %(at)s", {"at": at.isoformat()}, quiet=quiet)


def respond(world: World, decided: pd.DataFrame) -> pd.DataFrame:
    """Whether, and how many hours later, each decided customer responds."""
    rows = world.arrivals.index.get_indexer(decided["customer_id"])
    probabilities, luck = world.probabilities.iloc[rows], world.luck[rows]
    probability = pick(probabilities, decided["action"])
    return decided.assign(
        probability=probability,
        unsent=probabilities[NO_SEND].to_numpy(),
        responded=luck < probability,
        hours=20 * luck / probability,
    )


def happen(session: Session, test: MarketingTest, decided: pd.DataFrame) -> None:
    """The responses reach the warehouse's event table, and a few the extension by a call."""
    responses = decided[decided["responded"]]
    occurred_at = (responses["decided_at"] + pd.to_timedelta(responses["hours"], unit="h")).dt.floor("s")
    names = [f"loop-{customer_id}" for customer_id in responses["customer_id"]]
    rows = warehouse.events(names, responses["customer_id"].to_numpy(), test.goal, occurred_at)
    warehouse.copy_rows(session, "events", rows.iloc[RECORDED:])
    for row, decision_id in zip(rows.iloc[:RECORDED].itertuples(), responses["decision_id"]):
        session.run(
            "SELECT decisioning.record_outcome(%(goal)s, event_id => %(event)s, decision_id => %(decision)s,\n"
            "       occurred_at => %(at)s)",
            {"goal": test.goal, "event": row.event_id, "decision": decision_id, "at": row.occurred_at},
            quiet=True,
        )


def progress(session: Session, decided: pd.DataFrame, test: MarketingTest) -> list[object]:
    """One day's line."""
    learned = session.value(
        "SELECT decisions FROM decisioning.models WHERE campaign = %(campaign)s AND current",
        {"campaign": CAMPAIGN},
        quiet=True,
    )
    optimise = decided[decided["group"] == "optimise"]
    shares = optimise["action"].value_counts(normalize=True)
    rates = decided.groupby("group")["responded"].mean()
    return [
        decided["day"].iloc[0] + 1,
        len(decided),
        learned,
        *(percent(shares.get(action, 0), 0) for action in [*test.actions, NO_SEND]),
        *(percent(rates.get(group), 1) for group in ["optimise", "explore", "holdout"]),
        points(gain(optimise)),
    ]


def gain(decided: pd.DataFrame) -> float:
    """True lift of what was decided over sending nothing."""
    return (decided["probability"] - decided["unsent"]).mean()


def report(session: Session, test: MarketingTest, world: World, decided: pd.DataFrame) -> None:
    lifts = session.run(
        "SELECT treated_group, treated_customers, baseline_customers, treated_mean, baseline_mean,\n"
        "       absolute_lift, lower, upper, verdict\n"
        "FROM decisioning.lift(%(campaign)s)\n"
        "WHERE baseline_group = 'holdout' AND measure = 'conversion rate' AND goal = %(goal)s",
        {"campaign": CAMPAIGN, "goal": test.goal},
    )
    rows = []
    for group, treated, held_out, rate, base, lift, lower, upper, verdict in lifts:
        truth = points(gain(decided[decided["group"] == group]))
        interval = f"{points(lower)} … {points(upper)}"
        rows.append([group, treated, percent(rate), held_out, percent(base), points(lift), interval, verdict, truth])
    header = ["group", "customers", "rate", "held out", "rate", "lift, points", "95 % interval", "verdict", "true lift"]
    Table(header, rows)
    met = world.probabilities.iloc[: DAYS * PER_DAY]
    fixed = met.drop(columns=NO_SEND).mean()
    say(
        f"For comparison, the true lift of {fixed.idxmax()} for everyone is "
        f"{points(fixed.max() - met[NO_SEND].mean())} points, "
        f"of the best action for each {points((met.max(axis=1) - met[NO_SEND]).mean())}."
    )
    say()
    balance = session.run(
        "SELECT treatment_group, customers, expected, p_value, balanced FROM decisioning.group_balance\n"
        "WHERE campaign = %(campaign)s ORDER BY treatment_group",
        {"campaign": CAMPAIGN},
    )
    Table(
        ["group", "customers", "expected", "p value", "balanced"],
        [
            [group, customers, f"{expected:.0f}", f"{p_value:.3f}", "yes" if balanced else "NO"]
            for group, customers, expected, p_value, balanced in balance
        ],
    )


def explain(session: Session, decided: pd.DataFrame) -> None:
    """One decision of the last day: why, and the same once more from the log."""
    chosen = decided[(decided["group"] == "optimise") & (decided["action"] != NO_SEND) & (decided["day"] == DAYS - 1)]
    decision = {"decision": chosen.iloc[0]["decision_id"]}
    lines = session.run("SELECT subject, explanation, number FROM decisioning.explain(%(decision)s)", decision)
    for subject, explanation, number in lines:
        say(f"{subject}: {explanation}" + ("" if number is None else f" ({number:.4g})"))
    say()
    [(matches, action, replayed, propensity, replayed_propensity)] = session.run(
        "SELECT matches, action, replayed_action, propensity, replayed_propensity\n"
        "FROM decisioning.replay(%(decision)s)",
        decision,
    )
    say(
        f"Logged {action} with propensity {propensity:.6f}, replayed {replayed} with {replayed_propensity:.6f}: "
        f"{'the same' if matches else 'DIFFERENT'}."
    )
