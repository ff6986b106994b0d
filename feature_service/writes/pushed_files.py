"""The rows of pushes in the files of their sources: added as parts, and read again by a retry."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.arrow_types import to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import FeatureView, Source, ValueType
from feature_service.ports import NewRows
from feature_service.stores import parquet
from feature_service.stores.parts import Appended, OtherRowsError
from feature_service.writes.pushed_rows import CheckedRows, micros
from plumbline.features.errors import RequestIdReused, SourceUnreadable


def append_rows(
    checked: list[CheckedRows], keep: npt.NDArray[np.bool_], rows: pa.Table, request_id: str
) -> dict[str, Appended]:
    """Adds the kept rows to the views' sources, one part each, named by request id and content of the push.

    Returns, by the source's path, the parts that the same request had added before. Raises RequestIdReused,
    SourceUnreadable.
    """
    name = (_identity(request_id), _digest(rows))
    found: dict[str, Appended] = {}
    for source, table in _by_source(checked, keep).values():
        appended = _append(source, table, request_id, name)
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
    table = _not_among(table, later, names)

    def column(name: str, kind: ValueType) -> pa.Array:
        return coerce(table[source.column_of(name)].combine_chunks(), kind, name, floats=True)

    created = source.created_column
    return NewRows(
        keys=tuple(column(key.name, key.type) for key in view.join_keys),
        values=tuple(column(item.name, item.type) for item in view.features),
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


def _not_among(table: pa.Table, others: list[pa.Table], names: list[str]) -> pa.Table:
    """The rows that agree with none of the others in the columns named."""
    if not others:
        return table
    numbered = table.select(names).append_column("", pa.array(np.arange(table.num_rows)))
    whole = pa.concat_tables(others, promote_options="default").select(names)
    kept = numbered.join(whole.group_by(names).aggregate([]), keys=names, join_type="left anti")
    return table.take(pa.array(np.sort(kept[""].to_numpy())))


def _append(source: Source, table: pa.Table, request_id: str, name: tuple[str, str]) -> Appended:
    try:
        return parquet.append(source.path, parquet.in_types_of(source.path, table), *name)
    except OtherRowsError as error:
        raise RequestIdReused(
            f"the request id {request_id!r} was used to push other rows to {source.name}; use a new one",
            metadata={"request_id": request_id},
        ) from error
    except (OSError, ValueError) as error:
        raise SourceUnreadable(
            f"cannot append to the source {source.name}: {error}", metadata={"view": source.name}
        ) from error


def _identity(request_id: str) -> str:
    return hashlib.sha256((request_id or uuid.uuid4().hex).encode()).hexdigest()[:32]


def _digest(rows: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:32]
