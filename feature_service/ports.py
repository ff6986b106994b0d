"""What the use cases need from the outside. The docstrings are the contract of every adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import FeatureView, Field

#: The event time (µs) of a row that is not stored.
NOT_STORED = int(np.iinfo(np.int64).min)

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredRows:
    """What an online store holds for n keys of one view.

    event_micros: n event times, NOT_STORED where there is no row. values: one array of n values for each
    feature asked for, of the type the view declares; null where nothing is stored, and in any stored null.
    """

    event_micros: Micros
    values: tuple[pa.Array, ...]


@dataclass(frozen=True)
class NewRows:
    """Rows to write for one view, of distinct or repeated keys.

    keys: one array for each join key of the view, without nulls. values: one array for each feature of
    the view, in the view's order. created_micros: None when the rows do not say.
    """

    keys: tuple[pa.Array, ...]
    values: tuple[pa.Array, ...]
    event_micros: Micros
    created_micros: Micros | None


class OnlineStore(Protocol):
    """The latest row of each key of each view. Methods may be called from several threads at once.

    Both raise StoreUnavailable when the store cannot be reached, and SourceUnreadable when it has no place
    for the view yet.
    """

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        """The rows of n keys; keys: one array of n values for each join key, of the declared types.

        A key with a null in it is never stored. Repeated keys are answered each.
        """

    def write(self, view: FeatureView, rows: NewRows) -> int:
        """Writes rows, except those older (by event time) than the row that is stored.

        Of rows of one key, the greatest by (event time, created time) is written; a row as old as the stored
        one replaces it. A reader never sees a part of a row. Returns the number of rows written. The
        comparison is safe among the threads of this process, not among processes, and as fine as the
        store keeps event times.
        """


class OnDemandViews(Protocol):
    """Runs the transformations of on-demand views."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        """The view's features, as declared, for each row of its inputs (see retrieval.on_demand_inputs).

        Raises OnDemandFailed when the transformation fails or gives something else than declared.
        """


class MaterializationLog(Protocol):
    """Remembers which ranges of event times of a view were brought online."""

    def last_end(self, view: FeatureView) -> datetime | None:
        """Where the last materialization ended; None when there was none. Ends in the future do not count."""

    def record(self, view: FeatureView, start: datetime, end: datetime) -> None:
        """Adds a range."""


class NewestRows(Protocol):
    """Reads the offline rows that belong in the online store."""

    def newest(
        self, view: FeatureView, start: datetime | None, end: datetime, *, by_known: bool
    ) -> Iterator[NewRows]:
        """The newest row of each key with event time in (start, end], in batches.

        Only rows known at end: of those with a created time, the ones where it is ≤ end. by_known:
        rows that became known (max of event and created time) after start, so that late rows are among them.
        Raises SourceUnreadable, ResourceExhausted, Cancelled.
        """

    def interrupt(self) -> None:
        """Ends a running `newest` with Cancelled."""
