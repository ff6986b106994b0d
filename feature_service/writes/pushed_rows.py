"""The rows of a push, checked against the views they are for: typed, or refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import TIMESTAMP, arrow_type
from feature_service.coercion import coerce
from feature_service.domain import FeatureView, Field, Source, ValueType
from feature_service.ports import NewRows
from feature_service.writes.storable import faults
from plumbline.errors import FieldViolation, MalformedColumn
from plumbline.features.errors import FeatureNotFound, JoinKeyMissing, SourceUnreadable, TypeMismatch

_INT_BOUNDS = {
    ValueType.INT32: (-(2**31), 2**31 - 1),
    ValueType.INT64: (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True)
class Refusal:
    """A row that was not written, and why."""

    row: int
    column: str
    reason: str


class CheckedRows:
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
            event_micros=micros(self.event.filter(mask)),
            created_micros=None if self.created is None else micros(self.created.filter(mask)),
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

    def refuse_at(self, column: str, rows: npt.NDArray[np.int64], why: str) -> None:
        """Refuses rows for what is in a column of the source."""
        name = _view_name(self.source, column) if self.source else column
        self._refuse_at(rows, name, f"{name} {why}")

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
        wrong, what = faults(typed, field.type)
        self._refuse_at(wrong, field.name, f"{field.name} {what}")
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
        self._refuse_at(np.flatnonzero(mask.to_numpy(zero_copy_only=False)), column, reason)

    def _refuse_at(self, rows: npt.NDArray[np.int64], column: str, reason: str) -> None:
        for row in rows.tolist():
            self.refusals.setdefault(row, Refusal(row, column, reason))


def refuse_unknown_columns(target: str, views: list[FeatureView], rows: pa.Table) -> None:
    """Raises FeatureNotFound for a column that none of the views takes."""
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


def refusals(checked: list[CheckedRows], rows: int) -> list[Refusal]:
    """The first refusal of each row, in order."""
    found: dict[int, Refusal] = {}
    for item in checked:
        for row, refusal in item.refusals.items():
            found.setdefault(row, refusal)
    return [found[row] for row in sorted(found) if row < rows]


def _view_name(source: Source, column: str | None) -> str:
    """The name in the view of a source's column."""
    return next((mapped for name, mapped in source.columns if name == column), column or "")


def micros(times: pa.Array) -> npt.NDArray[np.int64]:
    """µs since 1970."""
    found: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found
