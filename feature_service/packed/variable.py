"""Columns of rows whose values have no fixed length: strings, bytes and lists.

The bytes of a value: of a string or bytes, they themselves; of a list of numbers, timestamps or bools, the
elements' little-endian cells; of a list of strings or bytes, u32 count, u32 end of each element counted
from the last of these ends on, and the elements. Neither a null nor an empty value has bytes: the null mask
tells them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_ELEMENT = {
    ValueType.DOUBLE: "<f8",
    ValueType.INT64: "<i8",
    ValueType.TIMESTAMP: "<i8",
    ValueType.FLOAT: "<f4",
    ValueType.INT32: "<i4",
    ValueType.BOOL: "u1",
}


class CorruptRow(ValueError):
    """The bytes are no row of this layout."""


def pack(columns: Sequence[tuple[pa.Array, ValueType]]) -> tuple[list[pa.Array], npt.NDArray[np.uint32]]:
    """The bytes of each value as one large_binary array a column, and their ends in each row.

    Raises ValueError for a list with a null inside.
    """
    blobs = [_blobs(array, kind) for array, kind in columns]
    lengths = np.stack([np.diff(_offsets(blob)) for blob in blobs], axis=1)
    return blobs, np.cumsum(lengths, axis=1).astype(np.uint32)


def concatenate(records: npt.NDArray[Any], blobs: Sequence[pa.Array]) -> list[bytes]:
    """Each record followed by its blobs."""
    count, width = len(records), records.dtype.itemsize
    starts = np.arange(count + 1, dtype=np.int64) * width
    heads = _binary(starts, pa.py_buffer(records))
    whole = pc.binary_join_element_wise(heads, *blobs, pa.scalar(b"", pa.large_binary()))
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.combine_chunks()
    return slices(whole)


def slices(array: pa.Array) -> list[bytes]:
    """The values of a large_binary array without nulls; faster than to_pylist."""
    data = array.buffers()[2]
    if data is None:
        return [b""] * len(array)
    view = data.to_pybytes()
    bounds = _offsets(array).tolist()
    return [view[start:end] for start, end in itertools.pairwise(bounds)]


class Tails:
    """The variable columns of many rows. Raises CorruptRow when the ends do not fit the rows."""

    def __init__(self, rows: Sequence[bytes], width: int, ends: npt.NDArray[np.uint32]) -> None:
        count, columns = ends.shape
        lengths = np.fromiter(map(len, rows), np.int64, count)
        bounds = np.empty((count, columns + 1), np.int64)
        bounds[:, 0] = 0
        bounds[:, 1:] = ends
        if count and ((np.diff(bounds, axis=1) < 0).any() or (bounds[:, -1] != lengths - width).any()):
            raise CorruptRow("the ends of a row's variable columns do not fit its length")
        starts = np.cumsum(lengths) - lengths + width
        self._bounds = bounds + starts[:, None]
        self._joined = b"".join(rows)

    def column(self, number: int, kind: ValueType, null: Bools) -> pa.Array:
        """One column as an Arrow array."""
        bounds = self._bounds
        blobs = _take(pa.py_buffer(self._joined), bounds[:, number], bounds[:, number + 1])
        if null.any() and (np.diff(_offsets(blobs))[null] != 0).any():
            raise CorruptRow("a null has bytes")
        if kind.is_list:
            return _lists(blobs, kind, null)
        return _texts(blobs, kind, null)


def _offsets(array: pa.Array) -> Ints:
    """The n + 1 offsets of an array with 64-bit offsets."""
    if array.buffers()[1] is None or not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


def _binary(offsets: Ints, data: pa.Buffer) -> pa.Array:
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(np.ascontiguousarray(offsets)), data]
    )


def _take(data: pa.Buffer, starts: Ints, ends: Ints) -> pa.Array:
    """The pieces data[start:end], which follow one another with gaps, as large_binary."""
    if not len(starts):
        return pa.array([], pa.large_binary())
    # Every second value of an array whose offsets are the pieces' starts and ends.
    both = np.empty(2 * len(starts), np.int64)
    both[0::2], both[1::2] = starts, ends
    return _binary(both, data).take(pa.array(np.arange(0, 2 * len(starts), 2)))


def _blobs(array: pa.Array, kind: ValueType) -> pa.Array:
    """The bytes of each value; none for a null."""
    if not kind.is_list:
        return _plain(array)
    # A slice's child is the whole one, and a null may hide elements.
    if array.offset or array.null_count:
        array = pc.if_else(array.is_valid(), array, pa.scalar([], array.type)) if len(array) else array
        array = pa.concat_arrays([array])
    offsets = np.asarray(array.offsets.to_numpy(zero_copy_only=False), np.int64)
    elements = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets = offsets - offsets[0]
    if elements.null_count:
        raise ValueError("a list with nulls inside cannot be stored")
    form = _ELEMENT.get(kind.element)
    if form is not None:
        if kind.element is ValueType.TIMESTAMP:
            elements = elements.cast(pa.int64())
        cells = np.ascontiguousarray(elements.to_numpy(zero_copy_only=False), np.dtype(form))
        return _binary(offsets * cells.itemsize, pa.py_buffer(cells))
    return _nested(offsets, _plain(elements))


def _plain(array: pa.Array) -> pa.Array:
    found = array.cast(pa.large_binary())
    return found.fill_null(b"") if found.null_count else found


def _nested(offsets: Ints, elements: pa.Array) -> pa.Array:
    """Lists of strings: counts, ends, elements."""
    counts = np.diff(offsets)
    bounds = _offsets(elements)
    if not len(elements):
        bounds = np.zeros(len(elements) + 1, np.int64)
    starts = bounds[offsets[:-1]]
    ends = (bounds[1:] - np.repeat(starts, counts)).astype("<u4")
    filled = counts > 0
    words = np.concatenate([[0], np.cumsum(counts + filled)]).astype(np.int64)
    numbers = np.empty(words[-1], "<u4")
    is_count = np.zeros(len(numbers), bool)
    is_count[words[:-1][filled]] = True
    numbers[is_count], numbers[~is_count] = counts[filled], ends
    heads = _binary(words * 4, pa.py_buffer(numbers))
    data = elements.buffers()[2] if len(elements) else None
    texts = _binary(bounds[offsets], data if data is not None else pa.py_buffer(b""))
    return pc.binary_join_element_wise(heads, texts, pa.scalar(b"", pa.large_binary()))


def _texts(blobs: pa.Array, kind: ValueType, null: Bools) -> pa.Array:
    found = blobs.cast(pa.binary())
    if kind is ValueType.STRING:
        found = _utf8(found)
    return pc.if_else(pa.array(~null), found, pa.scalar(None, found.type)) if null.any() else found


def _utf8(binary: pa.Array) -> pa.Array:
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise CorruptRow(f"a string is not UTF-8: {error}") from error


def _lists(blobs: pa.Array, kind: ValueType, null: Bools) -> pa.Array:
    wanted = arrow_type(kind)
    form = _ELEMENT.get(kind.element)
    if form is None:
        offsets, elements = _unnest(blobs, kind)
    else:
        bounds, size = _offsets(blobs), np.dtype(form).itemsize
        if not len(blobs):
            return pa.array([], wanted)
        if (np.diff(bounds) % size).any():
            raise CorruptRow(f"a list of {kind.element} has a part of an element")
        data = blobs.buffers()[2]
        first, last = int(bounds[0]), int(bounds[-1])
        cells = np.frombuffer(data if data is not None else b"", np.uint8)[first:last].view(form)
        offsets = (bounds - first) // size
        elements = pa.array(cells != 0 if kind.element is ValueType.BOOL else cells)
        elements = elements.cast(wanted.value_type)
    mask = pa.array(null) if null.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements, type=wanted, mask=mask)


def _unnest(blobs: pa.Array, kind: ValueType) -> tuple[Ints, pa.Array]:
    """The offsets and elements of lists of strings or bytes."""
    bounds = _offsets(blobs)
    data = np.frombuffer(blobs.buffers()[2], np.uint8) if len(blobs) and bounds[-1] else np.zeros(0, np.uint8)
    begins, lengths = bounds[:-1], np.diff(bounds)
    filled = np.flatnonzero(lengths)
    counts = np.zeros(len(blobs), np.int64)
    if (lengths[filled] < 4).any():
        raise CorruptRow("a list has no count")
    counts[filled] = _u32_at(data, begins[filled])
    if (counts[filled] == 0).any() or (4 + 4 * counts[filled] > lengths[filled]).any():
        raise CorruptRow("a list has fewer elements than it counts")
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    base = np.repeat(begins + 4 + 4 * counts, counts)
    ends = base + _u32_at(data, np.repeat(begins + 4, counts) + 4 * rank)
    starts = np.where(rank == 0, base, np.concatenate([[0], ends[:-1]]))
    if (ends < starts).any() or (ends[offsets[1:][filled] - 1] != bounds[1:][filled]).any():
        raise CorruptRow("the elements of a list do not fit its bytes")
    elements = _take(pa.py_buffer(data), starts, ends).cast(pa.binary())
    return offsets, _utf8(elements) if kind.element is ValueType.STRING else elements


def _u32_at(data: npt.NDArray[np.uint8], positions: Ints) -> Ints:
    """The little-endian u32 at each position."""
    if not len(positions):
        return np.zeros(0, np.int64)
    words = data[positions[:, None] + np.arange(4)].view("<u4")
    return np.asarray(words[:, 0], np.int64)
