"""Merged parts answer as the parts they were merged from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent import futures
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import FeatureView, Field, KnownAt, Source, ValueType, ViewKind
from feature_service.planning import Definitions
from feature_service.ports import RowRange
from feature_service.stores import compaction, parquet
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.compaction import Compacted, compact
from feature_service.stores.newest import ParquetNewestRows
from feature_service.stores.parts import OtherRowsError
from feature_service.stores.source_views import source_view
from feature_service.writes.merging import merge_parts

LIMITS = JoinLimits("300MB", 1)
DIGEST = "d" * 32
MICROS = pa.timestamp("us", tz="UTC")
_folders = itertools.count()
RowT = tuple[str, int, int | None, int]


def identity(number: int) -> str:
    return f"{number * 7919 % 1000:032x}"


def push(path: Path, number: int, rows: Sequence[RowT]) -> parquet.Appended:
    keys, events, created, values = zip(*rows, strict=True)
    table = {
        "key": pa.array(keys, pa.string()),
        "event": pa.array([e * 1_000_000 for e in events], MICROS),
        "created": pa.array([None if c is None else c * 1_000_000 for c in created], MICROS),
        "value": pa.array(values, pa.int64()),
    }
    return parquet.append(str(path), pa.table(table), identity(number), DIGEST)


def merge(path: Path, *, at_least: int = 2, kept: float = 1e9) -> Compacted:
    return compact(str(path), ["key"], "event", "created", at_least=at_least, kept=kept)


def view(path: Path) -> FeatureView:
    source = Source("s", str(path), str(path), "event", "created")
    return FeatureView(
        "p",
        "v",
        ViewKind.BATCH,
        (Field("key", ValueType.STRING),),
        (Field("value", ValueType.INT64),),
        source=source,
    )


def joined(path: Path) -> list[int | None]:
    entities = [(key, moment) for key in "ab" for moment in range(6)]
    with AsofJoin(LIMITS) as join:
        micros = pa.array([moment * 1_000_000 for _, moment in entities], pa.int64())
        join.set_entities(micros, [pa.array([key for key, _ in entities])])
        plan = source_view(view(path), view(path).features, ["e0"])
        values: list[int | None] = join.join(plan, KnownAt.CREATED_BY_THEN)["value"].to_pylist()
        return values


def newest(path: Path) -> list[tuple[str, int]]:
    with ParquetNewestRows(LIMITS).scan(view(path), RowRange(datetime.now(UTC))) as scan:
        return [
            pair
            for batch in scan.rows()
            for pair in zip(batch.keys[0].to_pylist(), batch.values[0].to_pylist(), strict=True)
        ]


row = st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.none() | st.integers(0, 5), st.integers(0, 9))
unlike = st.lists(row, min_size=1, max_size=3, unique_by=lambda item: item[:3])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pushes=st.lists(unlike, min_size=2, max_size=6), once=st.integers(1, 4))
def test_joins_and_newest_rows_stay_the_same(
    tmp_path_factory: pytest.TempPathFactory, pushes: list[list[RowT]], once: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"compacted-{next(_folders)}" / "x.parquet"
    path.parent.mkdir()
    for number, rows in enumerate(pushes):
        push(path, number, rows)
        if number == once:
            merge(path)  # and once more below, over a merged part
    before = joined(path), newest(path)
    assert merge(path, kept=0.0).files <= 1
    assert len(parquet.files_of(str(path))) == 1
    assert (joined(path), newest(path)) == before


def test_joins_go_on_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    push(path, 0, [("a", moment, moment, moment) for moment in range(4)])
    before = joined(path)[:6]

    def push_and_merge() -> int:
        for number in range(1, 15):
            push(path, number, [("b", 1, 1, number)])
            merge(path)
        return len(parquet.files_of(str(path)))

    with futures.ThreadPoolExecutor(1) as pool:
        writing = pool.submit(push_and_merge)
        while not writing.done():
            assert joined(path)[:6] == before
        assert writing.result() == 1


def test_merged_parts_stay_for_readers_who_listed_them(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for number in range(3):
        push(path, number, [("a", number, None, number)])
    listed = parquet.files_of(str(path))
    assert merge(path) == Compacted(parts=3, files=1)
    assert len(parquet.files_of(str(path))) == 1
    assert all(Path(file).exists() for file in listed)
    assert merge(path, kept=0.0) == Compacted(removed=3)
    assert not any(Path(file).exists() for file in listed)


def test_request_ids_stay_known(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for number in range(5):
        push(path, number, [("a", number, None, number)])
    merge(path)
    for number in range(5, 9):
        push(path, number, [("a", number, None, number)])
    merge(path, kept=0.0)
    for number in range(9):
        again = push(path, number, [("a", number, None, number)])
        assert (again.added, again.part) == (False, None)
        with pytest.raises(OtherRowsError):
            parquet.append(
                str(path), pq.read_table(parquet.files_of(str(path))[0]), identity(number), "e" * 32
            )
    assert push(path, 9, [("a", 9, None, 9)]).added


def test_few_parts_and_large_ones_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    for number in range(3):
        push(path, number, [("a", number, None, number)])
    assert merge(path, at_least=4) == Compacted()
    push(path, 3, [("b", i, None, 0) for i in range(5)])
    for number in range(4, 6):
        push(path, number, [("a", number, None, number)])
    monkeypatch.setattr(compaction, "LARGEST", 4)
    before = newest(path)
    assert merge(path) == Compacted(parts=5, files=2)
    assert len(parquet.files_of(str(path))) == 3
    assert newest(path) == before


def test_a_row_that_a_later_push_replaced_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for value in (5, 9, 2):
        push(path, value, [("a", 1, 1, value)])
    assert merge(path).rows_dropped == 2
    assert newest(path) == [("a", 2)]


def test_a_part_that_a_retry_may_still_need_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for number in range(4):
        push(path, number, [("a", number, number, number)])
    for file in parquet.files_of(str(path))[:3]:
        os.utime(file, (1, 1))
    assert compact(str(path), ["key"], "event", "created", settled=3600).parts == 3
    assert len(parquet.files_of(str(path))) == 2
    push(path, 4, [("a", 4, 4, 4)])
    for file in parquet.files_of(str(path))[1:]:
        os.utime(file, (1, 1))
    # What was merged just now is no push that could be retried.
    assert compact(str(path), ["key"], "event", "created", settled=3600).parts == 3


def test_no_merged_file_gets_larger_than_what_fits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    for number in range(4):
        push(path, number, [("a", number, number, number)])
    size = pq.read_metadata(parquet.files_of(str(path))[0]).row_group(0).total_byte_size
    monkeypatch.setattr(compaction, "LARGEST_BYTES", 2 * size + size // 2)
    assert merge(path).files == 2


def test_every_source_is_merged_by_the_keys_of_all_its_views(tmp_path: Path) -> None:
    """A row that is replaced for one view is not for another that tells more rows apart."""
    path = tmp_path / "x.parquet"
    for number in range(3):
        push(path, number, [("a", 1, 1, number)])
    by_key = view(path)
    by_both = replace(
        by_key, name="w", join_keys=(*by_key.join_keys, Field("value", ValueType.INT64)), features=()
    )
    elsewhere = replace(by_key, name="x", source=Source("s", "s3://b/x", "s3://b/x", "event"))
    several = replace(by_key, name="y", source=Source("s", "*.parquet", "*.parquet", "event"))
    views = {item.name: item for item in (by_key, by_both, elsewhere, several)}
    definitions = Definitions("p", {}, views, {}, {})
    assert merge_parts(definitions) == Compacted()  # too few, too young
    assert merge_parts(definitions, at_least=2, settled=0) == Compacted(parts=3, files=1)
    assert pq.read_table(parquet.files_of(str(path))[0]).num_rows == 3
    assert newest(path) == [("a", 2)]


def test_a_source_that_cannot_be_merged_does_not_keep_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("x.parquet", "y.parquet"):
        for number in range(2):
            push(tmp_path / name, number, [("a", 1, 1, number)])
    broken = view(tmp_path / "x.parquet")
    broken = replace(broken, join_keys=(Field("other", ValueType.STRING),))
    views = {"v": broken, "w": view(tmp_path / "y.parquet")}
    definitions = Definitions("p", {}, views, {}, {})
    assert merge_parts(definitions, at_least=2, settled=0) == Compacted(parts=2, files=1, rows_dropped=1)
    assert "lack the column other" in caplog.text


def test_what_was_never_pushed_to_has_nothing_to_merge(tmp_path: Path) -> None:
    assert merge(tmp_path / "x.parquet") == Compacted()
    with pytest.raises(ValueError, match="machine"):
        compact("s3://bucket/x.parquet", ["key"], "event", None)
