"""What callers ask for, checked: a command that exists is well-formed, whatever the state of the registry.

Field names in the errors are those of the request messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from registry_service import validation
from registry_service.domain import (
    STAGES,
    AliasRef,
    CodeRevision,
    Dataset,
    Environment,
    Field,
    InputSource,
    ModelFile,
    RunState,
    Signature,
    VersionRef,
)
from registry_service.validation import Violations

_FEATURE_REFERENCE = re.compile(r"[^:\s]+:[^:\s]+")


@dataclass(frozen=True)
class CreateModel:
    name: str
    description: str
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        found = Violations()
        found.text("description", self.description)
        found.texts("tags", self.tags)
        found.check()


@dataclass(frozen=True)
class UpdateModel:
    """None: the field stays as it is."""

    name: str
    etag: str
    description: str | None
    tags: Mapping[str, str] | None

    def __post_init__(self) -> None:
        found = Violations()
        found.text("model.description", self.description or "")
        found.texts("model.tags", self.tags or {})
        found.check()


@dataclass(frozen=True)
class CreateVersion:
    """run: the run's id or "". datasets: digests."""

    model: str
    description: str
    tags: Mapping[str, str]
    signature: Signature | None
    run: str
    datasets: tuple[str, ...]
    source: str = ""
    copy_from: VersionRef | None = None
    external_run: str = ""
    run_link: str = ""

    def __post_init__(self) -> None:
        found = Violations()
        found.text("description", self.description)
        found.texts("tags", self.tags)
        found.text("source", self.source)
        found.text("external_run", self.external_run, validation.MAX_SHORT_TEXT)
        found.text("run_link", self.run_link)
        if self.copy_from is not None:
            for field, value in (
                ("signature", self.signature),
                ("run", self.run),
                ("datasets", self.datasets),
                ("source", self.source),
            ):
                if value:
                    found.add(field, f"is taken from {self.copy_from}; leave it out beside copy_from")
        found.count("datasets", self.datasets, validation.MAX_LINKS)
        found.unique("datasets", self.datasets)
        if self.signature is not None:
            _check_signature(found, self.signature)
        found.check()


@dataclass(frozen=True)
class UpdateVersion:
    """None: the field stays as it is."""

    ref: VersionRef
    etag: str
    description: str | None
    tags: Mapping[str, str] | None
    stage: str | None

    def __post_init__(self) -> None:
        found = Violations()
        found.text("version.description", self.description or "")
        found.texts("version.tags", self.tags or {})
        if self.stage is not None and self.stage not in STAGES:
            found.add("version.stage", f"is {self.stage!r}; expected one of {', '.join(STAGES)}")
        found.check()


@dataclass(frozen=True)
class UploadFile:
    """prefix: of the field names, "header." in an upload."""

    version: VersionRef
    file: ModelFile
    offset: int = 0
    prefix: str = "header."

    def __post_init__(self) -> None:
        found = Violations()
        found.path(f"{self.prefix}file.path", self.file.path)
        found.sha256(f"{self.prefix}file.sha256", self.file.sha256)
        found.range(f"{self.prefix}file.size_bytes", self.file.size_bytes, 0, validation.MAX_INT64)
        found.text(f"{self.prefix}file.media_type", self.file.media_type, validation.MAX_SHORT_TEXT)
        found.range(f"{self.prefix}offset", self.offset, 0, max(self.file.size_bytes, 0))
        found.check()


@dataclass(frozen=True)
class SetAlias:
    """At most one of etag, must_not_exist and expected_version is set."""

    ref: AliasRef
    version: VersionRef
    reason: str
    etag: str | None = None
    must_not_exist: bool = False
    expected_version: VersionRef | None = None

    def __post_init__(self) -> None:
        found = Violations()
        found.text("reason", self.reason, required=True)
        if self.version.model != self.ref.model:
            found.add("version", f"is of model {self.version.model!r}, the alias of {self.ref.model!r}")
        if self.expected_version is not None and self.expected_version.model != self.ref.model:
            found.add("expected_version", f"is of another model than the alias, {self.ref.model!r}")
        if self.etag == "":
            found.add("etag", "is set but empty; leave it out to move the alias whatever it points at")
        found.check()


