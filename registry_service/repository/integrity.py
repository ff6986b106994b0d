"""What a verification reads, in SQL."""

from __future__ import annotations

import builtins
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import BigInteger, exc, func, or_, select, tuple_, type_coerce
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from registry_service.domain import Dataset, Evaluation, Model, ModelVersion, TrainingRun, VersionRef
from registry_service.events import Head, Kind
from registry_service.integrity.store import (
    Move,
    StoredAlias,
    StoredBlob,
    StoredEvaluation,
    StoredEvent,
    Unreadable,
    Vouched,
)
from registry_service.repository import consistency
from registry_service.repository.datasets import SqlDatasets
from registry_service.repository.models import SqlModels
from registry_service.repository.runs import SqlRuns
from registry_service.repository.version_rows import to_versions, version_rows
from registry_service.repository.webhooks import SqlWebhooks
from registry_service.tables import (
    AliasEventRow,
    AliasRow,
    ApprovalRow,
    AuditEventRow,
    AuditHeadRow,
    BlobRow,
    DatasetRow,
    DeploymentRow,
    EvaluationRow,
    FeatureSpecRow,
    FileRow,
    ModelRow,
    PolicyRow,
    RunRow,
    UtcMicros,
    VersionMetricRow,
    VersionRow,
    WebhookRow,
)
from registry_service.webhooks.domain import Webhook

T = TypeVar("T")

# What reading a row may raise whose cells hold what the registry never writes.
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    exc.DataError,
    exc.StatementError,
)
_TABLES: Mapping[Kind, Any] = {
    Kind.MODEL: ModelRow,
    Kind.VERSION: VersionRow,
    Kind.ALIAS: AliasRow,
    Kind.RUN: RunRow,
    Kind.DATASET: DatasetRow,
    Kind.EVALUATION: EvaluationRow,
    Kind.POLICY: PolicyRow,
    Kind.APPROVAL: ApprovalRow,
    Kind.DEPLOYMENT: DeploymentRow,
    Kind.WEBHOOK: WebhookRow,
}
_OF_VERSION = (Kind.EVALUATION, Kind.APPROVAL, Kind.DEPLOYMENT)
_From, _To = aliased(VersionRow), aliased(VersionRow)


