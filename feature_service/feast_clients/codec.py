"""Messages of Feast's serving services ↔ the calls. Pure functions; the only module that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from feast.feature_server_utils import convert_response_to_dict
from feast.protos.feast.serving.ServingService_pb2 import (
    FieldStatus,
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
)
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from google.protobuf.timestamp_pb2 import Timestamp

from feature_service.arrow_types import OPAQUE, TIMESTAMP
from feature_service.domain import FeatureStatus, FeatureView, ValueType
from feature_service.feast_adapters.values import to_values
from feature_service.feast_clients import untyped
from feature_service.feast_clients.calls import Answer, AnswerColumn, Cells
from feature_service.planning import Selection
from feature_service.ports import NOT_STORED
from plumbline.errors import FieldViolation, InvalidArgument
from plumbline.features.errors import OnDemandFailed, TypeMismatch

_STATUSES = {
    FeatureStatus.PRESENT: FieldStatus.PRESENT,
    FeatureStatus.NULL_VALUE: FieldStatus.NULL_VALUE,
    FeatureStatus.NOT_FOUND: FieldStatus.NOT_FOUND,
    FeatureStatus.OUTSIDE_MAX_AGE: FieldStatus.OUTSIDE_MAX_AGE,
}
_ARROW = {
    "double_val": pa.float64(),
    "float_val": pa.float32(),
    "int64_val": pa.int64(),
    "int32_val": pa.int32(),
    "bool_val": pa.bool_(),
    "string_val": pa.string(),
    "bytes_val": pa.binary(),
    "unix_timestamp_val": pa.int64(),
}
_SECOND = 1_000_000
_NO_TIME = Timestamp()


@dataclass(frozen=True)
class ValueCells:
    """A column of Feast's Value messages. An empty one is null."""

    values: Sequence[FeastValue]

    def __len__(self) -> int:
        return len(self.values)

    def typed(self, kind: ValueType, column: str) -> pa.Array:
        """See Cells: the values as they are; only times are read into what is declared."""
        named = (value.WhichOneof("val") for value in self.values)
        fields: set[str] = {field for field in named if field is not None and field != "null_val"}
        if not fields:
            return pa.nulls(len(self.values))
        if kind is ValueType.TIMESTAMP and fields <= {"string_val", "int64_val", "unix_timestamp_val"}:
            return untyped.from_json([_python(value) for value in self.values], kind, column)
        if kind is ValueType.TIMESTAMP_LIST and fields == {"unix_timestamp_list_val"}:
            return untyped.from_json([_python(value) for value in self.values], kind, column)
        return pa.array([_python(value) for value in self.values], _natural(fields, kind, column))


@dataclass(frozen=True)
class TextCells:
    """A column of text."""

    values: Sequence[str]

    def __len__(self) -> int:
        return len(self.values)

    def typed(self, kind: ValueType, column: str) -> pa.Array:
        """See Cells."""
        return untyped.from_text(self.values, kind, column)


def selection(request: GetOnlineFeaturesRequest) -> Selection:
    """An unset selection selects nothing."""
    return Selection(request.feature_service, tuple(request.features.val))


def columns(request: GetOnlineFeaturesRequest) -> dict[str, Cells]:
    """Entities and request context, by name: a protobuf map keeps no order."""
    found = {**request.request_context, **request.entities}
    return {name: ValueCells(found[name].val) for name in sorted(found)}


def row(features: Mapping[str, str], typed_features: Mapping[str, FeastValue]) -> dict[str, Cells]:
    """The one row of a push. Raises InvalidArgument when it comes in both forms."""
    if features and typed_features:
        raise InvalidArgument(
            "send either features or typed_features, not both",
            violations=[FieldViolation("typed_features", "excludes features")],
        )
    if typed_features:
        return {name: ValueCells([typed_features[name]]) for name in sorted(typed_features)}
    return {name: TextCells([features[name]]) for name in sorted(features)}


def online_features(answer: Answer, *, versions: bool) -> GetOnlineFeaturesResponse:
    """The reply to an online read. versions: with the version of each view that was read."""
    reply = GetOnlineFeaturesResponse()
    reply.metadata.feature_names.val.extend(column.name for column in answer.columns)
    for column in answer.columns:
        reply.results.append(_vector(column))
    if versions:
        for name, version in view_versions(answer.views):
            reply.metadata.feature_view_metadata.add(name=name, version=version)
    return reply


