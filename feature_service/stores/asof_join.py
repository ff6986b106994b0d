"""Point-in-time joins and newest-row reads over Parquet, run by DuckDB within bounded memory."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import numpy as np
import pyarrow as pa

from feature_service.arrow_types import TIMESTAMP, arrow_type
from feature_service.domain import KnownAt, ValueType
from feature_service.stores import asof_sql as sql
from feature_service.stores import remote
from feature_service.stores.asof_sql import ParquetRows, SourceColumn, SourceView
from plumbline.errors import Cancelled
from plumbline.features.errors import JoinOutOfMemory, SourceUnreadable, StorageFull

_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class JoinLimits:
    """What a join may use. memory: as DuckDB writes it, "2GB"; beyond it, data spills to temp_folder.
    threads 0: one for each core. temp_folder None: the system's."""

    memory: str = "2GB"
    threads: int = 0
    temp_folder: str | None = None


class AsofJoin:
    """One join: entity rows once, then view after view. Not thread-safe but for interrupt().

    Results are memory-mapped files in a temporary folder that goes away with the `with` block; the
    tables stay readable after it, since the maps keep their files alive.
    """

    def __init__(self, limits: JoinLimits) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="plumbline-join-", dir=limits.temp_folder)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": limits.memory,
                "threads": limits.threads or os.cpu_count() or 1,
                "temp_directory": str(Path(self._folder.name) / "spill"),
                "preserve_insertion_order": True,
            },
        )
        # Naive times count as UTC, also where files with and without a zone are read as one column.
        self._connection.execute("SET TimeZone = 'UTC'")
        remote.register(self._connection)
        self._rows = 0
        self._range: tuple[int, int] | None = None
        self._results = 0
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees everything."""
        self._connection.close()
        self._folder.cleanup()

    def interrupt(self) -> None:
        """Stops what runs now and what would run next with Cancelled; from any thread."""
        self._interrupted = True
        with suppress(duckdb.ConnectionException):  # closed meanwhile: nothing is left to stop
            self._connection.interrupt()

    def set_entities(
        self, micros: pa.ChunkedArray | pa.Array, keys: Sequence[pa.ChunkedArray | pa.Array]
    ) -> None:
        """The entity rows: their times (int64 µs, no nulls) and key columns, which become e0, e1, …"""
        self._rows = len(micros)
        names = ["r", "t", *(f"e{i}" for i in range(len(keys)))]
        numbers = pa.array(np.arange(self._rows, dtype=np.int64))
        with _readable("the entity rows"):
            self._connection.register("entity_rows", pa.table([numbers, micros, *keys], names))
            # A copy in DuckDB has statistics to plan by, and can spill; a registered Arrow table has neither.
            self._run("CREATE OR REPLACE TEMP TABLE entity AS SELECT * FROM entity_rows")
            self._connection.unregister("entity_rows")
            low, high = self._fetch("SELECT min(t), max(t) FROM entity")[0]
        self._range = None if low is None else (low, high)

    def join(self, view: SourceView, known_at: KnownAt) -> pa.Table:
        """The features of a view for each entity row, in order; null where no row answers.

        Raises SourceUnreadable, ResourceExhausted, Cancelled.
        """
        if self._range is None or not view.rows.files:
            return _nulls(view.features, self._rows)
        low, high = self._range
        where = [f"known <= {high}"]
        if view.ttl_micros is not None:
            # Older rows are outside the ttl of every entity row, and never newer than one inside.
            where.append(f"ev >= {low - view.ttl_micros}")
        with _readable(view.name):
            tie_break = self._load(view, where, "entity", known_at)
            self._run(sql.rank(view, tie_break=tie_break))
            self._run(sql.frontier(view, known_at))
            table = self._spool(view.features, sql.answer(view))
            self._run("DROP TABLE src; DROP TABLE ranked; DROP TABLE frontier")
        if table.num_rows != self._rows:
            raise RuntimeError(f"view {view.name}: {self._rows} entity rows in, {table.num_rows} out")
        return table

    def stream(
        self, view: SourceView, query: Callable[[Mapping[str, str]], str], rows: int
    ) -> Generator[pa.RecordBatch, None, None]:
        """What a query over the view's source gives, in batches of `rows`, as DuckDB types it.

        query: made from the DuckDB types of the source's columns. Raises SourceUnreadable, ResourceExhausted,
        Cancelled.
        """
        types = self.columns(view)
        _check_columns(view, types)
        with _readable(view.name):
            self._check()
            reader = self._connection.sql(query(types)).to_arrow_reader(rows)
            try:
                yield from reader
            finally:
                # A result that is not read to its end keeps the connection from the next query.
                reader.close()

    def pull(
        self,
        name: str,
        rows: ParquetRows,
        keys: Sequence[str],
        columns: Sequence[str],
        start: int | None,
        end: int | None,
        *,
        newest_only: bool,
    ) -> pa.Table:
        """Rows as the source has them, timestamps in UTC microseconds: see asof_sql.pull."""
        view = SourceView(name, rows, (), (), ())
        if not rows.files:
            return pa.table({column: pa.nulls(0) for column in (*keys, *columns, rows.timestamp)})
        types = self.columns(view)
        wanted = {column: types.get(column, "") for column in (*keys, *columns)}
        _require(view, [column for column, kind in wanted.items() if not kind])
        _check_columns(view, types)
        with _readable(view.name):
            query = sql.pull(rows, types, keys, columns, start, end, newest_only=newest_only)
            table: pa.Table = self._connection.sql(query).to_arrow_table()
        for index, column in enumerate(table.column_names):
            if sql.is_time(types[column]):
                table = table.set_column(index, column, table[column].cast(TIMESTAMP))
        return table

    def columns(self, view: SourceView) -> dict[str, str]:
        """DuckDB type of each column of a view's source. Raises SourceUnreadable."""
        with _readable(view.name):
            return {name: kind for name, kind, *_ in self._fetch(sql.describe(view.rows))}

    def _load(self, view: SourceView, where: list[str], keys_from: str | None, known_at: KnownAt) -> bool:
        """Fills src; says whether the feature values are needed to break ties."""
        types = self.columns(view)
        _check_columns(view, types)

        def fill(tie_break: bool) -> None:
            self._run(
                sql.load(
                    view, types, tie_break=tie_break, where=where, keys_from=keys_from, known_at=known_at
                )
            )

        fill(tie_break=False)
        tie_break = bool(self._fetch(sql.any_tie(view)))
        if tie_break:
            fill(tie_break=True)
        return tie_break

    def _spool(self, features: Sequence[SourceColumn], query: str) -> pa.Table:
        self._results += 1
        path = str(Path(self._folder.name) / f"result-{self._results}.arrow")
        reader = self._connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        schema = pa.schema(
            [
                (item.name, found.type if item.type is ValueType.UNSPECIFIED else arrow_type(item.type))
                for item, found in zip(features, reader.schema, strict=True)
            ]
        )
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in reader:
                writer.write_batch(_restore(batch, schema))
        with pa.memory_map(path) as source:
            return pa.ipc.open_file(source).read_all()

    def _run(self, statement: str) -> None:
        self._check()
        self._connection.execute(statement)

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        self._check()
        rows: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return rows

    def _check(self) -> None:
        if self._interrupted:
            raise Cancelled("the join was cancelled")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Says in the suite's words what DuckDB found wrong."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # An error of DuckDB's in the middle of a result arrives as one of Arrow's, with its text.
        said = str(error)
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in said:
            raise Cancelled("the join was cancelled") from error
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in said:
            raise JoinOutOfMemory(
                f"{name}: out of memory while joining ({_first_line(error)}); "
                "send fewer rows at once or raise the memory limit of joins",
                metadata={"view": name},
            ) from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(
                f"{name}: no space is left for the result of the join", metadata={"view": name}
            ) from error
        raise SourceUnreadable(
            f"view {name}: its source cannot be read as defined: {_first_line(error)}",
            metadata={"view": name},
        ) from error


