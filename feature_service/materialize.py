"""From the offline rows to the online store, view by view."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from feature_service.domain import FeatureView, ViewKind
from feature_service.planning import Definitions
from feature_service.ports import MaterializationLog, NewestRows, OnlineStore
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField, InvalidTimeRange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class MaterializeProgress:
    """How far a materialization is. rows_written: of this view, so far. start None: from the first row on."""

    view: str
    views_done: int
    views_total: int
    rows_written: int
    view_finished: bool
    start: datetime | None
    end: datetime


class Materialization:
    """One run of the use case, on a thread of its own; `interrupt` may come from any other.

    lock: shared by all runs of the process, so that two runs do not read one end and write another. Nothing
    but the range of a finished view is recorded: after a crash the view is read as before, and the next
    run goes over the same rows again.
    """

    def __init__(
        self,
        store: OnlineStore,
        rows: NewestRows,
        log: MaterializationLog,
        lock: threading.Lock,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._rows, self._log, self._lock, self._now = store, rows, log, lock, now

    def interrupt(self) -> None:
        """Ends the run with Cancelled."""
        self._rows.interrupt()

    def run(
        self,
        definitions: Definitions,
        views: Sequence[str],
        start: datetime | None,
        end: datetime | None,
    ) -> Generator[MaterializeProgress, None, None]:
        """Brings rows with event time in (start, end] online, as far as they were known at end: afterwards,
        an online read tells what a point-in-time join tells at that moment.

        views: by name; none: all with online = true. start None: what became known since the view's last
        materialization, late rows included where the source has a created column; else the view's ttl
        before end. end None: now. Raises ViewNotFound, InvalidField, InvalidTimeRange, SourceUnreadable,
        StoreUnavailable, ResourceExhausted, Cancelled.
        """
        now = self._now()
        until = end or now
        if until > now:
            raise _bad_range(
                "end_time", f"end_time {until.isoformat()} lies in the future (now {now.isoformat()})"
            )
        if start is not None and start >= until:
            raise _bad_range(
                "start_time", f"start_time {start.isoformat()} is not before end_time {until.isoformat()}"
            )
        chosen = _choose(definitions, views)
        with self._lock:
            for done, view in enumerate(chosen):
                for progress in self._view(view, start, until):
                    yield MaterializeProgress(
                        view=view.name,
                        views_done=done + progress.view_finished,
                        views_total=len(chosen),
                        rows_written=progress.rows_written,
                        view_finished=progress.view_finished,
                        start=progress.start,
                        end=until,
                    )

    def _view(
        self, view: FeatureView, start: datetime | None, end: datetime
    ) -> Iterator[MaterializeProgress]:
        last = self._log.last_end(view) if start is None else None
        begin = start or last
        if begin is None and view.ttl is not None:
            # A row exactly as old as the ttl is within it; the start is not part of the range.
            begin = max(end - view.ttl - _MICROSECOND, _EPOCH)
        written = 0
        if begin is None or begin < end:
            for rows in self._rows.newest(view, begin, end, by_known=last is not None):
                written += self._store.write(view, rows)
                yield MaterializeProgress(view.name, 0, 0, written, False, begin, end)
            self._log.record(view, begin or _EPOCH, end)
        yield MaterializeProgress(view.name, 0, 0, written, True, begin, end)


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