@dataclass(frozen=True)
class ClearAlias:
    ref: AliasRef
    reason: str
    etag: str

    def __post_init__(self) -> None:
        found = Violations()
        found.text("reason", self.reason, required=True)
        found.check()


@dataclass(frozen=True)
class StartRun:
    """datasets: digests."""

    display_name: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    seed: int
    code: CodeRevision | None
    environment_digest: str
    datasets: tuple[str, ...]
    environment: Environment | None = None
    config: str = ""
    parent: str = ""
    base_versions: tuple[VersionRef, ...] = ()
    lease: timedelta | None = None

    def __post_init__(self) -> None:
        found = Violations()
        found.text("run.config", self.config, validation.MAX_DOCUMENT)
        found.count("run.base_versions", self.base_versions, validation.MAX_LINKS)
        found.unique("run.base_versions", self.base_versions)
        found.lease("lease", self.lease)
        if self.environment is not None:
            _check_environment(found, self.environment)
        found.text("run.display_name", self.display_name, validation.MAX_SHORT_TEXT)
        found.texts("run.parameters", self.parameters, entries=validation.MAX_PARAMETERS)
        found.numbers("run.metrics", self.metrics)
        found.texts("run.tags", self.tags)
        found.sha256("run.environment_digest", self.environment_digest, prefixed=True, required=False)
        found.count("run.datasets", self.datasets, validation.MAX_LINKS)
        found.unique("run.datasets", self.datasets)
        if self.code is not None:
            found.text("run.code.repository", self.code.repository, validation.MAX_PATH)
            if "@" in self.code.repository.partition("://")[2].partition("/")[0]:
                found.add("run.code.repository", "holds credentials; name the remote without them")
        found.check()


@dataclass(frozen=True)
class RenewRun:
    """run: the run's id."""

    run: str
    lease: timedelta

    def __post_init__(self) -> None:
        found = Violations()
        found.lease("lease", self.lease)
        found.check()


@dataclass(frozen=True)
class LogRun:
    """run: the run's id. datasets: digests."""

    run: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: tuple[str, ...]

    def __post_init__(self) -> None:
        found = Violations()
        found.texts("parameters", self.parameters, entries=validation.MAX_PARAMETERS)
        found.numbers("metrics", self.metrics)
        found.texts("tags", self.tags)
        found.count("datasets", self.datasets, validation.MAX_LINKS)
        found.check()


@dataclass(frozen=True)
class FinishRun:
    """run: the run's id. state None: not given, or not one a run can end in."""

    run: str
    state: RunState | None
    error: str

    def __post_init__(self) -> None:
        found = Violations()
        if self.state not in (RunState.FINISHED, RunState.FAILED):
            found.add("state", "must be FINISHED or FAILED")
        if self.error and self.state is RunState.FINISHED:
            found.add("error", "is given for a run that FINISHED; a run with an error FAILED")
        found.text("error", self.error)
        found.check()


@dataclass(frozen=True)
class RecordDataset:
    dataset: Dataset

    def __post_init__(self) -> None:
        dataset, found = self.dataset, Violations()
        found.text("dataset.display_name", dataset.display_name, validation.MAX_SHORT_TEXT)
        found.text("dataset.uri", dataset.uri)
        found.range("dataset.row_count", dataset.row_count, 0, validation.MAX_INT64)
        _check_fields(found, "dataset.schema", dataset.schema)
        found.ordered("dataset.as_of_end", dataset.as_of_start, dataset.as_of_end)
        found.sha256("dataset.entity_digest", dataset.entity_digest, required=False)
        found.count("dataset.feature_views", dataset.feature_views, validation.MAX_LINKS)
        found.unique("dataset.feature_views", dataset.feature_views)
        found.text("dataset.recipe", dataset.recipe, validation.MAX_DOCUMENT)
        known = {dataset.feature_service, *dataset.feature_views}
        for index, item in enumerate(dataset.feature_definitions):
            field = f"dataset.feature_definitions[{index}]"
            found.text(f"{field}.spec", item.spec, validation.MAX_DOCUMENT, required=True)
            if item.ref not in known:
                found.add(f"{field}.name", "is neither the dataset's feature service nor one of its views")
        found.check()


