"""What the nodes of the lineage graph are called, in SQL: a resource name and a label for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from registry_service.domain import AliasRef, DefinitionRef, NodeKind, VersionRef
from registry_service.repository.common import among, as_list
from registry_service.repository.relations import Column
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


def named(session: Session, kind: NodeKind, ids: Sequence[int]) -> Iterator[tuple[int, str, str]]:
    """id, name and label of each node of one kind."""
    dialect = session.get_bind().dialect.name
    called = _CALLED[kind].say
    for node_id, *facts in session.execute(_statement(kind, dialect), {"ids": as_list(dialect, ids)}):
        yield node_id, *called(*facts)


@lru_cache
def _statement(kind: NodeKind, dialect: str) -> Select[Any]:
    source = _CALLED[kind]
    statement = select(source.id, *source.facts).where(among(dialect, source.id, "ids"))
    if source.model_id is not None:
        statement = statement.join(ModelRow, ModelRow.id == source.model_id)
    return statement


def _model(name: str) -> tuple[str, str]:
    return f"models/{name}", f"model {name}"


def _version(number: int, state: str, model: str) -> tuple[str, str]:
    shown = "" if state == "READY" else f" ({state.lower()})"
    return str(VersionRef(model, number)), f"{model} version {number}{shown}"


def _alias(name: str, model: str) -> tuple[str, str]:
    return str(AliasRef(model, name)), f"alias {model}@{name}"


def _run(name: str, display_name: str, state: str) -> tuple[str, str]:
    return f"runs/{name}", f"run {display_name or name} ({state.lower()})"


def _dataset(digest: str, display_name: str, rows: int) -> tuple[str, str]:
    return f"datasets/{digest}", f"dataset {display_name or digest[:12]} ({rows:,} rows)"


def _code(commit: str, repository: str) -> tuple[str, str]:
    where = f"{repository} at " if repository else ""
    return f"codeRevisions/{commit}", f"code {where}{commit[:12]}"


def _feature_service(project: str, name: str, digest: str) -> tuple[str, str]:
    ref = DefinitionRef(project, name, digest)
    return f"featureServices/{ref}", f"feature service {_short(ref)}"


def _feature_view(project: str, name: str, digest: str) -> tuple[str, str]:
    ref = DefinitionRef(project, name, digest)
    return f"featureViews/{ref}", f"feature view {_short(ref)}"


def _deployment(name: str, environment: str, target: str, end_time: object) -> tuple[str, str]:
    what = " ".join(text for text in (environment, target) if text) or name
    ended = "" if end_time is None else " (ended)"
    return f"deployments/{name}", f"deployment {what}{ended}"


def _short(ref: DefinitionRef) -> str:
    return f"{ref.project}/{ref.name} @ {ref.digest.removeprefix('sha256:')[:12]}"


@dataclass(frozen=True)
class _Called:
    """id: of the node. facts: columns, in the order in which `say` takes them. model_id: of the model whose
    name is among them."""

    id: Column
    facts: tuple[Column, ...]
    say: Callable[..., tuple[str, str]]
    model_id: Column | None = None


_CALLED: Mapping[NodeKind, _Called] = {
    NodeKind.MODEL: _Called(ModelRow.id, (ModelRow.name,), _model),
    NodeKind.MODEL_VERSION: _Called(
        VersionRow.id, (VersionRow.number, VersionRow.state, ModelRow.name), _version, VersionRow.model_id
    ),
    NodeKind.ALIAS: _Called(AliasRow.id, (AliasRow.name, ModelRow.name), _alias, AliasRow.model_id),
    NodeKind.RUN: _Called(RunRow.id, (RunRow.name, RunRow.display_name, RunRow.state), _run),
    NodeKind.DATASET: _Called(
        DatasetRow.id, (DatasetRow.digest, DatasetRow.display_name, DatasetRow.row_count), _dataset
    ),
    NodeKind.CODE_REVISION: _Called(CodeRow.id, (CodeRow.commit_id, CodeRow.repository), _code),
    NodeKind.FEATURE_SERVICE: _Called(
        FeatureServiceRow.id,
        (FeatureServiceRow.project, FeatureServiceRow.name, FeatureServiceRow.digest),
        _feature_service,
    ),
    NodeKind.FEATURE_VIEW: _Called(
        FeatureViewRow.id,
        (FeatureViewRow.project, FeatureViewRow.name, FeatureViewRow.digest),
        _feature_view,
    ),
    NodeKind.DEPLOYMENT: _Called(
        DeploymentRow.id,
        (DeploymentRow.name, DeploymentRow.environment, DeploymentRow.target, DeploymentRow.end_time),
        _deployment,
    ),
}
