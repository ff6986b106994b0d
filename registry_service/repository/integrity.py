"""What a verification reads, in SQL."""

from __future__ import annotations

import builtins
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Select, func, or_, select, tuple_, type_coerce
from sqlalchemy.orm import aliased

from registry_service.domain import VersionRef
from registry_service.events import Head, Kind
from registry_service.integrity.store import (
    Move,
    StoredBlob,
    StoredEvent,
    Vouched,
)
from registry_service.repository import consistency
from registry_service.repository.stored import UNREADABLE, SqlRecords
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

T = TypeVar("T")

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


class SqlIntegrity(SqlRecords):
    """`registry_service.integrity.store.IntegrityStore`."""

    def head(self) -> Head | None:
        row = self._session.execute(
            select(AuditHeadRow.sequence, AuditHeadRow.hash).where(AuditHeadRow.id == 1)
        ).first()
        return None if row is None else Head(*row)

    def events(self, *, after: int, limit: int) -> Sequence[StoredEvent]:
        # SQLite has the number itself, which may be of no moment at all.
        time = type_coerce(AuditEventRow.time, BigInteger()) if self._sqlite else AuditEventRow.time
        here = select(AuditEventRow.sequence).where(AuditEventRow.sequence > after)
        here = here.order_by(AuditEventRow.sequence).limit(limit)
        try:
            return self._events(time, here)
        except UNREADABLE:
            found = []
            for sequence in self._session.scalars(here).all():
                one = select(AuditEventRow.sequence).where(AuditEventRow.sequence == sequence)
                try:
                    found += self._events(time, one)
                except UNREADABLE:
                    found += self._events(type_coerce(None, BigInteger()), one)
            return found

    def _events(self, time: Any, sequences: Select[int]) -> builtins.list[StoredEvent]:
        columns = [getattr(AuditEventRow, name) for name in _EVENT]
        statement = select(AuditEventRow.sequence, time, *columns).order_by(AuditEventRow.sequence)
        found = self._session.execute(statement.where(AuditEventRow.sequence.in_(sequences)))
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
                row.restored_revision,
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


def _micros(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return UtcMicros.micros(value)
