"""Values of a request in the types the definitions declare, or a refusal.

Nothing is converted that changes what a value says: an integer fits any integer type that holds it; text is
never read as a number nor written from one; a bool is no integer. Feature and request-data values may
also widen from integers to floating point and change its width, since clients' languages do not tell them
apart. A column of nothing but nulls fits any type.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import arrow_type, to_utc_micros
from feature_service.domain import ValueType
from plumbline.errors import FieldViolation
from plumbline.features.errors import TypeMismatch

#: Integers up to here are doubles exactly.
_EXACT_IN_DOUBLE = 2**53


def coerce(
    values: pa.Array | pa.ChunkedArray, kind: ValueType, column: str, *, floats: bool = False
) -> pa.Array | pa.ChunkedArray:
    """The values as `arrow_type(kind)`.

    column: for messages. floats: also integers → floating point, and between its widths (see above).
    Raises TypeMismatch.
    """
    wanted = arrow_type(kind)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.type == wanted:
        return values
    if values.null_count == len(values):
        nulls = pa.nulls(len(values), wanted)
        return pa.chunked_array([nulls]) if isinstance(values, pa.ChunkedArray) else nulls
    try:
        if _fits(values.type, kind, floats):
            if kind is ValueType.TIMESTAMP:
                return to_utc_micros(values)
            if floats and kind.element in (ValueType.DOUBLE, ValueType.FLOAT):
                return _to_floats(values, kind)
            return values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _mismatch(column, kind, f"{values.type} ({_first_line(error)})") from error
    raise _mismatch(column, kind, str(values.type))


def _fits(actual: pa.DataType, kind: ValueType, floats: bool) -> bool:
    if kind.is_list:
        is_list = pa.types.is_list(actual) or pa.types.is_large_list(actual)
        return is_list and (
            pa.types.is_null(actual.value_type) or _fits(actual.value_type, kind.element, floats)
        )
    match kind:
        case ValueType.INT64 | ValueType.INT32:
            return bool(pa.types.is_integer(actual))
        case ValueType.DOUBLE | ValueType.FLOAT:
            if floats:
                return bool(pa.types.is_floating(actual) or pa.types.is_integer(actual))
            return bool(actual == arrow_type(kind))
        case ValueType.STRING:
            return bool(
                pa.types.is_string(actual)
                or pa.types.is_large_string(actual)
                or pa.types.is_string_view(actual)
            )
        case ValueType.BYTES:
            return bool(pa.types.is_binary(actual) or pa.types.is_large_binary(actual))
        case ValueType.BOOL:
            return bool(pa.types.is_boolean(actual))
        case ValueType.TIMESTAMP:
            return bool(pa.types.is_timestamp(actual))
    return False


def _to_floats(values: pa.Array | pa.ChunkedArray, kind: ValueType) -> pa.Array | pa.ChunkedArray:
    wanted = arrow_type(kind)
    flat = pc.list_flatten(values) if kind.is_list else values
    if pa.types.is_integer(flat.type) and len(flat):
        bounds = pc.min_max(flat).as_py()
        if bounds["min"] is not None and max(-bounds["min"], bounds["max"]) > _EXACT_IN_DOUBLE:
            raise pa.ArrowInvalid("integers beyond 2^53 are not exact in floating point")
    return values.cast(wanted, safe=False)


def _mismatch(column: str, kind: ValueType, actual: str) -> TypeMismatch:
    return TypeMismatch(
        f"column {column!r} is declared {kind}, but holds {actual}",
        metadata={"column": column, "expected": kind.value, "actual": actual},
        violations=[FieldViolation(column, f"must be {kind}")],
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
