"""The errors of ModelRegistryService: raised by the service, caught by its clients.

What each means is said beside its reason in protos/plumbline/registry/v1/errors.proto.
"""

from __future__ import annotations

from plumbline.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    ErrorClasses,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)


class ModelNotFound(NotFound):
    """Model not found. metadata: model."""

    reason = "MODEL_NOT_FOUND"


class VersionNotFound(NotFound):
    """Version not found. metadata: model, version."""

    reason = "VERSION_NOT_FOUND"


class AliasNotFound(NotFound):
    """Alias not found. metadata: model, alias."""

    reason = "ALIAS_NOT_FOUND"


class RunNotFound(NotFound):
    """Run not found. metadata: run."""

    reason = "RUN_NOT_FOUND"


class DatasetNotFound(NotFound):
    """Dataset not found. metadata: dataset."""

    reason = "DATASET_NOT_FOUND"


class FileNotFound(NotFound):
    """File not found. metadata: version, path."""

    reason = "FILE_NOT_FOUND"


class NodeNotFound(NotFound):
    """A lineage node nobody recorded. metadata: node."""

    reason = "NODE_NOT_FOUND"


class ModelExists(AlreadyExists):
    """Model exists. metadata: model."""

    reason = "MODEL_EXISTS"


class FileExists(AlreadyExists):
    """The path already holds other bytes. metadata: path, expected, actual."""

    reason = "FILE_EXISTS"


class DatasetExists(AlreadyExists):
    """The dataset digest is known with other facts. metadata: dataset, field."""

    reason = "DATASET_EXISTS"


class VersionImmutable(FailedPrecondition):
    """A READY version cannot be changed. metadata: version."""

    reason = "VERSION_IMMUTABLE"


class VersionNotReady(FailedPrecondition):
    """Only READY versions can be resolved, aliased or downloaded. metadata: version, state; of a rollback
    also candidate."""

    reason = "VERSION_NOT_READY"


class VersionEmpty(FailedPrecondition):
    """A version cannot be finalized without files. metadata: version."""

    reason = "VERSION_EMPTY"


class VersionInUse(FailedPrecondition):
    """Aliases point at the version. metadata: version, aliases (full names, comma-separated)."""

    reason = "VERSION_IN_USE"


class RunEnded(FailedPrecondition):
    """The run has ended. metadata: run, state."""

    reason = "RUN_ENDED"


class RequestIdReused(FailedPrecondition):
    """The request id was used for another request. metadata: request_id, method."""

    reason = "REQUEST_ID_REUSED"


class EtagMismatch(Aborted):
    """The resource changed since the etag was read. metadata: resource, expected, actual."""

    reason = "ETAG_MISMATCH"


class InvalidName(InvalidArgument):
    """Invalid name. metadata: field."""

    reason = "INVALID_NAME"


class InvalidField(InvalidArgument):
    """A field is missing or out of range. metadata: field."""

    reason = "INVALID_FIELD"


class InvalidPageToken(InvalidArgument):
    """Invalid page token. metadata: page_token."""

    reason = "INVALID_PAGE_TOKEN"


class UploadSizeMismatch(InvalidArgument):
    """Fewer or more bytes came than the header announced. metadata: path, expected, actual."""

    reason = "UPLOAD_SIZE_MISMATCH"


class UploadDigestMismatch(DataLoss):
    """The bytes uploaded do not have the announced digest. metadata: path, expected, actual."""

    reason = "UPLOAD_DIGEST_MISMATCH"


class BlobCorrupt(DataLoss):
    """The bytes stored no longer have the recorded digest. metadata: sha256, actual."""

    reason = "BLOB_CORRUPT"


class FileTooLarge(ResourceExhausted):
    """File too large. metadata: limit, actual."""

    reason = "FILE_TOO_LARGE"


class ModelArchived(FailedPrecondition):
    """The model is archived. metadata: model."""

    reason = "MODEL_ARCHIVED"


class DatabaseUnavailable(Unavailable):
    """The database is busy or cannot be reached; try again."""

    reason = "DATABASE_UNAVAILABLE"


class StorageFull(ResourceExhausted):
    """No space is left for an upload; nothing of it was kept. metadata: path."""

    reason = "STORAGE_FULL"


class PolicyNotMet(FailedPrecondition):
    """The alias's promotion policy is not met. metadata: alias, version, rules (comma-separated)."""

    reason = "POLICY_NOT_MET"


class PolicyNotFound(NotFound):
    """The alias has no promotion policy. metadata: alias."""

    reason = "POLICY_NOT_FOUND"


class DeploymentNotFound(NotFound):
    """Deployment not found. metadata: deployment."""

    reason = "DEPLOYMENT_NOT_FOUND"


class DeploymentEnded(FailedPrecondition):
    """The deployment has ended. metadata: deployment."""

    reason = "DEPLOYMENT_ENDED"


class WebhookNotFound(NotFound):
    """Webhook not found. metadata: webhook."""

    reason = "WEBHOOK_NOT_FOUND"


class InvalidFilter(InvalidArgument):
    """A filter or an order that cannot be understood. metadata: filter, position."""

    reason = "INVALID_FILTER"


class ResumeTokenUnknown(OutOfRange):
    """The token is of another history: list again, then watch without one. metadata: resume_token."""

    reason = "RESUME_TOKEN_UNKNOWN"


class InvalidResumeToken(InvalidArgument):
    """Not a resume token. metadata: resume_token."""

    reason = "INVALID_RESUME_TOKEN"


class NoPreviousHolder(FailedPrecondition):
    """The alias had no holder before the present one. metadata: alias."""

    reason = "NO_PREVIOUS_HOLDER"


class UploadOffsetMismatch(Aborted):
    """The upload's offset is not what the registry has. metadata: path, expected, actual."""

    reason = "UPLOAD_OFFSET_MISMATCH"


class CallUnauthenticated(Unauthenticated):
    """The call carries no token, or one the registry does not know."""

    reason = "UNAUTHENTICATED"


class CallDenied(PermissionDenied):
    """The token may not do this. metadata: actor, method."""

    reason = "PERMISSION_DENIED"


class StorageUnavailable(Unavailable):
    """The object store does not answer, or refused. metadata: path."""

    reason = "STORAGE_UNAVAILABLE"


#: Every error above, by reason.
CLASSES = ErrorClasses(
    ModelNotFound,
    VersionNotFound,
    AliasNotFound,
    RunNotFound,
    DatasetNotFound,
    FileNotFound,
    NodeNotFound,
    ModelExists,
    FileExists,
    DatasetExists,
    VersionImmutable,
    VersionNotReady,
    VersionEmpty,
    RunEnded,
    RequestIdReused,
    EtagMismatch,
    InvalidName,
    InvalidField,
    InvalidPageToken,
    UploadSizeMismatch,
    UploadDigestMismatch,
    BlobCorrupt,
    FileTooLarge,
    ModelArchived,
    DatabaseUnavailable,
    StorageFull,
    VersionInUse,
    PolicyNotMet,
    PolicyNotFound,
    DeploymentNotFound,
    DeploymentEnded,
    WebhookNotFound,
    InvalidFilter,
    ResumeTokenUnknown,
    InvalidResumeToken,
    NoPreviousHolder,
    UploadOffsetMismatch,
    CallUnauthenticated,
    CallDenied,
    StorageUnavailable,
)
