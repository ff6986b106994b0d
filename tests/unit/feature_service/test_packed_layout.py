"""Rows in bytes: whatever goes in comes out, and what is no row of the layout is refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_service.domain import Field, ValueType
from feature_service.packed.layout import EARLIEST, HEADER, LATEST, NO_TIME, RowLayout, arrow_type, times
from feature_service.packed.variable import CorruptRow

KINDS = list(ValueType)
_I64 = st.integers(-(2**63), 2**63 - 1)
_SCALARS: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.DOUBLE: st.floats(),
    ValueType.FLOAT: st.floats(width=32),
    ValueType.INT64: _I64 | st.sampled_from([-(2**63), 2**63 - 1]),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(max_size=8),
    ValueType.BYTES: st.binary(max_size=8),
    ValueType.TIMESTAMP: st.integers(-(2**60), 2**60),
    ValueType.UNSPECIFIED: st.binary(max_size=8),
}


def values_of(kind: ValueType) -> st.SearchStrategy[Any]:
    scalar = _SCALARS[kind.element]
    return st.none() | (st.lists(scalar, max_size=3) if kind.is_list else scalar)


def array(values: Sequence[Any], kind: ValueType) -> pa.Array:
    if kind.element is ValueType.TIMESTAMP:
        plain = pa.list_(pa.int64()) if kind.is_list else pa.int64()
        return pa.array(values, plain).cast(arrow_type(kind))
    return pa.array(values, arrow_type(kind))


def plain(found: pa.Array, kind: ValueType) -> list[Any]:
    """Values that compare equal only when they are the same, to the bit."""
    if kind.element is ValueType.TIMESTAMP:
        found = found.cast(pa.list_(pa.int64()) if kind.is_list else pa.int64())
    return [_exact(value) for value in found.to_pylist()]


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


@st.composite
def tables(
    draw: st.DrawFn,
) -> tuple[RowLayout, list[pa.Array], np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    kinds = draw(st.lists(st.sampled_from(KINDS), max_size=6))
    count = draw(st.integers(0, 5))
    layout = RowLayout([Field(f"f{i}", kind) for i, kind in enumerate(kinds)])
    # Slices, as callers pass them on: their buffers begin before them.
    skipped = draw(st.integers(0, 2))
    values = [
        array(draw(st.lists(values_of(kind), min_size=count + skipped, max_size=count + skipped)), kind)[
            skipped:
        ]
        for kind in kinds
    ]
    moments = st.lists(st.integers(EARLIEST, LATEST), min_size=count, max_size=count)
    event = np.array(draw(moments), np.int64)
    created = draw(st.none() | st.lists(_I64, min_size=count, max_size=count))
    return layout, values, event, None if created is None else np.array(created, np.int64)


@given(tables(), st.integers(0, 5))
def test_what_is_packed_is_decoded(table: Any, blank_at: int) -> None:
    layout, values, event, created = table
    rows = layout.pack(values, event, created)
    blank_at = min(blank_at, len(rows))
    found = layout.decode([*rows[:blank_at], layout.blank, *rows[blank_at:]])
    times_of = [*event.tolist()[:blank_at], NO_TIME, *event.tolist()[blank_at:]]
    assert found.event_micros.tolist() == times_of
    wanted_created = [NO_TIME] * len(rows) if created is None else created.tolist()
    assert times(rows)[1].tolist() == wanted_created
    for i, (field, array_) in enumerate(zip(layout.fields, values, strict=True)):
        column = found.column(i)
        column.validate(full=True)
        assert column.type == arrow_type(field.type)
        wanted = plain(array_, field.type)
        assert plain(column, field.type) == [*wanted[:blank_at], None, *wanted[blank_at:]]
        assert found.nulls(i).tolist() == [
            value is None for value in [*wanted[:blank_at], None, *wanted[blank_at:]]
        ]


@given(tables(), st.data())
def test_damaged_rows_are_refused_or_stay_within_their_bytes(table: Any, data: st.DataObject) -> None:
    """A changed value cannot be told from another value; but structure that does not fit is refused."""
    layout, values, event, created = table
    rows = layout.pack(values, event, created)
    if not rows:
        return
    row = bytearray(rows[0])
    at = data.draw(st.integers(0, len(row) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            row[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del row[at:]
        case "grow":
            row[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    try:
        found = layout.decode([bytes(row), *rows[1:]])
        columns = [found.column(i) for i in range(len(layout.fields))]
    except CorruptRow:
        return
    assert len(row) == len(rows[0]) or not layout.fixed
    for column in columns:
        column.validate(full=True)
    # The neighbours are what they were.
    for column, wanted, field in zip(columns, values, layout.fields, strict=True):
        assert plain(column[1:], field.type) == plain(wanted[1:], field.type)


@given(st.binary(max_size=200))
@example(b"")
def test_arbitrary_bytes_are_refused(noise: bytes) -> None:
    layout = RowLayout([Field("a", ValueType.DOUBLE), Field("b", ValueType.STRING_LIST)])
    with pytest.raises(CorruptRow):
        layout.decode([noise])


@pytest.mark.parametrize("length", range(HEADER))
def test_times_of_something_shorter_than_a_header_are_refused(length: int) -> None:
    with pytest.raises(CorruptRow):
        times([bytes(length)])


def test_rows_of_fixed_columns_are_a_matrix() -> None:
    """The widest cells first, so that each is aligned."""
    kinds = [ValueType.BOOL, ValueType.FLOAT, ValueType.DOUBLE, ValueType.INT32, ValueType.TIMESTAMP]
    layout = RowLayout([Field(f"f{i}", kind) for i, kind in enumerate(kinds)])
    assert layout.fixed
    assert [cell.offset for cell in layout.cells] == [64, 56, 40, 60, 48]
    assert layout.width == 72
    assert {len(layout.blank)} == {72}


def test_a_row_of_another_schema_is_not_misread() -> None:
    one = RowLayout([Field("a", ValueType.DOUBLE), Field("b", ValueType.INT64)])
    renamed = RowLayout([Field("a", ValueType.DOUBLE), Field("c", ValueType.INT64)])
    swapped = RowLayout([Field("a", ValueType.INT64), Field("b", ValueType.DOUBLE)])
    row = one.pack([pa.array([1.0]), pa.array([2])], np.array([1]), None)
    for other in (renamed, swapped):
        assert other.width == one.width
        with pytest.raises(CorruptRow):
            other.decode(row)


def test_more_columns_than_one_word_of_the_mask_holds() -> None:
    layout = RowLayout([Field(f"f{i}", ValueType.INT32) for i in range(131)])
    values = [pa.array([None if i % 3 else i], pa.int32()) for i in range(131)]
    found = layout.decode(layout.pack(values, np.array([5]), None))
    assert [found.column(i).to_pylist()[0] for i in range(131)] == [None if i % 3 else i for i in range(131)]


def test_a_null_cell_is_zero_and_equal_rows_are_equal_bytes() -> None:
    layout = RowLayout([Field("a", ValueType.DOUBLE)])
    hidden = pa.array([1.5, 2.5], mask=np.array([True, False]))
    clean = pa.array([None, 2.5])
    assert layout.pack([hidden], np.array([1, 2]), None) == layout.pack([clean], np.array([1, 2]), None)


def test_a_list_with_a_null_inside_cannot_be_packed() -> None:
    layout = RowLayout([Field("a", ValueType.INT64_LIST)])
    with pytest.raises(ValueError, match="nulls inside"):
        layout.pack([pa.array([[1, None]])], np.array([1]), None)


def test_layouts_are_described_and_made_again() -> None:
    layout = RowLayout([Field("ä", ValueType.DOUBLE), Field("b", ValueType.STRING_LIST)])
    again = RowLayout.from_description(layout.describe())
    assert again.digest == layout.digest
    assert [(field.name, field.type) for field in again.fields] == [("ä", "DOUBLE"), ("b", "STRING_LIST")]
    for nonsense in (b"{}", b"[1]", b'[["a","NO_TYPE"]]', b"not json"):
        with pytest.raises(ValueError, match=r".+"):
            RowLayout.from_description(nonsense)
