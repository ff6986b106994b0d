"""Columns on the wire ↔ Arrow arrays, without touching a cell where the layouts agree.

A packed repeated field of fixed-width numbers is, on the wire, a tag, a length and the little-endian
array. So a numeric column is built by parsing those bytes and read by serialising them: one copy each
way, whatever the number of rows. Strings, bytes and their lists go through Python objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline.errors import MalformedColumn
from plumbline.types.v1 import column_pb2 as pb

ValueType = pb.ValueType

_TIMESTAMP = pa.timestamp("us", tz="UTC")

_ARROW_BY_TYPE: dict[ValueType.ValueType, pa.DataType] = {
    pb.VALUE_TYPE_DOUBLE: pa.float64(),
    pb.VALUE_TYPE_FLOAT: pa.float32(),
    pb.VALUE_TYPE_INT64: pa.int64(),
    pb.VALUE_TYPE_INT32: pa.int32(),
    pb.VALUE_TYPE_BOOL: pa.bool_(),
    pb.VALUE_TYPE_STRING: pa.string(),
    pb.VALUE_TYPE_BYTES: pa.binary(),
    pb.VALUE_TYPE_TIMESTAMP: _TIMESTAMP,
}
_LIST_OF: dict[ValueType.ValueType, ValueType.ValueType] = {
    element: pb.ValueType.Value(pb.ValueType.Name(element) + "_LIST") for element in _ARROW_BY_TYPE
}
_ARROW_BY_TYPE |= {_LIST_OF[element]: pa.list_(_ARROW_BY_TYPE[element]) for element in _LIST_OF}

_ONEOF_BY_TYPE = {
    pb.VALUE_TYPE_DOUBLE: "doubles",
    pb.VALUE_TYPE_FLOAT: "floats",
    pb.VALUE_TYPE_INT64: "int64s",
    pb.VALUE_TYPE_INT32: "int32s",
    pb.VALUE_TYPE_BOOL: "bools",
    pb.VALUE_TYPE_STRING: "strings",
    pb.VALUE_TYPE_BYTES: "blobs",
    pb.VALUE_TYPE_TIMESTAMP: "timestamps",
}
_TYPE_BY_ONEOF = {v: k for k, v in _ONEOF_BY_TYPE.items()}

_FIXED: dict[str, tuple[type[Any], npt.DTypeLike]] = {
    "doubles": (pb.Doubles, np.dtype("<f8")),
    "floats": (pb.Floats, np.dtype("<f4")),
    "int64s": (pb.Int64s, np.dtype("<i8")),
    "int32s": (pb.Int32s, np.dtype("<i4")),
    "bools": (pb.Bools, np.dtype("?")),
    "timestamps": (pb.Timestamps, np.dtype("<i8")),
}
_PACKED_TAG = b"\x0a"  # field 1, length-delimited


def arrow_type(value_type: ValueType.ValueType) -> pa.DataType:
    """The Arrow type of a ValueType. Raises KeyError for UNSPECIFIED."""
    return _ARROW_BY_TYPE[value_type]


def value_type(data_type: pa.DataType) -> ValueType.ValueType:
    """The ValueType that holds an Arrow type without loss.

    Narrow integers widen, unsigned 64-bit is refused; every timestamp becomes UTC microseconds;
    dictionaries count as their values. Raises TypeError for a type that no column can carry.
    """
    if pa.types.is_dictionary(data_type):
        return value_type(data_type.value_type)
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        element = value_type(data_type.value_type)
        if element > pb.VALUE_TYPE_TIMESTAMP:
            raise TypeError(f"a column cannot carry {data_type}: lists of lists are not supported")
        return _LIST_OF[element]
    checks: tuple[tuple[Any, ValueType.ValueType], ...] = (
        (pa.types.is_float64, pb.VALUE_TYPE_DOUBLE),
        (pa.types.is_float32, pb.VALUE_TYPE_FLOAT),
        (pa.types.is_float16, pb.VALUE_TYPE_FLOAT),
        (pa.types.is_boolean, pb.VALUE_TYPE_BOOL),
        (pa.types.is_timestamp, pb.VALUE_TYPE_TIMESTAMP),
        (pa.types.is_string, pb.VALUE_TYPE_STRING),
        (pa.types.is_large_string, pb.VALUE_TYPE_STRING),
        (pa.types.is_string_view, pb.VALUE_TYPE_STRING),
        (pa.types.is_binary, pb.VALUE_TYPE_BYTES),
        (pa.types.is_large_binary, pb.VALUE_TYPE_BYTES),
        (pa.types.is_null, pb.VALUE_TYPE_DOUBLE),
    )
    for check, found in checks:
        if check(data_type):
            return found
    if pa.types.is_integer(data_type) and not pa.types.is_uint64(data_type):
        narrow = data_type.bit_width < 32 or pa.types.is_int32(data_type)
        return pb.VALUE_TYPE_INT32 if narrow else pb.VALUE_TYPE_INT64
    raise TypeError(f"a column cannot carry the Arrow type {data_type}")


def encode(name: str, values: pa.Array | pa.ChunkedArray) -> pb.Column:
    """A wire column holding an Arrow array. Raises TypeError for a type that no column can carry.

    Naive timestamps count as UTC; nanoseconds are cut to microseconds.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = value_type(array.type)
    if pa.types.is_timestamp(array.type) and array.type != _TIMESTAMP:
        array = _to_utc_micros(array)
    elif array.type != arrow_type(kind):
        array = array.cast(arrow_type(kind))
    column = pb.Column(name=name, null_mask=_null_mask(array))
    if kind > pb.VALUE_TYPE_TIMESTAMP:
        lengths = np.where(_valid(array), np.diff(array.offsets.to_numpy()), 0)
        column.lists.lengths.extend(lengths.tolist())
        # flatten() leaves out what stands behind null rows, so lengths and elements agree.
        column.lists.elements.CopyFrom(encode("", array.flatten()))
        return column
    oneof = _ONEOF_BY_TYPE[kind]
    if oneof in _FIXED:
        message, dtype = _FIXED[oneof]
        getattr(column, oneof).CopyFrom(message.FromString(_packed(_dense(array, np.dtype(dtype)))))
    elif oneof == "strings":
        column.strings.values.extend("" if v is None else v for v in array.to_pylist())
    else:
        column.blobs.values.extend(b"" if v is None else v for v in array.to_pylist())
    return column


