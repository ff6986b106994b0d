"""The HTTP face: JSON to rows and back, and errors of one shape."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from plumbline import errors as base
from plumbline.feature_columns import FeatureTable
from plumbline.serving import errors
from serving import codec, http
from serving.domain import ColumnType, Field, ModelInput, Release, Signature
from serving.http_errors import SHAPED_HEADER, ErrorShape
from serving.predict import EntityRows, FeatureRows, Prediction
from tests.unit.serving.fakes import signature

SIGNATURE = codec.signature(signature())
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)
ENTITIES = {"origin": ["JFK", "LGA"], "carrier": ["AA", None]}
SENT: dict[str, list[Any]] = {"sched": ["2013-11-01T08:00:00-04:00", "2013-11-01T12:00:00Z"], "hour": [7, 8]}


def read(**body: Any) -> Any:
    return http.prediction_request(http.PredictBody(**body), SIGNATURE)


def test_entities_are_read_by_the_types_of_the_signature() -> None:
    request = read(entities=ENTITIES, request_data=SENT, prediction_ids=["a", "b"], return_features=True)
    assert isinstance(request.rows, EntityRows)
    assert request.rows.join_keys.to_pydict() == ENTITIES
    noon = datetime(2013, 11, 1, 12, tzinfo=UTC)
    assert request.rows.request_data["sched"].to_pylist() == [noon, noon]
    assert request.rows.request_data["hour"].type == pa.int64()
    assert request.prediction_ids == ("a", "b")
    assert request.return_features


def test_given_features_are_read_by_the_types_of_the_signature() -> None:
    cells = {
        "delay": [1, None],
        "seats": [150, 1.5],
        "wind": [3, 2.5],
        "carrier": ["AA", None],
        "hour": [7, 8],
    }
    rows = read(features=cells).rows
    assert isinstance(rows, FeatureRows)
    assert rows.columns.to_pydict() == cells
    kinds = [field.type for field in rows.columns.schema]
    assert kinds == [pa.float64(), pa.float64(), pa.float32(), pa.string(), pa.int64()]


@pytest.mark.parametrize(
    ("body", "column"),
    [
        ({"entities": {"origin": [1], "carrier": ["AA"]}}, "origin"),
        ({"entities": {}, "request_data": {"hour": ["7"]}}, "hour"),
        ({"entities": {}, "request_data": {"hour": [True]}}, "hour"),
        ({"entities": {}, "request_data": {"hour": [7.5]}}, "hour"),
        ({"entities": {}, "request_data": {"hour": [2**63]}}, "hour"),
        ({"entities": {}, "request_data": {"sched": ["yesterday"]}}, "sched"),
        ({"entities": {}, "request_data": {"sched": ["2013-11-01T12:00:00"]}}, "sched"),
        ({"features": {"delay": ["late"]}}, "delay"),
        ({"features": {"carrier": [1]}}, "carrier"),
    ],
)
def test_cells_of_another_type_are_named(body: Any, column: str) -> None:
    with pytest.raises(errors.TypeMismatch) as caught:
        read(**body)
    assert caught.value.metadata["column"] == column


def test_requests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(errors.EmptyRequest):
        read()
    with pytest.raises(base.InvalidArgument, match="not both"):
        read(entities=ENTITIES, features={})
    with pytest.raises(base.MalformedColumn, match="'carrier' has 1 rows, but 'origin' has 2"):
        read(entities={"origin": ["JFK", "LGA"], "carrier": ["AA"]})
    with pytest.raises(ValidationError):
        http.PredictBody(entites={})  # type: ignore[call-arg]


def test_bytes_are_base64() -> None:
    sig = Signature(inputs=(), outputs=(), join_keys=(Field("id", ColumnType.BYTES),))
    request = http.prediction_request(http.PredictBody(entities={"id": ["AAE="]}), sig)
    assert isinstance(request.rows, EntityRows)
    assert request.rows.join_keys["id"].to_pylist() == [b"\0\1"]
    with pytest.raises(errors.TypeMismatch):
        http.prediction_request(http.PredictBody(entities={"id": ["?"]}), sig)


def test_a_reply_is_json_whatever_the_cells_hold() -> None:
    table = FeatureTable(
        values=pa.table(
            {"x": [math.nan, 1.5], "when": [datetime(2013, 1, 1, tzinfo=UTC), None], "b": [b"a", b""]}
        ),
        statuses={name: np.array([1, 2], np.uint8) for name in ("x", "when", "b")},
        event_times={"v": pa.array([None, NEW_YEAR])},
        views={"x": "v", "when": "v", "b": ""},
    )
    release = Release(
        "models/m/versions/1", "model.txt", "ab" * 32, 1, Signature((ModelInput("x", ColumnType.DOUBLE),), ())
    )
    outputs = {"score": np.array([0.25, math.inf])}
    reply = http.prediction_reply(Prediction(release, outputs, ("a", "b"), table, "sha256:0"))
    assert json.loads(json.dumps(reply, allow_nan=False)) == reply
    assert reply["outputs"] == {"score": [0.25, None]}
    assert reply["features"]["x"] == {
        "values": [None, 1.5],
        "statuses": ["PRESENT", "NULL_VALUE"],
        "view": "v",
    }
    assert reply["features"]["when"]["values"] == ["2013-01-01T00:00:00+00:00", None]
    assert reply["event_times"] == {"v": [None, "2013-01-01T00:00:00+00:00"]}
    http.PredictReply(**reply)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InputMissing("m", metadata={"column": "x"}), 400, "INVALID_ARGUMENT"),
        (errors.ModelNotServed("m"), 404, "NOT_FOUND"),
        (errors.ModelNotLoaded("m"), 503, "UNAVAILABLE"),
        (errors.FeaturesUnavailable("m"), 503, "UNAVAILABLE"),
        (errors.SignatureMismatch("m"), 400, "FAILED_PRECONDITION"),
        (errors.ArtifactCorrupt("m"), 500, "DATA_LOSS"),
        (base.DeadlineExceeded("m"), 504, "DEADLINE_EXCEEDED"),
        (base.ResourceExhausted("m"), 429, "RESOURCE_EXHAUSTED"),
        (base.Internal("m"), 500, "INTERNAL"),
    ],
)
def test_errors_have_the_status_of_their_code(error: base.PlumblineError, status: int, code: str) -> None:
    told, body = http.error_body(error)
    assert told == status
    assert body["error"] == {
        "code": code,
        "reason": error.reason,
        "message": "m",
        "metadata": error.metadata,
    }


async def through(
    status: int, body: bytes, headers: dict[str, str], path: str = "/predict"
) -> tuple[int, bytes]:
    """What a caller sees of a reply that passes the middleware in two pieces."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await ErrorShape(app, paths=("/predict",))({"type": "http", "path": path}, receive, send)
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    length = dict(sent[0]["headers"]).get(b"content-length")
    assert length is None or int(length) == len(whole)
    return sent[0]["status"], whole