class SqlIntegrity:
    """`registry_service.integrity.store.IntegrityStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def head(self) -> Head | None:
        row = self._session.execute(select(AuditHeadRow.sequence, AuditHeadRow.hash)).first()
        return None if row is None else Head(*row)

    def events(self, *, after: int, limit: int) -> Sequence[StoredEvent]:
        columns = [
            AuditEventRow.sequence,
            # SQLite has the number itself, which may be of no moment at all.
            type_coerce(AuditEventRow.time, BigInteger()) if self._sqlite else AuditEventRow.time,
            *(getattr(AuditEventRow, name) for name in _EVENT),
        ]
        statement = select(*columns).where(AuditEventRow.sequence > after).order_by(AuditEventRow.sequence)
        try:
            found = list(self._session.execute(statement.limit(limit)))
        except _UNREADABLE:
            columns[1] = type_coerce(None, BigInteger())
            found = list(
                self._session.execute(
                    select(*columns)
                    .where(AuditEventRow.sequence > after)
                    .order_by(AuditEventRow.sequence)
                    .limit(1)
                )
            )
        return [StoredEvent(row[0], _micros(row[1]), *row[2:]) for row in found]

    def owners(self, kind: Kind, ids: Sequence[int]) -> Mapping[int, int | None]:
        table = _TABLES[kind]
        if kind in (Kind.RUN, Kind.DATASET):
            return dict.fromkeys(self._session.scalars(select(table.id).where(table.id.in_(ids))))
        if kind is Kind.MODEL:
            return {
                found: found for found in self._session.scalars(select(table.id).where(table.id.in_(ids)))
            }
        if kind in _OF_VERSION:
            statement = select(table.id, VersionRow.model_id).join(
                VersionRow, VersionRow.id == table.version_id
            )
        else:
            statement = select(table.id, table.model_id)
        return dict(self._session.execute(statement.where(table.id.in_(ids))).all())

    def moves(self, keys: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], Move]:
        statement = (
            select(AliasEventRow, _From.model_id, _From.number, _To.model_id, _To.number)
            .outerjoin(_From, _From.id == AliasEventRow.from_version_id)
            .outerjoin(_To, _To.id == AliasEventRow.to_version_id)
            .where(tuple_(AliasEventRow.alias_id, AliasEventRow.revision).in_(keys))
        )
        found: dict[tuple[int, int], Move] = {}
        for row, from_model, from_number, to_model, to_number in self._session.execute(statement):
            found[row.alias_id, row.revision] = Move(
                row.alias_id,
                row.revision,
                row.model_id,
                None if row.from_version_id is None else (from_model, from_number),
                None if row.to_version_id is None else (to_model, to_number),
                row.actor,
                row.reason,
                row.time,
            )
        return found

    def definitions(self, digests: Sequence[str]) -> Mapping[str, str]:
        statement = select(FeatureSpecRow.digest, FeatureSpecRow.spec).where(
            FeatureSpecRow.digest.in_(digests)
        )
        return {
            digest: hashlib.sha256(spec.encode()).hexdigest()
            for digest, spec in self._session.execute(statement)
        }

    def definition_count(self) -> int:
        return self._session.scalar(select(func.count()).select_from(FeatureSpecRow)) or 0

    def record_count(self, kinds: Sequence[Kind]) -> int:
        return sum(
            self._session.scalar(select(func.count()).select_from(_TABLES[kind])) or 0 for kind in kinds
        )

    def vouched(self, kind: Kind, *, after: int, limit: int) -> Sequence[Vouched]:
        last = (
            select(func.max(AuditEventRow.sequence).label("sequence"))
            .where(
                AuditEventRow.kind == kind.value,
                or_(AuditEventRow.state_digest != "", AuditEventRow.action == "DeleteWebhook"),
                AuditEventRow.node_id > after,
            )
            .group_by(AuditEventRow.node_id)
            .order_by(AuditEventRow.node_id)
            .limit(limit)
            .subquery()
        )
        statement = (
            select(
                AuditEventRow.node_id,
                AuditEventRow.sequence,
                AuditEventRow.resource,
                AuditEventRow.state_digest,
            )
            .join(last, last.c.sequence == AuditEventRow.sequence)
            .order_by(AuditEventRow.node_id)
        )
        return [Vouched(*row) for row in self._session.execute(statement)]

    def models(self, *, after: int, limit: int) -> Sequence[Model | Unreadable]:
        return self._batch(ModelRow.id, _Models(self._session).by_id, after, limit)

    def versions(self, *, after: int, limit: int) -> Sequence[ModelVersion | Unreadable]:
        return self._batch(VersionRow.id, partial(_versions_by_id, self._session), after, limit)

    def aliases(self, *, after: int, limit: int) -> Sequence[StoredAlias | Unreadable]:
        return self._batch(AliasRow.id, self._aliases, after, limit)

    def runs(self, *, after: int, limit: int) -> Sequence[TrainingRun | Unreadable]:
        return self._batch(RunRow.id, _Runs(self._session).by_id, after, limit)

    def datasets(self, *, after: int, limit: int) -> Sequence[Dataset | Unreadable]:
        return self._batch(DatasetRow.id, _Datasets(self._session).by_id, after, limit)

    def evaluations(self, *, after: int, limit: int) -> Sequence[StoredEvaluation | Unreadable]:
        return self._batch(EvaluationRow.id, self._evaluations, after, limit)

    def webhooks(self, *, after: int, limit: int) -> Sequence[Webhook | Unreadable]:
        return self._batch(WebhookRow.id, _Webhooks(self._session).by_id, after, limit)

    def metrics(self, version_ids: Sequence[int]) -> Mapping[int, Mapping[str, float]]:
        found: defaultdict[int, dict[str, float]] = defaultdict(dict)
        statement = select(VersionMetricRow).where(VersionMetricRow.version_id.in_(version_ids))
        for row in self._session.scalars(statement):
            found[row.version_id][row.name] = row.value
        return found

    def disagreements(self, kind: Kind, ids: Sequence[int]) -> Sequence[tuple[int, str]]:
        return consistency.disagreements(self._session, kind, ids)

    def unexplained_moves(self, alias_ids: Sequence[int], before: int) -> Sequence[tuple[int, int, int]]:
        return consistency.unexplained_moves(self._session, alias_ids, before)

    def strays(self, limit: int) -> Sequence[tuple[str, str]]:
        return consistency.strays(self._session, limit)

    def blob_totals(self) -> tuple[int, int]:
        statement = select(func.count(), func.coalesce(func.sum(BlobRow.size_bytes), 0)).where(_REFERRED)
        count, size = self._session.execute(statement).one()
        return count, int(size)

    def blobs(self, *, after: str, limit: int) -> Sequence[StoredBlob]:
        statement = (
            select(BlobRow.sha256, BlobRow.size_bytes)
            .where(_REFERRED, BlobRow.sha256 > after)
            .order_by(BlobRow.sha256)
            .limit(limit)
        )
        return [StoredBlob(*row) for row in self._session.execute(statement)]

    def blob_users(self, sha256: str, limit: int) -> Sequence[str]:
        statement = (
            select(ModelRow.name, VersionRow.number, FileRow.path)
            .join(VersionRow, VersionRow.id == FileRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(FileRow.sha256 == sha256)
            .order_by(FileRow.version_id, FileRow.path)
            .limit(limit)
        )
        return [
            f"{VersionRef(model, number)} {path!r}"
            for model, number, path in self._session.execute(statement)
        ]

    @property
    def _sqlite(self) -> bool:
        return self._session.get_bind().dialect.name == "sqlite"

    def _batch(
        self,
        column: InstrumentedAttribute[int],
        load: Callable[[Sequence[int]], Mapping[int, T]],
        after: int,
        limit: int,
    ) -> builtins.list[T | Unreadable]:
        """One by one where the whole batch cannot be read, or not all of it."""
        ids = list(self._session.scalars(select(column).where(column > after).order_by(column).limit(limit)))
        try:
            found = load(ids) if ids else {}
        except _UNREADABLE:
            found = {}
        return [found[i] if i in found else self._one(load, i) for i in ids]

    def _one(self, load: Callable[[Sequence[int]], Mapping[int, T]], row_id: int) -> T | Unreadable:
        try:
            found = load([row_id])
        except _UNREADABLE as error:
            return Unreadable(row_id, f"{type(error).__name__} ({' '.join(str(error).split())[:200]})")
        return found[row_id] if row_id in found else Unreadable(row_id, "rows it is made of are gone")

    def _aliases(self, ids: Sequence[int]) -> Mapping[int, StoredAlias]:
        statement = (
            select(AliasRow, ModelRow.name, VersionRow)
            .join(ModelRow, ModelRow.id == AliasRow.model_id)
            .outerjoin(VersionRow, VersionRow.id == AliasRow.version_id)
            .where(AliasRow.id.in_(ids))
        )
        found: dict[int, StoredAlias] = {}
        for row, model, version in self._session.execute(statement):
            number = None
            if row.version_id is not None:
                # Never a number of another model's version.
                number = _own_number(version, row)
            found[row.id] = StoredAlias(row.id, row.model_id, model, row.name, number, row.revision)
        return found

    def _evaluations(self, ids: Sequence[int]) -> Mapping[int, StoredEvaluation]:
        statement = (
            select(EvaluationRow, DatasetRow.digest, VersionRow.model_id, VersionRow.number, ModelRow.name)
            .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
            .join(VersionRow, VersionRow.id == EvaluationRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(EvaluationRow.id.in_(ids))
        )
        found: dict[int, StoredEvaluation] = {}
        for row, digest, model_id, number, model in self._session.execute(statement):
            metrics = {name: float(value) for name, value in row.metrics.items()}
            evaluation = Evaluation(digest, row.split, metrics, row.create_time, row.actor)
            found[row.id] = StoredEvaluation(row.id, model_id, model, number, evaluation)
        return found


class _Models(SqlModels):
    def by_id(self, ids: Sequence[int]) -> Mapping[int, Model]:
        rows = self._session.scalars(select(ModelRow).where(ModelRow.id.in_(ids))).all()
        return {model.id: model for model in self._models(rows)}


class _Runs(SqlRuns):
    def by_id(self, ids: Sequence[int]) -> Mapping[int, TrainingRun]:
        rows = self._session.scalars(select(RunRow).where(RunRow.id.in_(ids))).all()
        return {run.id: run for run in self._runs(rows)}


class _Datasets(SqlDatasets):
    def by_id(self, ids: Sequence[int]) -> Mapping[int, Dataset]:
        rows = self._session.scalars(select(DatasetRow).where(DatasetRow.id.in_(ids))).all()
        return {dataset.id: dataset for dataset in self._datasets(rows)}


class _Webhooks(SqlWebhooks):
    def by_id(self, ids: Sequence[int]) -> Mapping[int, Webhook]:
        statement = (
            select(WebhookRow, ModelRow.name)
            .outerjoin(ModelRow, ModelRow.id == WebhookRow.model_id)
            .where(WebhookRow.id.in_(ids))
        )
        return {webhook.id: webhook for webhook in self._find(statement)}


_EVENT = (
    "actor",
    "action",
    "kind",
    "node_id",
    "model_id",
    "resource",
    "details",
    "state_digest",
    "request_id",
    "previous_hash",
    "hash",
)
_REFERRED = select(FileRow.sha256).where(FileRow.sha256 == BlobRow.sha256).exists()


def _own_number(version: VersionRow | None, alias: AliasRow) -> int:
    return -1 if version is None or version.model_id != alias.model_id else version.number


def _micros(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return UtcMicros.micros(value)


def _versions_by_id(session: Session, ids: Sequence[int]) -> Mapping[int, ModelVersion]:
    rows = session.execute(version_rows().where(VersionRow.id.in_(ids))).all()
    return {version.id: version for version in to_versions(session, rows)}
