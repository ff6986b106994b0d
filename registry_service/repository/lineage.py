"""The lineage graph in SQL: a union over the relations, asked for one ring of nodes at a time.

Each relation is one indexed query by the ids on one side, so a step costs what the ring has
edges, not what the registry has rows. The walk itself (breadth first, each node once) is the use case's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import literal, select, union_all
from sqlalchemy.orm import Session

from registry_service.domain import (
    AliasRef,
    DefinitionRef,
    Direction,
    KeyEdge,
    NodeKey,
    NodeKind,
    VersionRef,
)
from registry_service.names import NodeName
from registry_service.repository.common import chunks
from registry_service.repository.relations import RELATIONS, Column
from registry_service.tables import (
    AliasRow,
    CodeRow,
    DatasetRow,
    DeploymentRow,
    FeatureServiceRow,
    FeatureViewRow,
    ModelRow,
    RunRow,
    VersionRow,
)


class SqlLineage:
    """`ports.LineageStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, node: NodeName) -> NodeKey | None:
        kind, name = node
        statement = select(_TABLES[kind].id)
        match name:
            case VersionRef():
                statement = statement.join(ModelRow, ModelRow.id == VersionRow.model_id).where(
                    ModelRow.name == name.model, VersionRow.number == name.number
                )
            case AliasRef():
                statement = statement.join(ModelRow, ModelRow.id == AliasRow.model_id).where(
                    ModelRow.name == name.model, AliasRow.name == name.alias, AliasRow.version_id.is_not(None)
                )
            case DefinitionRef():
                table = FeatureServiceRow if kind is NodeKind.FEATURE_SERVICE else FeatureViewRow
                statement = statement.where(
                    table.project == name.project, table.name == name.name, table.digest == name.digest
                )
            case _:
                statement = statement.where(_NAME_COLUMNS[kind] == name)
        found = self._session.scalar(statement)
        return None if found is None else NodeKey(kind, found)

    def edges(self, nodes: Iterable[NodeKey], direction: Direction) -> list[KeyEdge]:
        found = []
        for ring in chunks(nodes):
            ids = _by_kind(ring)
            parts = []
            for relation in RELATIONS:
                upstream = direction is Direction.UPSTREAM
                wanted = ids.get(relation.downstream if upstream else relation.upstream)
                if not wanted:
                    continue
                known = relation.downstream_id if upstream else relation.upstream_id
                part = select(
                    literal(int(relation.upstream)).label("upstream_kind"),
                    relation.upstream_id.label("upstream_id"),
                    literal(int(relation.downstream)).label("downstream_kind"),
                    relation.downstream_id.label("downstream_id"),
                    literal(relation.name).label("relation"),
                ).where(known.in_(wanted), relation.upstream_id.is_not(None))
                parts.append(part if relation.condition is None else part.where(relation.condition))
            if parts:
                found += [
                    KeyEdge(NodeKey(NodeKind(up), up_id), NodeKey(NodeKind(down), down_id), name)
                    for up, up_id, down, down_id, name in self._session.execute(union_all(*parts))
                ]
        return found

    def describe(self, nodes: Iterable[NodeKey]) -> Mapping[NodeKey, tuple[str, str]]:
        found: dict[NodeKey, tuple[str, str]] = {}
        for part in chunks(nodes):
            for kind, ids in _by_kind(part).items():
                for node_id, name, label in self._named(kind, ids):
                    found[NodeKey(kind, node_id)] = (name, label)
        return found

    def _named(self, kind: NodeKind, ids: list[int]) -> Iterator[tuple[int, str, str]]:
        run = self._session.execute
        match kind:
            case NodeKind.MODEL:
                for row in self._session.scalars(select(ModelRow).where(ModelRow.id.in_(ids))):
                    yield row.id, f"models/{row.name}", f"model {row.name}"
            case NodeKind.MODEL_VERSION:
                versions = (
                    select(VersionRow, ModelRow.name)
                    .join(ModelRow, ModelRow.id == VersionRow.model_id)
                    .where(VersionRow.id.in_(ids))
                )
                for version, model in run(versions):
                    state = "" if version.state == "READY" else f" ({version.state.lower()})"
                    ref = VersionRef(model, version.number)
                    yield version.id, str(ref), f"{model} version {version.number}{state}"
            case NodeKind.ALIAS:
                aliases = (
                    select(AliasRow, ModelRow.name)
                    .join(ModelRow, ModelRow.id == AliasRow.model_id)
                    .where(AliasRow.id.in_(ids))
                )
                for alias, model in run(aliases):
                    yield alias.id, str(AliasRef(model, alias.name)), f"alias {model}@{alias.name}"
            case NodeKind.RUN:
                for item in self._session.scalars(select(RunRow).where(RunRow.id.in_(ids))):
                    what = item.display_name or item.name
                    yield item.id, f"runs/{item.name}", f"run {what} ({item.state.lower()})"
            case NodeKind.DATASET:
                for data in self._session.scalars(select(DatasetRow).where(DatasetRow.id.in_(ids))):
                    what = data.display_name or data.digest[:12]
                    yield data.id, f"datasets/{data.digest}", f"dataset {what} ({data.row_count:,} rows)"
            case NodeKind.CODE_REVISION:
                for code in self._session.scalars(select(CodeRow).where(CodeRow.id.in_(ids))):
                    where = f"{code.repository} at " if code.repository else ""
                    yield code.id, f"codeRevisions/{code.commit_id}", f"code {where}{code.commit_id[:12]}"
            case NodeKind.FEATURE_SERVICE:
                for service in self._session.scalars(
                    select(FeatureServiceRow).where(FeatureServiceRow.id.in_(ids))
                ):
                    ref_ = DefinitionRef(service.project, service.name, service.digest)
                    yield service.id, f"featureServices/{ref_}", f"feature service {_short(ref_)}"
            case NodeKind.FEATURE_VIEW:
                for view in self._session.scalars(select(FeatureViewRow).where(FeatureViewRow.id.in_(ids))):
                    ref_ = DefinitionRef(view.project, view.name, view.digest)
                    yield view.id, f"featureViews/{ref_}", f"feature view {_short(ref_)}"
            case NodeKind.DEPLOYMENT:
                for place in self._session.scalars(select(DeploymentRow).where(DeploymentRow.id.in_(ids))):
                    what = " ".join(text for text in (place.environment, place.target) if text) or place.name
                    ended = "" if place.end_time is None else " (ended)"
                    yield place.id, f"deployments/{place.name}", f"deployment {what}{ended}"


_TABLES: Mapping[NodeKind, Any] = {
    NodeKind.MODEL: ModelRow,
    NodeKind.MODEL_VERSION: VersionRow,
    NodeKind.RUN: RunRow,
    NodeKind.DATASET: DatasetRow,
    NodeKind.FEATURE_SERVICE: FeatureServiceRow,
    NodeKind.FEATURE_VIEW: FeatureViewRow,
    NodeKind.CODE_REVISION: CodeRow,
    NodeKind.ALIAS: AliasRow,
    NodeKind.DEPLOYMENT: DeploymentRow,
}

_NAME_COLUMNS: Mapping[NodeKind, Column] = {
    NodeKind.MODEL: ModelRow.name,
    NodeKind.RUN: RunRow.name,
    NodeKind.DATASET: DatasetRow.digest,
    NodeKind.CODE_REVISION: CodeRow.commit_id,
    NodeKind.DEPLOYMENT: DeploymentRow.name,
}


def _by_kind(nodes: Iterable[NodeKey]) -> dict[NodeKind, list[int]]:
    ids: defaultdict[NodeKind, list[int]] = defaultdict(list)
    for node in nodes:
        ids[node.kind].append(node.id)
    return ids


def _short(ref: DefinitionRef) -> str:
    return f"{ref.project}/{ref.name} @ {ref.digest.removeprefix('sha256:')[:12]}"