async def test_errors_of_the_framework_take_the_shape_of_ours() -> None:
    told = {"error": "1 validation error", "detail": [{"loc": ["entities", "x"], "msg": "should be a list"}]}
    status, body = await through(400, json.dumps(told).encode(), {"content-length": "3"})
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == "the body is not as documented: entities.x: should be a list"
    assert set(error) == {"code", "reason", "message", "metadata"}


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (405, b"Method Not Allowed", "UNIMPLEMENTED", "Method Not Allowed"),
        (500, b'{"error": "see the log"}', "INTERNAL", "see the log"),
        (415, b'[{"error": "not that"}]', "INVALID_ARGUMENT", "not that"),
        (503, b"", "UNAVAILABLE", "the request cannot be answered"),
    ],
)
async def test_other_bodies_are_understood(status: int, body: bytes, code: str, message: str) -> None:
    told, whole = await through(status, body, {})
    assert told == status
    assert json.loads(whole)["error"] == {"code": code, "reason": "", "message": message, "metadata": {}}


async def test_what_is_shaped_or_well_or_elsewhere_passes_untouched() -> None:
    assert await through(400, b'{"error": 1}', {SHAPED_HEADER: "X"}) == (400, b'{"error": 1}')
    assert await through(200, b'{"error": 1}', {}) == (200, b'{"error": 1}')
    assert await through(503, b"not ready", {}, path="/readyz") == (503, b"not ready")
