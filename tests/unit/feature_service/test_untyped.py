"""Text and JSON as the declared types: what says one value is taken, all else refused with its row."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType
from feature_service.feast_clients.untyped import from_json, from_text
from plumbline.features.errors import TypeMismatch

MOMENT = datetime(2024, 3, 10, 7, 30, 0, 123456, UTC)
T = ValueType

TEXT: list[tuple[ValueType, str, Any]] = [
    (T.INT64, "-9223372036854775808", -(2**63)),
    (T.INT64, "+7", 7),
    (T.INT32, "2147483647", 2**31 - 1),
    (T.DOUBLE, "1e-3", 0.001),
    (T.DOUBLE, ".5", 0.5),
    (T.DOUBLE, "-Infinity", -math.inf),
    (T.FLOAT, "3", 3.0),
    (T.FLOAT, "3.4028234663852886e38", 3.4028234663852886e38),
    (T.DOUBLE, "inf", math.inf),
    (T.BOOL, "True", True),
    (T.BOOL, "0", False),
    (T.STRING, "", ""),
    (T.STRING, "grüße", "grüße"),
    (T.BYTES, "AP8=", b"\x00\xff"),
    (T.TIMESTAMP, "1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    (T.TIMESTAMP, "2024-03-10 07:30:00.123456", MOMENT),
    (T.TIMESTAMP, "2024-03-10T08:30:00.123456+01:00", MOMENT),
    (T.TIMESTAMP, "2024-03-10T07:30:00.123456Z", MOMENT),
    (T.INT64_LIST, "[1, 2]", [1, 2]),
    (T.STRING_LIST, '["a", "1"]', ["a", "1"]),
    (T.DOUBLE_LIST, "[]", []),
]
NOT_TEXT: list[tuple[ValueType, str]] = [
    (T.INT64, "7.0"),
    (T.INT64, ""),
    (T.INT64, " 7"),
    (T.INT64, "1_000"),
    (T.INT64, "٣"),
    (T.INT64, "9" * 5_000),
    (T.TIMESTAMP, "9" * 5_000),
    (T.INT64, "9223372036854775808"),
    (T.INT32, "2147483648"),
    (T.DOUBLE, "1,5"),
    (T.DOUBLE, "0x10"),
    (T.DOUBLE, "1_0"),
    (T.DOUBLE, "1e999"),
    (T.FLOAT, "1e39"),
    (T.BOOL, "yes"),
    (T.BYTES, "not base64!"),
    (T.TIMESTAMP, "yesterday"),
    (T.TIMESTAMP, "2024-03-10T07:30:00.123456789Z"),
    (T.TIMESTAMP, "9999999999999999"),
    (T.INT64_LIST, "1, 2"),
    (T.INT64_LIST, "{}"),
    (T.INT64_LIST, '["1"]'),
    (T.INT64_LIST, "[null]"),
]
JSON: list[tuple[ValueType, Any, Any]] = [
    (T.INT64, 7, 7),
    (T.INT64, 7.0, 7),
    (T.INT64, None, None),
    (T.DOUBLE, 7, 7.0),
    (T.DOUBLE, "Infinity", math.inf),
    (T.BOOL, True, True),
    (T.STRING, "7", "7"),
    (T.BYTES, "AP8=", b"\x00\xff"),
    (T.TIMESTAMP, 1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    (T.TIMESTAMP, "2024-03-10T07:30:00.123456", MOMENT),
    (T.TIMESTAMP_LIST, [1_700_000_000], [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]),
    (T.BOOL_LIST, [True, False], [True, False]),
]
NOT_JSON: list[tuple[ValueType, Any]] = [
    (T.INT64, "7"),
    (T.INT64, 7.5),
    (T.INT64, True),
    (T.INT64, 2**63),
    (T.INT64, float(2**60)),
    (T.DOUBLE, "7"),
    (T.DOUBLE, False),
    (T.DOUBLE, 2**53 + 1),
    (T.FLOAT, 1e39),
    (T.BOOL, 1),
    (T.STRING, 7),
    (T.STRING, "\ud800"),
    (T.STRING_LIST, ["a", "\udfff"]),
    (T.BYTES, 7),
    (T.TIMESTAMP, True),
    (T.TIMESTAMP, 1.5),
    (T.TIMESTAMP, "2024-03-10T07:30:00.1234567Z"),
    (T.TIMESTAMP, 2**62),
    (T.INT64_LIST, 7),
    (T.INT64_LIST, [[7]]),
    (T.INT64_LIST, [None]),
]


@pytest.mark.parametrize(("kind", "cell", "value"), TEXT)
def test_text_that_says_a_value_is_taken(kind: ValueType, cell: str, value: Any) -> None:
    found = from_text([cell], kind, "c")
    assert (found.type, found.to_pylist()) == (arrow_type(kind), [value])


@pytest.mark.parametrize(("kind", "cell", "value"), JSON)
def test_json_that_says_a_value_is_taken(kind: ValueType, cell: Any, value: Any) -> None:
    found = from_json([cell], kind, "c")
    assert (found.type, found.to_pylist()) == (arrow_type(kind), [value])


@pytest.mark.parametrize(("kind", "cell"), NOT_TEXT)
def test_text_that_does_not_is_refused(kind: ValueType, cell: str) -> None:
    with pytest.raises(TypeMismatch, match=f"column 'c' is declared {kind}, but row 0 holds"):
        from_text([cell], kind, "c")


@pytest.mark.parametrize(("kind", "cell"), NOT_JSON)
def test_json_that_does_not_is_refused(kind: ValueType, cell: Any) -> None:
    with pytest.raises(TypeMismatch) as caught:
        from_json([None, cell], kind, "c")
    assert caught.value.violations[0].field == "c[1]"
    assert str(caught.value).encode()


def test_nan_is_a_number_and_not_null() -> None:
    assert math.isnan(from_json(["NaN"], T.DOUBLE, "c")[0].as_py())
    assert math.isnan(from_text(["NaN"], T.FLOAT, "c")[0].as_py())


def test_what_is_shown_of_a_cell_is_short() -> None:
    with pytest.raises(TypeMismatch) as caught:
        from_json(["x" * 10_000], T.INT64, "c")
    assert len(str(caught.value)) < 200


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_keep_their_value_as_text(values: list[int]) -> None:
    assert from_text([str(value) for value in values], T.INT64, "c").to_pylist() == values


@given(st.lists(st.floats(allow_nan=False)))
def test_floats_keep_their_value_as_text_and_json(values: list[float]) -> None:
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    cells = [names.get(value, value) for value in values]
    assert from_json(cells, T.DOUBLE, "c").to_pylist() == values
    assert from_text([str(cell) for cell in cells], T.DOUBLE, "c").to_pylist() == values


@given(
    st.lists(
        st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.just(UTC))
    ),
    st.integers(-23 * 60, 23 * 60),
)
def test_times_keep_their_moment_in_any_zone(values: list[datetime], minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    found = from_json([value.astimezone(zone).isoformat() for value in values], T.TIMESTAMP, "c")
    assert found == pa.array(values, arrow_type(T.TIMESTAMP))
