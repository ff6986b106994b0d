"""What the registry knows, as plain values. Times are zone-aware UTC, in microseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple


@dataclass(frozen=True)
class Act:
    """Who does something, and when, asked for under which request id ("" for none)."""

    actor: str
    time: datetime
    request_id: str = ""


@dataclass(frozen=True)
class VersionRef:
    """The name of a version: model id and number."""

    model: str
    number: int

    def __str__(self) -> str:
        return f"models/{self.model}/versions/{self.number}"


@dataclass(frozen=True)
class AliasRef:
    """The name of an alias: model id and alias."""

    model: str
    alias: str

    def __str__(self) -> str:
        return f"models/{self.model}/aliases/{self.alias}"


@dataclass(frozen=True)
class DefinitionRef:
    """One state of a feature service or view. digest: "sha256:" and 64 hex digits."""

    project: str
    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.project}/{self.name}@{self.digest}"


@dataclass(frozen=True)
class Alias:
    """The present (or a past) holder of an alias. revision grows with each move, also across clearings."""

    ref: AliasRef
    version: VersionRef
    revision: int
    actor: str
    reason: str
    update_time: datetime
    id: int = 0
    protected: bool = False


@dataclass(frozen=True)
class AliasEvent:
    """One move of an alias. sequence orders all events of the registry."""

    sequence: int
    alias_id: int
    ref: AliasRef
    revision: int
    from_version: VersionRef | None
    to_version: VersionRef | None
    actor: str
    reason: str
    time: datetime
    # Of a rollback: the revision of the move whose holder it put back.
    restored_revision: int | None = None


@dataclass(frozen=True)
class Model:
    """A line of versions under one name. id: the registry's own, never shown."""

    id: int
    name: str
    description: str
    tags: Mapping[str, str]
    create_time: datetime
    update_time: datetime
    archive_time: datetime | None
    latest_version: int
    revision: int
    aliases: tuple[Alias, ...] = ()


#: MLflow's stages.
NO_STAGE = "None"
STAGES = (NO_STAGE, "Staging", "Production", "Archived")


class VersionState(StrEnum):
    DRAFT = "DRAFT"
    READY = "READY"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True)
class Field:
    """A named, typed column. type: a name of the contract's ValueType without its prefix, as "DOUBLE"."""

    name: str
    type: str
    description: str = ""


class InputSource(StrEnum):
    FEATURE = "FEATURE"
    REQUEST = "REQUEST"


