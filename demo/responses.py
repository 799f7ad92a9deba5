"""A model of how customers respond, fitted to the real test; the loop is played on responses drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from datasets import NO_SEND

# Precisions of the Gaussian prior, per standardised feature; interactions with a send are small, easily overfitted.
BASE_PRECISION, SEND_PRECISION = 1.0, 10.0


@dataclass(frozen=True)
class Encoder:
    """Numbers winsorised and standardised (missing is average), categories as indicators of all but the first level."""

    numbers: dict[str, tuple[float, float, float, float]]  # column → least, most, mean, deviation
    levels: dict[str, list[str]]

    @classmethod
    def fit(cls, features: pd.DataFrame) -> "Encoder":
        numbers, levels = {}, {}
        for name, column in features.items():
            if is_text(column):
                levels[name] = sorted(column.dropna().unique())[1:]
            else:
                values = as_floats(column)
                least, most = np.nanpercentile(values, [1, 99])
                values = np.clip(values, least, most)
                numbers[name] = (least, most, np.nanmean(values), np.nanstd(values) or 1.0)
        return cls(numbers, levels)

    def encode(self, features: pd.DataFrame) -> np.ndarray:
        """Rows × (1 + columns), the first one constant."""
        columns = [np.ones(len(features))]
        for name, (least, most, mean, deviation) in self.numbers.items():
            columns.append(np.nan_to_num((np.clip(as_floats(features[name]), least, most) - mean) / deviation))
        for name, levels in self.levels.items():
            columns += [(features[name] == level).to_numpy(float) for level in levels]
        return np.column_stack(columns)


def is_text(column: pd.Series) -> bool:
    return column.dtype == object and column.dropna().map(lambda value: isinstance(value, str)).all()


def as_floats(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column.astype(object), errors="coerce").to_numpy(float)


@dataclass(frozen=True)
class ResponseModel:
    """logit p = x·base + x·effect[action]; nothing is added for no_send."""

    encoder: Encoder
    base: np.ndarray
    effects: dict[str, np.ndarray]

    @classmethod
    def fit(cls, features: pd.DataFrame, assigned: np.ndarray, responded: np.ndarray) -> "ResponseModel":
        """Maximum a posteriori logistic regression with every feature × action interaction."""
        encoder = Encoder.fit(features)
        x = encoder.encode(features)
        actions = sorted(set(assigned.tolist()) - {NO_SEND})
        design = np.hstack([x] + [x * (assigned == action)[:, None] for action in actions])
        width = x.shape[1]
        precision = np.repeat([BASE_PRECISION] + [SEND_PRECISION] * len(actions), width)
        precision[::width] = 1e-3  # intercepts are free
        base, *effects = np.split(fit_logistic(design, responded.astype(float), precision), 1 + len(actions))
        return cls(encoder, base, dict(zip(actions, effects)))

    def probabilities(self, features: pd.DataFrame) -> pd.DataFrame:
        """Probability of a response of each customer (row) to each action (column)."""
        x = self.encoder.encode(features)
        base = x @ self.base
        columns = {NO_SEND: base} | {action: base + x @ effect for action, effect in self.effects.items()}
        return pd.DataFrame(columns, index=features.index).apply(expit)


def fit_logistic(design: np.ndarray, y: np.ndarray, precision: np.ndarray, steps: int = 50) -> np.ndarray:
    """Newton's method with step halving on the penalised log-likelihood."""

    def loss(w: np.ndarray) -> float:
        z = design @ w
        return np.sum(np.logaddexp(0, z) - y * z) + 0.5 * np.sum(precision * w * w)

    w = np.zeros(design.shape[1])
    current = loss(w)
    for _ in range(steps):
        p = expit(design @ w)
        gradient = design.T @ (p - y) + precision * w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(precision)
        step, scale = np.linalg.solve(hessian, gradient), 1.0
        while (reached := loss(w - scale * step)) > current and scale > 1e-6:
            scale /= 2
        if current - reached < 1e-9 * abs(current):
            break
        w, current = w - scale * step, reached
    return w


def pick(probabilities: pd.DataFrame, actions: Sequence[str]) -> np.ndarray:
    """Of each row, the probability under that row's action."""
    return probabilities.to_numpy()[np.arange(len(probabilities)), probabilities.columns.get_indexer(actions)]