def decode(column: pb.Column) -> pa.Array:
    """The Arrow array of a wire column. Raises MalformedColumn when the column contradicts itself."""
    oneof = column.WhichOneof("values")
    if oneof is None:
        raise _malformed(column, "has no values; set one of its value arrays")
    if oneof == "lists":
        return _decode_lists(column)
    kind = _TYPE_BY_ONEOF[oneof]
    if oneof in _FIXED:
        dense = fixed_values(column)
        mask = _decode_mask(column, len(dense))
        if oneof == "timestamps":
            return pa.array(dense, pa.int64(), mask=mask).cast(_TIMESTAMP)
        return pa.array(dense, arrow_type(kind), mask=mask)
    values = list(getattr(column, oneof).values)
    return pa.array(values, arrow_type(kind), mask=_decode_mask(column, len(values)))


def fixed_values(column: pb.Column) -> npt.NDArray[Any]:
    """The values of a numeric, bool or timestamp (µs) column as a read-only numpy array, nulls included."""
    oneof = column.WhichOneof("values") or ""
    if oneof not in _FIXED:
        raise _malformed(column, f"holds {oneof or 'nothing'}, not fixed-width values")
    dtype = np.dtype(_FIXED[oneof][1])
    wire = getattr(column, oneof).SerializeToString()
    # The values come first; fields of a newer version of the message may follow them.
    if not wire.startswith(_PACKED_TAG):
        return np.empty(0, dtype)
    size, shift, at = 0, 0, 1
    while True:  # the varint length
        byte = wire[at]
        size |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            break
    return np.frombuffer(wire, dtype, count=size // dtype.itemsize, offset=at)


def length(column: pb.Column) -> int:
    """Rows in a column; 0 for a column without values."""
    oneof = column.WhichOneof("values")
    if oneof is None:
        return 0
    if oneof == "lists":
        return len(column.lists.lengths)
    if oneof == "timestamps":
        return len(column.timestamps.micros)
    return len(getattr(column, oneof).values)


def encode_mapping(columns: Mapping[str, Any]) -> list[pb.Column]:
    """Wire columns of a mapping from names to Arrow arrays, numpy arrays or sequences."""
    return [encode(name, as_arrow(values)) for name, values in columns.items()]


def decode_table(columns: Iterable[pb.Column]) -> pa.Table:
    """A table of columns of equal length, in order.

    Raises MalformedColumn for a nameless or repeated column, or one of another length than the first.
    """
    arrays: dict[str, pa.Array] = {}
    rows: int | None = None
    for column in columns:
        array = decode(column)
        if not column.name:
            raise _malformed(column, "has no name")
        if column.name in arrays:
            raise _malformed(column, "comes twice; column names must be unique")
        rows = len(array) if rows is None else rows
        if len(array) != rows:
            first = next(iter(arrays))
            raise _malformed(column, f"has {len(array)} rows, but {first!r} has {rows}")
        arrays[column.name] = array
    return pa.table(arrays)


def as_arrow(values: Any) -> pa.Array:
    """An Arrow array of an Arrow array, numpy array, pandas series or sequence.

    None is null. NaN stays a value, except in a pandas series, where it is how pandas writes null. Raises
    TypeError for a single text: it would be taken for a sequence of letters.
    """
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, str | bytes):
        raise TypeError(f"{values!r} is one value; give a sequence of them, as in [{values!r}]")
    return pa.array(list(values) if isinstance(values, Sequence) else values)


