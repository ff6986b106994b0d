"""Pushes while a run brings the rows of the same source online: what was acknowledged is never undone."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.domain import FeatureView, Field, Source, ValueType, ViewKind
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions
from feature_service.ports import NewRows
from feature_service.stores import newest, parquet
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.newest import ParquetNewestRows
from feature_service.writes import materialize
from feature_service.writes.checkpoints import Checkpoints, NotedLog
from feature_service.writes.materialize import Materialization, MaterializeProgress
from feature_service.writes.push import Destination, Push
from plumbline.features.errors import StoreUnavailable
from tests.support_rows import open_rows
from tests.unit.feature_service.test_materialize import Registry

EVENT = datetime.now(UTC) - timedelta(days=1)
KEYS = 100
#: Written in the last batch of a run: keys come in the order of their bytes.
LATE = 95


class Hooked(PackedOnlineStore):
    """A store that does something else before its next write."""

    before: Callable[[], None] | None = None

    def write(self, view: FeatureView, rows: NewRows) -> int:
        hook, self.before = self.before, None
        if hook is not None:
            hook()
        return super().write(view, rows)


@dataclass
class Bench:
    """A view of two join keys over a folder or a file, without a created column, and what writes its rows."""

    store: Hooked
    view: FeatureView
    checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.view.project, self.store.rows)

    @property
    def path(self) -> str:
        assert self.view.source is not None
        return self.view.source.path

    def definitions(self) -> Definitions:
        return Definitions(self.view.project, {}, {"trips": self.view}, {}, {})

    def run(self, operation_id: str = "") -> Iterator[MaterializeProgress]:
        run = Materialization(
            self.store,
            ParquetNewestRows(JoinLimits("300MB", 1)),
            NotedLog(self.checkpoints, Registry()),
            self.checkpoints,
            threading.Lock(),
        )
        return run.run(self.definitions(), ["trips"], None, None, operation_id)

    def push(self, value: int, to: Destination = Destination.ONLINE_AND_OFFLINE) -> None:
        push = Push(self.store, max_rows=10, max_skew=timedelta(minutes=5))
        push.push(self.definitions(), "trips", rows(LATE, value), destination=to, best_effort=False)

    def append(self, value: int) -> None:
        """To the offline rows, as Feast's SDK does after it wrote online."""
        parquet.append(self.path, rows(LATE, value), uuid.uuid4().hex, uuid.uuid4().hex)

    def value(self) -> int | None:
        keys = [pa.array([LATE]), pa.array(["north"])]
        found: int | None = self.store.read(self.view, self.view.features[:1], keys).values[0][0].as_py()
        return found


def rows(key: int | range, value: int) -> pa.Table:
    keys = [key] if isinstance(key, int) else list(key)
    count = len(keys)
    return pa.table(
        {
            "key": pa.array(keys, pa.int64()),
            "zone": ["north"] * count,
            "event": pa.array([EVENT] * count, pa.timestamp("us", tz="UTC")),
            "value": pa.array([value] * count, pa.int64()),
        }
    )


def source(path: Path, value: int = 1) -> str:
    """The source's files: a folder, or a file to which nothing was pushed yet."""
    file = path
    if path.suffix != ".parquet":
        path.mkdir(exist_ok=True)
        file = path / "rows.parquet"
    pq.write_table(rows(range(KEYS), value), file)
    return str(path)


