"""Messages of plumbline.features.v1 ↔ the domain. Pure functions; the only module that knows both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy.typing as npt
import pyarrow as pa
from google.protobuf import duration_pb2, timestamp_pb2

from feature_service import domain
from feature_service.history.join import Progress, Summary
from feature_service.online.retrieval import OnlineFeatures, ReadOptions
from feature_service.planning import Definitions, Selection
from feature_service.writes.materialize import MaterializeProgress
from feature_service.writes.push import Destination, Pushed, PushedStream
from plumbline import columns
from plumbline.channel import ENVELOPE_BYTES
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.types.v1 import column_pb2, feature_column_pb2

#: Most Arrow bytes in one message of a reply.
_CHUNK_BYTES = 512 * 1024
DEFAULT_EVENT_COLUMN = "event_timestamp"

_KINDS = {
    domain.ViewKind.BATCH: defs.FEATURE_VIEW_KIND_BATCH,
    domain.ViewKind.STREAM: defs.FEATURE_VIEW_KIND_STREAM,
    domain.ViewKind.ON_DEMAND: defs.FEATURE_VIEW_KIND_ON_DEMAND,
}
_KNOWN_AT = {
    pb.KNOWN_AT_POLICY_UNSPECIFIED: domain.KnownAt.CREATED_BY_THEN,
    pb.KNOWN_AT_POLICY_CREATED_BY_THEN: domain.KnownAt.CREATED_BY_THEN,
    pb.KNOWN_AT_POLICY_IGNORE_CREATED: domain.KnownAt.IGNORE_CREATED,
}
_DESTINATIONS = {
    pb.PUSH_DESTINATION_UNSPECIFIED: Destination.ONLINE_AND_OFFLINE,
    pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE: Destination.ONLINE_AND_OFFLINE,
    pb.PUSH_DESTINATION_ONLINE: Destination.ONLINE,
    pb.PUSH_DESTINATION_OFFLINE: Destination.OFFLINE,
}
_BEST_EFFORT = {
    pb.PUSH_MODE_UNSPECIFIED: False,
    pb.PUSH_MODE_ALL_OR_NOTHING: False,
    pb.PUSH_MODE_BEST_EFFORT: True,
}

_MATRIX_TYPES = {
    pb.MATRIX_TYPE_UNSPECIFIED: "<f8",
    pb.MATRIX_TYPE_FLOAT64: "<f8",
    pb.MATRIX_TYPE_FLOAT32: "<f4",
}


def selection(message: pb.FeatureSelection) -> Selection:
    """An unset selection selects nothing."""
    return Selection(message.feature_service, tuple(message.features.references))


def table(message: Iterable[column_pb2.Column]) -> pa.Table:
    """Raises MalformedColumn."""
    return columns.decode_table(message)


def max_age(request: pb.GetOnlineFeaturesRequest | pb.GetFeatureMatrixRequest) -> timedelta | None:
    """None when unset. Raises InvalidField for a negative one."""
    if not request.HasField("max_age"):
        return None
    seconds = request.max_age.seconds
    if seconds < 0 or request.max_age.nanos < 0:
        raise _bad("max_age", "must not be negative")
    # A timedelta holds less than a Duration; beyond it nothing is too old.
    return None if seconds > timedelta.max.days * 86_400 else request.max_age.ToTimedelta()


def read_options(request: pb.GetOnlineFeaturesRequest) -> ReadOptions:
    """How the request wants to be read. Raises InvalidField, MalformedColumn."""
    return ReadOptions(
        full_names=request.full_feature_names,
        max_age=max_age(request),
        defaults=table(request.defaults) if request.defaults else None,
        allow_partial=request.allow_partial,
    )


def matrix_options(request: pb.GetFeatureMatrixRequest) -> ReadOptions:
    """As `read_options`."""
    return ReadOptions(
        max_age=max_age(request),
        defaults=table(request.defaults) if request.defaults else None,
        allow_partial=request.allow_partial,
    )


def matrix_dtype(request: pb.GetFeatureMatrixRequest) -> npt.DTypeLike:
    """Raises InvalidField for a type that this version does not know."""
    found = _MATRIX_TYPES.get(request.type)
    if found is None:
        raise _bad("type", f"{request.type} is not a known matrix type")
    return found


def known_at(header: pb.HistoricalFeaturesHeader) -> domain.KnownAt:
    """Raises InvalidField for a policy that this version does not know."""
    found = _KNOWN_AT.get(header.known_at_policy)
    if found is None:
        raise _bad("header.known_at_policy", f"{header.known_at_policy} is not a known policy")
    return found


def destination(request: pb.PushFeaturesRequest) -> Destination:
    """Raises InvalidField for a destination that this version does not know."""
    found = _DESTINATIONS.get(request.destination)
    if found is None:
        raise _bad("destination", f"{request.destination} is not a known destination")
    return found


def best_effort(request: pb.PushFeaturesRequest) -> bool:
    """Raises InvalidField for a mode that this version does not know."""
    found = _BEST_EFFORT.get(request.mode)
    if found is None:
        raise _bad("mode", f"{request.mode} is not a known mode")
    return found


def moment(request: pb.MaterializeRequest, field: str) -> datetime | None:
    """start_time or end_time; None when unset. Raises InvalidField outside of the years 1 to 9999."""
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    try:
        return timestamp_pb2.Timestamp.ToDatetime(getattr(request, field), tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _bad(field, f"is not a time: {error}") from error


def online_features(found: OnlineFeatures) -> pb.GetOnlineFeaturesResponse:
    """The reply to an online read."""
    reply = pb.GetOnlineFeaturesResponse(definition_digest=found.digest, row_count=found.rows)
    reply.read_time.FromMicroseconds(found.now)
    for item in found.columns:
        reply.features.append(
            feature_column_pb2.FeatureColumn(
                column=columns.encode(item.name, item.values),
                statuses=() if item.statuses is None else item.statuses.tolist(),
                view=item.view,
            )
        )
    for view, event_micros in found.event_micros:
        reply.view_event_times.append(
            feature_column_pb2.ViewEventTimes(view=view, event_micros=event_micros.tolist())
        )
    return reply


def arrow_chunks(data: bytes, max_message_bytes: int) -> Iterable[pb.GetHistoricalFeaturesResponse]:
    """Arrow bytes in messages of at most max_message_bytes."""
    size = min(_CHUNK_BYTES, max_message_bytes - ENVELOPE_BYTES)
    for start in range(0, len(data), size):
        yield pb.GetHistoricalFeaturesResponse(arrow_ipc=data[start : start + size])


def historical_progress(found: Progress) -> pb.GetHistoricalFeaturesResponse:
    """A progress message."""
    return pb.GetHistoricalFeaturesResponse(
        progress=pb.HistoricalFeaturesProgress(
            phase=found.phase, rows_done=found.rows_done, rows_total=found.rows_total
        )
    )


def historical_summary(found: Summary) -> pb.GetHistoricalFeaturesResponse:
    """The last message."""
    summary = pb.HistoricalFeaturesSummary(
        rows_in=found.rows,
        rows_out=found.rows,
        features=[
            pb.HistoricalFeature(
                column=item.column,
                view=item.view,
                feature=item.feature.name,
                type=_value_type(item.feature.type),
                rows_present=item.rows_present,
            )
            for item in found.features
        ],
        definition_digest=found.digest,
        feature_service=feature_service(found.service, found.views),
        result_uri=found.result_uri,
        warnings=found.warnings,
    )
    if found.as_of is not None:
        summary.as_of_start.CopyFrom(_timestamp(found.as_of[0]))
        summary.as_of_end.CopyFrom(_timestamp(found.as_of[1]))
    return pb.GetHistoricalFeaturesResponse(summary=summary)


def pushed(found: Pushed) -> pb.PushFeaturesResponse:
    """The reply to a push."""
    return pb.PushFeaturesResponse(
        rows_written=found.rows_written,
        refused=[
            pb.RefusedRow(row=item.row, column=item.column, reason=item.reason) for item in found.refused
        ],
        views=found.views,
    )


def pushed_stream(found: PushedStream) -> pb.PushFeaturesStreamResponse:
    """The reply to a stream of pushes."""
    return pb.PushFeaturesStreamResponse(
        messages=found.messages,
        rows_written=found.rows_written,
        rows_refused=found.rows_refused,
        refused=[
            pb.RefusedRow(row=item.row, column=item.column, reason=item.reason, message=message)
            for message, item in found.refused
        ],
        views=found.views,
    )


def sampled(found: pa.Table) -> pb.SampleEntitiesResponse:
    """Entities, one column a join key."""
    return pb.SampleEntitiesResponse(
        entities=[columns.encode(name, found[name]) for name in found.column_names]
    )


def materialize_progress(found: MaterializeProgress) -> pb.MaterializeResponse:
    """A progress message."""
    return pb.MaterializeResponse(
        view=found.view,
        views_done=found.views_done,
        views_total=found.views_total,
        rows_written=found.rows_written,
        view_finished=found.view_finished,
        start_time=None if found.start is None else _timestamp(found.start),
        end_time=_timestamp(found.end),
        operation_id=found.operation_id,
        rows_total=found.rows_total,
        rows_resumed=found.rows_resumed,
    )


def entity(found: domain.Entity) -> defs.Entity:
    """An entity."""
    return defs.Entity(
        name=found.name,
        join_key=found.join_key,
        type=_value_type(found.type),
        description=found.description,
        tags=dict(found.tags),
    )


def feature_view(found: domain.FeatureView, definitions: Definitions) -> defs.FeatureView:
    """A view of these definitions."""
    ttl = None
    if found.ttl is not None:
        ttl = duration_pb2.Duration()
        ttl.FromTimedelta(found.ttl)
    return defs.FeatureView(
        project=found.project,
        name=found.name,
        kind=_KINDS[found.kind],
        join_keys=_fields(found.join_keys),
        features=_fields(found.features),
        ttl=ttl,
        online=found.online,
        digest=found.digest,
        description=found.description,
        tags=dict(found.tags),
        source=found.source.name if found.source else "",
        request_data=_fields(found.request_data),
        push_sources=sorted(name for name, views in definitions.push_sources.items() if found.name in views),
    )


def feature_service(found: domain.FeatureService, views: Iterable[domain.FeatureView]) -> defs.FeatureService:
    """A service. views: at least those it reads, and those its on-demand views read."""
    by_name = {view.name: view for view in views}
    join_keys: dict[str, domain.Field] = {}
    request_data: dict[str, domain.Field] = {}
    for projection in found.projections:
        view = by_name[projection.view]
        for key in view.join_keys:
            column = projection.entity_column(key.name)
            join_keys.setdefault(column, domain.Field(column, key.type, key.description))
        for item in view.request_data:
            request_data.setdefault(item.name, item)
    return defs.FeatureService(
        project=found.project,
        name=found.name,
        projections=[
            defs.FeatureProjection(
                view=item.view,
                view_digest=by_name[item.view].digest,
                features=_fields(item.features),
                kind=_KINDS[by_name[item.view].kind],
            )
            for item in found.projections
        ],
        join_keys=_fields(join_keys.values()),
        request_data=_fields(request_data.values()),
        digest=found.digest,
        description=found.description,
        tags=dict(found.tags),
    )


def _fields(fields: Iterable[domain.Field]) -> list[column_pb2.Field]:
    return [
        column_pb2.Field(name=item.name, type=_value_type(item.type), description=item.description)
        for item in fields
    ]


def _value_type(kind: domain.ValueType) -> column_pb2.ValueType.ValueType:
    return column_pb2.ValueType.Value(f"VALUE_TYPE_{kind.value}")


def _timestamp(found: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(found)
    return message


def _bad(field: str, what: str) -> InvalidField:
    return InvalidField(
        f"{field} {what}", metadata={"field": field}, violations=[FieldViolation(field, what)]
    )