def field(name: str, data_type: pa.DataType, description: str = "") -> pb.Field:
    """The wire Field of an Arrow type."""
    return pb.Field(name=name, type=value_type(data_type), description=description)


def _packed(dense: npt.NDArray[Any]) -> bytes:
    if dense.size == 0:
        return b""
    size, varint = dense.nbytes, bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    varint.append(size)
    return b"".join((_PACKED_TAG, bytes(varint), dense.tobytes()))


def _dense(array: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    if array.null_count:
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False), dtype)


def _to_utc_micros(array: pa.Array) -> pa.Array:
    if array.type.tz is None:
        return array.cast(pa.timestamp("us"), safe=False).cast(_TIMESTAMP)
    return array.cast(_TIMESTAMP, safe=False)


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return result


def _null_mask(array: pa.Array) -> bytes:
    if not array.null_count:
        return b""
    return np.packbits(~_valid(array), bitorder="little").tobytes()


def _decode_mask(column: pb.Column, rows: int) -> npt.NDArray[np.bool_] | None:
    if not column.null_mask:
        return None
    wanted = (rows + 7) // 8
    if len(column.null_mask) != wanted:
        raise _malformed(
            column, f"has a null_mask of {len(column.null_mask)} bytes; {rows} rows need {wanted}"
        )
    bits = np.unpackbits(np.frombuffer(column.null_mask, np.uint8), count=rows, bitorder="little")
    return bits.astype(np.bool_)


def _decode_lists(column: pb.Column) -> pa.Array:
    lists = column.lists
    if lists.elements.WhichOneof("values") == "lists":
        raise _malformed(column, "holds lists of lists")
    lengths = np.fromiter(lists.lengths, np.int64, len(lists.lengths))
    elements = decode(lists.elements) if lists.elements.WhichOneof("values") else pa.array([], pa.float64())
    if int(lengths.sum()) != len(elements):
        raise _malformed(column, f"announces {int(lengths.sum())} list elements but holds {len(elements)}")
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    mask = _decode_mask(column, len(lengths))
    if mask is None:
        return pa.ListArray.from_arrays(pa.array(offsets), elements)
    return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(mask))


def _malformed(column: pb.Column, what: str) -> MalformedColumn:
    return MalformedColumn(f"column {column.name!r} {what}", metadata={"column": column.name})