def view_versions(views: Sequence[tuple[str, FeatureView]]) -> list[tuple[str, int]]:
    """The version that Feast's registry gives each view; 0 for one it does not count."""
    return [(label, getattr(view.handle, "current_version_number", 0) or 0) for label, view in views]


def _vector(column: AnswerColumn) -> GetOnlineFeaturesResponse.FeatureVector:
    rows = len(column.values)
    if column.statuses is not None:
        statuses = [_STATUSES[status] for status in column.statuses.tolist()]
    elif column.values.null_count:
        nulls = column.values.is_null().to_pylist()
        statuses = [FieldStatus.NULL_VALUE if null else FieldStatus.PRESENT for null in nulls]
    else:
        statuses = [FieldStatus.PRESENT] * rows
    return GetOnlineFeaturesResponse.FeatureVector(
        values=_values(column), statuses=statuses, event_timestamps=_times(column, rows)
    )


def _values(column: AnswerColumn) -> list[FeastValue]:
    kind = column.type if column.type is not ValueType.UNSPECIFIED else _kind_of(column.values)
    try:
        return to_values(column.values, kind, whole_seconds=True)
    except ValueError as error:
        raise OnDemandFailed(
            f"feature {column.name}: {error}", metadata={"view": "", "feature": column.name}
        ) from error


def whole_seconds(values: pa.Array, kind: ValueType) -> list[Any]:
    """Times as the seconds since 1970 that Feast's values hold: what is below a second is cut off."""
    wanted = pa.list_(TIMESTAMP) if kind.is_list else TIMESTAMP
    micros = values.cast(wanted).cast(pa.list_(pa.int64()) if kind.is_list else pa.int64()).to_pylist()
    if kind.is_list:
        return [None if row is None else [item // _SECOND for item in row] for row in micros]
    return [None if row is None else row // _SECOND for row in micros]


def json_values(values: pa.Array) -> list[Any]:
    """Values of types without columns of ours, as Feast's HTTP server has them in JSON."""
    messages = to_values(values, ValueType.UNSPECIFIED)
    vector = GetOnlineFeaturesResponse.FeatureVector(values=messages)
    shown: list[Any] = convert_response_to_dict(GetOnlineFeaturesResponse(results=[vector]))["results"][0][
        "values"
    ]
    return shown


def _times(column: AnswerColumn, rows: int) -> list[Timestamp]:
    if column.event_micros is None:
        return [_NO_TIME] * rows
    # Entities are often repeated, and rows of one load share their time.
    distinct, slots = np.unique(column.event_micros, return_inverse=True)
    stamps = [_stamp(micros) for micros in distinct.tolist()]
    return [stamps[slot] for slot in slots.tolist()]


def _stamp(micros: int) -> Timestamp:
    stamp = Timestamp()
    if micros != NOT_STORED:
        stamp.FromMicroseconds(micros)
    return stamp


def _python(value: FeastValue) -> Any:
    field = value.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    found = getattr(value, field)
    return list(found.val) if field.endswith("_list_val") else found


def _natural(fields: set[str], kind: ValueType, column: str) -> pa.DataType:
    """The Arrow type of values under these fields, which a declared type may be read from."""
    if fields <= {"int32_val", "int64_val"} and len(fields) > 1:
        return pa.int64()
    if len(fields) == 1:
        field = next(iter(fields))
        is_list = field.endswith("_list_val")
        found = _ARROW.get(field.replace("_list_val", "_val"))
        if found is not None:
            return pa.list_(found) if is_list else found
    shown = " and ".join(sorted(fields))
    raise TypeMismatch(
        f"column {column!r} is declared {kind}, but holds {shown}",
        metadata={"column": column, "expected": kind.value, "actual": shown},
        violations=[FieldViolation(column, f"must be {kind}")],
    )


def _kind_of(values: pa.Array) -> ValueType:
    """The value type of a join key whose entity declares none, and of values that are messages already."""
    if values.type == OPAQUE:
        return ValueType.UNSPECIFIED
    for field, kind in (("int64_val", ValueType.INT64), ("int32_val", ValueType.INT32)):
        if values.type == _ARROW[field]:
            return kind
    return ValueType.STRING
