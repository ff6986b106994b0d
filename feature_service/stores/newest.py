"""Offline rows for the online store: the newest row of each key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.domain import FeatureView
from feature_service.ports import NewRows
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.source_views import source_view

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ParquetNewestRows:
    """See ports.NewestRows. One materialization at a time; interrupt() from any thread."""

    def __init__(self, limits: JoinLimits) -> None:
        self._limits = limits
        self._running: AsofJoin | None = None
        self._interrupted = False

    def newest(
        self, view: FeatureView, start: datetime | None, end: datetime, *, by_known: bool
    ) -> Iterator[NewRows]:
        """See ports.NewestRows."""
        plan = source_view(view, view.features)
        with AsofJoin(self._limits) as join:
            self._running = join
            if self._interrupted:
                join.interrupt()
            try:
                low = None if start is None else _micros(start)
                for batch in join.newest(plan, low, _micros(end), by_known=by_known):
                    yield _rows(batch, len(view.join_keys))
            finally:
                self._running = None

    def interrupt(self) -> None:
        """See ports.NewestRows."""
        self._interrupted = True
        running = self._running
        if running is not None:
            running.interrupt()


def _rows(batch: pa.RecordBatch, keys: int) -> NewRows:
    created = batch.column(keys + 1)
    known: npt.NDArray[np.int64] | None = None
    if created.null_count < len(created):
        known = _integers(pc.coalesce(created, batch.column(keys)))
    return NewRows(
        keys=tuple(batch.columns[:keys]),
        values=tuple(batch.columns[keys + 2 :]),
        event_micros=_integers(batch.column(keys)),
        created_micros=known,
    )


def _integers(times: pa.Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
