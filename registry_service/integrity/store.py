"""What a verification reads: everything as it is stored, in order, in parts that fit into memory.

Methods that take `after` and `limit` give what comes behind it, in order, at most so many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from registry_service.domain import Dataset, Deployment, Evaluation, Model, ModelVersion, TrainingRun
from registry_service.events import Head, Kind
from registry_service.governance import Approval, Policy
from registry_service.webhooks.domain import Webhook


@dataclass(frozen=True)
class StoredEvent:
    """An event as its row has it, however wrong. micros: since 1970; None when the row has no such moment."""

    sequence: int
    micros: int | None
    actor: str
    action: str
    kind: str
    node_id: int
    model_id: int | None
    resource: str
    details: str
    state_digest: str
    request_id: str
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class Vouched:
    """The last state of a record that an event tells of; the digest "" says that it was deleted."""

    id: int
    sequence: int
    resource: str
    state_digest: str


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot even be read; why, for people."""

    id: int
    problem: str


@dataclass(frozen=True)
class StoredAlias:
    """number: of the version it points at; None for none."""

    id: int
    model_id: int
    model: str
    name: str
    number: int | None
    revision: int


@dataclass(frozen=True)
class StoredEvaluation:
    """number: of the version it is about."""

    id: int
    model_id: int
    model: str
    number: int
    evaluation: Evaluation


@dataclass(frozen=True)
class StoredApproval:
    """number: of the version it is about."""

    id: int
    model_id: int
    model: str
    number: int
    approval: Approval


@dataclass(frozen=True)
class StoredDeployment:
    """With the id of the model it is of."""

    id: int
    model_id: int
    deployment: Deployment


@dataclass(frozen=True)
class Move:
    """A row of an alias' history. Versions as (model id, number)."""

    alias_id: int
    revision: int
    model_id: int
    origin: tuple[int, int] | None
    target: tuple[int, int] | None
    actor: str
    reason: str
    time: datetime
    restored_revision: int | None


@dataclass(frozen=True)
class StoredBlob:
    """sha256 and size as recorded."""

    sha256: str
    size_bytes: int


class IntegrityStore(Protocol):
    """Reads only."""

    def head(self) -> Head | None:
        """Where the chain ends, as recorded; None when nothing is recorded."""

    def events(self, *, after: int, limit: int) -> Sequence[StoredEvent]: ...

    def owners(self, kind: Kind, ids: Sequence[int]) -> Mapping[int, int | None]:
        """The ids of the models that records of a kind are of, as the records say."""

    def moves(self, keys: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], Move]:
        """Rows of the history, by alias id and revision, as far as there are any."""

    def definitions(self, digests: Sequence[str]) -> Mapping[str, str]:
        """The sha256 of the texts kept of definitions, by their digests, as far as there are any."""

    def definition_count(self) -> int:
        """How many texts of definitions are kept."""

    def record_count(self, kinds: Sequence[Kind]) -> int:
        """How many records of these kinds there are."""

    def vouched(self, kind: Kind, *, after: int, limit: int) -> Sequence[Vouched]:
        """By id: the last event of each record that tells of its state, or of its deletion."""

    def models(self, *, after: int, limit: int) -> Sequence[Model | Unreadable]: ...

    def versions(self, *, after: int, limit: int) -> Sequence[ModelVersion | Unreadable]: ...

    def aliases(self, *, after: int, limit: int) -> Sequence[StoredAlias | Unreadable]: ...

    def runs(self, *, after: int, limit: int) -> Sequence[TrainingRun | Unreadable]: ...

    def datasets(self, *, after: int, limit: int) -> Sequence[Dataset | Unreadable]: ...

    def evaluations(self, *, after: int, limit: int) -> Sequence[StoredEvaluation | Unreadable]: ...

    def policies(self, *, after: int, limit: int) -> Sequence[Policy | Unreadable]: ...

    def approvals(self, *, after: int, limit: int) -> Sequence[StoredApproval | Unreadable]: ...

    def deployments(self, *, after: int, limit: int) -> Sequence[StoredDeployment | Unreadable]: ...

    def webhooks(self, *, after: int, limit: int) -> Sequence[Webhook | Unreadable]: ...

    def metrics(self, version_ids: Sequence[int]) -> Mapping[int, Mapping[str, float]]:
        """The last metrics kept for searching, by version."""

    def disagreements(self, kind: Kind, ids: Sequence[int]) -> Sequence[tuple[int, str]]:
        """Where rows about these records contradict one another: id and what is wrong."""

    def unexplained_moves(self, alias_ids: Sequence[int], before: int) -> Sequence[tuple[int, int, int]]:
        """Aliases that have another number of moves than events: alias id, moves, events. Moves with an id up
        to `before` have none."""

    def strays(self, limit: int) -> Sequence[tuple[str, str]]:
        """Rows that belong to no record: resource, and what is wrong."""

    def blob_totals(self) -> tuple[int, int]:
        """How many blobs versions refer to, and their bytes."""

    def blobs(self, *, after: str, limit: int) -> Sequence[StoredBlob]:
        """Blobs that versions refer to, by sha256."""

    def blob_users(self, sha256: str, limit: int) -> Sequence[str]:
        """Versions and paths of the files with this content; none for a blob nobody refers to."""
