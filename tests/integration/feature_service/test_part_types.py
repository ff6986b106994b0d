"""Pushes to sources whose files have other types than the view declares: what was pushed is what is joined,
to the last bit and microsecond, or the row is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from feature_service.stores.compaction import compact
from plumbline.features.client import FeatureClient
from plumbline.features.errors import RowRefused
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago, kinds_row, kinds_table, write_repo
from tests.support import running_server

LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb\n  sync: false"
US = pa.timestamp("us", tz="UTC")
MICROSECOND = timedelta(microseconds=1)
#: An event between two milliseconds, and one in a file of nanoseconds.
EVENT = ago(0.1) + timedelta(microseconds=1_500)


@contextmanager
def serving(repo: Path) -> Iterator[FeatureClient]:
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        yield client


def with_file(folder: Path, **columns: pa.Array) -> Path:
    """A repository in which the file of `kinds`, of one row, has columns of these types."""
    repo = write_repo(folder, LMDB)
    table = kinds_table([kinds_row(1, ago(1))])
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table, repo / "data" / "kinds.parquet")
    apply(repo)
    return repo


def row(key: int, event: datetime = EVENT, **others: Any) -> dict[str, Any]:
    """A row of `kinds` to push, in the types of the view."""
    table = kinds_table([kinds_row(key, event) | others])
    return {name: table[name].combine_chunks() for name in table.column_names}


def online(client: FeatureClient, key: int, feature: str) -> Any:
    keys = pa.array([key], pa.int32())
    return client.get_online_features([f"kinds:{feature}"], {"small_id": keys}).values[feature][0].as_py()


def joined(client: FeatureClient, key: int, feature: str, at: datetime | None = None) -> Any:
    rows = pa.table({"small_id": pa.array([key], pa.int32()), "event_timestamp": [at or datetime.now(UTC)]})
    return client.get_historical_features([f"kinds:{feature}"], rows).read_all()[feature][0].as_py()


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex() or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


def filled(kind: pa.DataType, value: Any) -> pa.Array:
    return pa.array([value], kind)


DATE = datetime(2024, 3, 10, tzinfo=UTC)
MOMENT = datetime(2024, 3, 10, 7, 30, 0, 123456, UTC)
FAR = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]
#: feature: types that the file may have, with a value in it, and what is pushed.
MATRIX: list[tuple[str, pa.Array, list[Any]]] = [
    ("double", filled(pa.float32(), 0.5), [0.1, 0.5, -0.0, math.nan, math.inf, 1e300]),
    ("double", filled(pa.float16(), 0.5), [0.1, 0.5]),
    ("double", filled(pa.int64(), 7), [1.5, 2.0, -0.0, math.nan, 2.0**60]),
    ("double", filled(pa.int32(), 7), [1.5, 2.0, 2.0**40]),
    ("double", filled(pa.decimal128(10, 2), Decimal("1.25")), [0.1, 1.005, 1e30]),
    ("double", pa.nulls(1), [0.1]),
    ("float", filled(pa.int64(), 7), [0.25, 3.0]),
    ("float", filled(pa.float64(), 0.5), [0.25]),
    ("int64", filled(pa.int32(), 7), [2**40, 5, -(2**63)]),
    ("int64", filled(pa.uint8(), 7), [300, -1, 5]),
    ("int64", filled(pa.uint64(), 7), [2**63 - 1, -1]),
    ("int64", filled(pa.float64(), 7.0), [2**53, 2**53 + 2, 2**60]),
    ("int64", filled(pa.float32(), 7.0), [2**24 + 1, 5]),
    ("int64", filled(pa.decimal128(10, 2), Decimal("1.00")), [2**40, 5]),
    ("int32", filled(pa.int8(), 7), [2**31 - 1, 5]),
    ("bool", pa.nulls(1), [True]),
    ("string", filled(pa.float64(), None), ["5", "grüße"]),
    ("string", pa.array(["a"]).dictionary_encode(), ["b"]),
    ("bytes", filled(pa.binary(2), b"ab"), [b"abc", b"cd"]),
    ("timestamp", filled(pa.timestamp("ms"), DATE), [MOMENT, DATE, *FAR]),
    ("timestamp", filled(pa.timestamp("ms", "Asia/Tokyo"), DATE), [MOMENT, DATE, *FAR]),
    ("timestamp", filled(pa.timestamp("us"), DATE), [MOMENT, *FAR]),
    ("timestamp", filled(pa.timestamp("ns", "UTC"), DATE), [MOMENT]),
    ("timestamp", filled(pa.date32(), DATE.date()), [MOMENT, DATE]),
    ("double_list", filled(pa.list_(pa.float32()), [0.5]), [[0.1, math.inf], [0.5], []]),
    ("double_list", filled(pa.list_(pa.int64()), [7]), [[1.5, math.nan], [2.0]]),
    ("double_list", filled(pa.list_(pa.null()), []), [[0.1]]),
    ("int64_list", filled(pa.list_(pa.int32()), [7]), [[2**40, 1], [5]]),
    ("int64_list", filled(pa.list_(pa.float32()), [7.0]), [[2**24 + 1], [5]]),
    ("timestamp_list", filled(pa.list_(pa.timestamp("ms")), [DATE]), [[MOMENT, DATE], [DATE], FAR]),
    ("bool_list", filled(pa.list_(pa.null()), []), [[True]]),
]


@pytest.mark.parametrize(
    ("feature", "held", "pushed"), MATRIX, ids=lambda item: str(getattr(item, "type", ""))
)
def test_the_join_returns_what_was_pushed(
    tmp_path: Path, feature: str, held: pa.Array, pushed: list[Any]
) -> None:
    repo = with_file(tmp_path, **{feature: held})
    with serving(repo) as client:
        before = joined(client, 1, feature)
        for key, value in enumerate(pushed, start=10):
            columns = row(key, **{feature: value})
            assert client.push("kinds", columns, request_id=f"p{key}").rows_written == 1
            # A retry reads its part again, and writes online what it says.
            assert client.push("kinds", columns, request_id=f"p{key}").rows_written == 1
        folder = repo / "data" / "kinds.parquet"
        for _ in ("in parts", "merged"):
            for key, value in enumerate(pushed, start=10):
                assert same(online(client, key, feature), value)
                assert same(joined(client, key, feature), value)
            # What the file had is read as it was.
            assert same(joined(client, 1, feature), before)
            compact(str(folder), ["small_id"], "event_timestamp", None)
        assert len(pushed) == 1 or len(list(folder.with_name("kinds.parquet.d").glob("merged-*"))) == 1
        # And so it is brought online again.
        for step in client.materialize(["kinds"], start=ago(1000)):
            rows = step.rows_written
        assert rows == len(pushed) + 1
        assert all(same(online(client, key, feature), value) for key, value in enumerate(pushed, start=10))


TIMES = [
    pa.timestamp("ms"),
    pa.timestamp("ms", "UTC"),
    pa.timestamp("ms", "America/New_York"),
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("ns", "UTC"),
    pa.date32(),
]


@pytest.mark.parametrize("kind", TIMES, ids=str)
def test_no_join_before_an_event_knows_of_it(tmp_path: Path, kind: pa.DataType) -> None:
    """In a file of milliseconds the event was cut to before it happened: a leak."""
    held = pa.array([DATE], US).cast(pa.timestamp("us")).cast(kind)
    with serving(with_file(tmp_path, event_timestamp=held)) as client:
        client.push("kinds", row(7, int64=7))
        assert joined(client, 7, "int64", EVENT) == 7
        for before in (MICROSECOND, timedelta(microseconds=500), timedelta(milliseconds=1)):
            assert joined(client, 7, "int64", EVENT - before) is None
        assert joined(client, 1, "int64", DATE) == 2**60 + 1
        assert joined(client, 1, "int64", DATE - MICROSECOND) is None


def test_nor_before_it_was_created(tmp_path: Path) -> None:
    repo = write_repo(tmp_path, LMDB)
    table = pq.read_table(repo / "data" / "trips.parquet")
    for name in ("event_timestamp", "created"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(pa.timestamp("ms", "UTC")))
    pq.write_table(table, repo / "data" / "trips.parquet")
    apply(repo)
    created = EVENT + timedelta(microseconds=700)
    columns = {
        "driver_id": [7],
        "event_timestamp": [EVENT],
        "created": [created],
        "n": [7],
        "rate": [0.5],
        "tag": ["p"],
    }
    with serving(repo) as client:
        client.push("trips", columns)
        at = [created - MICROSECOND, created]
        rows = pa.table({"driver_id": [7, 7], "event_timestamp": at})
        assert client.get_historical_features(["trips:n"], rows).read_all()["n"].to_pylist() == [None, 7]


def test_keys_of_other_types_stay_apart(tmp_path: Path) -> None:
    repo = write_repo(tmp_path, LMDB)
    table = pq.read_table(repo / "data" / "trips.parquet")
    pq.write_table(
        table.set_column(0, "driver_id", table["driver_id"].cast(pa.int16())), repo / "data" / "trips.parquet"
    )
    apply(repo)
    at = ago(0.1)

    def trip(key: int, n: int) -> dict[str, Any]:
        return {
            "driver_id": [key],
            "event_timestamp": [at],
            "created": [at],
            "n": [n],
            "rate": [0.5],
            "tag": ["p"],
        }

    with serving(repo) as client:
        client.push("trips", trip(2**40, 1), request_id="one")
        client.push("trips", trip(5, 2))
        client.push("trips", trip(2**40, 3))
        # A retry leaves what a later push replaced, also in a part of other types.
        client.push("trips", trip(2**40, 1), request_id="one")
        keys = [2**40, 5, 1]
        found = client.get_online_features(["trips:n"], {"driver_id": keys})
        assert found.values["n"].to_pylist()[:2] == [3, 2]
        rows = pa.table({"driver_id": keys, "event_timestamp": [datetime.now(UTC)] * 3})
        assert client.get_historical_features(["trips:n"], rows).read_all()["n"].to_pylist() == [3, 2, 3]


#: feature: the file's column, one value that cannot stand beside it, one that can, and the reason.
APART: list[tuple[str, pa.Array, Any, Any, str]] = [
    ("int64", filled(pa.float64(), 7.0), 2**53 + 1, 2**53, "the source's files have double"),
    ("int64", filled(pa.float32(), 7.0), 2**60 + 1, 2**60, "the source's files have float"),
    ("int64_list", filled(pa.list_(pa.float64()), [7.0]), [1, 2**53 + 1], [1], "not exact in floating point"),
    ("timestamp", filled(pa.timestamp("ns"), DATE), FAR[0], DATE, "before 1677-09-22 or after 2262-04-11"),
    ("timestamp", filled(pa.timestamp("ns", "UTC"), DATE), FAR[1], DATE, "before 1677-09-22 or after"),
    ("timestamp_list", filled(pa.list_(pa.timestamp("ns")), [DATE]), FAR, [], "before 1677-09-22 or after"),
    ("event_timestamp", filled(pa.timestamp("ns"), DATE), FAR[0], EVENT, "before 1677-09-22 or after"),
    ("int64", filled(pa.string(), None), 7, None, "is int64, where the source's files have string"),
    ("bool", filled(pa.int64(), None), True, None, "is bool, where the source's files have int64"),
    ("string", filled(pa.binary(), None), "a", None, "is string, where the source's files have binary"),
    ("int64_list", filled(pa.int64(), None), [7], None, "is list<"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "held", "bad", "good", "reason"), APART, ids=lambda x: str(getattr(x, "type", ""))
)
def test_a_row_that_the_files_cannot_hold_is_refused(
    tmp_path: Path, feature: str, held: pa.Array, bad: Any, good: Any, reason: str
) -> None:
    repo = with_file(tmp_path, **{feature: held})
    parts = repo / "data" / "kinds.parquet.d"
    table = kinds_table([kinds_row(10, EVENT) | {feature: bad}, kinds_row(11, EVENT) | {feature: good}])
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    with serving(repo) as client:
        with pytest.raises(RowRefused) as caught:
            client.push("kinds", columns)
        assert f"row 0: {feature} " in caught.value.message
        assert reason in caught.value.message
        assert not parts.exists()
        reply = client.push("kinds", columns, mode=pb.PUSH_MODE_BEST_EFFORT)
        assert [(item.row, item.column) for item in reply.refused] == [(0, feature)]
        if feature != "event_timestamp":
            assert [joined(client, key, feature) for key in (10, 11)] == [None, good]
        assert [joined(client, key, "int32") for key in (10, 11)] == [None, -5]
        # Online alone, nothing stands in the way.
        reply = client.push("kinds", columns, destination=pb.PUSH_DESTINATION_ONLINE)
        assert reply.rows_written == 2