@pytest.fixture(params=["lmdb", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooked]:
    spec = f"lmdb:{tmp_path / 'online'}"
    if request.param == "redis":
        spec = f"redis:{request.getfixturevalue('redis_address')}"
    with closing(Hooked(open_rows(spec))) as store:
        yield store


@pytest.fixture(params=["folder", "file.parquet"])
def bench(
    request: pytest.FixtureRequest, store: Hooked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setattr(newest, "WRITE_ROWS", 10)
    monkeypatch.setattr(materialize, "CHECKPOINT_ROWS", 20)
    return Bench(store, view_of(source(tmp_path / request.param)))


def view_of(path: str) -> FeatureView:
    return FeatureView(
        uuid.uuid4().hex,
        "trips",
        ViewKind.BATCH,
        (Field("key", ValueType.INT64), Field("zone", ValueType.STRING)),
        (Field("value", ValueType.INT64),),
        source=Source("trips", path, path, "event", None),
        digest="one",
    )


def test_a_glob_which_takes_no_pushes_is_brought_online(store: Hooked, tmp_path: Path) -> None:
    source(tmp_path / "some")
    path = f"{tmp_path}/some/*.parquet"
    bench = Bench(store, view_of(path))
    assert list(bench.run())[-1].rows_written == KEYS
    assert bench.value() == 1


def test_a_push_during_a_run_stays(bench: Bench) -> None:
    """Two corrections of the event time that the run reads: of those, the last counts."""
    run = bench.run()
    next(run)
    for correction in (8, 9):
        bench.push(correction)
        assert bench.value() == correction
        next(run)
    assert {bench.value() for step in run} == {9}
    list(bench.run())
    assert bench.value() == 9


def test_a_push_that_comes_while_the_run_writes_stays(bench: Bench) -> None:
    run = bench.run()
    for step in run:
        if step.rows_written == KEYS - 10:
            break
    with ThreadPoolExecutor(1) as pool:
        pushed = []

        def push() -> None:
            waits = held(bench.path)
            pushed.append(pool.submit(bench.push, 9))
            if not waits:
                pushed[0].result()

        bench.store.before = push
        assert next(run).rows_written == KEYS
        pushed[0].result()
        assert bench.value() == 9
    assert list(run)[-1].view_finished
    assert bench.value() == 9


def held(path: str) -> bool:
    """Whether somebody keeps appends to the source waiting."""
    folder = parquet.appends_to(path)
    if not folder.is_dir():
        return False
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


def test_a_push_stays_when_the_run_is_killed_and_goes_on(bench: Bench) -> None:
    def gone() -> None:
        raise StoreUnavailable("gone", metadata={"store": "here"})

    run = bench.run("nightly")
    for step in run:
        if step.rows_written == 40:
            bench.push(9)
        if step.rows_written == KEYS:
            # Before it could look again.
            break
    run.close()  # type: ignore[attr-defined]
    assert bench.value() == 9
    run = bench.run("nightly")
    next(run)
    bench.push(10)
    for step in run:
        if step.rows_written == KEYS - 10:
            bench.store.before = gone
            break
    with pytest.raises(StoreUnavailable):
        next(run)
    assert bench.value() == 10
    assert {bench.value() for step in bench.run("nightly")} == {10}


def test_what_the_sdk_pushes_online_first_is_there_at_the_end(bench: Bench) -> None:
    """As long as it is not in the files, the run cannot know of it."""
    run = bench.run()
    next(run)
    late = rows(LATE, 9)
    keys = (late["key"].combine_chunks(), late["zone"].combine_chunks())
    moment = np.array([int(EVENT.timestamp() * 1_000_000)])
    bench.store.write(bench.view, NewRows(keys, (late["value"].combine_chunks(),), moment, None))
    for step in run:
        if step.rows_written == KEYS:
            break
    bench.append(9)
    assert list(run)[-1].view_finished
    assert bench.value() == 9


def test_a_correction_in_the_files_replaces_what_is_online(bench: Bench) -> None:
    """The other way round: the run knows the later row, though its time is no greater."""
    bench.push(8)
    list(bench.run())
    bench.push(9, Destination.OFFLINE)
    assert bench.value() == 8
    list(bench.run())
    assert bench.value() == 9


def test_a_part_that_lacks_a_feature_of_the_view_replaces_too(bench: Bench, tmp_path: Path) -> None:
    """It was pushed to another view of the source: to this one, the feature is null, as the join says."""
    wider = replace(bench.view, features=(*bench.view.features, Field("more", ValueType.DOUBLE)))
    table = rows(range(KEYS), 1).append_column("more", pa.array([0.5] * KEYS))
    first = parquet.files_of(bench.path)[0]
    pq.write_table(table, first)
    narrow, bench.view = bench.view, wider
    run = bench.run()
    next(run)
    Bench(bench.store, replace(narrow, name="other")).append(9)
    assert list(run)[-1].view_finished
    keys = [pa.array([LATE]), pa.array(["north"])]
    found = bench.store.read(wider, wider.features, keys).values
    assert [column[0].as_py() for column in found] == [9, None]
