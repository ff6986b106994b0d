"""One YAML file, overrides, variables; mistakes are told by field and value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.trainer.conftest import config_values
from trainer import config
from trainer.errors import ConfigError


def _load(folder: Path, values: Any, *overrides: str, **variables: str) -> config.TrainingConfig:
    path = folder / "training.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return config.load(path, overrides, variables)


def test_a_file_with_overrides(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        config_values(tmp_path),
        "training.seed=7",
        "training.parameters.num_leaves=15",
        "split.test_end=2024-02-01T00:00:00+01:00",
        "inputs.exclude=[noise, kind]",
    )
    assert loaded.training.seed == 7
    assert loaded.training.parameters == {"num_leaves": 15, "min_data_in_leaf": 5}
    assert loaded.split.test_end == datetime(2024, 1, 31, 23, tzinfo=UTC)
    assert loaded.inputs.exclude == ("noise", "kind")
    assert loaded.promotion_metric == "auc"


def test_moments_of_the_file_keep_their_zone(tmp_path: Path) -> None:
    split = {"valid_start": "2013-10-01T00:00:00-04:00", "test_start": "2013-11-01T00:00:00-04:00"}
    text = yaml.safe_dump(config_values(tmp_path, split=split)).replace("'", "")
    assert _load(tmp_path, text).split.valid_start.utcoffset() in (timedelta(0), timedelta(hours=-4))
    assert _load(tmp_path, text).split.valid_start == datetime(2013, 10, 1, 4, tzinfo=UTC)


def test_variables_of_the_environment(tmp_path: Path) -> None:
    values = config_values(tmp_path, snapshot_dir="${STATE:-.state}/trainer")
    assert _load(tmp_path, values).snapshot_dir == Path(".state/trainer")
    assert _load(tmp_path, values, STATE="/var/p").snapshot_dir == Path("/var/p/trainer")
    with pytest.raises(ConfigError, match=r"'\$\{STATE\}': the variable STATE is not set"):
        _load(tmp_path, config_values(tmp_path, snapshot_dir="${STATE}"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=a b"], r"model: .*'a b'"),
        (["training.num_boost_round=0"], r"training\.num_boost_round: .*\(value: '0'\)"),
        (["training.speed=9"], r"training\.speed: unknown key"),
        (["training.parameters.num_threads=4"], r"training\.parameters: num_threads: set by the job itself"),
        (["split.test_start=2024-01-01T00:00:00Z"], r"must each be later than the last"),
        (["split.test_start=2024-01-09T00:00:00"], r"split\.test_start: .*timezone"),
        (
            ["promotion.metric=rmse"],
            r"promotion\.metric is 'rmse'; binary has auc, average_precision, log_loss",
        ),
        (["promotion.alias=latest"], r"promotion\.alias: 'latest' is reserved"),
        (["baselines=[{name: model, inputs: [shop]}]"], r"baselines\.0\.name: 'model' is taken"),
        (["baselines=[{name: a, inputs: [shop]}, {name: a, inputs: [shop]}]"], r"two of them have the same"),
        (["entity_rows.label=null"], r"entity_rows\.label"),
        (["seed"], r"--set 'seed': write key=value"),
        (["model.x=1"], r"--set 'model\.x=1': 'model' is not a group of keys"),
        (["model=["], r"--set 'model=\[': the value is not YAML"),
    ],
)
def test_mistakes_name_field_and_value(tmp_path: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        _load(tmp_path, config_values(tmp_path), *overrides)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    values = config_values(tmp_path)
    del values["model"], values["entity_rows"]["label"]
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, values)
    assert "  model: is required" in str(caught.value)
    assert "  entity_rows.label: is required" in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.yaml"):
        _load(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        config.load(tmp_path / "none.yaml", [], {})


def test_regression_is_judged_by_rmse(tmp_path: Path) -> None:
    loaded = _load(tmp_path, config_values(tmp_path), "training.objective=regression")
    assert loaded.promotion_metric == "rmse"


def test_the_flights_example_is_valid() -> None:
    loaded = config.load(Path("examples/flights/training.yaml"), [], {})
    assert loaded.model == "flight_delay"
    assert loaded.features.service == "flight_delay_v1"
