"""Features as they were known at each entity row's time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.coercion import coerce
from feature_service.domain import FeatureService, FeatureView, Field, KnownAt, ReadPlan, ValueType, ViewRead
from feature_service.history.aligned import Aligned, ipc_batches, whole
from feature_service.history.entity_rows import (
    EntityRows,
    EntityTimes,
    ParquetEntityRows,
    SpooledRows,
    malformed,
)
from feature_service.history.parquet_result import ParquetResult
from feature_service.online.retrieval import on_demand_inputs
from feature_service.planning import output_names
from feature_service.ports import OnDemandViews
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.backfill import backfilled
from feature_service.stores.source_views import source_view
from plumbline.errors import Cancelled
from plumbline.features.errors import JoinKeyMissing, RequestDataMissing

#: Rows that go out at once, and that on-demand views are computed for.
_SLICE_ROWS = 65_536
#: Rows that go to DuckDB at once.
_LOAD_ROWS = 262_144
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Progress:
    """How far a join is. phase: "receiving", "joining" or "sending"; rows_total 0 while unknown."""

    phase: str
    rows_done: int
    rows_total: int


@dataclass(frozen=True)
class JoinedFeature:
    """One column that the join added."""

    column: str
    view: str
    feature: Field
    rows_present: int


@dataclass(frozen=True)
class Summary:
    """What was joined; as_of: least and greatest entity time, None without rows. result_uri: where the
    result was written; "" when it was given batch by batch. warnings: for people."""

    rows: int
    features: tuple[JoinedFeature, ...]
    digest: str
    service: FeatureService
    views: tuple[FeatureView, ...]
    as_of: tuple[datetime, datetime] | None
    result_uri: str = ""
    warnings: tuple[str, ...] = ()


#: What a run gives: progress while it works, the schema, the batches, the summary.
Step: TypeAlias = Progress | pa.Schema | pa.RecordBatch | Summary
#: A key column of the entity rows and the type that it is joined as.
Key: TypeAlias = tuple[str, ValueType]


@dataclass(frozen=True)
class JoinRequest:
    """What a historical join is made for.

    URIs: places that the caller may have read and written; "" when the rows come, or the result goes, as a
    stream.
    """

    plan: ReadPlan
    event_column: str
    known_at: KnownAt
    full_names: bool
    entity_rows_uri: str = ""
    result_uri: str = ""


class HistoricalRun(Protocol):
    """One historical read, by whichever engine joins: on this machine or on a cluster."""

    def run(self, spool: Path) -> Generator[Step, None, None]:
        """Joins the entity rows in a file that holds one Arrow IPC stream, or those its request names.

        Progress, then the schema once and the batches (neither, when the result went to a place of the
        request's), then the summary. The result has exactly the entity rows, in their order. Raises
        MalformedEntityRows, JoinKeyMissing, RequestDataMissing, TypeMismatch, AmbiguousFeatureName,
        SourceUnreadable, OnDemandFailed, InvalidField, ResourceExhausted, Cancelled.
        """

    def interrupt(self) -> None:
        """Ends the run with Cancelled soon; from any thread."""


class HistoricalEngine(Protocol):
    """Who joins, when it is not this machine."""

    def join(self, request: JoinRequest) -> HistoricalRun:
        """One join. Raises InvalidField for what this engine cannot do."""

    def close(self) -> None:
        """Frees what the engine holds; joins that run fail."""


class HistoricalJoin:
    """One historical read on this machine; see HistoricalRun. `interrupt` may come from any thread."""

    def __init__(self, request: JoinRequest, on_demand: OnDemandViews, limits: JoinLimits) -> None:
        """Raises InvalidField and MalformedEntityRows for places that cannot be read or written."""
        self._plan, self._on_demand = request.plan, on_demand
        self._event_column, self._known_at = request.event_column, request.known_at
        self._full_names, self._limits = request.full_names, limits
        uri = request.result_uri
        self._result = ParquetResult(uri, limits.temp_folder) if uri else None
        uri = request.entity_rows_uri
        self._rows = ParquetEntityRows(uri) if uri else None
        self._running: AsofJoin | None = None
        self._interrupted = False
        self._warnings: list[str] = []

    def interrupt(self) -> None:
        """Ends the run with Cancelled at the next step or within the current query."""
        self._interrupted = True
        running = self._running
        if running is not None:
            running.interrupt()

    def run(self, spool: Path) -> Generator[Step, None, None]:
        """See HistoricalRun."""
        rows: EntityRows = self._rows or SpooledRows(spool)
        result, columns = self._result, rows.schema()
        names = output_names(self._plan, full=self._full_names, taken=columns.names)
        times = EntityTimes(self._event_column, columns)
        self._check_columns(columns)
        with ExitStack() as held:
            if result is not None:
                held.callback(result.discard)
            with AsofJoin(self._limits) as join:
                self._running = join
                if self._interrupted:  # before there was anything to interrupt
                    join.interrupt()
                keys = yield from self._load(join, rows, times)
                answers = yield from self._answers(join, keys, times.rows, held)
                self._running = None
            present, sent = [0] * len(names), 0
            for part in self._parts(rows, columns, answers, names):
                if self._interrupted:
                    raise Cancelled("the join was cancelled")
                for index in range(len(names)):
                    column = part.column(len(columns) + index)
                    present[index] += part.num_rows - column.null_count
                yield from self._give(part, result, first=not sent)
                sent += part.num_rows
                yield Progress("sending", sent, times.rows)
            if sent != times.rows:
                raise malformed(f"the entity rows changed while they were joined: {times.rows}, then {sent}")
            yield self._summary(names, present, times, "" if result is None else result.finish())

    def _give(
        self, part: pa.RecordBatch, result: ParquetResult | None, *, first: bool
    ) -> Generator[Step, None, None]:
        if result is not None:
            if first:
                result.begin(part.schema)
            result.write(part)
            return
        if first:
            yield part.schema
        yield part

    def _check_columns(self, entities: pa.Schema) -> None:
        for key in self._plan.join_keys:
            if key.name not in entities.names:
                raise JoinKeyMissing(
                    f"the selection needs the join key {key.name!r} ({key.type}), which is not among the "
                    f"columns of the entity rows ({', '.join(entities.names)})",
                    metadata={"join_key": key.name},
                )
        for column in self._plan.request_data:
            if column.name not in entities.names:
                raise RequestDataMissing(
                    f"an on-demand view needs the request data {column.name!r} ({column.type}) among the "
                    "columns of the entity rows",
                    metadata={"column": column.name},
                )

    def _load(
        self, join: AsofJoin, rows: EntityRows, times: EntityTimes
    ) -> Generator[Step, None, dict[Key, str]]:
        """Brings times and keys of the rows into the join; returns its name for each key column."""
        keys: dict[Key, str] = {}
        for read in self._plan.reads:
            for key in read.keys:
                keys.setdefault((key.column, key.join_key.type), f"e{len(keys)}")
        columns = list(dict.fromkeys([times.column, *(column for column, _ in keys)]))
        join.no_entities([arrow_type(kind) for _, kind in keys])
        for batch in _gathered(rows.checked(columns)):
            moments = times.micros(batch)
            join.add_entities(moments, [coerce(batch[column], kind, column) for column, kind in keys])
            yield Progress("receiving", times.rows, 0)
        yield Progress("receiving", times.rows, times.rows)
        return keys

    def _answers(
        self, join: AsofJoin, keys: dict[Key, str], rows: int, held: ExitStack
    ) -> Generator[Step, None, list[Aligned]]:
        """Joins view after view."""
        answers = []
        for done, read in enumerate(self._plan.reads):
            columns = [keys[key.column, key.join_key.type] for key in read.keys]
            path = yield from self._answer(join, read, columns, done, rows)
            # Open, the file outlives the folder of the join.
            answers.append(Aligned(ipc_batches(held.enter_context(pa.OSFile(str(path))))))
        return answers

    def _answer(
        self, join: AsofJoin, read: ViewRead, columns: list[str], done: int, rows: int
    ) -> Generator[Step, None, Path]:
        plan = source_view(read.view, read.features, columns, any_type=True)
        steps = join.answer(plan, self._known_at)
        furthest = 0.0
        try:
            while True:
                furthest = max(furthest, next(steps))
                yield Progress("joining", int(rows * (done + furthest) / len(self._plan.reads)), rows)
        except StopIteration as end:
            yield Progress("joining", rows * (done + 1) // len(self._plan.reads), rows)
            path: Path = end.value
            if self._known_at is KnownAt.CREATED_BY_THEN:
                self._warnings += backfilled(join, plan, path)
            return path
        finally:
            steps.close()

    def _parts(
        self, rows: EntityRows, columns: pa.Schema, answers: list[Aligned], names: tuple[str, ...]
    ) -> Iterator[pa.RecordBatch]:
        """The result in its order, at least one batch."""
        some = False
        for batch in rows.batches():
            for start in range(0, batch.num_rows, _SLICE_ROWS):
                some = True
                yield self._with_features(batch.slice(start, _SLICE_ROWS), answers, names)
        if not some:
            empty = pa.RecordBatch.from_arrays([pa.nulls(0, item.type) for item in columns], schema=columns)
            yield self._with_features(empty, answers, names)

    def _with_features(
        self, part: pa.RecordBatch, answers: list[Aligned], names: tuple[str, ...]
    ) -> pa.RecordBatch:
        found = [
            answer.take(part.num_rows, read.features)
            for answer, read in zip(answers, self._plan.reads, strict=True)
        ]
        computed = []
        if self._plan.on_demand:
            table = pa.Table.from_batches([part])
            computed = [
                self._on_demand.compute(item.view, on_demand_inputs(item, found, table))
                for item in self._plan.on_demand
            ]
        features: list[pa.Array] = []
        for item in self._plan.outputs:
            source: Any = (computed if item.on_demand else found)[item.index]
            features.append(whole(source[item.feature.name]))
        schema = part.schema
        for name, array in zip(names, features, strict=True):
            schema = schema.append(pa.field(name, array.type))
        return pa.RecordBatch.from_arrays([*part.columns, *features], schema=schema)

    def _summary(
        self, names: tuple[str, ...], present: list[int], times: EntityTimes, result_uri: str
    ) -> Summary:
        bounds = times.bounds
        return Summary(
            rows=times.rows,
            features=tuple(
                JoinedFeature(name, item.label, item.feature, count)
                for name, item, count in zip(names, self._plan.outputs, present, strict=True)
            ),
            digest=self._plan.digest,
            service=self._plan.service,
            views=self._plan.views,
            as_of=bounds and (_EPOCH + bounds[0] * _MICROSECOND, _EPOCH + bounds[1] * _MICROSECOND),
            result_uri=result_uri,
            warnings=tuple(self._warnings),
        )


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in tables of about _LOAD_ROWS, however small the batches are; none of no rows."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
        if rows >= _LOAD_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)
