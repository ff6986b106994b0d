"""Arrow arrays ↔ Feast's Value messages.

Feast keeps timestamps in whole seconds. One with a fraction is written as its microseconds in an int64
value instead, so that nothing is lost on the way back; a value's field says which of the two it is.

Types that no column of ours carries (maps, structs, JSON, sets, …) are columns of serialized Value messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import (
    BoolList,
    BytesList,
    DoubleList,
    FloatList,
    Int32List,
    Int64List,
    StringList,
)
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values

from feature_service.arrow_types import OPAQUE, TIMESTAMP, arrow_type
from feature_service.domain import ValueType

_SECOND = 1_000_000

_SCALAR_FIELD = {
    ValueType.DOUBLE: "double_val",
    ValueType.FLOAT: "float_val",
    ValueType.INT64: "int64_val",
    ValueType.INT32: "int32_val",
    ValueType.BOOL: "bool_val",
    ValueType.STRING: "string_val",
    ValueType.BYTES: "bytes_val",
}
_LIST_FIELD: dict[ValueType, tuple[str, Callable[..., Any]]] = {
    ValueType.DOUBLE: ("double_list_val", DoubleList),
    ValueType.FLOAT: ("float_list_val", FloatList),
    ValueType.INT64: ("int64_list_val", Int64List),
    ValueType.INT32: ("int32_list_val", Int32List),
    ValueType.BOOL: ("bool_list_val", BoolList),
    ValueType.STRING: ("string_list_val", StringList),
    ValueType.BYTES: ("bytes_list_val", BytesList),
}
_NULL = FeastValue()


def to_values(array: pa.Array, kind: ValueType, *, whole_seconds: bool = False) -> list[FeastValue]:
    """One Value a row; a null becomes an empty Value. Nulls inside lists raise ValueError.

    whole_seconds: what is below a second is cut off, for readers that know Feast's timestamps only.
    """
    if kind is ValueType.UNSPECIFIED:
        return [_NULL if raw is None else FeastValue.FromString(raw) for raw in array.to_pylist()]
    if whole_seconds and kind.element is ValueType.TIMESTAMP:
        return [_seconds_value(row, kind) for row in _plain(array, kind)]
    if kind.is_list:
        return [_NULL if row is None else _list_value(row, kind.element) for row in _plain(array, kind)]
    if kind is ValueType.TIMESTAMP:
        return [_NULL if row is None else _time_value(row) for row in _plain(array, kind)]
    field = _SCALAR_FIELD[kind]
    return [_NULL if row is None else FeastValue(**{field: row}) for row in array.to_pylist()]


def to_array(values: Sequence[FeastValue | None], kind: ValueType) -> pa.Array:
    """The array of a column's values; None and an empty Value are null.

    A value stored under another type, as after a change of the definition, is converted if it fits.
    Raises pa.ArrowInvalid or pa.ArrowTypeError if it does not.
    """
    if kind is ValueType.UNSPECIFIED:
        return pa.array([None if value is None else _serialized(value) for value in values], OPAQUE)
    rows = [None if value is None else _python(value, kind) for value in values]
    if kind.element is not ValueType.TIMESTAMP:
        return pa.array(rows, arrow_type(kind))
    plain = pa.array(rows, pa.list_(pa.int64()) if kind.is_list else pa.int64())
    return plain.cast(arrow_type(kind))


def opaque(cells: pa.Array, declared: Any) -> pa.Array:
    """Cells as Arrow has them in a file (maps, structs, text of JSON, …) as serialized messages.

    declared: the Feast type. Raises ValueError or TypeError for cells that are none.
    """
    rows = cells.to_pylist(maps_as_pydicts="strict")
    return to_array(python_values_to_proto_values(rows, declared.to_value_type()), ValueType.UNSPECIFIED)


def plain(values: pa.Array) -> pa.Array:
    """Serialized messages as what Feast gives its users for them, in Arrow: maps and structs as structs."""
    return pa.array([feast_value_type_to_python_type(v) for v in to_values(values, ValueType.UNSPECIFIED)])


def _serialized(value: FeastValue) -> bytes | None:
    return None if value.WhichOneof("val") in (None, "null_val") else value.SerializeToString()


def _python(value: FeastValue, kind: ValueType) -> Any:
    field = value.WhichOneof("val")
    if field is None or field == "null_val":
        return None
    found = getattr(value, field)
    if field == "unix_timestamp_val":
        return found * _SECOND
    if field == "unix_timestamp_list_val":
        return [item * _SECOND for item in found.val]
    return list(found.val) if kind.is_list else found


def _time_value(micros: int) -> FeastValue:
    seconds, fraction = divmod(micros, _SECOND)
    return FeastValue(int64_val=micros) if fraction else FeastValue(unix_timestamp_val=seconds)


def _seconds_value(row: Any, kind: ValueType) -> FeastValue:
    if row is None:
        return _NULL
    if kind.is_list:
        return FeastValue(unix_timestamp_list_val=Int64List(val=[item // _SECOND for item in row]))
    return FeastValue(unix_timestamp_val=row // _SECOND)


def _list_value(row: list[Any], element: ValueType) -> FeastValue:
    if None in row:
        raise ValueError("a list with nulls inside cannot be stored")
    if element is ValueType.TIMESTAMP:
        if any(item % _SECOND for item in row):
            return FeastValue(int64_list_val=Int64List(val=row))
        return FeastValue(unix_timestamp_list_val=Int64List(val=[item // _SECOND for item in row]))
    field, message = _LIST_FIELD[element]
    return FeastValue(**{field: message(val=row)})


def _plain(array: pa.Array, kind: ValueType) -> Iterable[Any]:
    """Python values of an array, timestamps as their microseconds."""
    if kind.element is not ValueType.TIMESTAMP:
        rows: list[Any] = array.to_pylist()
        return rows
    as_integers = pa.list_(pa.int64()) if kind.is_list else pa.int64()
    wanted = pa.list_(TIMESTAMP) if kind.is_list else TIMESTAMP
    times: list[Any] = array.cast(wanted).cast(as_integers).to_pylist()
    return times
