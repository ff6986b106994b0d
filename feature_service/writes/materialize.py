"""From the offline rows to the online store, view by view."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from feature_service.domain import FeatureView, ViewKind
from feature_service.planning import Definitions
from feature_service.ports import MaterializationLog, NewestRows, NewRows, OnlineStore, RowRange
from feature_service.writes.checkpoints import Checkpoints, Operation, ViewPoint, to_micros, to_moment
from feature_service.writes.storable import refuse_unstorable
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField, InvalidTimeRange, ViewNotFound

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OPERATION_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: Rows between two checkpoints: what is done again at most.
CHECKPOINT_ROWS = 65_536


@dataclass(frozen=True)
class MaterializeProgress:
    """How far a materialization is.

    rows_written: of this view, so far, those of an interrupted run (rows_resumed) among them; rows older
    than what is stored are not written. rows_total: of this view. start None: from the first row on.
    """

    view: str
    views_done: int
    views_total: int
    rows_written: int
    view_finished: bool
    start: datetime | None
    end: datetime
    operation_id: str
    rows_total: int = 0
    rows_resumed: int = 0


class Materialization:
    """One run of the use case, on a thread of its own; `interrupt` may come from any other.

    lock: shared by all runs of the process, so that two runs do not read one end and write another. The
    range of a view is recorded once it is finished; of what an interrupted run did, the checkpoints tell.
    """

    def __init__(
        self,
        store: OnlineStore,
        rows: NewestRows,
        log: MaterializationLog,
        checkpoints: Checkpoints,
        lock: threading.Lock,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._rows, self._log, self._lock, self._now = store, rows, log, lock, now
        self._checkpoints = checkpoints

    def interrupt(self) -> None:
        """Ends the run with Cancelled."""
        self._rows.interrupt()

    def run(
        self,
        definitions: Definitions,
        views: Sequence[str],
        start: datetime | None,
        end: datetime | None,
        operation_id: str = "",
    ) -> Generator[MaterializeProgress, None, None]:
        """Brings rows with event time in (start, end] online, as far as they were known at end: afterwards,
        an online read tells what a point-in-time join tells at that moment.

        views: by name; none: all with online = true. start None: what became known since the view's last
        materialization, and all rows of source files that came or changed since, so that late rows are among
        them; else the view's ttl before end. end None: now.

        operation_id: a run that was interrupted goes on when it is asked for again with the same id and
        range (end None is then the end it had): views it finished are left, the view it was at goes on
        after the last checkpoint if its definition and its source files are the same, else it starts anew.
        Empty: one is made.

        Raises ViewNotFound, InvalidField, InvalidTimeRange, SourceUnreadable, StoreUnavailable,
        ResourceExhausted, Cancelled. ViewNotFound also for a view that is removed meanwhile.
        """
        now = self._now()
        operation_id = _checked_id(operation_id)
        with self._lock:
            before = self._checkpoints.load(operation_id)
            until = end or (to_moment(before.end) if before else now)
            if until > now:
                raise _bad_range(
                    "end_time", f"end_time {until.isoformat()} lies in the future (now {now.isoformat()})"
                )
            if start is not None and start >= until:
                raise _bad_range(
                    "start_time", f"start_time {start.isoformat()} is not before end_time {until.isoformat()}"
                )
            operation = Operation(None if start is None else to_micros(start), to_micros(until))
            if before is not None and (before.start, before.end) == (operation.start, operation.end):
                operation = before
            chosen = _choose(definitions, views)
            for done, view in enumerate(chosen):
                for step in self._view(view, start, until, operation_id, operation):
                    yield replace(step, views_done=done + step.view_finished, views_total=len(chosen))
            self._checkpoints.remove(operation_id)

    def _view(
        self,
        view: FeatureView,
        start: datetime | None,
        end: datetime,
        operation_id: str,
        operation: Operation,
    ) -> Iterator[MaterializeProgress]:
        before, digest = operation.points.get(view.name), self._checkpoints.digest(view)
        if before is not None and before.digest != digest:
            before = None
        wanted = self._range(view, start, end, before)
        begin = wanted.after or wanted.known_after
        step = MaterializeProgress(view.name, 0, 0, 0, False, begin, end, operation_id)
        if before is not None and before.finished:
            yield replace(
                step,
                rows_written=before.written,
                rows_resumed=before.written,
                rows_total=before.read,
                view_finished=True,
            )
            return
        point = ViewPoint(view.name, digest, "", _micros(wanted.after), _micros(wanted.known_after))
        with self._rows.scan(view, wanted) as scan:
            point = replace(point, source=scan.source)
            if before is not None and scan.source and before.source == scan.source:
                point = before
            step = replace(
                step, rows_total=scan.total(), rows_written=point.written, rows_resumed=point.written
            )
            saved = point.read
            for rows in scan.rows(point.read):
                written = scan.give(rows, partial(self._write, view, digest))
                point = replace(
                    point, read=point.read + len(rows.event_micros), written=point.written + written
                )
                if point.read - saved >= CHECKPOINT_ROWS:
                    operation.points[view.name] = point
                    self._checkpoints.save(operation_id, operation)
                    saved = point.read
                step = replace(step, rows_written=point.written)
                yield step
            scan.finish(partial(self._write, view, digest))
        self._check_not_dropped(view, digest)
        if begin is None or begin < end:
            self._log.record(view, begin or _EPOCH, end)
        operation.points[view.name] = replace(point, finished=True)
        self._checkpoints.save(operation_id, operation)
        yield replace(step, view_finished=True)

    def _write(self, view: FeatureView, digest: str, rows: NewRows) -> int:
        refuse_unstorable(view, rows)
        self._check_not_dropped(view, digest)
        return self._store.write(view, rows)

    def _check_not_dropped(self, view: FeatureView, digest: str) -> None:
        """A view that was removed gets no rows again, and a run whose rows were dropped claims none."""
        if self._checkpoints.digest(view) != digest:
            raise ViewNotFound(
                f"view {view.name} was removed, and its rows with it, while it was materialized; if it is "
                "defined again, materialize it again",
                metadata={"view": view.name, "project": view.project},
            )

    def _range(
        self, view: FeatureView, start: datetime | None, end: datetime, before: ViewPoint | None
    ) -> RowRange:
        if before is not None:
            return RowRange(end, _moment(before.after), _moment(before.known_after))
        if start is not None:
            return RowRange(end, after=start)
        last = self._log.last_end(view)
        if last is not None:
            return RowRange(end, known_after=last)
        if view.ttl is not None:
            # A row exactly as old as the ttl is within it; the start is not part of the range.
            return RowRange(end, after=max(end - view.ttl - _MICROSECOND, _EPOCH))
        return RowRange(end)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else to_moment(micros)


def _checked_id(operation_id: str) -> str:
    if not operation_id:
        return uuid.uuid4().hex
    if not _OPERATION_ID.fullmatch(operation_id):
        what = "must be 1 to 100 letters, digits, dots, dashes or underscores"
        raise InvalidField(
            f"operation_id {what}",
            metadata={"field": "operation_id"},
            violations=[FieldViolation("operation_id", what)],
        )
    return operation_id


def _choose(definitions: Definitions, names: Sequence[str]) -> list[FeatureView]:
    if not names:
        return [view for _, view in sorted(definitions.views.items()) if view.online]
    chosen = [definitions.view(name) for name in dict.fromkeys(names)]
    for view in chosen:
        if view.kind is ViewKind.ON_DEMAND:
            raise InvalidField(
                f"{view.name!r} is an on-demand view: it is computed when read, not materialized",
                metadata={"field": "views"},
                violations=[FieldViolation("views", f"{view.name} is an on-demand view")],
            )
    return chosen


def _bad_range(field: str, message: str) -> InvalidTimeRange:
    return InvalidTimeRange(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
