"""JSON as Feast's own HTTP server speaks it ↔ the calls. Pure functions.

Replies are what Feast makes of its messages: one list a column, times of rows as RFC 3339, timestamps as
seconds since 1970, bytes as base64, and "NaN", "Infinity", "-Infinity" for what JSON has no number for.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import grpc
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ValidationError

from feature_service.arrow_types import OPAQUE
from feature_service.domain import FeatureStatus, ValueType
from feature_service.feast_clients import untyped
from feature_service.feast_clients.calls import Answer, AnswerColumn, Cells
from feature_service.feast_clients.codec import json_values, view_versions, whole_seconds
from feature_service.planning import Selection
from feature_service.ports import NOT_STORED
from plumbline import wire
from plumbline.errors import FieldViolation, PlumblineError
from plumbline.features.errors import InvalidField

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS_NAMES = {
    FeatureStatus.PRESENT: "PRESENT",
    FeatureStatus.NULL_VALUE: "NULL_VALUE",
    FeatureStatus.NOT_FOUND: "NOT_FOUND",
    FeatureStatus.OUTSIDE_MAX_AGE: "OUTSIDE_MAX_AGE",
}
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
#: Which of Feast's errors its client is to raise, by our reason; the others become a plain FeastError.
_FEAST_ERRORS = {
    "FEATURE_SERVICE_NOT_FOUND": "FeatureServiceNotFoundException",
    "VIEW_NOT_FOUND": "FeatureViewNotFoundException",
    "ENTITY_NOT_FOUND": "EntityNotFoundException",
    "REQUEST_DATA_MISSING": "RequestDataNotFoundInEntityRowsException",
    "AMBIGUOUS_FEATURE_NAME": "FeatureNameCollisionError",
}


class OnlineFeaturesBody(BaseModel):
    """POST /get-online-features."""

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class WriteBody(BaseModel):
    """POST /write-to-online-store. What Feast's flags ask for is done anyway, or does not apply here."""

    feature_view_name: str
    df: dict[str, list[Any]]


class PushBody(BaseModel):
    """POST /push."""

    push_source_name: str
    df: dict[str, list[Any]]
    to: str = "online"


class MaterializeBody(BaseModel):
    """POST /materialize and /materialize-incremental, which takes no start."""

    start_ts: str | None = None
    end_ts: str | None = None
    feature_views: list[str] | None = None
    disable_event_timestamp: bool = False
    version: str | None = None


BodyT = TypeVar("BodyT", bound=BaseModel)


class MalformedBodyError(Exception):
    """The body is not what the path takes. detail: as FastAPI, and so Feast's server, says it."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(str(detail))
        self.detail = detail


@dataclass(frozen=True)
class JsonCells:
    """A column of JSON values."""

    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def typed(self, kind: ValueType, column: str) -> pa.Array:
        """See Cells."""
        return untyped.from_json(self.values, kind, column)


def body(model: type[BodyT], data: bytes) -> BodyT:
    """Raises MalformedBodyError."""
    try:
        return model.model_validate(json.loads(data or b"null"))
    except ValidationError as error:
        raise MalformedBodyError(
            [
                {"type": item["type"], "loc": ["body", *item["loc"]], "msg": item["msg"]}
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        ) from error
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(
            [{"type": "json_invalid", "loc": ["body"], "msg": f"not JSON: {error}"}]
        ) from error


def selection(found: OnlineFeaturesBody) -> Selection:
    """A feature service, where both are named, as in Feast."""
    return Selection(found.feature_service or "", () if found.feature_service else tuple(found.features))


def columns(found: dict[str, list[Any]]) -> dict[str, Cells]:
    """The columns, by name. Raises InvalidField for a name that is no text."""
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InvalidField(
                f"the column {name!r} has half of a character in its name",
                metadata={"field": "columns"},
                violations=[FieldViolation("columns", "names must be UTF-8 text")],
            ) from error
    return {name: JsonCells(values) for name, values in found.items()}


def moment(text: str | None, field: str) -> datetime | None:
    """An ISO 8601 time, UTC when it names no zone. Raises InvalidField."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidField(
            f"{field} is {text!r}, which is no ISO 8601 time",
            metadata={"field": field},
            violations=[FieldViolation(field, "must be an ISO 8601 time")],
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def online_features(answer: Answer, *, versions: bool) -> dict[str, Any]:
    """The reply to an online read."""
    metadata: dict[str, Any] = {"feature_names": [column.name for column in answer.columns]}
    if versions:
        metadata["feature_view_metadata"] = [
            {"name": name, "version": version} if version else {"name": name}
            for name, version in view_versions(answer.views)
        ]
    return {"results": [_result(column) for column in answer.columns], "metadata": metadata}


def error_reply(error: PlumblineError) -> tuple[int, str]:
    """The HTTP status, and the text in which Feast's clients look for the error to raise."""
    name = _FEAST_ERRORS.get(error.reason, "FeastError")
    detail = {
        "module": "feast.errors",
        "class": name,
        "message": error.message,
        "code": wire.status_code(error).name,
        "reason": error.reason,
    }
    # A name out of the request may hold half of a character, which JSON can write and UTF-8 cannot.
    text = json.dumps(detail, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return _HTTP.get(wire.status_code(error), 500), text


def _result(column: AnswerColumn) -> dict[str, Any]:
    rows = len(column.values)
    if column.statuses is not None:
        statuses = [_STATUS_NAMES[status] for status in column.statuses.tolist()]
    elif column.values.null_count:
        nulls = column.values.is_null().to_pylist()
        statuses = ["NULL_VALUE" if null else "PRESENT" for null in nulls]
    else:
        statuses = ["PRESENT"] * rows
    return {"values": _values(column), "statuses": statuses, "event_timestamps": _times(column, rows)}


def _values(column: AnswerColumn) -> list[Any]:
    kind = column.type
    if column.values.type == OPAQUE and kind is ValueType.UNSPECIFIED:
        return json_values(column.values)
    if kind.element is ValueType.TIMESTAMP:
        return whole_seconds(column.values, kind)
    rows: list[Any] = column.values.to_pylist()
    convert: Callable[[Any], Any] | None = None
    if kind.element is ValueType.BYTES:
        convert = _base64
    elif kind.element in (ValueType.DOUBLE, ValueType.FLOAT):
        convert = _number
    if convert is None:
        return rows
    if kind.is_list:
        return [None if row is None else [convert(item) for item in row] for row in rows]
    return [convert(row) for row in rows]


def _times(column: AnswerColumn, rows: int) -> list[str]:
    if column.event_micros is None:
        return [_rfc3339(0)] * rows
    distinct, slots = np.unique(column.event_micros, return_inverse=True)
    texts = [_rfc3339(0 if micros == NOT_STORED else micros) for micros in distinct.tolist()]
    return [texts[slot] for slot in slots.tolist()]


def _rfc3339(micros: int) -> str:
    """With as many digits as it takes: none, three or six, as protobuf's JSON has it."""
    text = (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = micros % 1_000_000
    if not fraction:
        return f"{text}Z"
    return f"{text}.{fraction:06d}Z" if fraction % 1_000 else f"{text}.{fraction // 1_000:03d}Z"


def _base64(cell: bytes | None) -> str | None:
    return None if cell is None else base64.b64encode(cell).decode("ascii")


def _number(cell: float | None) -> float | str | None:
    if cell is None or math.isfinite(cell):
        return cell
    return "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
