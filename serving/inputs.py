"""Checks what a caller sent against what a model's signature asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from plumbline.errors import FieldViolation, MalformedColumn
from plumbline.serving.errors import InputMissing, InputUnknown, TypeMismatch
from serving.arrow_types import arrow_type, column_type_of
from serving.domain import ColumnType, Field, Signature

Columns = dict[str, pa.Array]


def check_join_keys(table: pa.Table, signature: Signature) -> Columns:
    """The join keys in the signature's order and types. Raises InputMissing, InputUnknown, TypeMismatch."""
    return _checked(table, signature.join_keys, "entities.join_keys", "join key")


def check_request_data(table: pa.Table, join_keys: pa.Table, signature: Signature) -> Columns:
    """What else the caller must send. Raises InputMissing, InputUnknown, TypeMismatch, and
    MalformedColumn when there are not as many rows as join keys."""
    if table.num_columns and join_keys.num_columns and table.num_rows != join_keys.num_rows:
        name = table.column_names[0]
        raise MalformedColumn(
            f"column {name!r} of the request data has {table.num_rows} rows, "
            f"the join keys have {join_keys.num_rows}",
            metadata={"column": name},
        )
    return _checked(table, signature.caller_fields, "entities.request_data", "request-data column")


def check_given_features(table: pa.Table, signature: Signature) -> Columns:
    """Every input of the model, in order. Categorical inputs may come as strings, whatever their type.
    Raises InputMissing, InputUnknown, TypeMismatch."""
    fields = [
        Field(
            item.name,
            ColumnType.STRING
            if item.categories and item.name in table.column_names and _is_text(table[item.name])
            else item.type,
        )
        for item in signature.inputs
    ]
    # A number is a number here: a column of whole numbers with gaps is often sent as doubles.
    return _checked(table, fields, "features.columns", "input", any_number=True)


def _is_text(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(values.type))


def _checked(
    table: pa.Table, fields: Iterable[Field], where: str, what: str, *, any_number: bool = False
) -> Columns:
    expected: Mapping[str, ColumnType] = {field.name: field.type for field in fields}
    for name in table.column_names:
        if name not in expected:
            known = ", ".join(expected) or "none"
            raise InputUnknown(
                f"the model has no {what} {name!r}; it takes {known}",
                metadata={"column": name},
                violations=[FieldViolation(where, f"unknown column {name!r}")],
            )
    for name in expected:
        if name not in table.column_names:
            raise InputMissing(
                f"the {what} {name!r} is missing; the model needs {', '.join(expected)}",
                metadata={"column": name},
                violations=[FieldViolation(where, f"missing column {name!r}")],
            )
    return {
        name: _coerced(name, table[name].combine_chunks(), kind, where, any_number=any_number)
        for name, kind in expected.items()
    }


def _coerced(name: str, values: pa.Array, kind: ColumnType, where: str, *, any_number: bool) -> pa.Array:
    """values as `kind`, if that loses nothing; with any_number, a number of any type as it is."""
    wanted = arrow_type(kind)
    if values.type == wanted:
        return values
    actual = column_type_of(values.type)
    if len(values) == values.null_count:  # nothing but nulls has no type worth a quarrel
        return pa.nulls(len(values), wanted)
    if any_number and kind.is_number and actual.is_number:
        return values
    widens = actual.is_integer and (kind.is_integer or kind.is_number)
    if widens or (actual.is_number and kind in (ColumnType.DOUBLE, ColumnType.FLOAT)):
        try:
            return pc.cast(values, wanted, safe=kind.is_integer)
        except pa.ArrowInvalid as error:
            raise _mismatch(name, kind, actual, where, f": {error}") from error
    raise _mismatch(name, kind, actual, where, "")


def _mismatch(name: str, kind: ColumnType, actual: ColumnType, where: str, why: str) -> TypeMismatch:
    return TypeMismatch(
        f"column {name!r} must be {kind.name}, but is {actual.name}{why}",
        metadata={"column": name, "expected": kind.name, "actual": actual.name},
        violations=[FieldViolation(where, f"{name!r} must be {kind.name}")],
    )
