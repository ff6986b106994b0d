"""The metrics against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from trainer import evaluate

# Few distinct scores, so that ties are common; 0 and 1 among them.
_SCORES = st.sampled_from([0.0, 1e-9, 0.1, 0.25, 0.25000000000000006, 0.5, 0.9, 1.0])
_ROWS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), _SCORES), min_size=2, max_size=60).filter(
    lambda rows: {label for label, _ in rows} == {0.0, 1.0}
)


def _arrays(rows: list[tuple[float, float]]) -> tuple[evaluate.Floats, evaluate.Floats]:
    labels, scores = np.array(rows).T
    return labels, scores


@given(_ROWS)
@settings(max_examples=150, deadline=None)
def test_ranking_metrics_are_those_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    labels, scores = _arrays(rows)
    assert evaluate.auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert evaluate.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )


@given(_ROWS)
@settings(max_examples=150, deadline=None)
def test_log_loss_is_that_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    labels, scores = _arrays(rows)
    assert evaluate.log_loss(labels, scores) == pytest.approx(reference.log_loss(labels, scores), rel=1e-9)


def test_regression_metrics_by_hand() -> None:
    labels, predictions = np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 0.0])
    assert evaluate.rmse(labels, predictions) == pytest.approx((20 / 3) ** 0.5)
    assert evaluate.mae(labels, predictions) == pytest.approx(2.0)


def test_a_constant_answer_ranks_nothing() -> None:
    labels = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
    values = evaluate.evaluate("binary", labels, np.full(5, 0.4))
    assert values["auc"] == 0.5
    assert values["average_precision"] == pytest.approx(0.4)
    assert values["rows"] == 5
