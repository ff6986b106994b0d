"""The job's configuration: one YAML file, overridden by `--set key=value`.

Paths are relative to the directory the job is run in, as all paths of the suite are. ${NAME} in a text stands
for a variable of the environment, ${NAME:-text} for the text where that is unset or empty. Addresses of
servers are not here but in the environment (trainer.settings): they belong to a place, not to a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.domain import Objective
from trainer.errors import ConfigError
from trainer.evaluate import METRICS

Name = Annotated[str, Field(min_length=1)]

# What the job itself decides, with LightGBM's other names for it.
_OWN_PARAMETERS = frozenset(
    {
        *("objective", "objective_type", "app", "application", "loss", "num_class", "num_classes"),
        *("seed", "random_seed", "random_state", "deterministic", "force_row_wise", "force_col_wise"),
        *("num_threads", "num_thread", "nthread", "nthreads", "n_jobs"),
        *("num_iterations", "num_iteration", "n_iter", "num_tree", "num_trees", "num_round", "num_rounds"),
        *("nrounds", "num_boost_round", "n_estimators", "max_iter"),
        *("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change"),
        *("metric", "metrics", "metric_types", "verbosity", "verbose"),
        *("categorical_feature", "cat_feature", "categorical_column", "cat_column", "categorical_features"),
        *("data", "train", "train_data", "train_data_file", "data_filename", "valid", "test"),
        *("input_model", "output_model", "task", "task_type", "config", "config_file"),
    }
)


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntityRows(_Part):
    """Which rows are learnt from: a Parquet file, one row for each moment something is to be predicted."""

    path: Path
    event_timestamp: Name = "event_timestamp"
    label: Name
    label_timestamp: Name = Field(description="When the label became known.")
    row_id: tuple[Name, ...] = Field(min_length=1, description="Columns that tell rows apart.")


class Features(_Part):
    """Which features are joined to them."""

    service: Name


class Inputs(_Part):
    """Which columns the model sees: every feature but those excluded, and columns of the entity rows."""

    entity_columns: tuple[Name, ...] = ()
    exclude: tuple[Name, ...] = ()


class SplitAt(_Part):
    """Where time is cut. Rows belong to train, valid or test by their event timestamp, each part from its
    start to the next one's; a row whose label was not known when the next part starts is left out."""

    train_start: AwareDatetime | None = None
    valid_start: AwareDatetime
    test_start: AwareDatetime
    test_end: AwareDatetime | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        moments = [m for m in (self.train_start, self.valid_start, self.test_start, self.test_end) if m]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError(
                "train_start, valid_start, test_start and test_end must each be later than the last"
            )
        return self


class Training(_Part):
    """How LightGBM learns. parameters: any of LightGBM's own but those the job sets itself."""

    objective: Objective = "binary"
    num_boost_round: int = Field(500, ge=1)
    early_stopping_rounds: int = Field(50, ge=1)
    stop_metric: Name | None = Field(None, description="LightGBM's name; default: the objective's loss.")
    seed: int = Field(1, ge=0, lt=2**31)
    threads: int = Field(0, ge=0, description="0: the cores this process may use.")
    parameters: dict[str, bool | int | float | str | list[int | float | str]] = Field(default_factory=dict)

    @field_validator("parameters")
    @classmethod
    def _not_the_jobs_own(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OWN_PARAMETERS & value.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by the job itself; use the keys beside `parameters`")
        return value


class Baseline(_Part):
    """A model on fewer inputs, trained the same way, for comparison."""

    name: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    inputs: tuple[Name, ...] = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in ("model", "base_rate"):
            raise ValueError(f"{value!r} is taken; choose another name")
        return value


class PromotionRule(_Part):
    """When the alias moves to the new version: when `metric` on the test rows is better by more than
    `min_improvement` than that of the version it points at."""

    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$")
    metric: Name | None = Field(None, description="Default: auc, or rmse for a regression.")
    min_improvement: float = Field(0.0, ge=0)
    on_tie: Literal["keep", "move"] = "keep"
    not_comparable: Literal["keep", "move"] = Field(
        "keep", description="When the present holder has inputs that the new snapshot lacks."
    )

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if re.fullmatch(r"latest|v[0-9]+", value, re.IGNORECASE):
            raise ValueError(f"{value!r} is reserved; choose another alias")
        return value


class Checks(_Part):
    """What is made of inputs that look wrong in the training rows."""

    missing_input: Literal["fail", "warn"] = Field("fail", description="No value at all.")
    constant_input: Literal["fail", "warn"] = Field("warn", description="One and the same value throughout.")


class TrainingConfig(_Part):
    """Everything that decides what is trained."""

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
    description: str = ""
    entity_rows: EntityRows
    features: Features
    inputs: Inputs = Inputs()
    split: SplitAt
    training: Training = Training()
    baselines: tuple[Baseline, ...] = ()
    promotion: PromotionRule = PromotionRule()
    checks: Checks = Checks()
    snapshot_dir: Path = Path(".plumbline/trainer")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        metric, known = self.promotion.metric, METRICS[self.training.objective]
        if metric is not None and metric not in known:
            raise ValueError(
                f"promotion.metric is {metric!r}; {self.training.objective} has {', '.join(known)}"
            )
        names = [baseline.name for baseline in self.baselines]
        if len(set(names)) < len(names):
            raise ValueError("baselines: two of them have the same name")
        return self

    def as_yaml(self) -> str:
        """The whole of it, defaults, overrides and variables filled in: loads as an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @property
    def promotion_metric(self) -> str:
        """The metric that decides the promotion."""
        return self.promotion.metric or next(iter(METRICS[self.training.objective]))


def load(path: Path, overrides: Sequence[str], environment: Mapping[str, str]) -> TrainingConfig:
    """Reads a YAML file, applies "key.subkey=value" overrides (values as YAML), checks it all.

    Raises ConfigError naming each field at fault and its value.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}, not a mapping of keys to values")
    for override in overrides:
        _apply(raw, override)
    try:
        return TrainingConfig.model_validate(_expanded(raw, environment))
    except ValidationError as error:
        raise ConfigError(f"{path}:\n" + "\n".join(_problem(item) for item in error.errors())) from error


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: write key=value, as in training.seed=7")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from error
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is not a group of keys")
    place[last] = value


def _expanded(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [_expanded(part, environment) for part in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = environment.get(match[1]) or match[3]
        if found is None:
            raise ConfigError(
                f"{value!r}: the variable {match[1]} is not set; set it, or write ${{{match[1]}:-…}}"
            )
        return found

    return _VARIABLE.sub(variable, value)


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the whole"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"  {where}: unknown key"
    if item["type"] == "missing":
        return f"  {where}: is required"
    shown = "" if isinstance(item["input"], dict) else f" (value: {str(item['input'])[:200]!r})"
    return f"  {where}: {message}{shown}"
