"""What the use cases need from the outside: a database in transactions, and a place for bytes.

The docstrings are the contract; one suite of tests holds every backend to it. Unless said otherwise,
times are zone-aware UTC and a method sees and makes the changes of its own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from registry_service.domain import (
    Act,
    Alias,
    AliasEvent,
    AliasRef,
    CodeRevision,
    Dataset,
    Direction,
    Environment,
    Evaluation,
    FeatureDefinition,
    KeyEdge,
    Model,
    ModelFile,
    ModelVersion,
    NodeKey,
    RunState,
    Signature,
    TrainingRun,
    VersionRef,
)
from registry_service.events import AuditEvent, Head
from registry_service.filtering.search import Hit, Search
from registry_service.integrity.store import IntegrityStore
from registry_service.names import NodeName
from registry_service.ports_blobs import BlobRecords
from registry_service.ports_blobs import BlobStore as BlobStore  # given on: most look for it here
from registry_service.ports_governance import ApprovalStore, DeploymentStore, PolicyStore
from registry_service.ports_impact import ImpactStore
from registry_service.summaries import SummaryStore
from registry_service.webhooks.ports import WebhookStore

#: The present moment, zone-aware UTC.
Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Request:
    """One change asked for. fingerprint: 64 hex digits over everything asked but the id."""

    principal: str
    method: str
    request_id: str
    fingerprint: str


class RequestStore(Protocol):
    """Answers given, by request id."""

    def find(self, request: Request) -> bytes | None:
        """The answer given under the request id before, if there was one. Transactions that write take turns,
        so what is not found now is found by the next one that asks. Raises RequestIdReused when another
        request came under the id."""

    def keep(self, request: Request, reply: bytes, time: datetime) -> None:
        """Keeps the answer of a request that was not found."""

    def forget_before(self, time: datetime) -> int:
        """Removes requests claimed before a moment; returns how many."""


@dataclass(frozen=True)
class Numbered:
    """A version number that was taken. archive_time: of the model, None while it is active."""

    model_id: int
    number: int
    archive_time: datetime | None


class ModelStore(Protocol):
    """Registered models."""

    def add(self, name: str, description: str, tags: Mapping[str, str], time: datetime) -> Model:
        """Raises ModelExists, also for an archived one."""

    def get(self, name: str) -> Model:
        """With the present aliases, by name. Raises ModelNotFound."""

    def get_id(self, name: str) -> int:
        """The registry's own id of a model. Raises ModelNotFound."""

    def lock(self, name: str) -> Model:
        """As `get`, and lets no other transaction change the model, its versions or its aliases until
        this one ends. Every change below a model begins here, so changes never deadlock."""

    def search(self, search: Search, *, archived: bool, limit: int) -> list[Hit[Model]]:
        """Texts sort by code point. Archived ones only if asked for."""

    def update(
        self,
        model: Model,
        *,
        description: str,
        tags: Mapping[str, str],
        archive_time: datetime | None,
        time: datetime,
        create_time: datetime | None = None,
    ) -> Model:
        """Writes these fields and gives the model its next revision. create_time None: as it is."""

    def touch(self, model: Model, time: datetime) -> None:
        """Something of the model changed: its next revision, and when."""

    def rename(self, model: Model, name: str, time: datetime) -> Model:
        """Gives the model another name. Raises ModelExists."""

    def next_number(self, name: str, time: datetime) -> Numbered:
        """Locks the model and takes its next version number: 1, 2, 3 … without gaps or repeats, whoever asks
        at once. Raises ModelNotFound."""


