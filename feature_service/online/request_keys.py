"""Join keys straight from a request's columns, where they are plain; else `coercion` has a look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feature_service.domain import ValueType
from feature_service.packed.keys import KeyColumn
from plumbline import columns
from plumbline.types.v1 import column_pb2

_INT32 = range(-(2**31), 2**31)
#: Up to here a list is faster than an array.
_FEW = 12


def plain_keys(
    entities: Sequence[column_pb2.Column], wanted: Mapping[str, ValueType], most: int
) -> tuple[int, dict[str, KeyColumn]] | None:
    """The number of rows and the values of each wanted column.

    None unless the columns are exactly the wanted ones, without nulls, of their types (an integer column of
    the other width where the values fit), and of 1 to `most` rows: then nothing is wrong with them.
    """
    if len(entities) != len(wanted) or not wanted:
        return None
    found: dict[str, KeyColumn] = {}
    rows = 0
    for column in entities:
        kind = wanted.get(column.name)
        if kind is None or column.null_mask:
            return None
        values = _values(column, kind)
        if values is None:
            return None
        count = len(values)
        if count == 0 or count > most or (rows and count != rows):
            return None
        rows = count
        found[column.name] = values
    return (rows, found) if len(found) == len(wanted) else None


def _values(column: column_pb2.Column, kind: ValueType) -> KeyColumn | None:
    if kind is ValueType.INT64:
        if column.HasField("int64s"):
            values = column.int64s.values
        elif column.HasField("int32s"):
            values = column.int32s.values
        else:
            return None
        return columns.fixed_values(column) if len(values) > _FEW else list(values)
    if kind is ValueType.INT32:
        if column.HasField("int32s"):
            return list(column.int32s.values)
        if column.HasField("int64s"):
            wide = list(column.int64s.values)
            return wide if wide and min(wide) in _INT32 and max(wide) in _INT32 else None
        return None
    if kind is ValueType.STRING and column.HasField("strings"):
        return list(column.strings.values)
    if kind is ValueType.BYTES and column.HasField("blobs"):
        return list(column.blobs.values)
    return None
