"""What a materialization keeps beside the rows: how far a run came, and up to when a view is online.

Both are notes of the online store itself, so they come and go with the rows they speak of: a store that was
emptied knows of no earlier run, and none counts of a view whose rows were dropped. Stores without notes
(Feast's own) remember nothing here; a run that was interrupted is simply done again, and the ends of runs are
taken from Feast's registry.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from feature_service.domain import FeatureView
from feature_service.ports import MaterializationLog, Notes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class ViewPoint:
    """How far a run came with a view: after `read` of its rows, `written` of them newer than what was stored.

    digest: see Checkpoints.digest. source: the state of its files (see ports.RowScan); `read` rows are
    counted in an order that only this and the range decide. after, known_after: see ports.RowRange, in µs.
    """

    view: str
    digest: str
    source: str
    after: int | None
    known_after: int | None
    read: int = 0
    written: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Operation:
    """One run, in µs: the range it was asked for, and the points of the views it began, which grow."""

    start: int | None
    end: int
    points: dict[str, ViewPoint] = field(default_factory=dict)


class Checkpoints:
    """Operations by id, and the ends of views. notes None: nothing is kept."""

    def __init__(self, project: str, notes: Notes | None) -> None:
        self._project, self._notes = project, notes

    @property
    def kept(self) -> bool:
        """Whether anything is kept."""
        return self._notes is not None

    def load(self, operation_id: str) -> Operation | None:
        """A run that was interrupted. None when nothing is known of it, or it was finished."""
        found = None if self._notes is None else self._notes.note(self._name("operation", operation_id))
        if found is None:
            return None
        plain = json.loads(found)
        points = {name: ViewPoint(**point) for name, point in plain["points"].items()}
        return Operation(plain["start"], plain["end"], points)

    def save(self, operation_id: str, operation: Operation) -> None:
        """Keeps the state of a run."""
        if self._notes is not None:
            text = json.dumps(asdict(operation))
            self._notes.set_note(self._name("operation", operation_id), text.encode())

    def remove(self, operation_id: str) -> None:
        """Forgets a run: it is finished."""
        if self._notes is not None:
            self._notes.set_note(self._name("operation", operation_id), None)

    def digest(self, view: FeatureView) -> str:
        """Stands for the view's definition and the last time its rows were dropped: what is noted under
        another digest speaks of other rows."""
        dropped = None if self._notes is None else self._notes.note(self._name("dropped", view.name))
        return view.digest if dropped is None else f"{view.digest} {dropped.decode()}"

    def dropped(self, view: str) -> None:
        """The rows of a view, by name, are dropped."""
        if self._notes is not None:
            self._notes.set_note(self._name("dropped", view), uuid.uuid4().hex.encode())

    def end(self, view: FeatureView) -> datetime | None:
        """Up to when the view is online, under the definition it has now; None once its rows were dropped."""
        found = None if self._notes is None else self._notes.note(self._name("materialized", view.name))
        if found is None:
            return None
        plain = json.loads(found)
        return to_moment(plain["end"]) if plain["digest"] == self.digest(view) else None

    def set_end(self, view: FeatureView, start: datetime, end: datetime) -> None:
        """Keeps the end of a finished run, unless an earlier one ended later, or ended before this one's
        start: then the gap between them is left for the next run."""
        if self._notes is None:
            return
        before = self.end(view)
        if before is None or start <= before < end:
            text = json.dumps({"digest": self.digest(view), "end": to_micros(end)})
            self._notes.set_note(self._name("materialized", view.name), text.encode())

    def _name(self, kind: str, name: str) -> str:
        return f"{kind}/{self._project}/{name}"


class NotedLog:
    """See ports.MaterializationLog: the ends that the online store itself knows of, where it keeps notes.

    Feast's registry is told, too; but it may know ends of another store, or, from Feast's own runs, ends
    that lay in the future when they were recorded.
    """

    def __init__(self, checkpoints: Checkpoints, registry: MaterializationLog) -> None:
        self._checkpoints, self._registry = checkpoints, registry

    def last_end(self, view: FeatureView) -> datetime | None:
        """See ports.MaterializationLog."""
        return self._checkpoints.end(view) if self._checkpoints.kept else self._registry.last_end(view)

    def record(self, view: FeatureView, start: datetime, end: datetime) -> None:
        """See ports.MaterializationLog."""
        self._registry.record(view, start, end)
        self._checkpoints.set_end(view, start, end)


def to_micros(moment: datetime) -> int:
    """µs since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def to_moment(micros: int) -> datetime:
    """The moment of µs since 1970."""
    return _EPOCH + timedelta(microseconds=micros)
