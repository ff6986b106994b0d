"""The tables, as SQLAlchemy maps them. Their triggers are in the migrations.

Ids are the registry's own and never shown; names are plain unique columns. Rows are evidence: what is deleted
is old request ids, deliveries and webhooks, notes that were taken back, and blobs nobody refers to.
"""

from registry_service.tables.base import Base, UtcMicros
from registry_service.tables.changes import (
    AuditEventRow,
    AuditHeadRow,
    RequestRow,
    WebhookDeliveryRow,
    WebhookRow,
)
from registry_service.tables.evidence import (
    CodeRow,
    DatasetRow,
    DatasetViewRow,
    EnvironmentRow,
    FeatureServiceMemberRow,
    FeatureServiceRow,
    FeatureSpecRow,
    FeatureViewRow,
    RunDatasetRow,
    RunRow,
)
from registry_service.tables.governance import ApprovalRow, DeploymentRow, PolicyRow
from registry_service.tables.links import EvaluationRow, RunBaseRow, VersionDatasetRow
from registry_service.tables.models import (
    AliasEventRow,
    AliasRow,
    BlobRow,
    FileRow,
    ModelRow,
    ModelTagRow,
    VersionAnnotationRow,
    VersionMetricRow,
    VersionRow,
    VersionTagRow,
)

__all__ = [
    "AliasEventRow",
    "AliasRow",
    "ApprovalRow",
    "AuditEventRow",
    "AuditHeadRow",
    "Base",
    "BlobRow",
    "CodeRow",
    "DatasetRow",
    "DatasetViewRow",
    "DeploymentRow",
    "EnvironmentRow",
    "EvaluationRow",
    "FeatureServiceMemberRow",
    "FeatureServiceRow",
    "FeatureSpecRow",
    "FeatureViewRow",
    "FileRow",
    "ModelRow",
    "ModelTagRow",
    "PolicyRow",
    "RequestRow",
    "RunBaseRow",
    "RunDatasetRow",
    "RunRow",
    "UtcMicros",
    "VersionAnnotationRow",
    "VersionDatasetRow",
    "VersionMetricRow",
    "VersionRow",
    "VersionTagRow",
    "WebhookDeliveryRow",
    "WebhookRow",
]
