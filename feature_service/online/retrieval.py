"""The latest values of features for many entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import arrow_type
from feature_service.coercion import coerce
from feature_service.domain import FeatureStatus, Field, KeyColumn, OnDemandRead, ReadPlan, ViewRead
from feature_service.planning import output_names
from feature_service.ports import NOT_STORED, Micros, OnDemandViews, OnlineStore
from plumbline.errors import FieldViolation, MalformedColumn
from plumbline.features.errors import (
    EmptyRequest,
    InvalidField,
    JoinKeyMissing,
    RequestDataMissing,
    StoreUnavailable,
    TooManyRows,
)

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Statuses = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FeatureValues:
    """One column of the reply. statuses: None when all are PRESENT; where not PRESENT, the value is null or
    the request's default."""

    name: str
    view: str
    values: pa.Array
    statuses: Statuses | None


@dataclass(frozen=True)
class OnlineFeatures:
    """The reply. event_micros: by view label; NOT_STORED where there is no row. now: what was now, in µs."""

    columns: tuple[FeatureValues, ...]
    event_micros: tuple[tuple[str, Micros], ...]
    digest: str
    rows: int
    now: int


@dataclass(frozen=True)
class ReadOptions:
    """How a plan is read.

    max_age: on top of each view's ttl. defaults: a table of one row, values by column of the reply for cells
    that are not PRESENT. allow_partial: cells that the store does not tell are UNAVAILABLE, no error.
    names: the columns of the reply, where they are neither the plain nor the full names.
    """

    full_names: bool = False
    names: tuple[str, ...] | None = None
    max_age: timedelta | None = None
    defaults: pa.Table | None = None
    allow_partial: bool = False


@dataclass(frozen=True)
class _Answer:
    """What one view answered: a value and a status for each row, by feature."""

    values: Mapping[str, pa.Array]
    statuses: Mapping[str, Statuses | None]


