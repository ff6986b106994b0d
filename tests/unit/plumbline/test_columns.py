"""Columns keep every value, and their fast encoding is what the protobuf library itself writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline import columns
from plumbline.errors import MalformedColumn
from plumbline.types.v1 import column_pb2 as pb

MOMENTS = st.datetimes(
    datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)
)  # within what microseconds in 64 bits and pandas both hold
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    pa.float64(): st.floats(allow_nan=False),
    pa.float32(): st.floats(allow_nan=False, width=32),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.binary(): st.binary(),
    pa.timestamp("us", tz="UTC"): MOMENTS,
}


@st.composite
def arrays(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from(list(SCALARS)))
    value = SCALARS[kind]
    if draw(st.booleans()):
        kind, value = pa.list_(kind), st.lists(value, max_size=4)
    return pa.array(draw(st.lists(st.none() | value, max_size=20)), kind)


@given(arrays())
def test_every_value_survives_the_wire(array: pa.Array) -> None:
    wire = columns.encode("x", array).SerializeToString()
    assert columns.decode(pb.Column.FromString(wire)).equals(array)


@given(arrays(), st.integers(0, 5), st.integers(0, 10))
def test_a_slice_is_encoded_as_if_it_were_whole(array: pa.Array, start: int, rows: int) -> None:
    part = array.slice(start, rows)
    assert columns.decode(columns.encode("x", part)).to_pylist() == part.to_pylist()


@given(st.lists(st.floats(allow_nan=True), max_size=300))
def test_the_fast_encoding_is_the_librarys_own(values: list[float]) -> None:
    by_library = pb.Column(name="x", doubles=pb.Doubles(values=values))
    by_us = columns.encode("x", pa.array(values, pa.float64()))
    assert by_us.SerializeToString() == by_library.SerializeToString()


def test_nan_is_a_value_and_null_is_not() -> None:
    decoded = columns.decode(columns.encode("x", pa.array([float("nan"), None], from_pandas=False)))
    assert np.isnan(decoded[0].as_py())
    assert decoded[1].as_py() is None


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2013, 7, 1, 12), datetime(2013, 7, 1, 12, tzinfo=UTC)),
        (datetime(2013, 7, 1, 8, tzinfo=timezone(timedelta(hours=-4))), datetime(2013, 7, 1, 12, tzinfo=UTC)),
    ],
    ids=["naive counts as UTC", "any zone becomes UTC"],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_become_utc_microseconds(moment: datetime, expected: datetime, unit: str) -> None:
    zone = None if moment.tzinfo is None else "-04:00"
    array = pa.array([moment], pa.timestamp(unit, tz=zone))
    decoded = columns.decode(columns.encode("t", array))
    assert decoded.type == pa.timestamp("us", tz="UTC")
    assert decoded[0].as_py() == expected


@pytest.mark.parametrize(
    ("given_type", "expected"),
    [
        (pa.int8(), pb.VALUE_TYPE_INT32),
        (pa.uint16(), pb.VALUE_TYPE_INT32),
        (pa.uint32(), pb.VALUE_TYPE_INT64),
        (pa.large_string(), pb.VALUE_TYPE_STRING),
        (pa.dictionary(pa.int32(), pa.string()), pb.VALUE_TYPE_STRING),
        (pa.list_(pa.int64()), pb.VALUE_TYPE_INT64_LIST),
    ],
)
def test_types_that_fit_are_widened(given_type: pa.DataType, expected: int) -> None:
    assert columns.value_type(given_type) == expected


@pytest.mark.parametrize("given_type", [pa.uint64(), pa.decimal128(10, 2), pa.list_(pa.list_(pa.int64()))])
def test_types_that_do_not_fit_are_refused(given_type: pa.DataType) -> None:
    with pytest.raises(TypeError, match="cannot carry"):
        columns.value_type(given_type)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pb.Column(name="x"), "has no values"),
        (pb.Column(name="x", null_mask=b"\0\0", int64s=pb.Int64s(values=[1])), "null_mask of 2 bytes"),
        (
            pb.Column(
                name="x",
                lists=pb.Lists(lengths=[2], elements=pb.Column(int64s=pb.Int64s(values=[1]))),
            ),
            "announces 2 list elements but holds 1",
        ),
        (
            pb.Column(name="x", lists=pb.Lists(lengths=[1], elements=pb.Column(lists=pb.Lists(lengths=[0])))),
            "lists of lists",
        ),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(column: pb.Column, what: str) -> None:
    with pytest.raises(MalformedColumn, match=what) as caught:
        columns.decode(column)
    assert caught.value.metadata == {"column": "x"}


def test_a_table_needs_columns_of_one_length_and_different_names() -> None:
    one = columns.encode("a", pa.array([1]))
    two = columns.encode("b", pa.array([1, 2]))
    with pytest.raises(MalformedColumn, match="'b' has 2 rows, but 'a' has 1"):
        columns.decode_table([one, two])
    with pytest.raises(MalformedColumn, match="comes twice"):
        columns.decode_table([one, one])
    with pytest.raises(MalformedColumn, match="has no name"):
        columns.decode_table([columns.encode("", pa.array([1]))])


def test_fields_of_a_newer_message_are_not_read_as_values() -> None:
    newer = pb.Doubles(values=[1.5]).SerializeToString() + b"\x12\x08" + b"\x01" * 8  # a field 2 of 8 bytes
    column = pb.Column(name="x", doubles=pb.Doubles.FromString(newer))
    assert columns.decode(column).to_pylist() == [1.5]
    only_new = pb.Column(name="x", doubles=pb.Doubles.FromString(newer[10:]))
    assert columns.decode(only_new).to_pylist() == []


@pytest.mark.parametrize("text", ["JFK", b"JFK"])
def test_one_text_is_not_taken_for_letters(text: Any) -> None:
    with pytest.raises(TypeError, match="is one value"):
        columns.encode_mapping({"origin": text})