class VersionStore(Protocol):
    """Model versions with their files, links and evaluations."""

    def add(
        self,
        model_id: int,
        ref: VersionRef,
        *,
        description: str,
        tags: Mapping[str, str],
        signature: Signature | None,
        run: TrainingRun | None,
        datasets: Sequence[Dataset],
        act: Act,
        source: str = "",
        external_run: str = "",
        run_link: str = "",
        copied_from: ModelVersion | None = None,
        ready: str = "",
    ) -> ModelVersion:
        """A DRAFT; with `ready`, the digest of its manifest, READY at once."""

    def get(self, ref: VersionRef) -> ModelVersion:
        """Raises ModelNotFound or VersionNotFound."""

    def search(self, search: Search, *, model_id: int | None, limit: int) -> list[Hit[ModelVersion]]:
        """Of one model, or of all."""

    def numbers(self, model: Model, *, stage: str | None = None) -> Sequence[int]:
        """In order, of the versions that are not archived; of one stage, where given."""

    def add_file(self, version: ModelVersion, file: ModelFile, time: datetime) -> None:
        """Links stored bytes to a DRAFT under a new path."""

    def finalize(self, version: ModelVersion, manifest_digest: str, time: datetime) -> ModelVersion:
        """DRAFT → READY."""

    def archive(self, version: ModelVersion, time: datetime) -> ModelVersion:
        """→ ARCHIVED."""

    def annotate(
        self, version: ModelVersion, *, description: str, tags: Mapping[str, str], stage: str, time: datetime
    ) -> ModelVersion:
        """Replaces the notes about a version; the version itself stays as it is."""

    def add_evaluation(self, version: ModelVersion, dataset: Dataset, evaluation: Evaluation) -> int:
        """Evidence about a version, and its id; the version itself stays as it is."""


class AliasStore(Protocol):
    """Aliases and their history."""

    def get(self, ref: AliasRef) -> Alias:
        """The present holder. Raises ModelNotFound, or AliasNotFound when nobody holds it."""

    def at(self, ref: AliasRef, moment: datetime) -> Alias:
        """Who held it at a moment: by the last move not after it. Raises as `get`."""

    def move(
        self,
        model: Model,
        ref: AliasRef,
        version: ModelVersion | None,
        *,
        act: Act,
        reason: str,
        restored_revision: int | None = None,
    ) -> AliasEvent:
        """Points the alias at a version, or at none, and writes the move to the history in the same
        transaction. The moves of one alias have growing revisions and never falling times.

        restored_revision: of a rollback, the move whose holder it puts back.
        """

    def history(self, model: Model, alias: str | None, *, before: int | None, limit: int) -> list[AliasEvent]:
        """Newest first, those with a sequence below `before`; of one alias or of all."""


class RunStore(Protocol):
    """Training runs."""

    def add(
        self,
        name: str,
        *,
        display_name: str,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        seed: int,
        code: CodeRevision | None,
        environment_digest: str,
        datasets: Sequence[Dataset],
        act: Act,
        environment: Environment | None = None,
        config: str = "",
        parent: TrainingRun | None = None,
        base_versions: Sequence[ModelVersion] = (),
        lease_expire_time: datetime | None = None,
    ) -> TrainingRun:
        """A RUNNING run."""

    def get(self, name: str) -> TrainingRun:
        """Raises RunNotFound."""

    def lock(self, name: str) -> TrainingRun:
        """As `get`, and lets no other transaction change it until this one ends."""

    def search(self, search: Search, limit: int) -> list[Hit[TrainingRun]]:
        """Those that match, in the order asked for."""

    def log(
        self,
        run: TrainingRun,
        *,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        datasets: Sequence[Dataset],
    ) -> TrainingRun:
        """Replaces the maps by these; adds the datasets that are new."""

    def renew(self, run: TrainingRun, lease_expire_time: datetime | None) -> TrainingRun:
        """Another end of the lease."""

    def expired(self, moment: datetime, limit: int) -> Sequence[str]:
        """Names of RUNNING runs whose lease ended by a moment."""

    def finish(self, run: TrainingRun, state: RunState, error: str, time: datetime) -> TrainingRun:
        """RUNNING → FINISHED or FAILED."""