@dataclass(frozen=True)
class ModelInput:
    """source None: not given, or unknown to this version of the contract."""

    name: str
    type: str
    source: InputSource | None
    feature_reference: str = ""
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a model takes, in the order it expects, and what it gives."""

    inputs: tuple[ModelInput, ...] = ()
    outputs: tuple[Field, ...] = ()
    feature_service: str = ""
    feature_service_digest: str = ""
    join_keys: tuple[Field, ...] = ()
    request_data: tuple[Field, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    """sha256: 64 lower-case hex digits."""

    path: str
    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True)
class Evaluation:
    """dataset: its digest, 64 hex digits."""

    dataset: str
    split: str
    metrics: Mapping[str, float]
    create_time: datetime
    actor: str


@dataclass(frozen=True)
class ModelVersion:
    """run: the run's id, "" when no run made it. datasets: digests. aliases: in order of the alphabet."""

    id: int
    ref: VersionRef
    state: VersionState
    description: str
    tags: Mapping[str, str]
    signature: Signature | None
    run: str
    datasets: tuple[str, ...]
    files: tuple[ModelFile, ...]
    manifest_digest: str
    evaluations: tuple[Evaluation, ...]
    aliases: tuple[str, ...]
    create_time: datetime
    finalize_time: datetime | None
    revision: int
    actor: str
    model_id: int = 0
    source: str = ""
    external_run: str = ""
    run_link: str = ""
    copied_from: VersionRef | None = None
    stage: str = NO_STAGE
    update_time: datetime | None = None
    archive_time: datetime | None = None
    copied_from_id: int | None = None

    def file(self, path: str) -> ModelFile | None:
        """The file at a path, if there is one."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True)
class CodeRevision:
    """commit: "" when the code was under no version control."""

    repository: str
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Environment:
    """What a run ran in. packages: sorted "name==version"."""

    python_version: str
    platform: str
    packages: tuple[str, ...]


class RunState(StrEnum):
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class TrainingRun:
    """name: the id after "runs/". datasets: digests."""

    id: int
    name: str
    display_name: str
    state: RunState
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    seed: int
    code: CodeRevision | None
    environment_digest: str
    datasets: tuple[str, ...]
    start_time: datetime
    end_time: datetime | None
    error: str
    actor: str
    revision: int
    environment: Environment | None = None
    config: str = ""
    parent: str = ""
    base_versions: tuple[VersionRef, ...] = ()
    lease_expire_time: datetime | None = None
    base_version_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeatureDefinition:
    """The text of one state of a feature service or view."""

    ref: DefinitionRef
    spec: str


@dataclass(frozen=True)
class Dataset:
    """A snapshot of rows. id is 0 and the times are None until it is recorded."""

    digest: str
    display_name: str
    row_count: int
    schema: tuple[Field, ...]
    as_of_start: datetime | None
    as_of_end: datetime | None
    feature_service: DefinitionRef | None
    feature_views: tuple[DefinitionRef, ...]
    entity_digest: str
    uri: str
    id: int = 0
    create_time: datetime | None = None
    actor: str = ""
    recipe: str = ""
    # Told by the record of a single snapshot only.
    feature_definitions: tuple[FeatureDefinition, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """A version running somewhere. name: the id after "deployments/"."""

    id: int
    name: str
    version: VersionRef
    environment: str
    target: str
    alias: str
    attributes: Mapping[str, str]
    start_time: datetime
    end_time: datetime | None
    lease_expire_time: datetime | None
    end_reason: str
    actor: str
    revision: int

    def live(self, moment: datetime) -> bool:
        """Whether it runs at a moment: it has not ended, and its lease has not."""
        if self.end_time is not None:
            return False
        return self.lease_expire_time is None or self.lease_expire_time > moment


class NodeKind(IntEnum):
    """Numbered as in the contract."""

    MODEL = 1
    MODEL_VERSION = 2
    RUN = 3
    DATASET = 4
    FEATURE_SERVICE = 5
    FEATURE_VIEW = 6
    CODE_REVISION = 7
    ALIAS = 8
    DEPLOYMENT = 9


class Direction(StrEnum):
    UPSTREAM = "UPSTREAM"
    DOWNSTREAM = "DOWNSTREAM"


class NodeKey(NamedTuple):
    """A node by its kind and the registry's own id."""

    kind: NodeKind
    id: int


class KeyEdge(NamedTuple):
    """downstream was made from upstream."""

    upstream: NodeKey
    downstream: NodeKey
    relation: str


@dataclass(frozen=True)
class LineageNode:
    name: str
    kind: NodeKind
    label: str
    distance: int


@dataclass(frozen=True)
class LineageEdge:
    """An edge by names. distance: edges between its farther end and the node asked about."""

    distance: int
    upstream: str
    downstream: str
    relation: str

    @property
    def key(self) -> tuple[int, str, str, str]:
        """Its place in a walk: nearest first, then by names."""
        return (self.distance, self.upstream, self.downstream, self.relation)


def manifest_digest(files: Iterable[ModelFile]) -> str:
    """ "sha256:" and 64 hex digits over the sorted lines "{sha256}  {path}\\n": the content of a version.

    The lines are those of `sha256sum`, so anybody can recompute it; paths hold no line breaks.
    """
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def etag(name: str, revision: int) -> str:
    """The opaque tag of one state of a resource; differs between resources and between states."""
    return hashlib.sha256(f"{name}\n{revision}".encode()).hexdigest()[:16]