def _first_line(error: Exception) -> str:
    # What a file system of Python's raised comes with its traceback in front.
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith((" ", "Trace"))]
    return lines[0] if lines else type(error).__name__


def _require(view: SourceView, missing: list[str]) -> None:
    if missing:
        raise SourceUnreadable(
            f"view {view.name}: its source has no column {', '.join(missing)}", metadata={"view": view.name}
        )


def _check_columns(view: SourceView, types: dict[str, str]) -> None:
    """Raises SourceUnreadable when the files lack a column or a time column holds no times."""
    wanted = [item.column for item in (*view.keys, *view.features, *view.tie_break)]
    times = [view.rows.timestamp, *([view.rows.created] if view.rows.created else [])]
    _require(view, [name for name in dict.fromkeys([*wanted, *times]) if name not in types])
    for name in times:
        if not sql.is_time(types[name]):
            raise SourceUnreadable(
                f"view {view.name}: the time column {name} is {types[name]}, not a timestamp",
                metadata={"view": view.name},
            )


def _nulls(features: Sequence[SourceColumn], rows: int) -> pa.Table:
    kinds = [pa.null() if item.type is ValueType.UNSPECIFIED else arrow_type(item.type) for item in features]
    return pa.table([pa.nulls(rows, kind) for kind in kinds], [item.name for item in features])


def _restore(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of DuckDB's in the declared types: integers that stand for times become timestamps."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
