"""What fits a declared type, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from feature_service.arrow_types import arrow_type
from feature_service.coercion import coerce
from feature_service.domain import ValueType
from plumbline.features.errors import TypeMismatch

MOMENT = datetime(2024, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "kind", "floats"),
    [
        (pa.array([1], pa.int32()), ValueType.INT64, False),
        (pa.array([1], pa.uint64()), ValueType.INT64, False),
        (pa.array([2**31 - 1], pa.int64()), ValueType.INT32, False),
        (pa.array([1, None], pa.int8()), ValueType.INT32, False),
        (pa.array(["a"], pa.large_string()), ValueType.STRING, False),
        (pa.array(["a"]).dictionary_encode(), ValueType.STRING, False),
        (pa.array([b"a"], pa.large_binary()), ValueType.BYTES, False),
        (pa.nulls(2), ValueType.STRING, False),
        (pa.array([None], pa.float64()), ValueType.INT64, False),
        (pa.array([1]), ValueType.DOUBLE, True),
        (pa.array([1.5]), ValueType.FLOAT, True),
        (pa.array([1.5], pa.float32()), ValueType.DOUBLE, True),
        (pa.array([[1, 2]]), ValueType.DOUBLE_LIST, True),
        (pa.array([[1]], pa.list_(pa.int32())), ValueType.INT64_LIST, False),
        (pa.array([[]], pa.list_(pa.null())), ValueType.STRING_LIST, False),
    ],
)
def test_values_that_fit_keep_what_they_say(values: pa.Array, kind: ValueType, floats: bool) -> None:
    found = coerce(values, kind, "c", floats=floats)
    assert found.type == arrow_type(kind)
    assert found.to_pylist() == values.to_pylist()


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns"])
def test_times_of_any_zone_and_resolution_are_utc_micros(kind: str) -> None:
    local = pa.array([MOMENT]).cast(pa.timestamp(kind, tz="America/New_York"))
    naive = pa.array([MOMENT.replace(tzinfo=None)]).cast(pa.timestamp(kind))
    assert coerce(local, ValueType.TIMESTAMP, "c").to_pylist() == [MOMENT]
    assert coerce(naive, ValueType.TIMESTAMP, "c").to_pylist() == [MOMENT]


@pytest.mark.parametrize(
    ("values", "kind", "floats"),
    [
        (pa.array(["1"]), ValueType.INT64, False),
        (pa.array([1]), ValueType.STRING, False),
        (pa.array([True]), ValueType.INT64, False),
        (pa.array([1]), ValueType.BOOL, False),
        (pa.array([1.0]), ValueType.INT64, False),
        (pa.array([1.0]), ValueType.INT64, True),
        (pa.array([2**31]), ValueType.INT32, False),
        (pa.array([2**63], pa.uint64()), ValueType.INT64, False),
        (pa.array([1]), ValueType.DOUBLE, False),
        (pa.array([2**60]), ValueType.DOUBLE, True),
        (pa.array([b"a"]), ValueType.STRING, False),
        (pa.array(["2024-01-01"]), ValueType.TIMESTAMP, False),
        (pa.array([0]), ValueType.TIMESTAMP, False),
        (pa.array([1]), ValueType.INT64_LIST, False),
        (pa.array([["a"]]), ValueType.INT64_LIST, False),
    ],
)
def test_values_that_do_not_fit_are_refused(values: pa.Array, kind: ValueType, floats: bool) -> None:
    with pytest.raises(TypeMismatch) as caught:
        coerce(values, kind, "c", floats=floats)
    metadata: dict[str, Any] = caught.value.metadata
    assert metadata["column"] == "c"
    assert metadata["expected"] == kind.value
    assert metadata["actual"]
