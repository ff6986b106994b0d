"""What Feast's SDK is told of packed rows that were read: values, true statuses and event times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from google.protobuf.timestamp_pb2 import Timestamp

from feature_service.feast_adapters.values import to_values
from feature_service.packed.layout import NO_TIME, RowLayout, Rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

ReadRow = tuple[datetime | None, dict[str, FeastValue] | None]
_Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredTable:
    """A view of Feast's as its rows are stored."""

    prefix: bytes
    layout: RowLayout
    ttl_micros: int | None


@dataclass(frozen=True)
class Asked:
    """One view of a request: its features, its distinct keys, and at which rows of the reply each is."""

    table: Any
    stored: StoredTable
    features: Sequence[str]
    keys: Sequence[bytes]
    places: Sequence[Sequence[int]]
    rows: int


def read_rows(stored: StoredTable, rows: Rows, features: Sequence[str] | None) -> list[ReadRow]:
    """As online_read answers: (None, None) for a row that may not be served. features: None for all."""
    events, there, outside = _served(stored, rows)
    names = [field.name for field in stored.layout.fields] if features is None else list(features)
    columns = [_values(stored.layout, rows, name) for name in names]
    answer: list[ReadRow] = []
    for i, (event, served) in enumerate(zip(events.tolist(), (there & ~outside).tolist(), strict=True)):
        if not served:
            answer.append((None, None))
            continue
        values = {name: column[i] for name, column in zip(names, columns, strict=True)}
        answer.append((_EPOCH + timedelta(microseconds=event), values))
    return answer


def add_columns(asked: Asked, rows: Rows, response: GetOnlineFeaturesResponse, full_names: bool) -> None:
    """Appends the view's columns to the response."""
    name = asked.table.projection.name_to_use()
    events, there, outside = _served(asked.stored, rows)
    # Rows of the reply → distinct keys; a row that has no key in this view has none.
    source = np.full(asked.rows, -1)
    for i, places in enumerate(asked.places):
        source[list(places)] = i
    stamps = [
        _stamp(event if known else None) for event, known in zip(events.tolist(), there.tolist(), strict=True)
    ]
    stamps.append(Timestamp())
    order = source.tolist()
    for feature in asked.features:
        response.metadata.feature_names.val.append(f"{name}__{feature}" if full_names else feature)
        statuses = np.where(
            _null(asked.stored.layout, rows, feature), FieldStatus.NULL_VALUE, FieldStatus.PRESENT
        )
        statuses[outside] = FieldStatus.OUTSIDE_MAX_AGE
        statuses[~there] = FieldStatus.NOT_FOUND
        values = _values(asked.stored.layout, rows, feature)
        for i in np.flatnonzero(outside | ~there).tolist():
            values[i] = FeastValue()
        values.append(FeastValue())
        response.results.append(
            GetOnlineFeaturesResponse.FeatureVector(
                values=[values[i] for i in order],
                statuses=np.append(statuses, FieldStatus.NOT_FOUND)[source].tolist(),
                event_timestamps=[stamps[i] for i in order],
            )
        )


def add_version(table: Any, response: GetOnlineFeaturesResponse) -> None:
    """Tells the view's version, once."""
    name = table.projection.name_alias or table.projection.name
    known = response.metadata.feature_view_metadata
    if name not in [item.name for item in known]:
        known.add(name=name, version=getattr(table, "current_version_number", 0) or 0)


def micros(moment: datetime) -> int:
    """µs since 1970; naive is UTC."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _served(stored: StoredTable, rows: Rows) -> tuple[_Micros, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Event times; which rows there are; and which of them are outside the ttl."""
    events = rows.event_micros
    now = micros(datetime.now(UTC))
    there = (events != NO_TIME) & (events <= now)
    outside = np.zeros(len(rows), bool)
    if stored.ttl_micros is not None:
        outside = there & (events < now - stored.ttl_micros)
    return events, there, outside


def _values(layout: RowLayout, rows: Rows, feature: str) -> list[FeastValue]:
    place = _place(layout, feature)
    if place is None:
        return [FeastValue()] * len(rows)
    return to_values(rows.column(place), layout.fields[place].type, whole_seconds=True)


def _null(layout: RowLayout, rows: Rows, feature: str) -> npt.NDArray[np.bool_]:
    place = _place(layout, feature)
    return np.ones(len(rows), bool) if place is None else rows.nulls(place)


def _place(layout: RowLayout, feature: str) -> int | None:
    return next((cell.bit for cell in layout.cells if cell.field.name == feature), None)


def _stamp(event: int | None) -> Timestamp:
    stamp = Timestamp()
    if event is not None:
        stamp.FromMicroseconds(event)
    return stamp
