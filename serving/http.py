"""HTTP ↔ use case: the documented JSON shapes, and errors with their status."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any

import grpc
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from plumbline import wire
from plumbline.errors import FieldViolation, InvalidArgument, MalformedColumn, PlumblineError
from plumbline.feature_columns import FeatureTable
from plumbline.serving.errors import EmptyRequest, TypeMismatch
from serving.arrow_types import arrow_type
from serving.domain import ColumnType, Signature
from serving.predict import EntityRows, FeatureRows, Prediction, PredictionRequest

Cells = dict[str, list[Any]]

_EXAMPLE: dict[str, JsonValue] = {
    "entities": {"customer_id": ["c-17", "c-18"]},
    "request_data": {"amount": [12.5, 80.0]},
    "return_features": True,
}


class PredictBody(BaseModel):
    """Rows to predict: either `entities` (with `request_data`), or `features`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    model: str = Field("", description="model@alias or model/version; empty: the server's default.")
    entities: Cells | None = Field(
        None, description="One list per join key, all of the same length; the features are looked up."
    )
    request_data: Cells | None = Field(
        None, description="One list per column that only the caller knows. Times as ISO 8601 with a zone."
    )
    features: Cells | None = Field(
        None, description="One list per input of the model; null is a missing value. Categories as strings."
    )
    prediction_ids: list[str] = Field(
        default_factory=list, description="One a row, unique, at most 128 characters; empty: made here."
    )
    return_features: bool = Field(False, description="Ask for the features used to come back.")


class FeatureCells(BaseModel):
    """One input of the model, as the model saw it."""

    values: list[Any]
    statuses: list[str] = Field(description="PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE, one a row.")
    view: str = Field(description="The feature view it comes from; empty: sent by the caller.")


class PredictReply(BaseModel):
    """Predictions, one value a row in the order of the request."""

    outputs: dict[str, list[float | None]]
    model_version: str = Field(description="models/{model}/versions/{version} that answered.")
    model_sha256: str
    prediction_ids: list[str]
    features: dict[str, FeatureCells] | None = Field(None, description="With return_features.")
    event_times: dict[str, list[str | None]] | None = Field(
        None, description="With return_features: when the rows of each view happened, UTC."
    )
    definition_digest: str = Field(description="Of the feature definitions that answered.")


_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_PYTHON: dict[ColumnType, tuple[type, ...]] = {
    ColumnType.DOUBLE: (float, int),
    ColumnType.FLOAT: (float, int),
    ColumnType.INT64: (int,),
    ColumnType.INT32: (int,),
    ColumnType.BOOL: (bool,),
    ColumnType.STRING: (str,),
    ColumnType.BYTES: (str,),
    ColumnType.TIMESTAMP: (str,),
}


