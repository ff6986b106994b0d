"""What a node reaches, in SQL: one indexed query for each relation and ring of nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVarTuple

from sqlalchemy import (
    ColumnElement,
    Result,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from registry_service.domain import (
    AliasRef,
    DefinitionRef,
    Deployment,
    NodeKey,
    NodeKind,
    VersionRef,
    VersionState,
)
from registry_service.names import NodeName
from registry_service.ports_impact import ReachedVersion
from registry_service.repository.common import among, as_list
from registry_service.repository.deployments import to_deployment
from registry_service.repository.lineage import SqlLineage
from registry_service.repository.relations import RELATIONS
from registry_service.tables import (
    AliasRow,
    CodeRow,
    DeploymentRow,
    FeatureServiceRow,
    FeatureViewRow,
    ModelRow,
    VersionRow,
)

Columns = TypeVarTuple("Columns")

#: The shortest beginning of a commit that names it.
_COMMIT_PREFIX = 7

#: Of a version, besides those that run.
_ENDED_DEPLOYMENTS = 100

# Nothing comes from these: they are told of with their versions.
_ENDS = (NodeKind.ALIAS, NodeKind.DEPLOYMENT)
_STEPS = tuple(relation for relation in RELATIONS if relation.downstream not in _ENDS)


class SqlImpact:
    """`ports.ImpactStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._dialect = session.get_bind().dialect.name

    def starts(self, node: NodeName) -> list[NodeKey]:
        kind, name = node
        match name:
            case DefinitionRef(digest=""):
                table = FeatureServiceRow if kind is NodeKind.FEATURE_SERVICE else FeatureViewRow
                statement = select(table.id).where(table.project == name.project, table.name == name.name)
                return self._keys(kind, statement)
            case AliasRef():
                holder = (
                    select(AliasRow.version_id)
                    .join(ModelRow, ModelRow.id == AliasRow.model_id)
                    .where(ModelRow.name == name.model, AliasRow.name == name.alias)
                    .where(AliasRow.version_id.is_not(None))
                )
                return self._keys(NodeKind.MODEL_VERSION, holder)
        found = SqlLineage(self._session).find(node)
        if found is not None:
            return [found]
        if kind is NodeKind.CODE_REVISION and isinstance(name, str) and len(name) >= _COMMIT_PREFIX:
            prefixed = select(CodeRow.id).where(CodeRow.commit_id.startswith(name, autoescape=True))
            return self._keys(kind, prefixed)
        return []

    def steps(self, nodes: Sequence[NodeKey]) -> list[tuple[NodeKey, NodeKey]]:
        ids: defaultdict[NodeKind, list[int]] = defaultdict(list)
        for node in nodes:
            ids[node.kind].append(node.id)
        found: list[tuple[NodeKey, NodeKey]] = []
        for relation in _STEPS:
            if relation.upstream not in ids:
                continue
            statement = select(relation.upstream_id, relation.downstream_id).where(
                self._among(relation.upstream_id)
            )
            if relation.condition is not None:
                statement = statement.where(relation.condition)
            up, down = relation.upstream, relation.downstream
            found += [
                (NodeKey(up, up_id), NodeKey(down, down_id))
                for up_id, down_id in self._run(statement, ids[relation.upstream])
            ]
        return found

    def versions(
        self,
        ids: Sequence[int],
        *,
        live_at: datetime | None,
        after: tuple[str, int] | None,
        limit: int,
    ) -> list[ReachedVersion]:
        statement = (
            select(VersionRow.id, ModelRow.name, VersionRow.number, VersionRow.state)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(self._among(VersionRow.id))
            .order_by(ModelRow.name, VersionRow.number.desc())
            .limit(limit)
        )
        if after is not None:
            model, number = after
            same = and_(ModelRow.name == model, VersionRow.number < number)
            statement = statement.where(or_(ModelRow.name > model, same))
        if live_at is not None:
            held = exists().where(AliasRow.version_id == VersionRow.id)
            runs = exists().where(DeploymentRow.version_id == VersionRow.id, _live(live_at))
            statement = statement.where(or_(held, runs))
        return [
            ReachedVersion(version_id, VersionRef(model, number), VersionState(state))
            for version_id, model, number, state in self._run(statement, ids)
        ]

    def aliases(self, ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
        found: defaultdict[int, list[str]] = defaultdict(list)
        statement = (
            select(AliasRow.version_id, AliasRow.name)
            .where(self._among(AliasRow.version_id))
            .order_by(AliasRow.name)
        )
        for version_id, name in self._run(statement, ids):
            if version_id is not None:
                found[version_id].append(name)
        return found

    def deployments(
        self, ids: Sequence[int], *, live_at: datetime | None
    ) -> Mapping[int, Sequence[Deployment]]:
        ended = DeploymentRow.end_time.is_not(None)
        place = func.row_number().over(
            partition_by=(DeploymentRow.version_id, ended), order_by=DeploymentRow.id.desc()
        )
        ranked = select(DeploymentRow.id, place.label("place")).where(self._among(DeploymentRow.version_id))
        if live_at is not None:
            ranked = ranked.where(_live(live_at))
        newest = ranked.subquery()
        statement = (
            select(DeploymentRow, ModelRow.name, VersionRow.number)
            .join(newest, newest.c.id == DeploymentRow.id)
            .join(VersionRow, VersionRow.id == DeploymentRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(or_(DeploymentRow.end_time.is_(None), newest.c.place <= _ENDED_DEPLOYMENTS))
            .order_by(DeploymentRow.id.desc())
        )
        found: defaultdict[int, list[Deployment]] = defaultdict(list)
        for row, model, number in self._run(statement, ids):
            found[row.version_id].append(to_deployment(row, VersionRef(model, number)))
        return found

    def _keys(self, kind: NodeKind, statement: Select[Any]) -> list[NodeKey]:
        return [NodeKey(kind, node_id) for node_id in sorted(self._session.scalars(statement))]

    def _among(self, column: Any) -> ColumnElement[bool]:
        """That a column is one of the ids a statement is run for."""
        return among(self._dialect, column, "ids")

    def _run(self, statement: Select[*Columns], ids: Sequence[int]) -> Result[*Columns]:
        return self._session.execute(statement, {"ids": as_list(self._dialect, list(ids))})


def _live(moment: datetime) -> ColumnElement[bool]:
    return and_(
        DeploymentRow.end_time.is_(None),
        or_(DeploymentRow.lease_expire_time.is_(None), DeploymentRow.lease_expire_time > moment),
    )
