"""What the job speaks of. Standard library only; types of columns are names of the contract's ValueType
without prefix ("DOUBLE"), digests of definitions are "sha256:" and 64 hex digits, times are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Objective = Literal["binary", "regression"]

#: A metric's value by its name.
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """A named, typed column."""

    name: str
    type: str


@dataclass(frozen=True)
class Definition:
    """One state of a feature service or a feature view."""

    project: str
    name: str
    digest: str


@dataclass(frozen=True)
class Specification:
    """The text of a definition. kind: as resource names have it, "featureServices" or "featureViews"."""

    kind: str
    definition: Definition
    text: str


@dataclass(frozen=True)
class FeatureService:
    """What feature_service says of the feature service trained on."""

    definition: Definition
    views: tuple[Definition, ...]
    join_keys: tuple[Column, ...]
    request_data: tuple[Column, ...]


@dataclass(frozen=True)
class Feature:
    """A feature column of the training rows, and where it comes from: reference is "view:feature"."""

    name: str
    type: str
    reference: str
    rows_present: int


@dataclass(frozen=True)
class JoinSummary:
    """How feature_service sums up a point-in-time join. as_of: least and greatest time looked up."""

    rows_in: int
    rows_out: int
    features: tuple[Feature, ...]
    service: FeatureService
    as_of_start: datetime | None
    as_of_end: datetime | None


@dataclass(frozen=True)
class Input:
    """One input of a model. reference: "view:feature", or "" for a column the caller sends.

    categories: for texts, what the number k stands for; a value that is not listed is missing.
    """

    name: str
    type: str
    reference: str = ""
    categories: tuple[str, ...] = ()

    @property
    def categorical(self) -> bool:
        return self.type == "STRING"


@dataclass(frozen=True)
class Signature:
    """What a model takes, in order, and what it gives."""

    inputs: tuple[Input, ...]
    output: str
    service: FeatureService


@dataclass(frozen=True)
class CodeRevision:
    """commit: "" when the code is under no version control."""

    repository: str
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Environment:
    """The packages installed, as sorted "name==version" lines, their digest ("sha256:…"), what runs them."""

    lines: tuple[str, ...]
    digest: str
    python: str = ""
    platform: str = ""


@dataclass(frozen=True)
class Dataset:
    """A snapshot as the registry records it. digest, entity_digest: 64 hex digits."""

    digest: str
    entity_digest: str
    display_name: str
    rows: int
    columns: tuple[Column, ...]
    service: FeatureService
    as_of_start: datetime | None
    as_of_end: datetime | None
    uri: str
    specifications: tuple[Specification, ...] = ()

    @property
    def name(self) -> str:
        return f"datasets/{self.digest}"


@dataclass(frozen=True)
class StepRecord:
    """One step of the job as it went."""

    name: str
    seconds: float
    rows_in: int | None = None
    rows_out: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """Metrics of one model on the rows set aside."""

    name: str
    valid: Metrics
    test: Metrics


@dataclass(frozen=True)
class Promotion:
    """Whether the alias moved, and why. The values are those of `metric` on the same test rows."""

    alias: str
    metric: str
    promoted: bool
    reason: str
    candidate: float
    champion: float | None = None
    champion_version: str = ""


@dataclass(frozen=True)
class Registered:
    """The names under which the registry keeps what the job made."""

    run: str
    version: str
    number: int
    manifest_digest: str


@dataclass
class Result:
    """What a job did, growing as it goes on."""

    model: str
    outcome: Literal["finished", "dry_run", "failed"] = "failed"
    error: str = ""
    seconds: float = 0.0
    run: str = ""
    version: str = ""
    version_number: int = 0
    manifest_digest: str = ""
    dataset: Dataset | None = None
    snapshot: str = ""
    split: dict[str, int] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    rounds: int = 0
    evaluated: list[Evaluated] = field(default_factory=list)
    promotion: Promotion | None = None
    warnings: list[str] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
