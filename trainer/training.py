"""LightGBM, and nothing else knows it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from trainer.config import Training
from trainer.domain import Objective
from trainer.errors import ConfigError, TrainingFailed
from trainer.evaluate import Floats
from trainer.matrix import Matrix

_LOSS: dict[Objective, str] = {"binary": "binary_logloss", "regression": "l2"}

#: What a model's output is called, by objective.
OUTPUT: dict[Objective, str] = {"binary": "probability", "regression": "prediction"}

OnRound = Callable[[int, int], None]


@dataclass(frozen=True)
class Trained:
    """A model as text, cut at its best round, and what LightGBM complained about."""

    text: str
    rounds: int
    warnings: tuple[str, ...]


class _Complaints:
    """LightGBM's log, of which warnings are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        if "[Warning]" in message:
            self.lines.append(message.split("[Warning]", 1)[1].strip())

    def warning(self, message: str) -> None:
        self.lines.append(message.strip())


def train(config: Training, matrix: Matrix, labels: Mapping[str, Floats], on_round: OnRound) -> Trained:
    """Learns from the part "train", stops early by "valid".

    The same rows, parameters and seed give the same text, byte for byte, whatever the number of threads.
    Raises ConfigError for a parameter LightGBM does not know, TrainingFailed when it refuses to train.
    """
    log = _Complaints()
    lgb.register_logger(log)
    params: dict[str, Any] = {
        **config.parameters,
        "objective": config.objective,
        "metric": config.stop_metric or _LOSS[config.objective],
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": config.threads or usable_cores(),
        "verbosity": 0,
    }
    categorical = [i for i, item in enumerate(matrix.inputs) if item.categorical]
    rows = lgb.Dataset(
        matrix.parts["train"],
        labels["train"],
        feature_name=[item.name for item in matrix.inputs],
        categorical_feature=categorical,
        params=params,
    )
    valid = rows.create_valid(matrix.parts["valid"], labels["valid"])

    def progress(env: Any) -> None:
        on_round(env.iteration + 1, env.end_iteration)

    try:
        booster = lgb.train(
            params,
            rows,
            config.num_boost_round,
            valid_sets=[valid],
            valid_names=["valid"],
            callbacks=[lgb.early_stopping(config.early_stopping_rounds, verbose=False), progress],
        )
    except (lgb.basic.LightGBMError, ValueError) as error:
        raise TrainingFailed(f"LightGBM refused to train: {error}") from error
    unknown = sorted({line for line in log.lines if line.startswith("Unknown parameter")})
    if unknown:
        raise ConfigError(f"training.parameters: {'; '.join(unknown)}; see LightGBM's list of parameters")
    rounds = int(booster.best_iteration or booster.current_iteration())
    text = booster.model_to_string(num_iteration=rounds)
    return Trained(_without_threads(text), rounds, tuple(dict.fromkeys(log.lines)))


def predict(text: str, values: npt.NDArray[np.float64], threads: int = 0) -> Floats:
    """The predictions of a model for the rows of a matrix in the order of its inputs."""
    booster = lgb.Booster(model_str=text)
    return np.asarray(booster.predict(values, num_threads=threads or usable_cores()), np.float64)


def load_text(path: Path, inputs: int) -> str:
    """The text of a model file. Raises TrainingFailed when it is none, or takes another number of inputs."""
    text = path.read_text(encoding="utf-8")
    try:
        takes = lgb.Booster(model_str=text).num_feature()
    except lgb.basic.LightGBMError as error:
        raise TrainingFailed(f"{path.name} is not a LightGBM model: {error}") from error
    if takes != inputs:
        raise TrainingFailed(f"{path.name} takes {takes} inputs, its signature has {inputs}")
    return text


def usable_cores() -> int:
    """Cores this process may run on; LightGBM would count the machine's."""
    return len(os.sched_getaffinity(0))


def _without_threads(text: str) -> str:
    # The one line that tells how a model was computed instead of what it is.
    return re.sub(r"^\[num_threads: \d+\]\n", "", text, flags=re.MULTILINE)
