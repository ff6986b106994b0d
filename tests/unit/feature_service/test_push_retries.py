"""A push that is sent again, on a packed store: what it may write online, and what a later push replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feature_service.domain import FeatureView, Field, Source, ValueType, ViewKind
from feature_service.packed.keys import view_prefix
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions
from feature_service.writes.push import Destination, Push

EVENT = datetime.now(UTC) - timedelta(hours=1)


class Bench:
    """A view without a created column: of equal event times, the order of pushes says which row counts."""

    def __init__(self, store: PackedOnlineStore, folder: Path) -> None:
        self.store = store
        path = str(folder / "trips")
        self.view = FeatureView(
            "p",
            "trips",
            ViewKind.BATCH,
            (Field("key", ValueType.INT64),),
            (Field("value", ValueType.INT64),),
            source=Source("trips", path, path, "event", None),
        )

    def push(self, values: Mapping[int, int], request_id: str) -> None:
        rows = {"key": list(values), "event": [EVENT] * len(values), "value": list(values.values())}
        definitions = Definitions("p", {}, {"trips": self.view}, {}, {})
        Push(self.store, max_rows=10, max_skew=timedelta(0)).push(
            definitions,
            "trips",
            pa.table(rows),
            destination=Destination.ONLINE_AND_OFFLINE,
            best_effort=False,
            request_id=request_id,
        )

    def online(self, *keys: int) -> list[int | None]:
        found: list[int | None] = (
            self.store.read(self.view, self.view.features, [pa.array(keys, pa.int64())]).values[0].to_pylist()
        )
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(PackedOnlineStore(LmdbRows(tmp_path / "online", sync=False))) as store:
        yield Bench(store, tmp_path)


def test_a_retry_leaves_what_a_later_push_corrected(bench: Bench) -> None:
    bench.push({1: 10, 2: 20}, "first")
    bench.push({1: 11}, "correction")
    bench.push({1: 10, 2: 20}, "first")
    assert bench.online(1, 2) == [11, 20]


def test_a_retry_writes_again_what_is_not_online(bench: Bench) -> None:
    bench.push({1: 10, 2: 20}, "first")
    bench.push({1: 11}, "correction")
    bench.store.rows.drop(view_prefix("p", "trips"))
    bench.push({1: 10, 2: 20}, "first")
    assert bench.online(1, 2) == [None, 20]
    bench.push({1: 11}, "correction")
    assert bench.online(1, 2) == [11, 20]
