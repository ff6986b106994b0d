"""Where the fields of filters are kept: the SQL side of `filtering.fields`."""

from __future__ import annotations

from sqlalchemy import func, literal, literal_column
from sqlalchemy.orm import aliased

from registry_service.repository.conditions import Condition
from registry_service.repository.pages import Target
from registry_service.repository.sources import INDEXED, Attribute, Column, Document, Flag, Rows, Through
from registry_service.tables import (
    AliasRow,
    AuditEventRow,
    CodeRow,
    DatasetRow,
    DeploymentRow,
    FeatureServiceRow,
    ModelRow,
    ModelTagRow,
    RunRow,
    VersionAnnotationRow,
    VersionDatasetRow,
    VersionMetricRow,
    VersionRow,
    VersionTagRow,
)

_Parent = aliased(RunRow)


def _short(value: Attribute) -> Condition:
    """As the indexes of tags have it, to the letter."""
    return func.length(value) <= literal_column(str(INDEXED))


MODELS = Target(
    ModelRow,
    ModelRow.id,
    {
        "name": Column(ModelRow.name),
        "description": Column(ModelRow.description),
        "tags": Rows(
            ModelRow.id, ModelTagRow.model_id, ModelTagRow.value, ModelTagRow.key, _short(ModelTagRow.value)
        ),
        "aliases": Rows(ModelRow.id, AliasRow.model_id, AliasRow.name, also=AliasRow.version_id.is_not(None)),
        "create_time": Column(ModelRow.create_time),
        "update_time": Column(ModelRow.update_time),
        "latest_version": Column(ModelRow.latest_version),
    },
)

VERSIONS = Target(
    VersionRow,
    VersionRow.id,
    {
        "model": Column(ModelRow.name, ("model",), owner=VersionRow.model_id, id=ModelRow.id),
        "model_archived": Flag(ModelRow.archive_time.is_not(None), ("model",)),
        "version": Column(VersionRow.number),
        "state": Column(VersionRow.state),
        "stage": Column(VersionAnnotationRow.stage, ("notes",)),
        "description": Column(VersionAnnotationRow.description, ("notes",)),
        "tags": Rows(
            VersionRow.id,
            VersionTagRow.version_id,
            VersionTagRow.value,
            VersionTagRow.key,
            _short(VersionTagRow.value),
        ),
        "metrics": Rows(
            VersionRow.id, VersionMetricRow.version_id, VersionMetricRow.value, VersionMetricRow.name
        ),
        "aliases": Rows(VersionRow.id, AliasRow.version_id, AliasRow.name),
        "run": Through(VersionRow.run_id, RunRow.id, RunRow.name),
        "datasets": Rows(
            VersionRow.id,
            VersionDatasetRow.version_id,
            DatasetRow.digest,
            also=VersionDatasetRow.dataset_id == DatasetRow.id,
        ),
        "actor": Column(VersionRow.actor),
        "source": Column(VersionRow.source),
        "external_run": Column(VersionRow.external_run),
        "manifest_digest": Column(VersionRow.manifest_digest),
        "feature_service": Column(VersionRow.signature["feature_service"].as_string(), nullable=True),
        "create_time": Column(VersionRow.create_time),
        "finalize_time": Column(VersionRow.finalize_time, nullable=True),
        "update_time": Column(VersionAnnotationRow.update_time, ("notes",)),
    },
    {
        "model": (ModelRow, ModelRow.id == VersionRow.model_id),
        "notes": (VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id),
    },
)

RUNS = Target(
    RunRow,
    RunRow.id,
    {
        "name": Column(RunRow.name),
        "display_name": Column(RunRow.display_name),
        "state": Column(RunRow.state),
        "actor": Column(RunRow.actor),
        "tags": Document(RunRow.tags),
        "parameters": Document(RunRow.parameters),
        "metrics": Document(RunRow.metrics, numeric=True),
        "parent": Through(RunRow.parent_id, _Parent.id, _Parent.name),
        "start_time": Column(RunRow.start_time),
        "end_time": Column(RunRow.end_time, nullable=True),
        "code.commit": Through(RunRow.code_id, CodeRow.id, CodeRow.commit_id),
    },
)

_SERVICE = (
    FeatureServiceRow.project
    + literal("/")
    + FeatureServiceRow.name
    + literal("@")
    + FeatureServiceRow.digest
)

DATASETS = Target(
    DatasetRow,
    DatasetRow.id,
    {
        "digest": Column(DatasetRow.digest),
        "display_name": Column(DatasetRow.display_name),
        "row_count": Column(DatasetRow.row_count),
        "feature_service": Through(DatasetRow.feature_service_id, FeatureServiceRow.id, _SERVICE),
        "create_time": Column(DatasetRow.create_time),
        "as_of_start": Column(DatasetRow.as_of_start, nullable=True),
        "as_of_end": Column(DatasetRow.as_of_end, nullable=True),
        "actor": Column(DatasetRow.actor),
    },
)

DEPLOYMENTS = Target(
    DeploymentRow,
    DeploymentRow.id,
    {
        "model": Column(ModelRow.name, ("version", "model")),
        "version": Column(VersionRow.number, ("version",)),
        "environment": Column(DeploymentRow.environment),
        "target": Column(DeploymentRow.target),
        "alias": Column(DeploymentRow.alias),
        "actor": Column(DeploymentRow.actor),
        "live": Flag(DeploymentRow.end_time.is_(None)),
        "start_time": Column(DeploymentRow.start_time),
        "end_time": Column(DeploymentRow.end_time, nullable=True),
    },
    {
        "version": (VersionRow, VersionRow.id == DeploymentRow.version_id),
        "model": (ModelRow, ModelRow.id == VersionRow.model_id),
    },
)

EVENTS = Target(
    AuditEventRow,
    AuditEventRow.sequence,
    {
        "sequence": Column(AuditEventRow.sequence),
        "time": Column(AuditEventRow.time),
        "actor": Column(AuditEventRow.actor),
        "action": Column(AuditEventRow.action),
        "kind": Column(AuditEventRow.kind),
        "resource": Column(AuditEventRow.resource),
        "model": Through(AuditEventRow.model_id, ModelRow.id, ModelRow.name),
    },
)