class DatasetStore(Protocol):
    """Dataset snapshots and the feature definitions they were read through."""

    def add(self, dataset: Dataset, act: Act) -> tuple[Dataset, bool]:
        """Records a snapshot, its feature definitions and their links, and True; or returns the first record
        and False when the digest is known, also when another transaction records it at the same time."""

    def unknown_definitions(self, definitions: Sequence[FeatureDefinition]) -> list[FeatureDefinition]:
        """Those whose text is not kept yet, one for each digest."""

    def get(self, digest: str) -> Dataset:
        """Raises DatasetNotFound."""

    def get_all(self, digests: Sequence[str]) -> list[Dataset]:
        """In the order asked for. Raises DatasetNotFound for the first that is missing."""

    def search(self, search: Search, limit: int) -> list[Hit[Dataset]]:
        """Those that match, in the order asked for."""


class LineageStore(Protocol):
    """The graph the rows of the other stores form."""

    def find(self, node: NodeName) -> NodeKey | None:
        """The node of that name; None when nobody recorded it."""

    def edges(self, nodes: Iterable[NodeKey], direction: Direction) -> list[KeyEdge]:
        """Every edge from these nodes in a direction: to what they came from, or to what came from them."""

    def describe(self, nodes: Iterable[NodeKey]) -> Mapping[NodeKey, tuple[str, str]]:
        """The resource name of each, and a label for people."""


class AuditStore(Protocol):
    """The chain of events. Transactions that write events take turns, so that their order is one."""

    def head(self) -> Head:
        """The end of the chain, with what this transaction added. In a writing transaction, nobody else adds
        to it until this one ends."""

    def append(self, event: AuditEvent) -> None:
        """Adds the next event: that of sequence head + 1."""

    def events(
        self, *, after: int, limit: int, kinds: Sequence[str] = (), model: str = ""
    ) -> Sequence[AuditEvent]:
        """In order, those with a sequence above `after`; of some kinds, of one model, where given."""

    def search(self, search: Search, limit: int) -> Sequence[Hit[AuditEvent]]:
        """A page of events; ids are sequences."""

    def hash_at(self, sequence: int) -> str | None:
        """The hash of an event; None when there is none of that sequence."""


@dataclass(frozen=True)
class Changed:
    """Events up to `sequence` were about these models, by id; None: about too many to tell."""

    sequence: int
    models: frozenset[int] | None


class Freshness(Protocol):
    """Tells cheaply what was committed since, by whatever process. One caller at a time."""

    @property
    def waits(self) -> bool:
        """Whether looking takes so long that it belongs on a thread."""

    def look(self, known: int) -> Changed | None:
        """What the events above `known` are about, of all that were committed before the call; None when the
        database gives no answer."""

    def close(self) -> None:
        """Lets go of the database."""


class Transaction(Protocol):
    """The stores as one transaction sees them."""

    @property
    def requests(self) -> RequestStore: ...
    @property
    def models(self) -> ModelStore: ...
    @property
    def versions(self) -> VersionStore: ...
    @property
    def summaries(self) -> SummaryStore: ...
    @property
    def blobs(self) -> BlobRecords: ...
    @property
    def aliases(self) -> AliasStore: ...
    @property
    def runs(self) -> RunStore: ...
    @property
    def datasets(self) -> DatasetStore: ...
    @property
    def policies(self) -> PolicyStore: ...
    @property
    def approvals(self) -> ApprovalStore: ...
    @property
    def deployments(self) -> DeploymentStore: ...
    @property
    def lineage(self) -> LineageStore: ...
    @property
    def impact(self) -> ImpactStore: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def webhooks(self) -> WebhookStore: ...
    @property
    def integrity(self) -> IntegrityStore: ...


class Database(Protocol):
    """Opens transactions. Both kinds raise DatabaseUnavailable when the database cannot be reached, is
    too busy, or gave the transaction up; then nothing was changed."""

    def read(self) -> AbstractContextManager[Transaction]:
        """One unchanging state of everything."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Commits at the end of the block; an error inside it undoes everything."""
