"""Values that come as text or JSON, read as the declared types, strictly.

A cell is taken only when it says exactly one value of the type; nothing is rounded, cut or guessed. Times are
ISO 8601 (without a zone: UTC) or whole seconds since 1970, as Feast sends them; bytes are base64; numbers
that JSON lacks are "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType
from plumbline.errors import FieldViolation
from plumbline.features.errors import TypeMismatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Python refuses to read numbers of thousands of digits, which fit no type anyway.
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "false": False, "1": True, "0": False}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NOT_FINITE |= {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # as Python and numpy write them
#: Finite numbers are less than this.
_LARGEST = {ValueType.DOUBLE: math.inf, ValueType.FLOAT: 2.0**128 - 2.0**103}
_BOUNDS = {ValueType.INT32: 2**31, ValueType.INT64: 2**63}


class _DoesNotFitError(Exception):
    """A cell does not say a value of the type."""


def from_text(cells: Sequence[str], kind: ValueType, column: str) -> pa.Array:
    """Cells that are all text, as in the string map of Feast's Push; a list is a JSON array.

    Raises TypeMismatch."""
    return _array(cells, kind, column, _text_reader(kind))


def from_json(cells: Sequence[Any], kind: ValueType, column: str) -> pa.Array:
    """Cells as JSON has them; null is null. Raises TypeMismatch."""
    return _array(cells, kind, column, _json_reader(kind))


def _array(cells: Sequence[Any], kind: ValueType, column: str, read: Callable[[Any], Any]) -> pa.Array:
    if kind is ValueType.UNSPECIFIED:
        raise TypeMismatch(
            f"column {column!r} has a type that cannot be written here", metadata={"column": column}
        )
    rows = []
    for row, cell in enumerate(cells):
        try:
            rows.append(None if cell is None else read(cell))
        except _DoesNotFitError as error:
            shown = json.dumps(cell, default=str, ensure_ascii=False)
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            shown = shown.encode("utf-8", "backslashreplace").decode()  # messages are UTF-8
            raise TypeMismatch(
                f"column {column!r} is declared {kind}, but row {row} holds {shown}",
                metadata={"column": column, "expected": kind.value, "actual": shown},
                violations=[FieldViolation(f"{column}[{row}]", f"must be {kind}")],
            ) from error
    if kind.element is ValueType.TIMESTAMP:
        plain = pa.list_(pa.int64()) if kind.is_list else pa.int64()
        return pa.array(rows, plain).cast(arrow_type(kind))
    return pa.array(rows, arrow_type(kind))


def _json_reader(kind: ValueType) -> Callable[[Any], Any]:
    if kind.is_list:
        element = _json_reader(kind.element)

        def read_list(cell: Any) -> list[Any]:
            if not isinstance(cell, list):
                raise _DoesNotFitError
            return [element(item) for item in cell]

        return read_list
    match kind:
        case ValueType.INT32 | ValueType.INT64:
            bound = _BOUNDS[kind]
            return lambda cell: _within(_json_integer(cell), bound)
        case ValueType.DOUBLE | ValueType.FLOAT:
            largest = _LARGEST[kind]
            return lambda cell: _json_number(cell, largest)
        case ValueType.BOOL:
            return lambda cell: _checked(cell, bool)
        case ValueType.BYTES:
            return _base64
        case ValueType.TIMESTAMP:
            return _json_time
    return _json_string


def _text_reader(kind: ValueType) -> Callable[[str], Any]:
    if kind.is_list:
        read = _json_reader(kind)
        return lambda cell: read(_json_text(cell))
    match kind:
        case ValueType.INT32 | ValueType.INT64:
            bound = _BOUNDS[kind]
            return lambda cell: _within(int(_matched(cell, _INTEGER)), bound)
        case ValueType.DOUBLE | ValueType.FLOAT:
            largest = _LARGEST[kind]
            return lambda cell: _text_number(cell, largest)
        case ValueType.BOOL:
            return _text_bool
        case ValueType.BYTES:
            return _base64
        case ValueType.TIMESTAMP:
            return lambda cell: _seconds(int(cell)) if _INTEGER.fullmatch(cell) else _iso_micros(cell)
    return str


def _checked(cell: Any, wanted: type) -> Any:
    if not isinstance(cell, wanted):
        raise _DoesNotFitError
    return cell


def _json_string(cell: Any) -> str:
    found: str = _checked(cell, str)
    try:
        found.encode()
    except UnicodeEncodeError as error:  # half of a character: JSON can write it, no store can
        raise _DoesNotFitError from error
    return found


def _json_integer(cell: Any) -> int:
    # JSON does not tell 3 from 3.0, and pandas writes the latter for a column with gaps.
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise _DoesNotFitError
    return cell


def _json_number(cell: Any, largest: float) -> float:
    if isinstance(cell, str) and cell in _NOT_FINITE:
        return _NOT_FINITE[cell]
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise _DoesNotFitError
    if isinstance(cell, int) and abs(cell) > 2**53:
        raise _DoesNotFitError
    # NaN and Infinity without quotes are no JSON, but Python writes and reads them.
    if math.isfinite(cell) and not abs(cell) < largest:
        raise _DoesNotFitError
    return float(cell)


def _text_number(cell: str, largest: float) -> float:
    if cell in _NOT_FINITE:
        return _NOT_FINITE[cell]
    number = float(_matched(cell, _NUMBER))
    if not abs(number) < largest:
        raise _DoesNotFitError
    return number


def _json_time(cell: Any) -> int:
    if isinstance(cell, bool):
        raise _DoesNotFitError
    return _seconds(cell) if isinstance(cell, int) else _iso_micros(_checked(cell, str))


def _seconds(cell: int) -> int:
    return _within(cell * 1_000_000, 2**63)


def _iso_micros(cell: str) -> int:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError as error:
        raise _DoesNotFitError from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _text_bool(cell: str) -> bool:
    found = _BOOLS.get(cell.lower())
    if found is None:
        raise _DoesNotFitError
    return found


def _matched(cell: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(cell):
        raise _DoesNotFitError
    return cell


def _within(value: int, bound: int) -> int:
    if not -bound <= value < bound:
        raise _DoesNotFitError
    return value


def _base64(cell: Any) -> bytes:
    try:
        return base64.b64decode(_checked(cell, str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _DoesNotFitError from error


def _json_text(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError as error:
        raise _DoesNotFitError from error
