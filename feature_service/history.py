"""Features as they were known at each entity row's time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import FeatureService, FeatureView, Field, KnownAt, ReadPlan
from feature_service.planning import output_names
from feature_service.ports import OnDemandViews
from feature_service.retrieval import on_demand_inputs
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.source_views import source_view
from plumbline.errors import FieldViolation
from plumbline.features.errors import JoinKeyMissing, MalformedEntityRows, RequestDataMissing

_SLICE_ROWS = 32_768
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: How every Arrow IPC stream ends when its writer was closed.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


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
    """What was joined; as_of: least and greatest entity time, None without rows."""

    rows: int
    features: tuple[JoinedFeature, ...]
    digest: str
    service: FeatureService
    views: tuple[FeatureView, ...]
    as_of: tuple[datetime, datetime] | None
    #: Where the result was written, when it was not given back as batches.
    result_uri: str = ""


#: What a run gives: progress while it works, the schema, the batches, the summary.
Step: TypeAlias = Progress | pa.Schema | pa.RecordBatch | Summary


@dataclass(frozen=True)
class JoinRequest:
    """What a historical join is made for. URIs: "" when the rows come, or the result goes, as a stream."""

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
        request's), then the summary. Raises what `HistoricalJoin.run` raises.
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
    """One historical read, on a thread of its own; `interrupt` may come from any other.

    It runs as an iterator: progress while joining, then the result's schema once, then its record
    batches, then the summary. The result has exactly the entity rows, in their order.
    """

    def __init__(
        self,
        plan: ReadPlan,
        on_demand: OnDemandViews,
        limits: JoinLimits,
        *,
        event_column: str,
        known_at: KnownAt,
        full_names: bool,
    ) -> None:
        self._plan, self._on_demand = plan, on_demand
        self._event_column, self._known_at, self._full_names = event_column, known_at, full_names
        self._limits = limits
        self._running: AsofJoin | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Ends the run with Cancelled at the next step or within the current query."""
        self._interrupted = True
        running = self._running
        if running is not None:
            running.interrupt()

    def run(self, spool: Path) -> Generator[Step, None, None]:
        """Joins the entity rows in a file that holds one Arrow IPC stream.

        Raises MalformedEntityRows, JoinKeyMissing, RequestDataMissing, TypeMismatch, AmbiguousFeatureName,
        SourceUnreadable, OnDemandFailed, ResourceExhausted, Cancelled.
        """
        entities = read_entities(spool)
        names = output_names(self._plan, full=self._full_names, taken=entities.column_names)
        self._check_columns(entities)
        times = self._times(entities)
        rows = entities.num_rows
        yield Progress("receiving", rows, rows)
        answers = []
        with AsofJoin(self._limits) as join:
            self._running = join
            if self._interrupted:  # before there was anything to interrupt
                join.interrupt()
            for done, answer in enumerate(self._answers(join, entities, times), 1):
                answers.append(answer)
                yield Progress("joining", rows * done // max(len(self._plan.reads), 1), rows)
            self._running = None
        present = [0] * len(names)
        schema = None
        for start in range(0, max(rows, 1), _SLICE_ROWS):
            part = self._slice(entities, answers, names, start)
            if schema is None:
                schema = part.schema
                yield schema
            for index in range(len(names)):
                present[index] += part.num_rows - part.column(entities.num_columns + index).null_count
            yield from part.to_batches()
            yield Progress("sending", min(start + _SLICE_ROWS, rows), rows)
        yield self._summary(names, present, times)

    def _check_columns(self, entities: pa.Table) -> None:
        for key in self._plan.join_keys:
            if key.name not in entities.column_names:
                raise JoinKeyMissing(
                    f"the selection needs the join key {key.name!r} ({key.type}), which is not among the "
                    f"columns of the entity rows ({', '.join(entities.column_names)})",
                    metadata={"join_key": key.name},
                )
        for column in self._plan.request_data:
            if column.name not in entities.column_names:
                raise RequestDataMissing(
                    f"an on-demand view needs the request data {column.name!r} ({column.type}) among the "
                    "columns of the entity rows",
                    metadata={"column": column.name},
                )

    def _times(self, entities: pa.Table) -> pa.ChunkedArray:
        name = self._event_column
        if name not in entities.column_names:
            raise malformed(
                f"the entity rows have no event-time column {name!r}; "
                f"they have {', '.join(entities.column_names) or 'no columns'}",
                name,
            )
        column = entities[name]
        if not pa.types.is_timestamp(column.type):
            raise malformed(f"the event-time column {name!r} is {column.type}, not a timestamp", name)
        if column.null_count:
            first = pc.index(column.is_null(), True).as_py()
            raise malformed(f"the event-time column {name!r} is null in row {first}", name)
        try:
            times = to_utc_micros(column)
            if len(times):
                bounds = pc.min_max(times.cast(pa.int64())).as_py()
                _ = _EPOCH + bounds["min"] * _MICROSECOND, _EPOCH + bounds["max"] * _MICROSECOND
        except (pa.ArrowInvalid, OverflowError) as error:
            raise malformed(
                f"the event-time column {name!r} holds times outside of the years 1 to 9999", name
            ) from error
        return times

    def _answers(self, join: AsofJoin, entities: pa.Table, times: pa.ChunkedArray) -> Iterator[pa.Table]:
        keys: dict[tuple[str, Any], pa.ChunkedArray] = {}
        for read in self._plan.reads:
            for key in read.keys:
                wanted = (key.column, key.join_key.type)
                if wanted not in keys:
                    keys[wanted] = coerce(entities[key.column], key.join_key.type, key.column)
        join.set_entities(times.cast(pa.int64()), list(keys.values()))
        position = {wanted: f"e{index}" for index, wanted in enumerate(keys)}
        for read in self._plan.reads:
            columns = [position[key.column, key.join_key.type] for key in read.keys]
            yield join.join(source_view(read.view, read.features, columns), self._known_at)

    def _slice(
        self, entities: pa.Table, answers: list[pa.Table], names: tuple[str, ...], start: int
    ) -> pa.Table:
        """Rows from `start` on, with the features added."""
        part = entities.slice(start, _SLICE_ROWS)
        found = [
            {name: answer[name].slice(start, _SLICE_ROWS) for name in answer.column_names}
            for answer in answers
        ]
        computed = [
            self._on_demand.compute(item.view, on_demand_inputs(item, list(found), part))
            for item in self._plan.on_demand
        ]
        for name, item in zip(names, self._plan.outputs, strict=True):
            source: Any = (computed if item.on_demand else found)[item.index]
            part = part.append_column(name, source[item.feature.name])
        return part.combine_chunks()

    def _summary(self, names: tuple[str, ...], present: list[int], times: pa.ChunkedArray) -> Summary:
        bounds = pc.min_max(times).as_py()
        return Summary(
            rows=len(times),
            features=tuple(
                JoinedFeature(name, item.label, item.feature, count)
                for name, item, count in zip(names, self._plan.outputs, present, strict=True)
            ),
            digest=self._plan.digest,
            service=self._plan.service,
            views=self._plan.views,
            as_of=None if bounds["min"] is None else (bounds["min"], bounds["max"]),
        )


def malformed(message: str, column: str = "") -> MalformedEntityRows:
    """The refusal of entity rows."""
    return MalformedEntityRows(
        message, metadata={"column": column}, violations=[FieldViolation(column or "arrow_ipc", message)]
    )


def read_entities(spool: Path) -> pa.Table:
    """The rows of the file, memory-mapped where they are not compressed."""
    size = spool.stat().st_size
    if not size:
        raise malformed("no entity rows were sent: after the header comes one Arrow IPC stream")
    with spool.open("rb") as file:
        file.seek(max(size - len(_END_OF_STREAM), 0))
        complete = file.read() == _END_OF_STREAM
    try:
        with pa.memory_map(str(spool)) as source:
            table = pa.ipc.open_stream(source).read_all()
        # In full: offsets and indices that point outside their buffers would end the process later.
        table.validate(full=True)
        names = table.column_names
    # Bytes that are wrong can also ask for any amount of memory, and name columns in what is no UTF-8.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise malformed(f"the entity rows are not an Arrow IPC stream: {error}") from error
    if not complete:
        raise malformed(
            "the Arrow IPC stream of the entity rows is cut short: its end-of-stream mark is missing"
        )
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise malformed(f"the entity rows have the column {repeated[0]!r} more than once", repeated[0])
    return table
