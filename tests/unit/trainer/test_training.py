"""LightGBM learns the same thing every time, and complains aloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer import training
from trainer.config import Training
from trainer.domain import Input
from trainer.errors import ConfigError, TrainingFailed
from trainer.matrix import Matrix

_INPUTS = (
    Input("shop", "STRING", categories=("a", "b", "c")),
    Input("signal", "DOUBLE"),
    Input("noise", "DOUBLE"),
)


def _rows(rows: int = 4_000) -> tuple[Matrix, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    parts, labels = {}, {}
    for name, count in (("train", rows), ("valid", rows // 2)):
        values = np.column_stack([rng.integers(0, 3, count), rng.random(count), rng.random(count)]).astype(
            float
        )
        labels[name] = (rng.random(count) < 0.2 + 0.3 * values[:, 1] + 0.2 * (values[:, 0] == 2)).astype(
            float
        )
        values[rng.random(count) < 0.1, 1] = np.nan
        parts[name] = np.asfortranarray(values)
    return Matrix(_INPUTS, parts), labels


def _config(**more: object) -> Training:
    parameters = {"num_leaves": 15, "feature_fraction": 0.7, "bagging_fraction": 0.7, "bagging_freq": 1}
    values = {"num_boost_round": 40, "early_stopping_rounds": 10, "threads": 1, "parameters": parameters}
    return Training.model_validate(values | more)


def _ignore(done: int, total: int) -> None:
    """Nobody watches."""


def test_two_trainings_are_equal_to_the_byte_whatever_the_number_of_threads() -> None:
    matrix, labels = _rows()
    first = training.train(_config(), matrix, labels, _ignore)
    assert training.train(_config(), matrix, labels, _ignore).text == first.text
    assert training.train(_config(threads=2), matrix, labels, _ignore).text == first.text
    assert training.train(_config(seed=2), matrix, labels, _ignore).text != first.text


def test_a_model_is_cut_at_its_best_round_and_predicts_the_same_from_its_text(tmp_path: Path) -> None:
    matrix, labels = _rows()
    seen: list[tuple[int, int]] = []
    trained = training.train(
        _config(num_boost_round=300), matrix, labels, lambda done, total: seen.append((done, total))
    )
    assert 0 < trained.rounds < len(seen) < 300
    assert trained.text.count("\nTree=") == trained.rounds
    (tmp_path / "model.txt").write_text(trained.text)
    text = training.load_text(tmp_path / "model.txt", 3)
    one, two = (training.predict(text, matrix.parts["valid"], threads) for threads in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert 0 < one.min() < one.max() < 1


def test_inputs_keep_their_names_and_texts_are_categories() -> None:
    matrix, labels = _rows()
    text = training.train(_config(), matrix, labels, _ignore).text
    assert "feature_names=shop signal noise" in text
    assert "[categorical_feature: 0]" in text


def test_a_misspelt_parameter_is_an_error() -> None:
    matrix, labels = _rows(200)
    with pytest.raises(ConfigError, match="Unknown parameter: num_leafs"):
        training.train(_config(parameters={"num_leafs": 3}), matrix, labels, _ignore)


def test_a_parameter_out_of_range_fails_with_lightgbms_reason() -> None:
    matrix, labels = _rows(200)
    with pytest.raises(TrainingFailed, match="learning_rate"):
        training.train(_config(parameters={"learning_rate": -1.0}), matrix, labels, _ignore)


def test_regression() -> None:
    matrix, labels = _rows()
    targets = {part: 3 * matrix.parts[part][:, 2] for part in labels}
    trained = training.train(_config(objective="regression"), matrix, targets, _ignore)
    predictions = training.predict(trained.text, matrix.parts["valid"], 1)
    assert np.abs(predictions - targets["valid"]).mean() < 0.2


def test_a_file_that_is_no_model_or_another_one(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("no model")
    with pytest.raises(TrainingFailed, match="is not a LightGBM model"):
        training.load_text(tmp_path / "model.txt", 3)
    matrix, labels = _rows(200)
    (tmp_path / "model.txt").write_text(training.train(_config(), matrix, labels, _ignore).text)
    with pytest.raises(TrainingFailed, match="takes 3 inputs, its signature has 2"):
        training.load_text(tmp_path / "model.txt", 2)
