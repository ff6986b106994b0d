"""How good predictions are. Plain numpy; labels and predictions have equal length n ≥ 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.domain import Objective

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are, and which way is better."""

    compute: Callable[[Floats, Floats], float]
    greater_is_better: bool


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve: P(a positive scores above a negative), ties count half.

    Needs both classes. Mann-Whitney's U over the ranks.
    """
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = ((last - count + 1 + last) / 2)[place]
    positives = labels == 1
    n_pos = int(positives.sum())
    n_neg = len(labels) - n_pos
    return float((ranks[positives].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def average_precision(labels: Floats, scores: Floats) -> float:
    """Σ (Rₖ − Rₖ₋₁)·Pₖ over the distinct scores from high to low; equal scores are one threshold.

    Needs a positive label.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    hits = np.cumsum(labels[order] == 1)
    threshold = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    precision = hits[threshold] / (threshold + 1)
    gained = np.diff(hits[threshold], prepend=0)
    return float((precision * gained).sum() / hits[-1])


def log_loss(labels: Floats, probabilities: Floats) -> float:
    """Mean of −log P(label), natural logarithm; probabilities are kept 2⁻⁵² away from 0 and 1."""
    eps = np.finfo(np.float64).eps
    p = np.clip(probabilities, eps, 1 - eps)
    return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))


def rmse(labels: Floats, predictions: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((labels - predictions) ** 2)))


def mae(labels: Floats, predictions: Floats) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(labels - predictions)))


METRICS: dict[Objective, dict[str, Metric]] = {
    "binary": {
        "auc": Metric(auc, greater_is_better=True),
        "average_precision": Metric(average_precision, greater_is_better=True),
        "log_loss": Metric(log_loss, greater_is_better=False),
    },
    "regression": {
        "rmse": Metric(rmse, greater_is_better=False),
        "mae": Metric(mae, greater_is_better=False),
    },
}


def evaluate(objective: Objective, labels: Floats, predictions: Floats) -> dict[str, float]:
    """All metrics of an objective, and "rows", the number of rows they stand for."""
    values = {name: metric.compute(labels, predictions) for name, metric in METRICS[objective].items()}
    return values | {"rows": float(len(labels))}
