"""Runs that go on after they were interrupted, and which rows a run covers, on a packed store."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.domain import FeatureView, Field, Source, ValueType, ViewKind
from feature_service.feast_adapters.repo import trusted_end
from feature_service.packed.keys import view_prefix
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions
from feature_service.ports import NewRows, StoredRows
from feature_service.stores import newest
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.newest import ParquetNewestRows
from feature_service.writes import materialize
from feature_service.writes.checkpoints import Checkpoints, NotedLog
from feature_service.writes.materialize import Materialization, MaterializeProgress
from plumbline.features.errors import InvalidField, InvalidTimeRange, StoreUnavailable, ViewNotFound

DAY = timedelta(days=1)
#: The files are written now; runs happen later, so that what a file's time says can be told.
NOW = datetime.now(UTC) + 30 * DAY
EVENT = NOW - 10 * DAY


class Breaking:
    """An online store that goes away before the write numbered `after`; None: it stays."""

    def __init__(self, store: PackedOnlineStore) -> None:
        self._store = store
        self.after: int | None = None
        self.rows = 0

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        return self._store.read(view, features, keys)

    def write(self, view: FeatureView, rows: NewRows) -> int:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                raise StoreUnavailable("gone", metadata={"store": "here"})
        self.rows += len(rows.event_micros)
        return self._store.write(view, rows)


class Registry:
    """A log that keeps the ranges it was told."""

    def __init__(self) -> None:
        self.ranges: list[tuple[datetime, datetime]] = []

    def last_end(self, view: FeatureView) -> datetime | None:
        return self.ranges[-1][1] if self.ranges else None

    def record(self, view: FeatureView, start: datetime, end: datetime) -> None:
        self.ranges.append((start, end))


class Bench:
    """A store, two views over files, and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packed = PackedOnlineStore(LmdbRows(folder / "online", sync=False))
        self.store = Breaking(self.packed)
        self.registry = Registry()
        self.checkpoints = Checkpoints("p", self.packed.rows)
        self.now = NOW
        self.views = {name: self._view(name) for name in ("a", "b")}

    def _view(self, name: str) -> FeatureView:
        path = str(self.folder / name)
        (self.folder / name).mkdir()
        return FeatureView(
            "p",
            name,
            ViewKind.BATCH,
            (Field("key", ValueType.INT64),),
            (Field("value", ValueType.INT64),),
            source=Source(name, path, path, "event", None),
            digest="one",
        )

    def write(
        self, name: str, keys: Sequence[int], value: int, event: datetime = EVENT, file: str = "1"
    ) -> None:
        table = {
            "key": pa.array(keys, pa.int64()),
            "event": pa.array([event] * len(keys), pa.timestamp("us", tz="UTC")),
            "value": pa.array([value] * len(keys), pa.int64()),
        }
        pq.write_table(pa.table(table), self.folder / name / f"{file}.parquet")

    def run(
        self,
        views: Sequence[str] = (),
        start: datetime | None = None,
        end: datetime | None = None,
        operation_id: str = "",
    ) -> Iterator[MaterializeProgress]:
        run = Materialization(
            self.store,
            ParquetNewestRows(JoinLimits("300MB", 1)),
            NotedLog(self.checkpoints, self.registry),
            self.checkpoints,
            threading.Lock(),
            now=lambda: self.now,
        )
        return run.run(Definitions("p", {}, self.views, {}, {}), views, start, end, operation_id)

    def drop(self, name: str) -> None:
        """As when the view is deleted."""
        self.packed.rows.drop(view_prefix("p", name))
        self.checkpoints.dropped(name)

    def values(self, name: str, keys: Sequence[int]) -> list[int | None]:
        view = self.views[name]
        found: list[int | None] = (
            self.packed.read(view, view.features, [pa.array(keys, pa.int64())]).values[0].to_pylist()
        )
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(newest, "WRITE_ROWS", 10)
    monkeypatch.setattr(materialize, "CHECKPOINT_ROWS", 20)
    bench = Bench(tmp_path)
    bench.write("a", range(100), 1)
    bench.write("b", range(30), 1)
    yield bench
    bench.packed.close()


def broken(bench: Bench, after: int, operation_id: str = "op") -> None:
    bench.store.after = after
    with pytest.raises(StoreUnavailable):
        list(bench.run(operation_id=operation_id))
    bench.store.after, bench.store.rows = None, 0


def test_a_run_tells_how_far_it_is(bench: Bench) -> None:
    steps = list(bench.run(["a"]))
    assert [step.rows_written for step in steps] == [*range(10, 101, 10), 100]
    assert {step.rows_total for step in steps} == {100}
    assert {step.rows_resumed for step in steps} == {0}
    assert [step.view_finished for step in steps] == [False] * 10 + [True]
    assert len({step.operation_id for step in steps}) == 1


def test_a_broken_run_goes_on_after_its_last_checkpoint(bench: Bench) -> None:
    broken(bench, 7)
    bench.now += DAY  # what was now then stays the end of the run
    steps = list(bench.run(operation_id="op"))
    assert bench.store.rows == 40 + 30, "of 70 rows 60 were before a checkpoint"
    assert (steps[0].rows_resumed, steps[0].rows_written) == (60, 70)
    assert {step.end for step in steps} == {NOW}
    assert bench.values("a", range(100)) == [1] * 100
    assert bench.values("b", range(30)) == [1] * 30


def test_views_that_were_finished_are_left(bench: Bench) -> None:
    broken(bench, 11)
    steps = list(bench.run(operation_id="op"))
    assert bench.store.rows == 30
    assert (steps[0].view, steps[0].view_finished, steps[0].rows_resumed) == ("a", True, 100)
    assert bench.registry.ranges[0][1] == bench.registry.ranges[-1][1] == NOW
    assert len(bench.registry.ranges) == 2


