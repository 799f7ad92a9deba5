"""Off-policy estimates of `evaluate_log` and `evaluate_policy` against those of obp, on the small Open Bandit Dataset.

The target is the Bernoulli Thompson policy that was run on the site, valued from the log of uniformly random choices. Run by
evaluate.sh, with libpq's environment pointing at a server.
"""

import csv
import io
import logging
import subprocess
import sys
import time
import types
import warnings


def without_torch() -> None:
    """obp imports PyTorch for its neural learners, which are not used here; empty modules do."""
    for name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.utils", "torch.utils.data"):
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (), {})
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)


without_torch()
warnings.filterwarnings("ignore")
logging.disable(logging.INFO)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from obp.dataset import OpenBanditDataset  # noqa: E402
from obp.ope import (  # noqa: E402
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    OffPolicyEvaluation,
    RegressionModel,
    SelfNormalizedInverseProbabilityWeighting,
)
from obp.policy import BernoulliTS  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

ESTIMATORS = {"ipw": "ips", "snipw": "snips", "dm": "direct", "dr": "doubly_robust"}
FOLDINGS = 5
FEATURES = [f"user_feature_{n}" for n in range(4)]


def psql(statement: str, data: str | None = None) -> list[list[str]]:
    command = ["psql", "-XqAt", "--csv", "-v", "ON_ERROR_STOP=1", "-c", "SET client_min_messages = error", "-c", statement]
    result = subprocess.run(command, input=data, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return list(csv.reader(io.StringIO(result.stdout)))


def load(table: str, rows: pd.DataFrame, types_: str) -> None:
    psql(f"DROP TABLE IF EXISTS {table} CASCADE; CREATE TABLE {table} ({types_})")
    psql(f"COPY {table} FROM STDIN (FORMAT csv)", rows.to_csv(index=False, header=False, float_format="%.17g"))


class Log:
    """The random log of one site campaign, the target, and obp's estimates."""

    def __init__(self, campaign: str):
        dataset = OpenBanditDataset(behavior_policy="random", campaign=campaign)
        self.dataset, self.feedback = dataset, dataset.obtain_batch_bandit_feedback()
        self.rounds = self.feedback["n_rounds"]
        policy = BernoulliTS(
            n_actions=dataset.n_actions, len_list=dataset.len_list, is_zozotown_prior=True, campaign=campaign, random_state=12345
        )
        self.target = policy.compute_batch_action_dist(n_sim=100_000, n_rounds=self.rounds)
        self.rewards = self.regress(12345)
        self.obp = self.evaluation().estimate_policy_values(self.target, self.rewards)
        self.on_policy = OpenBanditDataset.calc_on_policy_policy_value_estimate(behavior_policy="bts", campaign=campaign)

    def evaluation(self) -> OffPolicyEvaluation:
        estimators = [
            InverseProbabilityWeighting(),
            SelfNormalizedInverseProbabilityWeighting(),
            DirectMethod(),
            DoublyRobust(),
        ]
        return OffPolicyEvaluation(bandit_feedback=self.feedback, ope_estimators=estimators)

    def regress(self, seed: int) -> np.ndarray:
        """Cross-fitted rewards of every action in every position: rounds × actions × positions."""
        model = RegressionModel(
            n_actions=self.dataset.n_actions,
            len_list=self.dataset.len_list,
            action_context=self.dataset.action_context,
            base_model=LogisticRegression(max_iter=1000, random_state=seed),
        )
        log = {key: self.feedback[key] for key in ("context", "action", "reward", "position")}
        return model.fit_predict(**log, n_folds=3, random_state=seed)

    def doubly_robust(self, rewards: np.ndarray) -> float:
        return self.evaluation().estimate_policy_values(self.target, rewards)["dr"]

    def rows(self) -> pd.DataFrame:
        """The log as evaluate_log wants it."""
        at = np.arange(self.rounds)
        action, position = self.feedback["action"], self.feedback["position"]
        return pd.DataFrame(
            {
                "reward": self.feedback["reward"],
                "propensity": self.feedback["pscore"],
                "target_probability": self.target[at, action, position],
                "predicted": self.rewards[at, action, position],
                "expected": (self.target * self.rewards).sum(axis=1)[at, position],
            }
        )


def same_rows(campaign: str, log: Log) -> None:
    """Both on the same rows and the same modelled rewards."""
    load("log", log.rows(), "reward float8, propensity float8, target_probability float8, predicted float8, expected float8")
    found = psql(
        "SELECT estimator, value, bootstrap_lower, bootstrap_upper"
        " FROM decisioning.evaluate_log('log', predicted => 'predicted', expected => 'expected')"
    )
    ours = {estimator: [float(x) for x in numbers] for estimator, *numbers in found}
    intervals = log.evaluation().estimate_intervals(log.target, log.rewards, n_bootstrap_samples=400, random_state=1)
    for name, estimator in ESTIMATORS.items():
        value, lower, upper = ours[estimator]
        theirs = [intervals[name][f"95.0% CI ({side})"] for side in ("lower", "upper")]
        print(
            f"{campaign:6} {name:6} obp {log.obp[name]:.6f} [{theirs[0]:.6f}, {theirs[1]:.6f}]"
            f"  ours {value:.6f} [{lower:.6f}, {upper:.6f}]  difference {abs(value - log.obp[name]):.1e}"
        )
        assert abs(value - log.obp[name]) < 1e-6


def own_model(campaign: str, log: Log) -> None:
    """`evaluate_policy` with its own reward model. The target does not look at the user, so that within a position its value
    is the mean of those of the fixed actions, but for snips: each position becomes a campaign. Salts make the folds."""
    runs = [dict.fromkeys(("ips", "direct", "doubly_robust"), 0.0) for _ in range(FOLDINGS)]
    seconds = 0.0
    for position in range(log.dataset.len_list):
        chosen = log.feedback["position"] == position
        name = f"{campaign}_{position}"
        import_position(name, log, chosen)
        for salt, values in enumerate(runs):
            psql(f"UPDATE decisioning.campaigns SET salt = '00000000-0000-4000-8000-00000000000{salt}' WHERE campaign = '{name}'")
            started = time.perf_counter()
            found = psql(
                "SELECT substr(policy, length('always item_') + 1), estimator, value"
                f" FROM decisioning.evaluate_policy('{name}') WHERE policy LIKE 'always item%' AND estimator <> 'snips'"
            )
            seconds += time.perf_counter() - started
            for item, estimator, value in found:
                values[estimator] += log.target[0, int(item), position] * chosen.mean() * float(value)
    refits = [log.doubly_robust(log.regress(seed)) for seed in range(FOLDINGS)]
    for name, estimator in (("ipw", "ips"), ("dm", "direct"), ("dr", "doubly_robust")):
        found = [values[estimator] for values in runs]
        print(f"{campaign:6} {name:6} obp {log.obp[name]:.6f}  own reward model {min(found):.6f} … {max(found):.6f}")
    print(
        f"{campaign:6} obp's dr, refitted: {min(refits):.6f} … {max(refits):.6f}; on-policy: {log.on_policy:.6f};"
        f" {log.dataset.n_actions + 4} policies on {log.rounds} decisions: {seconds / FOLDINGS:.2f} s"
    )
    assert all(abs(values["ips"] - log.obp["ipw"]) < 1e-6 for values in runs)


def import_position(name: str, log: Log, chosen: np.ndarray) -> None:
    """The rounds of one position as a campaign with a customer per round."""
    rows = log.dataset.data.loc[chosen, FEATURES].astype(str)
    rows.insert(0, "id", [f"u-{n}" for n in range(len(rows))])
    rows["action"] = [f"item_{n}" for n in log.feedback["action"][chosen]]
    rows["propensity"] = log.feedback["pscore"][chosen]
    rows["clicked"] = log.feedback["reward"][chosen]
    columns = ", ".join(f"{feature} text" for feature in FEATURES)
    load("rounds", rows, f"id text, {columns}, action text, propensity float8, clicked int")
    psql(
        f"""
        ALTER TABLE rounds ADD at timestamptz DEFAULT now() - interval '3 days';
        CREATE VIEW clicks AS SELECT id AS event, id, at + interval '1 minute' AS at FROM rounds WHERE clicked = 1;
        CREATE VIEW users AS SELECT id, {", ".join(FEATURES)} FROM rounds;
        SELECT decisioning.create_campaign('{name}', 'users', 'id');
        SELECT decisioning.add_action('{name}', 'item_' || n, message => 'item_' || n),
               decisioning.approve_action('{name}', 'item_' || n) FROM generate_series(0, {log.dataset.n_actions - 1}) n;
        SELECT decisioning.add_goal('{name}'), decisioning.add_campaign_goal('{name}', '{name}', attribution_window => '1 day');
        SELECT decisioning.add_outcome_source('{name}', 'clicks', customer_key => 'id', occurred_at => 'at', event_id => 'event');
        SELECT decisioning.ingest_outcomes('{name}');
        SELECT decisioning.import_decisions('{name}', 'rounds', 'id', 'action', 'at', 'propensity');
        """
    )


psql("CREATE EXTENSION decisioning")
for campaign in ("all", "men", "women"):
    log = Log(campaign)
    same_rows(campaign, log)
    own_model(campaign, log)
