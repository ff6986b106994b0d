"""The errors of FeatureRetrievalService: raised by the service, caught by its clients.

What each means is said beside its reason in protos/plumbline/features/v1/errors.proto.
"""

from __future__ import annotations

from plumbline.errors import (
    ErrorClasses,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


class FeatureServiceNotFound(NotFound):
    """Feature service not found. metadata: feature_service, project."""

    reason = "FEATURE_SERVICE_NOT_FOUND"


class ViewNotFound(NotFound):
    """View not found. metadata: view, project."""

    reason = "VIEW_NOT_FOUND"


class FeatureNotFound(NotFound):
    """Feature not found. metadata: view, feature."""

    reason = "FEATURE_NOT_FOUND"


class EntityNotFound(NotFound):
    """Entity not found. metadata: entity."""

    reason = "ENTITY_NOT_FOUND"


class JoinKeyMissing(InvalidArgument):
    """A join key that the selection needs is not among the entity columns. metadata: join_key."""

    reason = "JOIN_KEY_MISSING"


class TypeMismatch(InvalidArgument):
    """A value does not fit the declared type. metadata: column, expected, actual."""

    reason = "TYPE_MISMATCH"


class TooManyRows(InvalidArgument):
    """More entities or rows than the server allows in one request. metadata: limit, actual."""

    reason = "TOO_MANY_ROWS"


class EmptyRequest(InvalidArgument):
    """The request asks for nothing. metadata: field."""

    reason = "EMPTY_REQUEST"


class RequestDataMissing(InvalidArgument):
    """An on-demand view needs a request-data column that was not sent. metadata: column."""

    reason = "REQUEST_DATA_MISSING"


class AmbiguousFeatureName(InvalidArgument):
    """Two features of the selection would answer under one name. metadata: feature."""

    reason = "AMBIGUOUS_FEATURE_NAME"


class MalformedEntityRows(InvalidArgument):
    """The entity rows are not an Arrow IPC stream, or lack the event-time column. metadata: column."""

    reason = "MALFORMED_ENTITY_ROWS"


class RowRefused(InvalidArgument):
    """A pushed row was refused and the mode is all-or-nothing. metadata: row."""

    reason = "ROW_REFUSED"


class DefinitionChanged(FailedPrecondition):
    """The definitions changed since the digest the caller expects. metadata: expected, actual."""

    reason = "DEFINITION_CHANGED"


class StoreUnavailable(Unavailable):
    """The online store cannot be reached. metadata: store."""

    reason = "STORE_UNAVAILABLE"


class SourceUnreadable(FailedPrecondition):
    """The view's data cannot be read as its definition says. metadata: view."""

    reason = "SOURCE_UNREADABLE"


class InvalidTimeRange(InvalidArgument):
    """The end of a range is not after its start, or lies in the future. metadata: field."""

    reason = "INVALID_TIME_RANGE"


class InvalidPageToken(InvalidArgument):
    """A page token that this server did not give for this query."""

    reason = "INVALID_PAGE_TOKEN"


class StorageFull(ResourceExhausted):
    """No space is left: for the rows of a join (metadata: view), or in the online store (store)."""

    reason = "STORAGE_FULL"


class JoinOutOfMemory(ResourceExhausted):
    """A join does not fit into its memory and cannot spill. metadata: view."""

    reason = "JOIN_OUT_OF_MEMORY"


class EntityRowsTooLarge(ResourceExhausted):
    """The entity rows of one request have too many bytes. metadata: limit."""

    reason = "ENTITY_ROWS_TOO_LARGE"


class OnDemandFailed(InvalidArgument):
    """The transformation of an on-demand view fails on these inputs. metadata: view."""

    reason = "ON_DEMAND_FAILED"


class InvalidField(InvalidArgument):
    """A field of the request has a value it cannot have. metadata: field."""

    reason = "INVALID_FIELD"


class RequestIdReused(FailedPrecondition):
    """Other rows were pushed with this request id before. metadata: request_id."""

    reason = "REQUEST_ID_REUSED"


#: Every error above, by reason.
CLASSES = ErrorClasses(
    FeatureServiceNotFound,
    ViewNotFound,
    FeatureNotFound,
    EntityNotFound,
    JoinKeyMissing,
    TypeMismatch,
    TooManyRows,
    EmptyRequest,
    RequestDataMissing,
    AmbiguousFeatureName,
    MalformedEntityRows,
    RowRefused,
    DefinitionChanged,
    StoreUnavailable,
    SourceUnreadable,
    InvalidTimeRange,
    InvalidPageToken,
    StorageFull,
    JoinOutOfMemory,
    EntityRowsTooLarge,
    OnDemandFailed,
    InvalidField,
    RequestIdReused,
)
