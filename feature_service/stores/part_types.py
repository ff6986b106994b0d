"""The Arrow types in which rows are added to a source: those of its first file, where nothing is lost by it.

Where a value would be changed (0.1 in a file of float32, microseconds in a file of milliseconds, 2^40 in a
file of int32) its column keeps a wider type in that part. Readers see the files as one: DuckDB by
`union_by_name`, which widens, and so does `spark_sources`. Values for which no type holds both them and
what the files have are `unfit`: to write them would change them, or make the whole source unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.stores import parquet

_UNCASTABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)
#: int64 nanoseconds reach this many microseconds either way.
_NANOSECONDS_REACH = (2**63 - 1) // 1000
#: What cannot be in a column with what: DuckDB would read both as something that is not what was declared.
_APART = {
    "bool": {"number", "time", "text", "bytes", "list", "other"},
    "number": {"time", "text", "bytes", "list", "other"},
    "time": {"bool", "text", "bytes", "list", "other"},
    "text": {"bytes", "list", "other"},
    "bytes": {"list", "other"},
    "list": {"bool", "number", "time", "text", "bytes", "other"},
}


def types_before(path: str) -> pa.Schema:
    """The types of a source's first file; of no columns while there is none. Raises OSError, ValueError."""
    try:
        files = parquet.files_of(path)
    except FileNotFoundError:
        files = ()
    return parquet.schema_of(files[0]) if files else pa.schema([])


def unfit(values: pa.Array, before: pa.DataType) -> tuple[npt.NDArray[np.int64], str]:
    """The positions, in order, of values that cannot be added to a column of a type, and why."""
    if _is_list(values.type) and _is_list(before):
        inside, why = unfit(pc.list_flatten(values), before.value_type)
        parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        return np.unique(parents[inside]), why
    wrong = pa.repeat(pa.scalar(False), len(values))
    why = ""
    if _family(before) in _APART.get(_family(values.type), ()):
        wrong, why = values.is_valid(), f"is {values.type}, where the source's files have {before}"
    elif pa.types.is_timestamp(before) and before.unit == "ns" and _family(values.type) == "time":
        micros = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False).cast(
            pa.int64()
        )
        wrong = pc.or_(pc.less(micros, -_NANOSECONDS_REACH), pc.greater(micros, _NANOSECONDS_REACH))
        why = "lies before 1677-09-22 or after 2262-04-11, beyond the nanoseconds of the source's files"
    elif pa.types.is_integer(values.type) and pa.types.is_floating(before):
        exact = values.cast(pa.float64(), safe=False).cast(values.type, safe=False)
        wrong, why = (
            pc.not_equal(values, exact),
            f"is not exact in floating point: the source's files have {before}",
        )
    return np.flatnonzero(wrong.fill_null(False).to_numpy(zero_copy_only=False)), why


def in_types_of(before: pa.Schema, rows: pa.Table) -> pa.Table:
    """Rows as they are to be written beside files of these types; none of them is `unfit`.

    Nanoseconds are cut to microseconds, which is what is read of them, where the files have no nanoseconds.
    """
    for index, name in enumerate(rows.column_names):
        position = before.get_field_index(name)
        if position >= 0:
            column = rows[name].combine_chunks()
            rows = rows.set_column(index, name, _beside(column, before.field(position).type))
    return rows


def unified(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Tables with each column in one type, in which no value is another. Raises ValueError where none is."""
    found = list(tables)
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        columns = {i: t[name].combine_chunks() for i, t in enumerate(found) if name in t.column_names}
        types = list(dict.fromkeys(array.type for array in columns.values()))
        if len(types) < 2:
            continue
        for wanted in [*types, *(wider for a in types for b in types for wider in _wider(a, b))]:
            cast = {i: in_type(array, wanted) for i, array in columns.items()}
            if all(array is not None for array in cast.values()):
                break
        else:
            shown = ", ".join(sorted(map(str, types)))
            raise ValueError(f"no type holds all values of the column {name}, which has {shown}")
        for i, array in cast.items():
            found[i] = found[i].set_column(found[i].column_names.index(name), name, array)
    return found


def in_type(values: pa.Array, wanted: pa.DataType) -> pa.Array | None:
    """The values in a type; None where that would make one of them another.

    Times keep their moments: naive ones count as UTC.
    """
    if values.type == wanted:
        return values
    try:
        if values.null_count == len(values):
            return pa.nulls(len(values), wanted)
        if _is_list(values.type) and _is_list(wanted):
            if in_type(pc.list_flatten(values), wanted.value_type) is None:
                return None
            return values.cast(wanted, safe=False)
        if _family(values.type) != _family(wanted):
            return None
        if pa.types.is_timestamp(values.type) and pa.types.is_timestamp(wanted):
            moments = values.cast(pa.timestamp(values.type.unit, "UTC")).cast(
                pa.timestamp(wanted.unit, "UTC")
            )
            return moments.cast(pa.int64()).cast(wanted)
        cast = values.cast(wanted)
        return cast if _identical(values, cast.cast(values.type)) else None
    except _UNCASTABLE:
        return None


def _beside(values: pa.Array, before: pa.DataType) -> pa.Array:
    """The values in the type of the files, else in a wider one, else in their own."""
    if pa.types.is_null(before):
        return values
    if (
        pa.types.is_timestamp(values.type)
        and values.type.unit == "ns"
        and getattr(before, "unit", "") != "ns"
    ):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    for wanted in (before, *_wider(values.type, before)):
        found = in_type(values, wanted)
        if found is not None:
            return found
    return values


def _wider(values: pa.DataType, before: pa.DataType) -> list[pa.DataType]:
    """Types that may hold the values of both without loss, where neither of the two does."""
    if _is_list(values) and _is_list(before):
        return [pa.list_(kind) for kind in _wider(values.value_type, before.value_type)]
    if pa.types.is_timestamp(values):
        return [pa.timestamp("us", before.tz if pa.types.is_timestamp(before) else "UTC")]
    if pa.types.is_integer(values) and pa.types.is_floating(before):
        return [pa.float64()]
    return []


def _identical(values: pa.Array, others: pa.Array) -> bool:
    return bool(_bits(values).equals(_bits(others)))


def _bits(values: pa.Array) -> pa.Array:
    """Numbers that are equal where floats are the same, NaN and the sign of a zero among them."""
    if not pa.types.is_floating(values.type):
        return values
    double = values.cast(pa.float64())
    return pc.if_else(pc.is_nan(double), pa.scalar(np.nan), double).view(pa.int64())


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _family(kind: pa.DataType) -> str:
    """Which kind of thing a type holds: one is not read as another."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        # DuckDB has types for these two, and reads them beside text as text.
        return "text" if kind.extension_name in ("arrow.json", "arrow.uuid") else "other"
    if _is_list(kind):
        return "list"
    checks = {
        "null": (pa.types.is_null,),
        "bool": (pa.types.is_boolean,),
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        "time": (pa.types.is_timestamp, pa.types.is_date),
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "bytes": (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
            pa.types.is_binary_view,
        ),
    }
    return next((name for name, among in checks.items() if any(check(kind) for check in among)), "other")
