"""Point-in-time joins and newest-row reads over Parquet, run by DuckDB within bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import TIMESTAMP
from feature_service.domain import KnownAt
from feature_service.stores import asof_sql as sql
from feature_service.stores.answer import Answer, nothing
from feature_service.stores.array_join import ArrayJoin
from feature_service.stores.asof_sql import ParquetRows, SourceView
from feature_service.stores.frontier_join import FrontierJoin
from feature_service.stores.session import JoinLimits, Session, readable
from plumbline.features.errors import SourceUnreadable

__all__ = ["AsofJoin", "JoinLimits"]

ResultT = TypeVar("ResultT")

#: How much of a view's join lies behind when its answer is found: the rest is to write it.
_FOUND = 0.9


class AsofJoin:
    """One join: entity rows once, then view after view. Not thread-safe but for interrupt().

    What `answer` writes lies in a temporary folder that goes away with the `with` block; files that are open
    or mapped then stay readable.
    """

    def __init__(self, limits: JoinLimits) -> None:
        self._session = Session(limits)
        self._rows = 0
        self._range: tuple[int, int] | None = None
        self._results = 0
        self._arrays, self._frontier = ArrayJoin(self._session), FrontierJoin(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees everything."""
        self._session.close()

    def interrupt(self) -> None:
        """Stops what runs now and what would run next with Cancelled; from any thread."""
        self._session.interrupt()

    def set_entities(
        self, micros: pa.ChunkedArray | pa.Array, keys: Sequence[pa.ChunkedArray | pa.Array]
    ) -> None:
        """The entity rows at once: times (int64 µs, no nulls) and key columns, which become e0, e1, …"""
        self.no_entities([key.type for key in keys])
        if len(micros):
            self.add_entities(micros, keys)

    def no_entities(self, keys: Sequence[pa.DataType]) -> None:
        """Begins with no entity rows, of these types of keys; `add_entities` adds them."""
        self._rows, self._range = 0, None
        self._arrays.forget()
        names = ["r", "t", *(f"e{i}" for i in range(len(keys)))]
        types = [pa.int64(), pa.int64(), *keys]
        empty = pa.table([pa.nulls(0, kind) for kind in types], names)
        with readable("the entity rows"):
            self._session.load("CREATE OR REPLACE TEMP TABLE entity AS SELECT * FROM loaded", empty)

    def add_entities(
        self, micros: pa.ChunkedArray | pa.Array, keys: Sequence[pa.ChunkedArray | pa.Array]
    ) -> None:
        """Adds entity rows, at least one: see set_entities. A call costs about as much as 10,000 rows."""
        numbers = pa.array(np.arange(self._rows, self._rows + len(micros), dtype=np.int64))
        table = pa.table([numbers, micros, *keys], ["r", "t", *(f"e{i}" for i in range(len(keys)))])
        with readable("the entity rows"):
            # A copy in DuckDB has statistics to plan by, and can spill; a registered Arrow table has neither.
            self._session.load("INSERT INTO entity SELECT * FROM loaded", table)
        self._arrays.forget()
        self._rows += len(micros)
        bounds = pc.min_max(micros)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        before = self._range or (low, high)
        self._range = (min(low, before[0]), max(high, before[1]))

    def join(self, view: SourceView, known_at: KnownAt) -> pa.Table:
        """The features of a view for each entity row, in order; null where no row answers.

        Raises SourceUnreadable, ResourceExhausted, Cancelled.
        """
        with readable(view.name):
            found = _last(self._session.watch(lambda: self._find(view, known_at)))
            if found.held:
                return found.table()
            path = _last(self._spooled(view, found))
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).read_all()

    def answer(self, view: SourceView, known_at: KnownAt) -> Generator[float, None, Path]:
        """As `join`, into an Arrow IPC file; yields from time to time how far it is (0 to 1)."""
        with readable(view.name):
            find = self._session.watch(lambda: self._find(view, known_at))
            found = yield from _scaled(find, 0, _FOUND)
            return (yield from _scaled(self._spooled(view, found), _FOUND, 1))

    def _find(self, view: SourceView, known_at: KnownAt) -> Answer:
        if self._range is None or not view.rows.files:
            return nothing(view.features, self._rows)
        low, high = self._range
        where = [f"known <= {high}"]
        if view.ttl_micros is not None:
            # Older rows are outside the ttl of every entity row, and never newer than one inside.
            where.append(f"ev >= {low - view.ttl_micros}")
        types = self.columns(view)
        _check_columns(view, types)
        asked = view, types, where, known_at, self._rows
        return self._arrays.answer(*asked) or self._frontier.answer(*asked)

    def _spooled(self, view: SourceView, found: Answer) -> Generator[float, None, Path]:
        """The answer in a file."""
        self._results += 1
        path = self._session.folder / f"result-{self._results}.arrow"
        rows = yield from self._session.watch(lambda: found.spool(path))
        if rows != self._rows:
            raise RuntimeError(f"view {view.name}: {self._rows} entity rows in, {rows} out")
        return path

    def stream(
        self, view: SourceView, query: Callable[[Mapping[str, str]], str], rows: int
    ) -> Generator[pa.RecordBatch, None, None]:
        """What a query over the view's source gives, in batches of `rows`, as DuckDB types it.

        query: made from the DuckDB types of the source's columns. Raises SourceUnreadable, ResourceExhausted,
        Cancelled.
        """
        types = self.columns(view)
        _check_columns(view, types)
        with readable(view.name):
            self._session.check()
            reader = self._session.connection.sql(query(types)).to_arrow_reader(rows)
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
        with readable(view.name):
            query = sql.pull(rows, types, keys, columns, start, end, newest_only=newest_only)
            table: pa.Table = self._session.connection.sql(query).to_arrow_table()
        for index, column in enumerate(table.column_names):
            if sql.is_time(types[column]):
                table = table.set_column(index, column, table[column].cast(TIMESTAMP))
        return table

    def columns(self, view: SourceView) -> dict[str, str]:
        """DuckDB type of each column of a view's source. Raises SourceUnreadable."""
        with readable(view.name):
            return {name: kind for name, kind, *_ in self._session.fetch(sql.describe(view.rows))}


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


def _scaled(
    steps: Generator[float, None, ResultT], low: float, high: float
) -> Generator[float, None, ResultT]:
    """The steps between low and high instead of 0 and 1."""
    try:
        while True:
            yield low + next(steps) * (high - low)
    except StopIteration as end:
        return cast("ResultT", end.value)
    finally:
        steps.close()


def _last(steps: Generator[float, None, ResultT]) -> ResultT:
    """What the steps come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("ResultT", end.value)
