"""Records as they are stored, by their ids, however damaged some may be."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import exc, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry_service.domain import Dataset, Evaluation, Model, ModelVersion, TrainingRun, VersionRef
from registry_service.governance import Policy
from registry_service.integrity.store import (
    StoredAlias,
    StoredApproval,
    StoredDeployment,
    StoredEvaluation,
    Unreadable,
)
from registry_service.repository.datasets import SqlDatasets
from registry_service.repository.deployments import to_deployment
from registry_service.repository.governance import to_approval, to_policy
from registry_service.repository.models import SqlModels
from registry_service.repository.runs import SqlRuns
from registry_service.repository.version_rows import to_versions, version_rows
from registry_service.repository.webhooks import SqlWebhooks
from registry_service.tables import (
    AliasRow,
    ApprovalRow,
    DatasetRow,
    DeploymentRow,
    EvaluationRow,
    ModelRow,
    PolicyRow,
    RunRow,
    VersionRow,
    WebhookRow,
)
from registry_service.webhooks.domain import Webhook

T = TypeVar("T")

# What reading a row may raise whose cells hold what the registry never writes.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    exc.DataError,
    exc.StatementError,
)


class SqlRecords:
    """The records of `registry_service.integrity.store.IntegrityStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

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

    def policies(self, *, after: int, limit: int) -> Sequence[Policy | Unreadable]:
        return self._batch(PolicyRow.id, self._policies, after, limit)

    def approvals(self, *, after: int, limit: int) -> Sequence[StoredApproval | Unreadable]:
        return self._batch(ApprovalRow.id, self._approvals, after, limit)

    def deployments(self, *, after: int, limit: int) -> Sequence[StoredDeployment | Unreadable]:
        return self._batch(DeploymentRow.id, self._deployments, after, limit)

    def webhooks(self, *, after: int, limit: int) -> Sequence[Webhook | Unreadable]:
        return self._batch(WebhookRow.id, _Webhooks(self._session).by_id, after, limit)

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
        except UNREADABLE:
            found = {}
        return [found[i] if i in found else self._one(load, i) for i in ids]

    def _one(self, load: Callable[[Sequence[int]], Mapping[int, T]], row_id: int) -> T | Unreadable:
        try:
            found = load([row_id])
        except UNREADABLE as error:
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

    def _policies(self, ids: Sequence[int]) -> Mapping[int, Policy]:
        statement = (
            select(PolicyRow, ModelRow.name)
            .join(ModelRow, ModelRow.id == PolicyRow.model_id)
            .where(PolicyRow.id.in_(ids))
        )
        return {row.id: to_policy(row, model) for row, model in self._session.execute(statement)}

    def _approvals(self, ids: Sequence[int]) -> Mapping[int, StoredApproval]:
        statement = (
            select(ApprovalRow, VersionRow.model_id, ModelRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.id == ApprovalRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(ApprovalRow.id.in_(ids))
        )
        return {
            row.id: StoredApproval(row.id, model_id, model, number, to_approval(row))
            for row, model_id, model, number in self._session.execute(statement)
        }

    def _deployments(self, ids: Sequence[int]) -> Mapping[int, StoredDeployment]:
        statement = (
            select(DeploymentRow, VersionRow.model_id, ModelRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.id == DeploymentRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(DeploymentRow.id.in_(ids))
        )
        return {
            row.id: StoredDeployment(row.id, model_id, to_deployment(row, VersionRef(model, number)))
            for row, model_id, model, number in self._session.execute(statement)
        }


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


def _own_number(version: VersionRow | None, alias: AliasRow) -> int:
    return -1 if version is None or version.model_id != alias.model_id else version.number


def _versions_by_id(session: Session, ids: Sequence[int]) -> Mapping[int, ModelVersion]:
    rows = session.execute(version_rows().where(VersionRow.id.in_(ids))).all()
    return {version.id: version for version in to_versions(session, rows)}
