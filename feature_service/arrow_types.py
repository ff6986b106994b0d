"""The Arrow types of the domain's value types."""

from __future__ import annotations

import pyarrow as pa

from feature_service.domain import ValueType

TIMESTAMP = pa.timestamp("us", tz="UTC")

#: The columns of types that no column type of ours carries: maps, structs, JSON, sets, …
OPAQUE = pa.binary()

_SCALARS: dict[ValueType, pa.DataType] = {
    ValueType.DOUBLE: pa.float64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.INT64: pa.int64(),
    ValueType.INT32: pa.int32(),
    ValueType.BOOL: pa.bool_(),
    ValueType.STRING: pa.string(),
    ValueType.BYTES: pa.binary(),
    ValueType.TIMESTAMP: TIMESTAMP,
}


def arrow_type(kind: ValueType) -> pa.DataType:
    """The Arrow type that holds a value type. UNSPECIFIED: Feast's Value messages, serialized."""
    if kind is ValueType.UNSPECIFIED:
        return OPAQUE
    element = _SCALARS[kind.element]
    return pa.list_(element) if kind.is_list else element


def to_utc_micros(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Any Arrow timestamps or dates as UTC microseconds; naive ones count as UTC, nanoseconds are cut.

    Raises pa.ArrowInvalid for a time that int64 microseconds do not reach.
    """
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us")).cast(TIMESTAMP)
    # Unchecked, coarser units overflow silently; checked, nanoseconds are refused instead of cut.
    checked = array.type.unit != "ns"
    if array.type.tz is None:
        return array.cast(pa.timestamp("us"), safe=checked).cast(TIMESTAMP)
    return array.cast(TIMESTAMP, safe=checked)
