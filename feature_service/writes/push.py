"""Rows that callers write: to the online store, the offline files, or both."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import TIMESTAMP, arrow_type, to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import FeatureView, Field, Source, ValueType, ViewKind
from feature_service.planning import Definitions
from feature_service.ports import NewRows, OnlineStore
from feature_service.stores import parquet
from feature_service.stores.parts import Appended, OtherRowsError
from plumbline.errors import FieldViolation, MalformedColumn, PlumblineError
from plumbline.features.errors import (
    EmptyRequest,
    FeatureNotFound,
    InvalidField,
    JoinKeyMissing,
    RequestIdReused,
    RowRefused,
    SourceUnreadable,
    TooManyRows,
    TypeMismatch,
    ViewNotFound,
)

#: Refused rows told in an error; a reply lists all.
_VIOLATIONS_SHOWN = 10
#: Refused rows listed for a stream of pushes; all are counted.
_REFUSALS_LISTED = 1_000
_INT_BOUNDS = {
    ValueType.INT32: (-(2**31), 2**31 - 1),
    ValueType.INT64: (-(2**63), 2**63 - 1),
}


class Destination(StrEnum):
    """Where pushed rows go."""

    ONLINE_AND_OFFLINE = "ONLINE_AND_OFFLINE"
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


@dataclass(frozen=True)
class Refusal:
    """A row that was not written, and why."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True)
class Pushed:
    """rows_written: rows accepted; one that is older than the stored row counts, but stays offline only."""

    rows_written: int
    refused: tuple[Refusal, ...]
    views: tuple[str, ...]


@dataclass
class PushedStream:
    """The sum of many pushes."""

    messages: int = 0
    rows_written: int = 0
    rows_refused: int = 0
    #: (message, refusal): the first of them.
    refused: list[tuple[int, Refusal]] = field(default_factory=list)
    #: In the order in which they first took rows.
    views: dict[str, None] = field(default_factory=dict)

    def add(self, done: Pushed) -> None:
        """Counts one more message."""
        self.rows_written += done.rows_written
        self.rows_refused += len(done.refused)
        listed = done.refused[: _REFUSALS_LISTED - len(self.refused)]
        self.refused += [(self.messages, refusal) for refusal in listed]
        self.views |= dict.fromkeys(done.views)
        self.messages += 1

    def at_fault(self, error: PlumblineError) -> PlumblineError:
        """The error of the message that comes next, saying which it is."""
        return type(error)(
            f"message {self.messages}: {error.message}",
            metadata=error.metadata | {"message": str(self.messages)},
            violations=error.violations,
            reason=error.reason,
        )


