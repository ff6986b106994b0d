"""What Feast's clients ask for, whichever door they come through: one read, one write.

Feast puts join keys and request data into one set of columns and leaves it to the server to tell them
apart; this module does so, against the definitions, and hands typed tables to the use cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from feature_service.catalog import Catalog
from feature_service.domain import FeatureView, ReadPlan, ValueType
from feature_service.online.retrieval import OnlineRetrieval, Statuses
from feature_service.planning import Definitions, Selection
from feature_service.ports import Micros
from feature_service.threads import Threads
from feature_service.writes.push import Destination, Push, Pushed
from plumbline.errors import FieldViolation, MalformedColumn
from plumbline.features.errors import InvalidField

_DESTINATIONS = {
    "online": Destination.ONLINE,
    "offline": Destination.OFFLINE,
    "online_and_offline": Destination.ONLINE_AND_OFFLINE,
}
#: Names that Feast's remote online store gives the time columns, whatever the source calls them.
_EVENT_ALIAS, _CREATED_ALIAS = "event_timestamp", "created"


class Cells(Protocol):
    """One column of a request, in whatever form it came."""

    def __len__(self) -> int: ...

    def typed(self, kind: ValueType, column: str) -> pa.Array:
        """The cells as an Arrow array that fits the declared type. Raises TypeMismatch."""


@dataclass(frozen=True)
class AnswerColumn:
    """A column of a reply. statuses: None when all are PRESENT. event_micros: None where rows have no time of
    their own, as join keys and computed values."""

    name: str
    type: ValueType
    values: pa.Array
    statuses: Statuses | None
    event_micros: Micros | None


@dataclass(frozen=True)
class Answer:
    """columns: the join keys as they were asked for, then features, computed ones last. views: those read,
    with the names they go by."""

    columns: tuple[AnswerColumn, ...]
    views: tuple[tuple[str, FeatureView], ...]


class FeastCalls:
    """The calls. Their errors are those of the use cases."""

    def __init__(self, catalog: Catalog, online: OnlineRetrieval, push: Push, threads: Threads) -> None:
        self._catalog, self._online, self._push, self._threads = catalog, online, push, threads

    async def read(
        self,
        selection: Selection,
        columns: Mapping[str, Cells],
        *,
        full_names: bool,
        remaining: float | None = None,
    ) -> Answer:
        """Feast's get_online_features. Columns that the selection does not need are not looked at.

        remaining: seconds to the caller's deadline.
        """
        plan, definitions = self._catalog.plan(selection), self._catalog.definitions
        entities, request_data = _inputs(plan, definitions, columns)
        found = await self._threads.read(
            lambda: self._online.read(plan, entities, request_data, full_names=full_names), remaining
        )
        keys = {key.name: key.type for key in plan.join_keys}
        answer = [
            AnswerColumn(name, keys[name], entities[name].combine_chunks(), None, None)
            for name in entities.column_names
            if name in keys
        ]
        times = dict(found.event_micros)
        outputs = sorted(zip(plan.outputs, found.columns, strict=True), key=lambda pair: pair[0].on_demand)
        answer += [
            AnswerColumn(
                column.name,
                output.feature.type,
                column.values,
                column.statuses,
                None if output.on_demand else times[output.label],
            )
            for output, column in outputs
        ]
        views = {read.label: read.view for read in plan.reads if read.label in times}
        return Answer(tuple(answer), tuple(views.items()))

    async def write(self, target: str, columns: Mapping[str, Cells], destination: Destination) -> Pushed:
        """Feast's push (target: a push source) and write_to_online_store (target: a view).

        All rows or none. Columns that the target does not have are left out, as Feast leaves them out; a
        feature that is missing is an error.
        """
        definitions = self._catalog.definitions
        rows = _rows(definitions, target, columns)
        return await self._threads.write(
            lambda: self._push.push(definitions, target, rows, destination=destination, best_effort=False)
        )


def destination(to: str) -> Destination:
    """Feast's PushMode by name. Raises InvalidField."""
    found = _DESTINATIONS.get(to)
    if found is None:
        raise InvalidField(
            f"to is {to!r}; it must be one of {', '.join(_DESTINATIONS)}",
            metadata={"field": "to"},
            violations=[FieldViolation("to", f"must be one of {', '.join(_DESTINATIONS)}")],
        )
    return found


def _inputs(
    plan: ReadPlan, definitions: Definitions, columns: Mapping[str, Cells]
) -> tuple[pa.Table, pa.Table]:
    """The columns as entities and request data, typed as the plan needs them."""
    _check_lengths("entities", columns)
    keys = {key.name: key.type for key in plan.join_keys}
    request = {column.name: column.type for column in plan.request_data}
    # Feast still takes an entity's name for its join key.
    by_entity = {item.name: item.join_key for item in definitions.entities.values()}
    entities: dict[str, pa.Array] = {}
    request_data: dict[str, pa.Array] = {}
    for name, cells in columns.items():
        key = name if name in keys else by_entity.get(name, name)
        if name in request:
            request_data[name] = cells.typed(request[name], name)
        elif key in keys and (key == name or key not in columns):
            entities[key] = cells.typed(keys[key], name)
        else:
            # Only its length counts: it says how many rows a view without join keys is asked for.
            entities[name] = pa.nulls(len(cells))
    return pa.table(entities), pa.table(request_data)


def _rows(definitions: Definitions, target: str, columns: Mapping[str, Cells]) -> pa.Table:
    _check_lengths("rows", columns)
    wanted = _wanted(definitions, target)
    aliases = _time_aliases(definitions, target, wanted)
    rows: dict[str, pa.Array] = {}
    for name, cells in columns.items():
        column = aliases.get(name, name) if name not in wanted else name
        if column in wanted and (column == name or column not in columns):
            rows[column] = cells.typed(wanted[column], name)
    if columns and not rows:
        # So that the use case sees how many rows there are, and says what is missing.
        rows[next(iter(columns))] = pa.nulls(len(next(iter(columns.values()))))
    return pa.table(rows)


def _views(definitions: Definitions, target: str) -> list[FeatureView]:
    if target in definitions.push_sources and target not in definitions.views:
        return [definitions.view(name) for name in definitions.push_sources[target]]
    return [definitions.view(target)]


def _wanted(definitions: Definitions, target: str) -> dict[str, ValueType]:
    """The columns that a target takes. Raises ViewNotFound."""
    found: dict[str, ValueType] = {}
    for view in _views(definitions, target):
        found |= {item.name: item.type for item in (*view.join_keys, *view.features)}
        found |= dict.fromkeys(filter(None, _time_names(view)), ValueType.TIMESTAMP)
    return found


def _time_aliases(definitions: Definitions, target: str, wanted: Mapping[str, ValueType]) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for view in _views(definitions, target):
        for alias, name in zip((_EVENT_ALIAS, _CREATED_ALIAS), _time_names(view), strict=True):
            if name and alias not in wanted:
                aliases.setdefault(alias, name)
    return aliases


def _time_names(view: FeatureView) -> tuple[str, str]:
    """What the event and the created time are called in the view; "" for a created time there is none of."""
    source = view.source
    if source is None:
        return _EVENT_ALIAS, ""
    mapped = dict(source.columns)
    event, created = source.timestamp_column, source.created_column or ""
    return mapped.get(event, event), mapped.get(created, created)


def _check_lengths(what: str, columns: Mapping[str, Cells]) -> None:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise MalformedColumn(
            f"the columns of {what} differ in length ({shown})", metadata={"column": next(iter(lengths))}
        )
