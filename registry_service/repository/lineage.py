"""The lineage graph in SQL: a union over the relations, asked for one ring of nodes at a time.

Each relation is one indexed query by the ids on one side, so a step costs what the ring has edges, not what
the registry has rows. The ids of a ring travel as lists, so that few statements serve every ring and are made
once. The walk itself (breadth first, each node once) is the use case's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import CompoundSelect, Integer, literal_column, select, union_all
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
from registry_service.repository.common import among, as_list
from registry_service.repository.labels import named
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
        dialect = self._session.get_bind().dialect.name
        ids = _by_kind(nodes)
        statement = _edges_of(tuple(sorted(ids)), direction, dialect)
        if statement is None:
            return []
        values = {_parameter(kind): as_list(dialect, of_kind) for kind, of_kind in ids.items()}
        found = []
        for place, upstream, downstream in self._session.execute(statement, values):
            relation = RELATIONS[place]
            ends = NodeKey(relation.upstream, upstream), NodeKey(relation.downstream, downstream)
            found.append(KeyEdge(*ends, relation.name))
        return found

    def describe(self, nodes: Iterable[NodeKey]) -> Mapping[NodeKey, tuple[str, str]]:
        found: dict[NodeKey, tuple[str, str]] = {}
        for kind, ids in _by_kind(nodes).items():
            for node_id, name, label in named(self._session, kind, ids):
                found[NodeKey(kind, node_id)] = (name, label)
        return found


@lru_cache
def _edges_of(kinds: tuple[NodeKind, ...], direction: Direction, dialect: str) -> CompoundSelect[Any] | None:
    """The edges from nodes of some kinds, whose ids are parameters: place of the relation, both ends. None
    where there can be none."""
    parts = []
    for place, relation in enumerate(RELATIONS):
        upstream = direction is Direction.UPSTREAM
        kind = relation.downstream if upstream else relation.upstream
        if kind not in kinds:
            continue
        near = relation.downstream_id if upstream else relation.upstream_id
        part = select(
            literal_column(str(place), Integer()), relation.upstream_id, relation.downstream_id
        ).where(among(dialect, near, _parameter(kind)))
        if upstream:
            part = part.where(relation.upstream_id.is_not(None))
        parts.append(part if relation.condition is None else part.where(relation.condition))
    return union_all(*parts) if parts else None


def _parameter(kind: NodeKind) -> str:
    return f"ids_{int(kind)}"


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
