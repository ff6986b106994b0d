"""Offline rows for the online store: the newest row of each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import TIMESTAMP, arrow_type
from feature_service.domain import FeatureView, Field, ValueType
from feature_service.feast_adapters.definitions import declared_type
from feature_service.feast_adapters.values import opaque
from feature_service.ports import NO_TIME, NewRows, RowRange, RowScan
from feature_service.stores import newest_sql as sql
from feature_service.stores import source_files
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.asof_sql import SourceView
from feature_service.stores.meanwhile import Meanwhile
from feature_service.stores.newest_sql import Wanted
from feature_service.stores.source_views import source_view
from plumbline.features.errors import SourceUnreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Rows read at once, and rows given at once: while those are written, other writers wait.
_READ_ROWS = 65_536
WRITE_ROWS = 16_384


class ParquetNewestRows:
    """See ports.NewestRows. One scan at a time; interrupt() from any thread."""

    def __init__(self, limits: JoinLimits) -> None:
        self._limits = limits
        self._running: AsofJoin | None = None
        self._interrupted = False

    @contextmanager
    def scan(self, view: FeatureView, wanted: RowRange) -> Iterator[RowScan]:
        """See ports.NewestRows."""
        _refuse_other_sources(view)
        plan = source_view(view, view.features, any_type=True)
        rows = _wanted(view, plan, wanted)
        path = view.source.path if view.source else ""
        with AsofJoin(self._limits) as join, ExitStack() as stack:
            # The first is in the middle of a result while parts are read; most runs never need another.
            other = cache(lambda: stack.enter_context(AsofJoin(self._limits)))
            pushed = Meanwhile(
                path, plan.rows.files, lambda parts: _pushed_rows(other(), view, plan, rows, parts)
            )
            self._running = join
            if self._interrupted:
                join.interrupt()
            try:
                yield _Scan(join, view, plan, rows, pushed)
            finally:
                self._running = None

    def interrupt(self) -> None:
        """See ports.NewestRows."""
        self._interrupted = True
        running = self._running
        if running is not None:
            running.interrupt()


class ParquetEntityKeys:
    """See ports.EntityKeys."""

    def __init__(self, limits: JoinLimits) -> None:
        self._limits = limits

    def sample(self, views: Sequence[FeatureView], end: datetime, count: int, seed: int) -> pa.Table:
        """See ports.EntityKeys."""
        names = [key.name for key in views[0].join_keys]
        schema = pa.schema([(key.name, arrow_type(key.type)) for key in views[0].join_keys])
        plans = [
            plan for view in views if (plan := source_view(view, view.features, any_type=True)).rows.files
        ]
        if not plans:
            return schema.empty_table()
        with AsofJoin(self._limits) as join:
            types = [join.columns(plan) for plan in plans]
            query = join.stream(
                plans[0],
                lambda _: sql.sample_keys(list(zip(plans, types, strict=True)), _micros(end), count, seed),
                _READ_ROWS,
            )
            table = pa.Table.from_batches(list(query)) if names else schema.empty_table()
        return table.rename_columns(names).cast(schema) if table.num_columns else schema.empty_table()


class _Rows:
    """The newest row of each key in the files of a view."""

    def __init__(self, join: AsofJoin, found: FeatureView, view: SourceView, wanted: Wanted) -> None:
        self._join, self._found, self._view, self._wanted = join, found, view, wanted
        self._given = 0

    def total(self) -> int:
        """See ports.RowScan."""
        if not self._view.rows.files:
            return 0
        query = self._join.stream(
            self._view, lambda types: sql.count_keys(self._view, types, self._wanted), _READ_ROWS
        )
        return sum(int(batch.column(0)[0].as_py()) for batch in query)

    def rows(self, skip: int = 0) -> Iterator[NewRows]:
        """See ports.RowScan."""
        if not self._view.rows.files:
            return
        self._given = skip
        try:
            yield from self._rows(tie_break=False)
            return
        except _TieError:
            pass
        # Up to the tie, both orders give the same rows.
        yield from self._rows(tie_break=True)

    def _rows(self, *, tie_break: bool) -> Iterator[NewRows]:
        skip = self._given
        for batch in _chunks(self._newest(tie_break), WRITE_ROWS):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            rows = batch.slice(skip)
            skip = 0
            yield self._new_rows(rows)
            self._given += rows.num_rows

    def _newest(self, tie_break: bool) -> Iterator[pa.RecordBatch]:
        """The last row of each key."""
        types = _types(self._view)
        keys = len(self._view.keys)
        held: pa.RecordBatch | None = None
        query = self._join.stream(
            self._view,
            lambda types: sql.in_order(self._view, types, self._wanted, tie_break=tie_break),
            _READ_ROWS,
        )
        with closing(query):
            for found in query:
                if not found.num_rows:
                    continue
                batch = _restored(found, types)
                if held is not None:
                    batch = pa.concat_batches([held, batch])
                last = _last_of_each(batch, keys)
                if not tie_break and _any_tie(batch, keys, last):
                    raise _TieError
                # The last key may go on in what follows.
                held = batch.slice(batch.num_rows - 1)
                last[-1] = False
                if last.any():
                    yield batch.filter(pa.array(last))
        if held is not None:
            yield held

    def _new_rows(self, batch: pa.RecordBatch) -> NewRows:
        keys = len(self._view.keys)
        created = batch.column(keys + 1)
        return NewRows(
            keys=tuple(batch.columns[:keys]),
            values=tuple(map(self._value, self._found.features, batch.columns[keys + 2 :])),
            event_micros=_micros_or(batch.column(keys), NO_TIME),
            created_micros=None if created.null_count == len(created) else _micros_or(created, NO_TIME),
        )

    def _value(self, feature: Field, column: pa.Array) -> pa.Array:
        """A column of a type of ours as it is, any other as messages of Feast's."""
        if feature.type is not ValueType.UNSPECIFIED:
            return column
        try:
            return opaque(column, declared_type(self._found, feature.name))
        except (TypeError, ValueError) as error:
            raise SourceUnreadable(
                f"view {self._found.name}: {feature.name} is {column.type}, which is not what is declared: "
                f"{error}",
                metadata={"view": self._found.name},
            ) from error


