"""Which stored rows answer an online read, to the microsecond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from feature_service.domain import FeatureView, Field
from feature_service.online.retrieval import OnlineFeatures, OnlineRetrieval
from feature_service.planning import Selection, plan
from feature_service.ports import NOT_STORED, NewRows, StoredRows
from tests.unit.feature_service.definitions import definitions

NOW = datetime(2024, 5, 1, 12, 0, 0, 7, UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
PRESENT, NOT_FOUND, OUTSIDE = 1, 3, 4


class OneRow:
    """A store with one row, of one event time, for every key."""

    def __init__(self, event: datetime) -> None:
        self._event = (event - EPOCH) // TICK

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        return StoredRows(np.array([self._event]), tuple(pa.array([7]) for _ in features))

    def write(self, view: FeatureView, rows: NewRows) -> int:
        raise AssertionError("a read does not write")


class NoOnDemand:
    """No view is computed here."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        raise AssertionError("nothing is computed")


def read(event: datetime, max_age: timedelta | None = None) -> OnlineFeatures:
    retrieval = OnlineRetrieval(OneRow(event), NoOnDemand(), max_entities=10, now=lambda: NOW)
    chosen = plan(definitions(), Selection(references=("trips:n",)))
    return retrieval.read(chosen, pa.table({"driver_id": [1]}), pa.table({}), max_age=max_age)


@pytest.mark.parametrize(
    ("event", "max_age", "status"),
    [
        (NOW, None, PRESENT),
        (NOW + TICK, None, NOT_FOUND),
        (NOW + 400 * DAY, None, NOT_FOUND),
        (NOW - 2 * DAY, None, PRESENT),  # the view's ttl is two days
        (NOW - 2 * DAY - TICK, None, OUTSIDE),
        (NOW - DAY, DAY, PRESENT),
        (NOW - DAY - TICK, DAY, OUTSIDE),
        (NOW - 2 * DAY - TICK, 9 * DAY, OUTSIDE),
        (NOW, timedelta(0), PRESENT),
        (NOW - TICK, timedelta(0), OUTSIDE),
    ],
)
def test_the_edges_of_what_is_present(event: datetime, max_age: timedelta | None, status: int) -> None:
    found = read(event, max_age)
    (column,) = found.columns
    statuses = [PRESENT] if column.statuses is None else column.statuses.tolist()
    assert statuses == [status]
    assert column.values.to_pylist() == ([7] if status == PRESENT else [None])
    ((_, micros),) = found.event_micros
    expected = NOT_STORED if status == NOT_FOUND else (event - EPOCH) // TICK
    assert micros.tolist() == [expected]
