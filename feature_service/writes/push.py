"""Rows that callers write: to the online store, the offline files, or both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import FeatureView, ViewKind
from feature_service.planning import Definitions
from feature_service.ports import OnlineStore
from feature_service.stores.parts import Appended
from feature_service.writes.pushed_files import TypesBefore, append_rows, refuse_unfit, rows_again
from feature_service.writes.pushed_rows import CheckedRows, Refusal, refusals, refuse_unknown_columns
from plumbline.errors import FieldViolation, PlumblineError
from plumbline.features.errors import (
    EmptyRequest,
    InvalidField,
    RowRefused,
    TooManyRows,
    ViewNotFound,
)

#: Refused rows told in an error; a reply lists all.
_VIOLATIONS_SHOWN = 10
#: Refused rows listed for a stream of pushes; all are counted.
_REFUSALS_LISTED = 1_000


class Destination(StrEnum):
    """Where pushed rows go."""

    ONLINE_AND_OFFLINE = "ONLINE_AND_OFFLINE"
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


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
        the present from its key. So is one that nothing online can hold, or that would not be read as it is
        beside the files of its source. Offline rows are written first and durably, as a part named by
        request id and content, so a retry adds nothing; online, a retry rewrites what is there. When the
        online write fails, the offline rows stay.

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
        checked = [CheckedRows(view, rows, now, now + self._max_skew) for view in views]
        refuse_unknown_columns(target, views, rows)
        types = {} if destination is Destination.ONLINE else refuse_unfit(checked)
        refused = refusals(checked, rows.num_rows)
        if refused and not best_effort:
            raise _all_or_nothing(refused)
        keep = np.ones(rows.num_rows, bool)
        keep[[item.row for item in refused]] = False
        if keep.any():
            self._write(checked, keep, rows, destination, request_id, types)
        return Pushed(int(keep.sum()), tuple(refused), tuple(view.name for view in views))

    def _write(
        self,
        checked: list[CheckedRows],
        keep: npt.NDArray[np.bool_],
        rows: pa.Table,
        destination: Destination,
        request_id: str,
        types: TypesBefore,
    ) -> None:
        with self._turns:
            before: dict[str, Appended] = {}
            if destination is not Destination.ONLINE:
                before = append_rows(checked, keep, rows, request_id, types)
            if destination is not Destination.OFFLINE:
                for item in checked:
                    earlier = before.get(item.source.path) if item.source else None
                    new = item.new_rows(keep) if earlier is None else rows_again(item.view, earlier)
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