def test_a_finished_run_is_forgotten(bench: Bench) -> None:
    list(bench.run(operation_id="op"))
    assert bench.checkpoints.load("op") is None
    bench.store.rows = 0
    list(bench.run(["b"], start=EVENT - DAY, operation_id="op"))
    assert bench.store.rows == 30


def test_another_id_starts_anew(bench: Bench) -> None:
    broken(bench, 7)
    list(bench.run(operation_id="other"))
    assert bench.store.rows == 130


@pytest.mark.parametrize("change", ["definition", "range", "file", "new file"])
def test_a_run_over_something_else_starts_the_view_anew(bench: Bench, change: str) -> None:
    broken(bench, 7)
    start = None
    if change == "definition":
        bench.views["a"] = replace(bench.views["a"], digest="two")
    elif change == "range":
        start = EVENT - DAY
    elif change == "file":
        bench.write("a", range(100), 2)
    else:
        bench.write("a", [100], 2, file="2")
    steps = list(bench.run(["a"], start=start, operation_id="op"))
    assert bench.store.rows == steps[-1].rows_total >= 100
    assert steps[-1].rows_resumed == 0
    assert bench.values("a", [0]) == [2 if change == "file" else 1]


def test_a_broken_incremental_run_loses_no_row(bench: Bench) -> None:
    list(bench.run(["a"]))
    bench.now += DAY
    bench.write("a", range(100, 200), 2, event=NOW + DAY / 2, file="2")
    broken(bench, 3)
    bench.now += DAY
    list(bench.run(["a"]))
    assert bench.values("a", range(200)) == [1] * 100 + [2] * 100


def test_late_rows_without_a_created_time_come_with_their_file(bench: Bench) -> None:
    """Feast's incremental materialization misses them for good."""
    bench.now = datetime.now(UTC)
    list(bench.run(["a"], start=bench.now - 100 * DAY))
    bench.write("a", [500], 7, event=bench.now - 5 * DAY, file="late")
    bench.now = datetime.now(UTC)
    list(bench.run(["a"]))
    assert bench.values("a", [500]) == [7]


def test_what_is_no_news_is_not_read_again(bench: Bench) -> None:
    list(bench.run(["a"]))
    bench.now += DAY
    bench.store.rows = 0
    assert list(bench.run(["a"]))[-1].view_finished
    assert bench.store.rows == 0


def test_a_changed_definition_is_brought_online_whole(bench: Bench) -> None:
    list(bench.run(["a"]))
    bench.views["a"] = replace(bench.views["a"], digest="two")
    bench.now += DAY
    bench.store.rows = 0
    list(bench.run(["a"]))
    assert bench.store.rows == 100


def test_a_view_whose_rows_were_dropped_is_brought_online_whole(bench: Bench) -> None:
    """It left the definitions and came again. Whether its last run had finished, or broke off."""
    list(bench.run(["a", "b"]))
    bench.now += DAY
    bench.drop("a")
    list(bench.run(["a", "b"]))
    assert bench.values("a", range(100)) == [1] * 100
    bench.drop("a")
    broken(bench, 7)
    bench.drop("a")
    list(bench.run(["a"], operation_id="op"))
    assert bench.values("a", range(100)) == [1] * 100


@pytest.mark.parametrize("steps", [3, 10])
def test_a_view_that_is_removed_during_a_run_gets_no_rows(bench: Bench, steps: int) -> None:
    """In its midst, or after the last row: such a run is not taken for one that brought all rows online."""
    run = bench.run(["a"])
    for _ in range(steps):
        next(run)
    bench.drop("a")
    with pytest.raises(ViewNotFound, match="view a was removed, and its rows with it"):
        next(run)
    assert bench.values("a", range(100)) == [None] * 100
    bench.now += DAY
    list(bench.run(["a"]))
    assert bench.values("a", range(100)) == [1] * 100


def test_a_range_of_its_own_leaves_no_gap_behind(bench: Bench) -> None:
    """A run over the last hour does not make the next one believe that all before is online."""
    list(bench.run(["a"]))
    bench.now += 3 * DAY
    bench.write("a", [300], 5, event=NOW + DAY, file="2")
    list(bench.run(["a"], start=bench.now - DAY))
    assert bench.values("a", [300]) == [None]
    list(bench.run(["a"]))
    assert bench.values("a", [300]) == [5]


def test_ids_and_ranges_that_cannot_be(bench: Bench) -> None:
    with pytest.raises(InvalidField):
        next(bench.run(operation_id="a/b"))
    with pytest.raises(InvalidTimeRange):
        next(bench.run(end=NOW + DAY))
    with pytest.raises(InvalidTimeRange):
        next(bench.run(start=NOW))


def test_ends_that_lay_in_the_future_do_not_count() -> None:
    """Feast's CLI records any end it is given; once passed, it would hide what came before it (#4222)."""
    past = NOW - 9 * DAY
    assert trusted_end([], NOW, NOW) is None
    assert trusted_end([(past, past + DAY)], NOW, NOW) == past + DAY
    assert trusted_end([(past, NOW + DAY)], past, NOW) is None
    recorded = [(past, past + DAY), (past, past + 8 * DAY)]
    assert trusted_end(recorded, past + 2 * DAY, NOW) == past + DAY
    recorded = [(past, past + 8 * DAY), (past, past + 2 * DAY)]
    assert trusted_end(recorded, NOW, NOW) == past + 2 * DAY
    assert trusted_end([(past, (past + DAY).replace(tzinfo=None))], NOW, NOW) == past + DAY