class _Scan(_Rows):
    """See ports.RowScan."""

    def __init__(
        self, join: AsofJoin, found: FeatureView, view: SourceView, wanted: Wanted, pushed: Meanwhile
    ) -> None:
        super().__init__(join, found, view, wanted)
        self.source = source_files.fingerprint(view.rows.files)
        self._pushed = pushed

    def give(self, rows: NewRows, write: Callable[[NewRows], int]) -> int:
        """See ports.RowScan."""
        return self._pushed.give(rows, write)

    def finish(self, write: Callable[[NewRows], int]) -> None:
        """See ports.RowScan."""
        self._pushed.finish(write)


def _pushed_rows(
    join: AsofJoin, view: FeatureView, plan: SourceView, wanted: Wanted, parts: tuple[str, ...]
) -> Iterator[NewRows]:
    """The newest rows of parts that came during a scan, of those that may have the times of one in it."""
    # The parts of a partitioned tree hold the partition columns themselves.
    alone = replace(plan, rows=replace(plan.rows, files=parts, partitions=()))
    columns = {item.column for item in (*plan.keys, *plan.features, *plan.tie_break)}
    if columns <= join.columns(alone).keys():
        return _Rows(join, view, alone, replace(wanted, known_after=None)).rows()
    # Pushed to another view of the source: what they lack, the other files have the types of.
    whole = replace(plan, rows=replace(plan.rows, files=(*plan.rows.files, *parts)))
    return _Rows(join, view, whole, replace(wanted, known_after=wanted.end, whole=parts)).rows()


def _refuse_other_sources(view: FeatureView) -> None:
    """Raises SourceUnreadable for what only the repository's own batch_engine reads."""
    if view.source is not None and not view.source.path:
        raise SourceUnreadable(
            f"view {view.name}: this service brings the rows of Parquet files online, and the source "
            f"{view.source.name!r} is none. Run `feast materialize-incremental` or `feast materialize` in "
            "the repository: they work through its batch_engine, and what they write is served here",
            metadata={"view": view.name},
        )


class _TieError(Exception):
    """Two rows of one key agree in event and created time, and the order does not say which counts."""


def _last_of_each(batch: pa.RecordBatch, keys: int) -> npt.NDArray[np.bool_]:
    """Whether each row is the last of its key."""
    last = np.zeros(batch.num_rows, bool)
    last[-1] = True
    for column in batch.columns[:keys]:
        last[:-1] |= pc.not_equal(column[:-1], column[1:]).to_numpy(zero_copy_only=False)
    return last


def _any_tie(batch: pa.RecordBatch, keys: int, last: npt.NDArray[np.bool_]) -> bool:
    """Whether a row that is the last of its key has the times of the row of its key before it."""
    if batch.num_rows < 2:
        return False
    same = last[1:] & ~last[:-1]
    if not same.any():
        return False
    for column in batch.columns[keys : keys + 2]:
        times = _micros_or(column, NO_TIME)
        same &= times[1:] == times[:-1]
    return bool(same.any())


def _chunks(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows`, the last one perhaps smaller."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        if count < rows:
            continue
        whole = waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
        start = 0
        while count - start >= rows:
            yield whole.slice(start, rows)
            start += rows
        waiting, count = [whole.slice(start)], count - start
    if count:
        yield pa.concat_batches(waiting)


def _micros_or(times: pa.Array, missing: int) -> npt.NDArray[np.int64]:
    numbers = times.cast(pa.int64())
    if numbers.null_count:
        numbers = numbers.fill_null(missing)
    found: npt.NDArray[np.int64] = numbers.to_numpy(zero_copy_only=False)
    return found


def _types(view: SourceView) -> list[pa.DataType | None]:
    """The types of the columns; None: as the source has them."""
    features = [
        None if item.type is ValueType.UNSPECIFIED else arrow_type(item.type) for item in view.features
    ]
    return [*(arrow_type(key.type) for key in view.keys), TIMESTAMP, TIMESTAMP, *features]


def _restored(batch: pa.RecordBatch, types: Sequence[pa.DataType | None]) -> pa.RecordBatch:
    """A batch of DuckDB's in the declared types: integers that stand for times become timestamps."""
    columns = [
        column if wanted is None or column.type == wanted else column.cast(wanted)
        for column, wanted in zip(batch.columns, types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _wanted(view: FeatureView, plan: SourceView, wanted: RowRange) -> Wanted:
    whole: Sequence[str] = ()
    known_after = None
    if wanted.known_after is not None:
        known_after = _micros(wanted.known_after)
        whole = source_files.changed_since(plan.rows.files, wanted.known_after)
        if plan.rows.created is None and source_files.any_remote(plan.rows.files):
            # Nothing says what is new there.
            known_after = None
    return Wanted(
        end=_micros(wanted.end),
        after=None if wanted.after is None else _micros(wanted.after),
        oldest=None if view.ttl is None or wanted.known_after is None else _micros(wanted.end - view.ttl),
        known_after=known_after,
        whole=tuple(whole),
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
