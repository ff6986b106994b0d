"""The rows of pushes in the files of their sources: added as parts, and read again by a retry."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.arrow_types import arrow_type, to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import FeatureView, Field, Source
from feature_service.ports import NewRows
from feature_service.stores import parquet, part_types
from feature_service.stores.parts import Appended, OtherRowsError
from feature_service.writes.pushed_rows import CheckedRows, micros
from plumbline.features.errors import RequestIdReused, SourceUnreadable

#: The types of the first file of each source, by its path; of no columns while there is none.
TypesBefore = dict[str, pa.Schema]


def refuse_unfit(checked: list[CheckedRows]) -> TypesBefore:
    """Refuses the rows that would not be read as they are beside the files of their source.

    Raises SourceUnreadable.
    """
    found: TypesBefore = {}
    for item in checked:
        columns = item.offline()
        assert item.source is not None
        path = item.source.path
        if path not in found:
            try:
                found[path] = part_types.types_before(path)
            except (OSError, ValueError) as error:
                raise _no_append(item.source, error) from error
        before = found[path]
        for name, array in columns.items():
            position = before.get_field_index(name)
            if position >= 0:
                item.refuse_at(name, *part_types.unfit(array, before.field(position).type))
    return found


def append_rows(
    checked: list[CheckedRows],
    keep: npt.NDArray[np.bool_],
    rows: pa.Table,
    request_id: str,
    before: TypesBefore,
) -> dict[str, Appended]:
    """Adds the kept rows to the views' sources, one part each, named by request id and content of the push.

    before: see `refuse_unfit`; parts keep the types of the files where that changes no value.
    Returns, by the source's path, the parts that the same request had added before. Raises RequestIdReused,
    SourceUnreadable.
    """
    name = (_identity(request_id), _digest(rows))
    found: dict[str, Appended] = {}
    for source, table in _by_source(checked, keep).values():
        typed = part_types.in_types_of(before[source.path], table)
        appended = _append(source, typed, request_id, name)
        if not appended.added:
            found[source.path] = appended
    return found


def rows_again(view: FeatureView, appended: Appended) -> NewRows | None:
    """The rows that an earlier push of the same request wrote offline, for the online store: without
    those that a push after it replaced. None when they were merged with others: that push is long
    done."""
    source = view.source
    if appended.part is None or source is None:
        return None
    names = [source.column_of(key.name) for key in view.join_keys]
    names += [source.timestamp_column, *([source.created_column] if source.created_column else [])]
    try:
        table = parquet.read(appended.part)
        later = [parquet.read(part, names) for part in appended.later]
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(
            f"cannot read the pushed rows of {source.name}: {error}", metadata={"view": view.name}
        ) from error
    told_apart = [_in_declared_types(view, source, part) for part in (table, *later)]
    table = _not_among(table, told_apart[0], told_apart[1:])

    def column(item: Field) -> pa.Array:
        return _declared(table[source.column_of(item.name)], item)

    created = source.created_column
    return NewRows(
        keys=tuple(column(key) for key in view.join_keys),
        values=tuple(column(item) for item in view.features),
        event_micros=micros(to_utc_micros(table[source.timestamp_column].combine_chunks())),
        created_micros=micros(to_utc_micros(table[created].combine_chunks())) if created else None,
    )


def _by_source(checked: list[CheckedRows], keep: npt.NDArray[np.bool_]) -> dict[str, tuple[Source, pa.Table]]:
    """One table for each source: views of one push source share their rows."""
    columns: dict[str, dict[str, pa.Array]] = {}
    sources: dict[str, Source] = {}
    for item in checked:
        found = item.offline()
        assert item.source is not None
        sources[item.source.path] = item.source
        columns.setdefault(item.source.path, {}).update(found)
    mask = pa.array(keep)
    return {path: (sources[path], pa.table(found).filter(mask)) for path, found in columns.items()}


def _in_declared_types(view: FeatureView, source: Source, part: pa.Table) -> pa.Table:
    """Keys and times of a part: parts of one source may have other types each."""
    found = {
        source.column_of(key.name): _declared(part[source.column_of(key.name)], key) for key in view.join_keys
    }
    for name in (source.timestamp_column, source.created_column):
        if name:
            found[name] = to_utc_micros(part[name])
    return pa.table(found)


def _declared(column: pa.ChunkedArray, item: Field) -> pa.Array:
    """A column of a part as it is declared: it was pushed so, whatever type the files have."""
    array = column.combine_chunks()
    found = part_types.in_type(array, arrow_type(item.type))
    return coerce(array, item.type, item.name, floats=True) if found is None else found


def _not_among(table: pa.Table, named: pa.Table, others: list[pa.Table]) -> pa.Table:
    """The rows of which the columns `named` agree with none of the others."""
    if not others:
        return table
    names = named.column_names
    numbered = named.append_column("", pa.array(np.arange(table.num_rows)))
    whole = pa.concat_tables(others)
    kept = numbered.join(whole.group_by(names).aggregate([]), keys=names, join_type="left anti")
    return table.take(pa.array(np.sort(kept[""].to_numpy())))


def _append(source: Source, table: pa.Table, request_id: str, name: tuple[str, str]) -> Appended:
    try:
        return parquet.append(source.path, table, *name)
    except OtherRowsError as error:
        raise RequestIdReused(
            f"the request id {request_id!r} was used to push other rows to {source.name}; use a new one",
            metadata={"request_id": request_id},
        ) from error
    except (OSError, ValueError) as error:
        raise _no_append(source, error) from error


def _no_append(source: Source, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        f"cannot append to the source {source.name}: {error}", metadata={"view": source.name}
    )


def _identity(request_id: str) -> str:
    return hashlib.sha256((request_id or uuid.uuid4().hex).encode()).hexdigest()[:32]


def _digest(rows: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:32]