class Push:
    """The use case. Blocking; called on a thread."""

    def __init__(
        self,
        store: OnlineStore,
        *,
        max_rows: int,
        max_skew: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._max_rows, self._max_skew, self._now = store, max_rows, max_skew, now
        self._turns = threading.Lock()

    def push(
        self,
        definitions: Definitions,
        target: str,
        rows: pa.Table,
        *,
        destination: Destination,
        best_effort: bool,
        request_id: str = "",
    ) -> Pushed:
        """Writes rows to the views of a push source, or to one view.

        Columns: join keys, features and the source's time columns, under their names in the view. A row
        whose event or created time lies more than max_skew after now is refused: it would keep the rows of
        the present from its key. Offline
        rows are written first and durably, as a part named by request id and content, so a retry adds
        nothing; online, a retry rewrites what is there. When the online write fails, the offline rows stay.

        Of rows that agree in keys and event time, the one with the greatest created time counts, then the
        one pushed last; within one push, a row that agrees with an earlier one in all of them is refused.
        Packed online stores keep created times and go by the same rule, in whatever order rows are pushed.
        Feast's own keep none: there the row pushed last counts. Pushes of this process take turns, so that
        both stores see them in one order.

        A retry (of an id whose rows are offline) writes online what it wrote offline, created times
        included, except rows that a later push replaced; once its part was merged with others, nothing. Of
        pushes that go online only, ids are not kept: a retry writes its rows again, which changes nothing,
        unless a correction without a created time of its own came in between. Raises ViewNotFound,
        InvalidField, EmptyRequest, TooManyRows, JoinKeyMissing, MalformedColumn, FeatureNotFound,
        TypeMismatch, RowRefused (not best_effort), RequestIdReused, SourceUnreadable, StoreUnavailable.
        """
        views = _targets(definitions, target)
        self._check_size(rows)
        now = self._now()
        checked = [_Checked(view, rows, now, now + self._max_skew) for view in views]
        _refuse_unknown_columns(target, views, rows)
        refused = _refusals(checked, rows.num_rows)
        if refused and not best_effort:
            raise _all_or_nothing(refused)
        keep = np.ones(rows.num_rows, bool)
        keep[[item.row for item in refused]] = False
        if keep.any():
            self._write(checked, keep, rows, destination, request_id)
        return Pushed(int(keep.sum()), tuple(refused), tuple(view.name for view in views))

    def _write(
        self,
        checked: list[_Checked],
        keep: npt.NDArray[np.bool_],
        rows: pa.Table,
        destination: Destination,
        request_id: str,
    ) -> None:
        with self._turns:
            retried: dict[str, Appended] = {}
            if destination is not Destination.ONLINE:
                name = (_identity(request_id), _digest(rows))
                for source, table in _by_source(checked, keep).values():
                    appended = _append(source, table, request_id, name)
                    if not appended.added:
                        retried[source.path] = appended
            if destination is not Destination.OFFLINE:
                for item in checked:
                    again = retried.get(item.source.path) if item.source else None
                    new = item.new_rows(keep) if again is None else item.rows_again(again)
                    if new is not None and len(new.event_micros):
                        self._store.write(item.view, new)

    def _check_size(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            raise EmptyRequest(
                "the request has no rows to write",
                metadata={"field": "columns"},
                violations=[FieldViolation("columns", "has no rows")],
            )
        if rows.num_rows > self._max_rows:
            raise TooManyRows(
                f"{rows.num_rows} rows in one push, at most {self._max_rows} are allowed; "
                "send several requests",
                metadata={"limit": str(self._max_rows), "actual": str(rows.num_rows)},
            )


class _Checked:
    """The rows of a request as one view needs them, typed; refusals: by row, of what does not fit."""

    def __init__(self, view: FeatureView, rows: pa.Table, now: datetime, latest: datetime) -> None:
        self.view = view
        self.refusals: dict[int, Refusal] = {}
        source = view.source
        self.source = source
        self._event_name = _view_name(source, source.timestamp_column) if source else "event_timestamp"
        self._created_name = (
            _view_name(source, source.created_column) if source and source.created_column else ""
        )
        for key in view.join_keys:
            if key.name not in rows.column_names:
                raise JoinKeyMissing(
                    f"the push lacks the join key {key.name!r} ({key.type}) of view {view.name!r}",
                    metadata={"join_key": key.name},
                )
        self.keys = {key.name: self._typed(rows, key, required=True) for key in view.join_keys}
        self.values = {item.name: self._typed(rows, item) for item in view.features}
        event = Field(self._event_name, ValueType.TIMESTAMP)
        self.event = self._typed(rows, event, required=True)
        self._refuse_after(latest, self.event, self._event_name)
        self.created: pa.Array | None = None
        if self._created_name and self._created_name in rows.column_names:
            created = self._typed(rows, Field(self._created_name, ValueType.TIMESTAMP))
            self._refuse_after(latest, created, self._created_name)
            self.created = created.fill_null(pa.scalar(now, TIMESTAMP))
        elif self._created_name:
            self.created = pa.array([now] * rows.num_rows, TIMESTAMP)
        self._refuse_repeated()

    def column_names(self) -> set[str]:
        """The columns the view takes."""
        return {*self.keys, *self.values, self._event_name, self._created_name}

    def new_rows(self, keep: npt.NDArray[np.bool_]) -> NewRows:
        """The kept rows for the online store."""
        mask = pa.array(keep)
        return NewRows(
            keys=tuple(array.filter(mask) for array in self.keys.values()),
            values=tuple(array.filter(mask) for array in self.values.values()),
            event_micros=_micros(self.event.filter(mask)),
            created_micros=None if self.created is None else _micros(self.created.filter(mask)),
        )

    def rows_again(self, appended: Appended) -> NewRows | None:
        """The rows that an earlier push of the same request wrote offline, for the online store: without
        those that a push after it replaced. None when they were merged with others: that push is long
        done."""
        source = self.source
        if appended.part is None or source is None:
            return None
        names = [source.column_of(key) for key in self.keys]
        names += [source.timestamp_column, *([source.created_column] if source.created_column else [])]
        try:
            table = parquet.read(appended.part)
            later = [parquet.read(part, names) for part in appended.later]
        except (OSError, pa.ArrowException) as error:
            raise SourceUnreadable(
                f"cannot read the pushed rows of {source.name}: {error}", metadata={"view": self.view.name}
            ) from error
        table = _not_among(table, later, names)

        def column(name: str, kind: ValueType) -> pa.Array:
            return coerce(table[source.column_of(name)].combine_chunks(), kind, name, floats=True)

        created = source.created_column
        return NewRows(
            keys=tuple(column(key.name, key.type) for key in self.view.join_keys),
            values=tuple(column(item.name, item.type) for item in self.view.features),
            event_micros=_micros(to_utc_micros(table[source.timestamp_column].combine_chunks())),
            created_micros=_micros(to_utc_micros(table[created].combine_chunks())) if created else None,
        )

    def offline(self) -> dict[str, pa.Array]:
        """All columns under the names of the source."""
        source = self.source
        if source is None or not source.path:
            named = "" if source is None else f" (its source is {source.name!r})"
            raise SourceUnreadable(
                f"view {self.view.name} has no source of Parquet files to append to{named}: push to "
                "PUSH_DESTINATION_ONLINE, and add the rows to the source by its own means",
                metadata={"view": self.view.name},
            )
        columns = {source.column_of(name): array for name, array in (self.keys | self.values).items()}
        columns[source.timestamp_column] = self.event
        if source.created_column and self.created is not None:
            columns[source.created_column] = self.created
        return columns

    def _typed(self, rows: pa.Table, field: Field, *, required: bool = False) -> pa.Array:
        if field.name not in rows.column_names:
            raise MalformedColumn(
                f"the push lacks the column {field.name!r} ({field.type}) of view {self.view.name!r}",
                metadata={"column": field.name},
            )
        array = rows[field.name].combine_chunks()
        if field.type is ValueType.UNSPECIFIED and array.null_count < len(array):
            raise TypeMismatch(
                f"column {field.name!r} has a type that no column of ours carries; push it with Feast's SDK, "
                "or leave it null",
                metadata={"column": field.name},
                violations=[FieldViolation(field.name, "must be null")],
            )
        bounds = _INT_BOUNDS.get(field.type)
        if bounds and pa.types.is_integer(array.type):
            array = self._within(array, field, bounds)
        typed = coerce(array, field.type, field.name, floats=True)
        if required and typed.null_count:
            self._refuse(typed.is_null(), field.name, f"{field.name} is null")
        return typed

    def _within(self, array: pa.Array, field: Field, bounds: tuple[int, int]) -> pa.Array:
        """The integers, null where one is out of range: that is a fault of the row, not of the request."""
        if array.type == arrow_type(field.type) or pa.types.is_unsigned_integer(array.type):
            return array
        outside = pc.or_(pc.less(array, bounds[0]), pc.greater(array, bounds[1])).fill_null(False)
        self._refuse(outside, field.name, f"{field.name} does not fit {field.type}")
        return pc.if_else(outside, pa.scalar(None, array.type), array)

    def _refuse_after(self, latest: datetime, times: pa.Array, column: str) -> None:
        early = pc.greater(times, pa.scalar(latest, TIMESTAMP)).fill_null(False)
        self._refuse(early, column, f"{column} lies in the future: after {latest.isoformat()}")

    def _refuse_repeated(self) -> None:
        """Refuses rows that no rule could put in order: nothing says which of them counts."""
        named = [*self.keys.values(), self.event, *([] if self.created is None else [self.created])]
        codes = [
            array.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False) for array in named
        ]
        _, first, same = np.unique(np.stack(codes), axis=1, return_index=True, return_inverse=True)
        earliest = first[same.reshape(-1)]
        for row in np.flatnonzero(earliest != np.arange(len(earliest))).tolist():
            reason = f"row {earliest[row]} of this push has the same keys, event and created time"
            self.refusals.setdefault(row, Refusal(row, self._event_name, reason))

    def _refuse(self, mask: pa.Array, column: str, reason: str) -> None:
        for row in np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist():
            self.refusals.setdefault(row, Refusal(row, column, reason))


def _targets(definitions: Definitions, target: str) -> list[FeatureView]:
    names = definitions.push_sources.get(target)
    if names is not None and target not in definitions.views:
        if not names:
            raise ViewNotFound(
                f"no view takes rows from the push source {target!r}",
                metadata={"view": target, "project": definitions.project},
            )
        return [definitions.view(name) for name in names]
    view = definitions.view(target)
    if view.kind is ViewKind.ON_DEMAND:
        raise InvalidField(
            f"{target!r} is an on-demand view: it is computed, not written",
            metadata={"field": "target"},
            violations=[FieldViolation("target", "is an on-demand view")],
        )
    return [view]


def _refuse_unknown_columns(target: str, views: list[FeatureView], rows: pa.Table) -> None:
    known: set[str] = set()
    for view in views:
        known |= {item.name for item in (*view.join_keys, *view.features)}
        if view.source is not None:
            times = (view.source.timestamp_column, view.source.created_column)
            known |= {_view_name(view.source, name) for name in times if name}
        else:
            known.add("event_timestamp")
    for name in rows.column_names:
        if name not in known:
            raise FeatureNotFound(
                f"{target!r} takes no column {name!r}; it takes {', '.join(sorted(known))}",
                metadata={"view": target, "feature": name},
                violations=[FieldViolation("columns", f"{name} is unknown")],
            )


def _refusals(checked: list[_Checked], rows: int) -> list[Refusal]:
    found: dict[int, Refusal] = {}
    for item in checked:
        for row, refusal in item.refusals.items():
            found.setdefault(row, refusal)
    return [found[row] for row in sorted(found) if row < rows]


def _all_or_nothing(refused: list[Refusal]) -> RowRefused:
    first = refused[0]
    return RowRefused(
        f"{len(refused)} rows were refused and nothing was written; row {first.row}: {first.reason}",
        metadata={"row": str(first.row)},
        violations=[
            FieldViolation(f"columns[{item.column}][{item.row}]", item.reason)
            for item in refused[:_VIOLATIONS_SHOWN]
        ],
    )


def _by_source(checked: list[_Checked], keep: npt.NDArray[np.bool_]) -> dict[str, tuple[Source, pa.Table]]:
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


def _view_name(source: Source, column: str | None) -> str:
    """The name in the view of a source's column."""
    return next((mapped for name, mapped in source.columns if name == column), column or "")


def _micros(times: pa.Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found