@dataclass(frozen=True)
class RecordEvaluation:
    """dataset: its digest."""

    version: VersionRef
    dataset: str
    split: str
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        found = Violations()
        found.text("evaluation.split", self.split, validation.MAX_KEY, required=True)
        found.numbers("evaluation.metrics", self.metrics)
        if not self.metrics:
            found.add("evaluation.metrics", "is empty; an evaluation has at least one metric")
        found.check()


def _check_environment(found: Violations, environment: Environment) -> None:
    found.text("run.environment.python_version", environment.python_version, validation.MAX_SHORT_TEXT)
    found.text("run.environment.platform", environment.platform, validation.MAX_SHORT_TEXT)
    found.count("run.environment.packages", environment.packages, validation.MAX_FIELDS)
    for index, package in enumerate(environment.packages[: validation.MAX_FIELDS]):
        found.text(f"run.environment.packages[{index}]", package, validation.MAX_SHORT_TEXT, required=True)


def _check_signature(found: Violations, signature: Signature) -> None:
    inputs = signature.inputs
    found.count("signature.inputs", inputs, validation.MAX_FIELDS)
    found.unique("signature.inputs", [item.name for item in inputs])
    for index, item in enumerate(inputs):
        field = f"signature.inputs[{index}]"
        found.text(f"{field}.name", item.name, validation.MAX_SHORT_TEXT, required=True)
        if not item.type:
            found.add(f"{field}.type", "is missing or unknown")
        if item.source is None:
            found.add(f"{field}.source", "is missing or unknown; say FEATURE or REQUEST")
        elif item.source is InputSource.FEATURE and not _FEATURE_REFERENCE.fullmatch(item.feature_reference):
            found.add(f"{field}.feature_reference", f"is {item.feature_reference!r}; expected view:feature")
        found.text(f"{field}.feature_reference", item.feature_reference, 2 * validation.MAX_SHORT_TEXT)
        found.unique(f"{field}.categories", item.categories)
        if any("\x00" in category for category in item.categories):
            found.add(f"{field}.categories", "has a category with a NUL character")
    size = sum(len(category) for item in inputs for category in item.categories)
    if size > validation.MAX_CATEGORY_TEXT:
        found.add("signature.inputs", f"has {size} characters of categories in all; at most "
                  f"{validation.MAX_CATEGORY_TEXT} are kept")  # fmt: skip
    _check_fields(found, "signature.outputs", signature.outputs)
    _check_fields(found, "signature.join_keys", signature.join_keys)
    _check_fields(found, "signature.request_data", signature.request_data)
    found.text("signature.feature_service", signature.feature_service, validation.MAX_SHORT_TEXT)
    found.sha256(
        "signature.feature_service_digest", signature.feature_service_digest, prefixed=True, required=False
    )


def _check_fields(found: Violations, name: str, fields: tuple[Field, ...]) -> None:
    found.count(name, fields, validation.MAX_FIELDS)
    found.unique(name, [field.name for field in fields])
    for index, field in enumerate(fields):
        found.text(f"{name}[{index}].name", field.name, validation.MAX_SHORT_TEXT, required=True)
        found.text(f"{name}[{index}].description", field.description)
        if not field.type:
            found.add(f"{name}[{index}].type", "is missing or unknown")
