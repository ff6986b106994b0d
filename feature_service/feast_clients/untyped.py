"""Values that come as text or JSON, read as the declared types, as `plumbline.cells` does: strictly.

Times may be whole seconds since 1970 too, as Feast sends them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType
from plumbline.cells import NotThat, reader
from plumbline.errors import FieldViolation
from plumbline.features.errors import TypeMismatch
from plumbline.types.v1 import column_pb2


def from_text(cells: Sequence[str], kind: ValueType, column: str) -> pa.Array:
    """Cells that are all text, as in the string map of Feast's Push; a list is a JSON array.

    Raises TypeMismatch."""
    return _array(cells, kind, column, text=True)


def from_json(cells: Sequence[Any], kind: ValueType, column: str) -> pa.Array:
    """Cells as JSON has them; null is null. Raises TypeMismatch."""
    return _array(cells, kind, column, text=False)


def _array(cells: Sequence[Any], kind: ValueType, column: str, *, text: bool) -> pa.Array:
    if kind is ValueType.UNSPECIFIED:
        raise TypeMismatch(
            f"column {column!r} has a type that cannot be written here", metadata={"column": column}
        )
    read = reader(column_pb2.ValueType.Value(f"VALUE_TYPE_{kind}"), text=text, seconds=True)
    rows = []
    for row, cell in enumerate(cells):
        try:
            rows.append(None if cell is None else read(cell))
        except NotThat as error:
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
