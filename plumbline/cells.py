"""One cell of text or JSON (a file, a command line, an HTTP body) as the type a schema declares, strictly.

A cell is taken only when it says exactly one value of the type: nothing is rounded, cut or guessed. In JSON a
number is no text, text no number, and true neither; a whole number may be written 2.0. Text (CSV, name=value)
is parsed. Times are ISO 8601, UTC unless they say otherwise, to the microsecond; bytes are base64; lists are
JSON; numbers that JSON lacks are "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from plumbline.columns import arrow_type, value_type
from plumbline.types.v1 import column_pb2 as pb

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Python refuses to read numbers of thousands of digits, which fit no type anyway.
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "false": False, "1": True, "0": False}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NOT_FINITE |= {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # as Python and numpy write them
#: Whole numbers up to this are the same as doubles.
_EXACT = 2**53
_NANOSECONDS = re.compile(r"[.,]\d{6}0*[1-9]")
#: Finite numbers are less than this.
_LARGEST = {pb.VALUE_TYPE_DOUBLE: math.inf, pb.VALUE_TYPE_FLOAT: 2.0**128 - 2.0**103}
_BOUNDS = {pb.VALUE_TYPE_INT32: 2**31, pb.VALUE_TYPE_INT64: 2**63}
_WANTED = {
    pb.VALUE_TYPE_INT32: "an int32, a whole number",
    pb.VALUE_TYPE_INT64: "an int64, a whole number",
    pb.VALUE_TYPE_FLOAT: "a float, a number",
    pb.VALUE_TYPE_DOUBLE: "a double, a number",
    pb.VALUE_TYPE_BOOL: "a bool, true or false",
    pb.VALUE_TYPE_STRING: "a string, text",
    pb.VALUE_TYPE_BYTES: "bytes, as base64",
    pb.VALUE_TYPE_TIMESTAMP: "a timestamp, as 2013-12-30T17:00:00Z",
}


class NotThat(Exception):
    """A cell says no value of the type."""


def reader(kind: pb.ValueType.ValueType, *, text: bool, seconds: bool = False) -> Callable[[Any], Any]:
    """Reads cells as `kind`, for an Arrow array of it; times as microseconds since 1970. text: all cells are
    text, not JSON. seconds: a whole number is a time too, in seconds since 1970. The function raises NotThat.
    """
    if kind > pb.VALUE_TYPE_TIMESTAMP:
        element = reader(value_type(arrow_type(kind).value_type), text=False, seconds=seconds)
        return lambda cell: [element(item) for item in _list(cell, text)]
    if kind in _BOUNDS:
        integer = _text_integer if text else _json_integer
        return lambda cell: _within(integer(cell), _BOUNDS[kind])
    if kind in _LARGEST:
        number = _text_number if text else _json_number
        return lambda cell: number(cell, _LARGEST[kind])
    if kind == pb.VALUE_TYPE_BOOL:
        return _text_bool if text else lambda cell: _checked(cell, bool)
    if kind == pb.VALUE_TYPE_BYTES:
        return _base64
    if kind == pb.VALUE_TYPE_TIMESTAMP:
        return _moment_or_seconds if seconds else _moment
    return _string


def wanted(kind: pb.ValueType.ValueType) -> str:
    """What a type takes, with its article: "an int64, a whole number"."""
    if kind > pb.VALUE_TYPE_TIMESTAMP:
        name = pb.ValueType.Name(kind).removeprefix("VALUE_TYPE_").removesuffix("_LIST").lower()
        return f"a list of {name}, in JSON"
    return _WANTED[kind]


def shown(cell: Any, *, text: bool) -> str:
    """A cell for a message: short, and as it was written."""
    found = repr(cell) if text else json.dumps(cell, default=str)
    return found if len(found) <= 60 else f"{found[:57]}..."


def _checked(cell: Any, kind: type) -> Any:
    if not isinstance(cell, kind):
        raise NotThat
    return cell


def _string(cell: Any) -> str:
    found: str = _checked(cell, str)
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise NotThat  # half of a character, as JSON can write it: no UTF-8 has it
    return found


def _text_integer(cell: str) -> int:
    return int(_matched(cell, _INTEGER))


def _json_integer(cell: Any) -> int:
    # JSON does not tell 3 from 3.0, and pandas writes the latter for a column with gaps.
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return int(cell)
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise NotThat
    return cell


def _json_number(cell: Any, largest: float) -> float:
    if isinstance(cell, str) and cell in _NOT_FINITE:
        return _NOT_FINITE[cell]
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise NotThat
    if isinstance(cell, int) and abs(cell) > _EXACT:
        raise NotThat
    # NaN and Infinity without quotes are no JSON, but Python writes and reads them.
    if math.isfinite(cell) and not abs(cell) < largest:
        raise NotThat
    return float(cell)


def _text_number(cell: str, largest: float) -> float:
    if cell in _NOT_FINITE:
        return _NOT_FINITE[cell]
    number = float(_matched(cell, _NUMBER))
    if not abs(number) < largest:
        raise NotThat
    return number


def _text_bool(cell: str) -> bool:
    try:
        return _BOOLS[cell.lower()]
    except KeyError:
        raise NotThat from None


def _moment(cell: Any) -> int:
    """Microseconds since 1970."""
    text = _checked(cell, str).strip()
    if _NANOSECONDS.search(text):  # which Python would cut off
        raise NotThat
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise NotThat from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _moment_or_seconds(cell: Any) -> int:
    if isinstance(cell, str):
        if not _INTEGER.fullmatch(cell):
            return _moment(cell)
        cell = int(cell)
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise NotThat
    return _within(cell * 1_000_000, 2**63)


def _base64(cell: Any) -> bytes:
    try:
        return base64.b64decode(_checked(cell, str), validate=True)
    except ValueError:
        raise NotThat from None


def _list(cell: Any, text: bool) -> list[Any]:
    try:
        found = json.loads(cell) if text else cell
    except ValueError:
        raise NotThat from None
    return _checked(found, list)  # type: ignore[no-any-return]


def _matched(cell: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(cell):
        raise NotThat
    return cell


def _within(value: int, bound: int) -> int:
    if not -bound <= value < bound:
        raise NotThat
    return value
