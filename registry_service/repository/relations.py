"""The relations of the lineage graph: foreign keys, read as edges from upstream to downstream.

A relation's name is mostly what downstream says of upstream: a run read from a dataset, a trial is part of a
tuning, an alias points at a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from registry_service.domain import NodeKind
from registry_service.tables import (
    AliasRow,
    DatasetRow,
    DatasetViewRow,
    DeploymentRow,
    FeatureServiceMemberRow,
    RunBaseRow,
    RunDatasetRow,
    RunRow,
    VersionDatasetRow,
    VersionRow,
)

Column = InstrumentedAttribute[Any]


@dataclass(frozen=True)
class Relation:
    """A foreign key, or a pair of them, read as edges."""

    name: str
    upstream: NodeKind
    upstream_id: Column
    downstream: NodeKind
    downstream_id: Column
    condition: ColumnElement[bool] | None = None


_DirectRead = aliased(DatasetRow)

RELATIONS = (
    Relation("version_of", NodeKind.MODEL, VersionRow.model_id, NodeKind.MODEL_VERSION, VersionRow.id),
    Relation("produced_by", NodeKind.RUN, VersionRow.run_id, NodeKind.MODEL_VERSION, VersionRow.id),
    Relation(
        "trained_on",
        NodeKind.DATASET,
        VersionDatasetRow.dataset_id,
        NodeKind.MODEL_VERSION,
        VersionDatasetRow.version_id,
    ),
    Relation("points_at", NodeKind.MODEL_VERSION, AliasRow.version_id, NodeKind.ALIAS, AliasRow.id),
    Relation("read_from", NodeKind.DATASET, RunDatasetRow.dataset_id, NodeKind.RUN, RunDatasetRow.run_id),
    Relation("ran_code", NodeKind.CODE_REVISION, RunRow.code_id, NodeKind.RUN, RunRow.id),
    Relation(
        "read_from",
        NodeKind.FEATURE_SERVICE,
        DatasetRow.feature_service_id,
        NodeKind.DATASET,
        DatasetRow.id,
    ),
    Relation(
        "includes",
        NodeKind.FEATURE_VIEW,
        FeatureServiceMemberRow.view_id,
        NodeKind.FEATURE_SERVICE,
        FeatureServiceMemberRow.service_id,
    ),
    # A dataset read through a feature service reaches its views through that service.
    Relation(
        "read_from",
        NodeKind.FEATURE_VIEW,
        DatasetViewRow.view_id,
        NodeKind.DATASET,
        DatasetViewRow.dataset_id,
        condition=DatasetViewRow.dataset_id.in_(
            select(_DirectRead.id)
            .where(_DirectRead.id == DatasetViewRow.dataset_id, _DirectRead.feature_service_id.is_(None))
            .correlate(DatasetViewRow)
        ),
    ),
    # A copy has its own run and datasets too; this says which version they were taken from.
    Relation(
        "copied_from",
        NodeKind.MODEL_VERSION,
        VersionRow.copied_from_id,
        NodeKind.MODEL_VERSION,
        VersionRow.id,
    ),
    Relation("based_on", NodeKind.MODEL_VERSION, RunBaseRow.version_id, NodeKind.RUN, RunBaseRow.run_id),
    # The whole is upstream of its parts, as a model is of its versions: the version of a trial shows the
    # tuning it was part of, and the version of a tuning does not show a hundred trials.
    Relation("part_of", NodeKind.RUN, RunRow.parent_id, NodeKind.RUN, RunRow.id),
    Relation(
        "deployed_as", NodeKind.MODEL_VERSION, DeploymentRow.version_id, NodeKind.DEPLOYMENT, DeploymentRow.id
    ),
)
