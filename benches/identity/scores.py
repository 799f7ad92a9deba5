"""How well a grouping finds the true one."""

from collections import Counter


def scores(truth: list, found: list) -> dict:
    """Pairwise and B-cubed F1, and the largest group found."""
    of_truth, of_found, both = Counter(truth), Counter(found), Counter(zip(truth, found))
    pairs = lambda sizes: sum(size * (size - 1) // 2 for size in sizes.values())  # noqa: E731
    right = pairs(both)
    precision, recall = right / max(pairs(of_found), 1), right / max(pairs(of_truth), 1)
    cubed_precision = sum(size * size / of_found[group] for (_, group), size in both.items()) / len(truth)
    cubed_recall = sum(size * size / of_truth[person] for (person, _), size in both.items()) / len(truth)
    return {
        "pairwise": mean(precision, recall),
        "precision": precision,
        "recall": recall,
        "b_cubed": mean(cubed_precision, cubed_recall),
        "largest": max(of_found.values()),
    }


def mean(precision: float, recall: float) -> float:
    """Harmonic mean."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