def error_body(error: PlumblineError) -> tuple[int, dict[str, Any]]:
    """The HTTP status of an error (google.rpc's mapping) and the JSON that tells it."""
    code = wire.status_code(error)
    body: dict[str, Any] = {
        "code": code.name,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
    }
    if error.violations:
        body["violations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    return _STATUS.get(code, 500), {"error": body}


def prediction_request(body: PredictBody, signature: Signature) -> PredictionRequest:
    """Reads the cells by the types the model's signature gives them.

    Raises EmptyRequest, TypeMismatch, MalformedColumn, and InvalidArgument when both kinds of rows come.
    """
    rows: EntityRows | FeatureRows
    if body.features is not None:
        if body.entities is not None or body.request_data is not None:
            raise InvalidArgument(
                "send either `features`, or `entities` with `request_data`; not both",
                violations=[FieldViolation("features", "excludes entities and request_data")],
            )
        rows = FeatureRows(_table(body.features, _given_types(body.features, signature), "features"))
    elif body.entities is None and body.request_data is None:
        raise EmptyRequest(
            "the request has no rows; set `entities` or `features`", metadata={"field": "input"}
        )
    else:
        keys = {field.name: field.type for field in signature.join_keys}
        sent = {field.name: field.type for field in signature.caller_fields}
        rows = EntityRows(
            _table(body.entities or {}, keys, "entities"),
            _table(body.request_data or {}, sent, "request_data"),
        )
    return PredictionRequest(body.model, rows, tuple(body.prediction_ids), body.return_features)


def prediction_reply(item: Prediction) -> dict[str, Any]:
    """The JSON of a prediction, in the shape of PredictReply."""
    reply: dict[str, Any] = {
        "outputs": {name: _json_cells(values.tolist()) for name, values in item.outputs.items()},
        "model_version": item.release.version,
        "model_sha256": item.release.sha256,
        "prediction_ids": list(item.prediction_ids),
        "definition_digest": item.definition_digest,
    }
    if item.features is not None:
        reply |= _features_json(item.features)
    return reply


def _features_json(table: FeatureTable) -> dict[str, Any]:
    return {
        "features": {
            name: {
                "values": _json_cells(table.values[name].to_pylist()),
                "statuses": table.status_names(name),
                "view": table.views[name],
            }
            for name in table.values.column_names
        },
        "event_times": {view: _json_cells(times.to_pylist()) for view, times in table.event_times.items()},
    }


def _json_cells(cells: Iterable[Any]) -> list[Any]:
    """Cells as JSON can say them: no NaN, no infinity, times as ISO 8601, bytes as base64."""
    return [_json_cell(cell) for cell in cells]


def _json_cell(cell: Any) -> Any:
    match cell:
        case float():
            return cell if math.isfinite(cell) else None
        case datetime():
            return cell.isoformat()
        case bytes():
            return base64.b64encode(cell).decode()
        case list():
            return _json_cells(cell)
    return cell


def _given_types(cells: Cells, signature: Signature) -> Mapping[str, ColumnType]:
    """Types of given features: as declared, but categories may come as text and whole numbers with
    a fraction as doubles (JSON knows one kind of number)."""
    types = {}
    for item in signature.inputs:
        kinds = {type(cell) for cell in cells.get(item.name, ())}
        types[item.name] = item.type
        if item.categories and str in kinds:
            types[item.name] = ColumnType.STRING
        elif item.type.is_integer and float in kinds and not item.categories:
            types[item.name] = ColumnType.DOUBLE
    return types


def _table(cells: Cells, types: Mapping[str, ColumnType], where: str) -> pa.Table:
    lengths = {name: len(values) for name, values in cells.items()}
    for name, length in lengths.items():
        first = next(iter(lengths))
        if length != lengths[first]:
            raise MalformedColumn(
                f"column {name!r} has {length} rows, but {first!r} has {lengths[first]}",
                metadata={"column": name},
            )
    # An unknown column is named by the use case, whatever its cells are.
    return pa.table(
        {
            name: _array(name, values, types[name], where) if name in types else pa.nulls(len(values))
            for name, values in cells.items()
        }
    )


def _array(name: str, cells: list[Any], kind: ColumnType, where: str) -> pa.Array:
    allowed = _PYTHON.get(kind)
    strange = {type(cell) for cell in cells} - {NoneType, *(allowed or (list,))}
    if strange:
        raise _mismatch(name, kind, strange.pop().__name__, where)
    try:
        if kind is ColumnType.TIMESTAMP:
            cells = [None if cell is None else _moment(cell) for cell in cells]
        elif kind is ColumnType.BYTES:
            cells = [None if cell is None else base64.b64decode(cell, validate=True) for cell in cells]
        return pa.array(cells, arrow_type(kind))
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's own errors are among these
        raise _mismatch(name, kind, str(error), where) from error


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as in 2013-11-01T12:00:00Z")
    return moment


def _mismatch(name: str, kind: ColumnType, actual: str, where: str) -> TypeMismatch:
    return TypeMismatch(
        f"column {name!r} must be {kind.name}: {actual}",
        metadata={"column": name, "expected": kind.name, "actual": actual},
        violations=[FieldViolation(where, f"{name!r} must be {kind.name}")],
    )
