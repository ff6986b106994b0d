"""The latest values of features for many entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.coercion import coerce
from feature_service.domain import FeatureStatus, OnDemandRead, ReadPlan, ViewRead
from feature_service.planning import output_names
from feature_service.ports import NOT_STORED, Micros, OnDemandViews, OnlineStore
from plumbline.errors import FieldViolation, MalformedColumn
from plumbline.features.errors import EmptyRequest, JoinKeyMissing, RequestDataMissing, TooManyRows

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Statuses = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FeatureValues:
    """One column of the reply. statuses: None when all are PRESENT; where not PRESENT, the value is null."""

    name: str
    view: str
    values: pa.Array
    statuses: Statuses | None


@dataclass(frozen=True)
class OnlineFeatures:
    """The reply. event_micros: by view label; NOT_STORED where there is no row."""

    columns: tuple[FeatureValues, ...]
    event_micros: tuple[tuple[str, Micros], ...]
    digest: str
    rows: int


@dataclass(frozen=True)
class _Answer:
    """What one view answered: a value and a status for each row, by feature."""

    values: Mapping[str, pa.Array]
    statuses: Mapping[str, Statuses | None]


class OnlineRetrieval:
    """The use case. Blocking; called on a thread."""

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

    def read(
        self,
        plan: ReadPlan,
        entities: pa.Table,
        request_data: pa.Table,
        *,
        full_names: bool = False,
        max_age: timedelta | None = None,
    ) -> OnlineFeatures:
        """Reads a plan.

        entities: one column for each of plan.join_keys (others are not looked at); a row with a null key
        is NOT_FOUND, and so is one whose stored row happens after now: it is not known yet.
        request_data: likewise, for plan.request_data. max_age: on top of each view's ttl.
        Raises EmptyRequest, TooManyRows, JoinKeyMissing, RequestDataMissing, TypeMismatch, MalformedColumn,
        AmbiguousFeatureName, StoreUnavailable, SourceUnreadable, OnDemandFailed.
        """
        rows = self._rows(plan, entities, request_data)
        names = output_names(plan, full=full_names)
        now = (self._now() - _EPOCH) // _MICROSECOND
        answers, times = [], []
        for read in plan.reads:
            answer, event_micros = self._read_view(read, entities, rows, now, max_age)
            answers.append(answer)
            times.append((read.label, event_micros))
        computed = [self._compute(item, plan, answers, request_data) for item in plan.on_demand]
        columns = []
        for name, item in zip(names, plan.outputs, strict=True):
            source = (computed if item.on_demand else answers)[item.index]
            values, statuses = source.values[item.feature.name], source.statuses[item.feature.name]
            columns.append(FeatureValues(name, item.label, values, statuses))
        shown = {item.label for item in plan.outputs if not item.on_demand}
        return OnlineFeatures(
            tuple(columns), tuple(item for item in times if item[0] in shown), plan.digest, rows
        )

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

    def _read_view(
        self, read: ViewRead, entities: pa.Table, rows: int, now: int, max_age: timedelta | None
    ) -> tuple[_Answer, Micros]:
        if read.keys:
            keys = [_whole(coerce(entities[key.column], key.join_key.type, key.column)) for key in read.keys]
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

    def _compute(
        self, item: OnDemandRead, plan: ReadPlan, answers: list[_Answer], request_data: pa.Table
    ) -> _Answer:
        values = self._on_demand.compute(
            item.view,
            on_demand_inputs(item, [answer.values for answer in answers], request_data),
        )
        nothing = np.zeros(len(next(iter(values.values()))), bool)
        return _Answer(values, {name: _statuses(array, nothing, nothing) for name, array in values.items()})


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
