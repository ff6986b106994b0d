"""The newest rows of each key, against plain Python; which files count as new."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import FeatureView, Field, KnownAt, Source, ValueType, ViewKind
from feature_service.ports import NO_TIME, NewRows, RowRange
from feature_service.stores import newest
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.newest import ParquetNewestRows
from tests.unit.feature_service.oracle import Row, answer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMITS = JoinLimits("300MB", 1)
INT64, STRING = ValueType.INT64, ValueType.STRING


def at(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def view(path: Path, *, created: bool = True, keys: Sequence[Field] = (Field("key", STRING),)) -> FeatureView:
    source = Source("s", str(path), str(path), "event", "created" if created else None)
    return FeatureView("p", "v", ViewKind.BATCH, tuple(keys), (Field("value", INT64),), source=source)


def times(seconds: Sequence[int | None]) -> pa.Array:
    return pa.array([None if s is None else s * 1_000_000 for s in seconds], pa.timestamp("us", tz="UTC"))


def write(path: Path, rows: Sequence[Row]) -> Path:
    table = {
        "key": pa.array([r.key for r in rows], pa.string()),
        "event": times([r.event for r in rows]),
        "created": times([r.created for r in rows]),
        "value": pa.array([r.value for r in rows], pa.int64()),
    }
    pq.write_table(pa.table(table), path)
    return path


def scan(found: FeatureView, wanted: RowRange, skip: int = 0) -> tuple[int, list[NewRows]]:
    with ParquetNewestRows(LIMITS).scan(found, wanted) as scanned:
        return scanned.total(), list(scanned.rows(skip))


def values(batches: Sequence[NewRows]) -> dict[str, int | None]:
    return {
        key: value
        for batch in batches
        for key, value in zip(batch.keys[0].to_pylist(), batch.values[0].to_pylist(), strict=True)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("newest")


@pytest.fixture(params=[3, 16_384])
def batch_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches so small that keys lie across their edges, and large ones."""
    monkeypatch.setattr(newest, "WRITE_ROWS", request.param)
    monkeypatch.setattr(newest, "_READ_ROWS", request.param)


moments = st.integers(0, 6)
rows = st.builds(
    Row,
    st.sampled_from(["a", "b", "cc", "", None]),
    st.none() | moments,
    st.none() | moments,
    st.none() | st.integers(0, 3),
)


@pytest.mark.usefixtures("batch_rows")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(rows, max_size=14),
    after=st.none() | moments,
    known_after=st.none() | moments,
    end=moments,
    skip=st.integers(0, 3),
)
def test_the_newest_rows_are_those_of_plain_python(
    folder: Path, table: list[Row], after: int | None, known_after: int | None, end: int, skip: int
) -> None:
    path = write(folder / "newest.parquet", table)
    os.utime(path)

    def in_range(row: Row) -> bool:
        assert row.event is not None
        return max(row.event, row.created or 0) <= end and (after is None or row.event > after)

    inside = [row for row in table if row.event is not None and in_range(row)]
    expected = {}
    for key in {row.key for row in inside} - {None}:
        answers, value = answer(inside, key, 100, None, KnownAt.IGNORE_CREATED)
        assert answers
        expected[key] = value
    # The file came after 1970, so all of its rows count, whatever they say of when they became known.
    wanted = RowRange(
        at(end), None if after is None else at(after), None if known_after is None else at(known_after)
    )
    total, batches = scan(view(path), wanted)
    assert values(batches) == expected
    assert total == len(expected) == sum(len(batch.event_micros) for batch in batches)
    whole = list(values(batches))
    assert list(values(scan(view(path), wanted, skip)[1])) == whole[skip:]


def test_keys_come_in_the_order_of_their_bytes_in_a_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    numbers = np.unique(np.concatenate([rng.integers(-(2**63), 2**63 - 1, 500), np.arange(-300, 300)]))
    table = {
        "i": pa.array(numbers),
        "n": pa.array(rng.integers(-(2**31), 2**31 - 1, len(numbers)), pa.int32()),
        "event": times([1] * len(numbers)),
        "value": pa.array(range(len(numbers))),
    }
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    for name, kind, bytes_of in (("i", INT64, "<i8"), ("n", ValueType.INT32, "<i4")):
        found = view(tmp_path / "t.parquet", created=False, keys=[Field(name, kind)])
        _, batches = scan(found, RowRange(at(2)))
        stored = [np.array(key, bytes_of).tobytes() for batch in batches for key in batch.keys[0].to_pylist()]
        assert len(stored) > 500
        assert stored == sorted(stored)


def test_rows_that_do_not_say_when_they_were_created_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row("a", 1, None, 1), Row("b", 1, 2, 2)])
    _, batches = scan(view(path), RowRange(at(9)))
    created = batches[0].created_micros
    assert created is not None
    assert created.tolist() == [NO_TIME, 2_000_000]


def test_only_new_files_are_read_whole(tmp_path: Path) -> None:
    """Without a created column nothing in a late row says that it is late; its file does."""
    now = datetime.now(UTC)
    day = 86_400
    seconds = int(now.timestamp())
    write(tmp_path / "old.parquet", [Row("a", seconds - 3 * day, None, 1)])
    found = view(tmp_path, created=False)
    _, batches = scan(found, RowRange(now, known_after=now - timedelta(hours=1)))
    assert values(batches) == {"a": 1}, "the file is of a moment ago"
    later = now + timedelta(days=1)
    assert scan(found, RowRange(later, known_after=later - timedelta(hours=1)))[1] == []


def test_the_state_of_a_source_changes_with_its_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [Row("a", 1, None, 1)])

    def state() -> str:
        with ParquetNewestRows(LIMITS).scan(view(tmp_path), RowRange(at(9))) as scanned:
            return scanned.source

    first = state()
    assert first == state()
    write(tmp_path / "b.parquet", [Row("b", 1, None, 1)])
    second = state()
    assert second != first
    write(path, [Row("a", 1, None, 2)])
    assert state() != second