class OnlineRetrieval:
    """The use case, over any online store."""

    def __init__(
        self,
        store: OnlineStore,
        on_demand: OnDemandViews,
        *,
        max_entities: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._on_demand = store, on_demand
        self._max_entities, self._now = max_entities, now

    def keys(
        self, plan: ReadPlan, entities: pa.Table, request_data: pa.Table
    ) -> tuple[int, dict[KeyColumn, pa.Array]]:
        """The number of rows, and the values of each join key as declared.

        entities: one column for each of plan.join_keys (others are not looked at). request_data: likewise,
        for plan.request_data. Raises EmptyRequest, TooManyRows, JoinKeyMissing, RequestDataMissing,
        MalformedColumn, TypeMismatch.
        """
        rows = self._rows(plan, entities, request_data)
        found: dict[KeyColumn, pa.Array] = {}
        for read in plan.reads:
            for key in read.keys:
                if key not in found:
                    found[key] = _whole(coerce(entities[key.column], key.join_key.type, key.column))
        return rows, found

    def start(
        self, plan: ReadPlan, entities: pa.Table, request_data: pa.Table, options: ReadOptions
    ) -> OnlineRead:
        """A read of a plan; nothing is asked of the store yet. See `read`."""
        rows, columns = self.keys(plan, entities, request_data)
        names = options.names or output_names(plan, full=options.full_names)
        fills = default_values(plan, names, options.defaults)
        keys = [[columns[key] for key in read.keys] for read in plan.reads]
        return OnlineRead(
            self._store, self._on_demand, plan, names, fills, keys, request_data, rows, self.now(), options
        )

    def read(
        self,
        plan: ReadPlan,
        entities: pa.Table,
        request_data: pa.Table,
        *,
        full_names: bool = False,
        max_age: timedelta | None = None,
    ) -> OnlineFeatures:
        """Reads a plan; blocks.

        A row with a null key is NOT_FOUND, and so is one whose stored row happens after now: it is not
        known yet. Raises what `keys` raises, AmbiguousFeatureName, InvalidField, StoreUnavailable,
        SourceUnreadable, OnDemandFailed.
        """
        options = ReadOptions(full_names=full_names, max_age=max_age)
        return self.start(plan, entities, request_data, options).run()

    def now(self) -> int:
        """The present, or what a replay takes for it, in µs."""
        return (self._now() - _EPOCH) // _MICROSECOND

    def _rows(self, plan: ReadPlan, entities: pa.Table, request_data: pa.Table) -> int:
        for key in plan.join_keys:
            if key.name not in entities.column_names:
                raise JoinKeyMissing(
                    f"the selection needs the join key {key.name!r} ({key.type}), which is not among the "
                    f"entity columns ({', '.join(entities.column_names) or 'none'})",
                    metadata={"join_key": key.name},
                    violations=[FieldViolation("entities", f"lacks {key.name}")],
                )
        for column in plan.request_data:
            if column.name not in request_data.column_names:
                raise RequestDataMissing(
                    f"an on-demand view needs the request data {column.name!r} ({column.type})",
                    metadata={"column": column.name},
                    violations=[FieldViolation("request_data", f"lacks {column.name}")],
                )
        given = [table for table in (entities, request_data) if table.num_columns]
        rows = given[0].num_rows if given else 1
        if any(table.num_rows != rows for table in given):
            raise MalformedColumn(
                f"entities have {entities.num_rows} rows, request data {request_data.num_rows}",
                metadata={"column": request_data.column_names[0]},
            )
        if rows == 0:
            raise EmptyRequest(
                "the request names no entity",
                metadata={"field": "entities"},
                violations=[FieldViolation("entities", "has no rows")],
            )
        if rows > self._max_entities:
            raise TooManyRows(
                f"{rows} entities in one request, at most {self._max_entities} are allowed; "
                "send several requests",
                metadata={"limit": str(self._max_entities), "actual": str(rows)},
            )
        return rows


class OnlineRead:
    """One read. `run` blocks; meanwhile, and after it, `result` gives what is known so far."""

    def __init__(
        self,
        store: OnlineStore,
        on_demand: OnDemandViews,
        plan: ReadPlan,
        names: Sequence[str],
        fills: Mapping[int, pa.Scalar],
        keys: Sequence[Sequence[pa.Array]],
        request_data: pa.Table,
        rows: int,
        now: int,
        options: ReadOptions,
    ) -> None:
        self._store, self._on_demand, self._plan, self._names = store, on_demand, plan, names
        self._fills, self._keys, self._request_data = fills, keys, request_data
        self._rows, self._now, self._options = rows, now, options
        self._answers: list[tuple[_Answer, Micros] | None] = [None] * len(plan.reads)

    def run(self) -> OnlineFeatures:
        """Asks the store view by view. Raises StoreUnavailable, SourceUnreadable, OnDemandFailed."""
        for i, read in enumerate(self._plan.reads):
            try:
                self._answers[i] = self._read_view(read, self._keys[i])
            except StoreUnavailable:
                if not self._options.allow_partial:
                    raise
                break  # the next view would keep the caller waiting for the same store
        return self.result()

    def result(self) -> OnlineFeatures:
        """What the store has told by now; the rest is UNAVAILABLE. Raises OnDemandFailed."""
        plan = self._plan
        known = [item is not None for item in self._answers]
        found = [
            item or self._unavailable(read.features)
            for item, read in zip(self._answers, plan.reads, strict=True)
        ]
        answers = [answer for answer, _ in found]
        times = [(read.label, micros) for read, (_, micros) in zip(plan.reads, found, strict=True)]
        computed = [
            self._compute(item, answers)
            if all(known[index] for index, _, _ in item.inputs)
            else self._unavailable(item.view.features)[0]
            for item in plan.on_demand
        ]
        columns = []
        for i, (name, item) in enumerate(zip(self._names, plan.outputs, strict=True)):
            source = (computed if item.on_demand else answers)[item.index]
            values, statuses = source.values[item.feature.name], source.statuses[item.feature.name]
            if statuses is not None and i in self._fills:
                values = pc.if_else(pa.array(statuses == FeatureStatus.PRESENT), values, self._fills[i])
            columns.append(FeatureValues(name, item.label, values, statuses))
        shown = {item.label for item in plan.outputs if not item.on_demand}
        shown_times = tuple(item for item in times if item[0] in shown)
        return OnlineFeatures(tuple(columns), shown_times, plan.digest, self._rows, self._now)

    def _read_view(self, read: ViewRead, keys: Sequence[pa.Array]) -> tuple[_Answer, Micros]:
        rows, now, max_age = self._rows, self._now, self._options.max_age
        if read.keys:
            stored = self._store.read(read.view, read.features, keys)
            event_micros, arrays = stored.event_micros, stored.values
        else:
            # One row for everybody.
            stored = self._store.read(read.view, read.features, ())
            everybody = np.zeros(rows, np.int64)
            event_micros = stored.event_micros[everybody]
            arrays = tuple(array.take(pa.array(everybody)) for array in stored.values)
        early = event_micros > now
        if early.any():
            event_micros = np.where(early, NOT_STORED, event_micros)
            arrays = tuple(_withheld(array, early) for array in arrays)
        limits = [limit for limit in (read.view.ttl, max_age) if limit is not None]
        missing = event_micros == NOT_STORED
        outside = np.zeros(rows, bool)
        if limits:
            # The least int64 means "not stored"; a limit before it bounds nothing.
            oldest = max(now - min(limits) // _MICROSECOND, NOT_STORED)
            outside = ~missing & (event_micros < oldest)
        values: dict[str, pa.Array] = {}
        statuses: dict[str, Statuses | None] = {}
        for feature, array in zip(read.features, arrays, strict=True):
            if outside.any():
                array = _withheld(array, outside)
            values[feature.name] = array
            statuses[feature.name] = _statuses(array, missing, outside)
        return _Answer(values, statuses), event_micros

    def _unavailable(self, features: Sequence[Field]) -> tuple[_Answer, Micros]:
        statuses = np.full(self._rows, FeatureStatus.UNAVAILABLE, np.uint8)
        return (
            _Answer(
                {item.name: pa.nulls(self._rows, arrow_type(item.type)) for item in features},
                {item.name: statuses for item in features},
            ),
            np.full(self._rows, NOT_STORED, np.int64),
        )

    def _compute(self, item: OnDemandRead, answers: list[_Answer]) -> _Answer:
        values = self._on_demand.compute(
            item.view,
            on_demand_inputs(item, [answer.values for answer in answers], self._request_data),
        )
        nothing = np.zeros(len(next(iter(values.values()))), bool)
        return _Answer(values, {name: _statuses(array, nothing, nothing) for name, array in values.items()})


def default_values(
    plan: ReadPlan, names: Sequence[str], defaults: pa.Table | None
) -> Mapping[int, pa.Scalar]:
    """The value for cells that are not PRESENT, by output. Raises InvalidField, TypeMismatch."""
    if defaults is None or not defaults.num_columns:
        return {}
    if defaults.num_rows != 1:
        raise _bad_default(f"have {defaults.num_rows} rows; give one")
    position = {name: i for i, name in enumerate(names)}
    fills = {}
    for name in defaults.column_names:
        if name not in position:
            raise _bad_default(f"name {name!r}, which the reply does not have")
        kind = plan.outputs[position[name]].feature.type
        value = coerce(defaults[name], kind, name, floats=True)[0]
        if value.is_valid:
            fills[position[name]] = value
    return fills


def _bad_default(what: str) -> InvalidField:
    return InvalidField(
        f"defaults {what}", metadata={"field": "defaults"}, violations=[FieldViolation("defaults", what)]
    )


def on_demand_inputs(
    item: OnDemandRead, answers: list[Mapping[str, Any]], request_data: pa.Table
) -> pa.Table:
    """The table an on-demand view is computed from: the features it reads and its request data, typed.

    answers: columns by feature name, for each ViewRead of the plan. A feature is there as view__feature, and
    as feature too unless another view's feature or a request-data column is called so.
    """
    names = [feature.name for _, _, feature in item.inputs] + [
        column.name for column in item.view.request_data
    ]
    columns = {}
    for index, view, feature in item.inputs:
        values = answers[index][feature.name]
        columns[f"{view}__{feature.name}"] = values
        if names.count(feature.name) == 1:
            columns[feature.name] = values
    for column in item.view.request_data:
        columns[column.name] = coerce(request_data[column.name], column.type, column.name, floats=True)
    return pa.table(columns)


def _withheld(array: pa.Array, rows: npt.NDArray[np.bool_]) -> pa.Array:
    """The values, null in the rows."""
    return pc.if_else(pa.array(~rows), array, pa.scalar(None, array.type))


def _statuses(
    array: pa.Array, missing: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]
) -> Statuses | None:
    if not array.null_count:
        return None
    null = array.is_null().to_numpy(zero_copy_only=False)
    found = np.where(null, FeatureStatus.NULL_VALUE, FeatureStatus.PRESENT).astype(np.uint8)
    found[outside] = FeatureStatus.OUTSIDE_MAX_AGE
    found[missing] = FeatureStatus.NOT_FOUND
    return found


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
